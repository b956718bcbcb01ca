"""Which columns of a backlog hold the task, and how they are read together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from loopwise.errors import InputError, UsageError

#: Names of text columns by their role, best first; any case.
WHOLE: Final = ("text", "task")
TITLES: Final = ("title", "summary", "name", "subject")
BODIES: Final = ("description", "body", "notes", "details")


def find_text_columns(names: Sequence[str], wanted: Sequence[str] | None) -> list[str]:
    """Return the columns that hold the task: those `wanted`, or those found by their names.

    A column called text or task stands alone or with a body; a title and a body are read together.

    Raises
    ------
    UsageError
        If a wanted column does not exist.
    InputError
        If none is wanted and none is found.
    """
    if wanted:
        for name in wanted:
            if name not in names:
                raise UsageError(f"there is no column {name!r}; the columns are: {_listed(names)}")
        return list(dict.fromkeys(wanted))
    by_lower: dict[str, str] = {}
    for name in names:
        by_lower.setdefault(name.strip().lower(), name)
    found = []
    for role in (WHOLE + TITLES, BODIES):
        match = next((by_lower[name] for name in role if name in by_lower), None)
        if match is not None:
            found.append(match)
    if not found:
        known = ", ".join(WHOLE + TITLES + BODIES)
        raise InputError(
            f"no text column found; the columns are: {_listed(names)}. "
            f"Name one with --text COLUMN (known by name: {known})"
        )
    return found


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(repr(name) for name in names[:30])
    return shown + (f" and {len(names) - 30} more" if len(names) > 30 else "") if names else "none"


def join_text(parts: Sequence[str]) -> str:
    """Return a title and a body as one text; empty parts leave no trace."""
    return "\n\n".join(part for part in parts if part)


def join_parts(parts: Sequence[Any], n_rows: int) -> Any:
    """As `join_text`, for string arrays of `n_rows` rows; without parts, all texts are empty."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if not parts:
        return pa.array([""] * n_rows, pa.string())
    joined = parts[0]
    for part in parts[1:]:
        both = pc.binary_join_element_wise(joined, part, "\n\n")
        # Not with null_handling="skip": Arrow drops the rows in which every part is null.
        joined = pc.if_else(pc.equal(part, ""), joined, pc.if_else(pc.equal(joined, ""), part, both))
    return joined
