"""Which columns of a backlog are read, which are kept, and which are added."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc

from loopwise.errors import UsageError
from loopwise.service.columns import RESULT_COLUMNS
from loopwise.service.layouts import Layout
from loopwise.service.plaintext import Markup, to_text
from loopwise.service.textcolumns import find_text_columns, join_parts

#: Where people correct the model's answers (see `loopwise labels add --corrections`).
REVIEW_COLUMNS: Final = ("loop_correct", "mode_correct")


@dataclass(frozen=True)
class Plan:
    """What becomes of the columns of one backlog.

    Attributes
    ----------
    header : list of str
        All columns of the user.
    kept : list of int
        Which of them stay: all but those that are replaced.
    added : list of str
        The names of the added columns: the results, then empty ones for corrections.
    text_columns : list of str
        The columns that hold the task.
    text_at : list of int
        Where they stand in `header`.
    markups : list of Markup or None
        The markup in which each of them is written.
    """

    header: list[str]
    kept: list[int]
    added: list[str]
    text_columns: list[str]
    text_at: list[int]
    markups: list[Markup | None]

    @classmethod
    def make(
        cls,
        name: str,
        header: list[str],
        *,
        text: Sequence[str] = (),
        prefix: str = "",
        replace: bool = False,
        for_review: bool = False,
        layout: Layout | None = None,
    ) -> Plan:
        """Plan for a header.

        Raises
        ------
        InputError, UsageError
            If there is no text column, or a result column is there already.
        """
        # Corrections that are there already stay where they are.
        review = [n for n in REVIEW_COLUMNS if prefix + n not in header] if for_review else []
        added = [prefix + n for n in (*RESULT_COLUMNS, *review)]
        taken = [n for n in added if n in header]
        if taken and not replace:
            raise UsageError(
                f"{name}: the column{'s' * (len(taken) > 1)} {', '.join(taken)} "
                "would be written twice; use --replace to replace, or --prefix TEXT to keep both"
            )
        kept = [i for i, n in enumerate(header) if n not in added]
        names = [header[i] for i in kept]
        of_layout = layout.text_columns(names) if layout and not text else []
        chosen = find_text_columns(names, [*text] or of_layout or None)
        # A name that is asked for means all columns of that name; a name that was found, the first.
        at = [i for n in chosen for i in (_all_of(header, n) if text else [header.index(n)])]
        markups = [layout.markup_of(header[i]) if layout else None for i in at]
        return cls(header, kept, added, chosen, at, markups)

    @property
    def names(self) -> list[str]:
        """The user's columns that stay."""
        return [self.header[i] for i in self.kept]

    @property
    def keeps_all(self) -> bool:
        """Whether no column of the user is replaced."""
        return len(self.kept) == len(self.header)

    @property
    def n_empty(self) -> int:
        """How many of the added columns are empty, for corrections."""
        return len(self.added) - len(RESULT_COLUMNS)

    def texts(self, parts: Sequence[Any], n_rows: int) -> pa.Array:
        """Return what is scored, from the text columns as string arrays: markup reduced, joined."""
        plain = [_reduced(part, markup) for part, markup in zip(parts, self.markups, strict=True)]
        return join_parts(plain, n_rows)

    def texts_of_rows(self, rows: Sequence[Sequence[str]]) -> pa.Array:
        """As `texts`, from rows of cells of any width."""
        parts = [
            pa.array([valid_text(row[i]) if i < len(row) else "" for row in rows], pa.string())
            for i in self.text_at
        ]
        return self.texts(parts, len(rows))


def valid_text(cell: str) -> str:
    """Replace what UTF-8 cannot hold: bytes that were none, lone surrogates."""
    return cell.encode("utf-8", "replace").decode()


def _all_of(header: list[str], name: str) -> list[int]:
    return [i for i, n in enumerate(header) if n == name]


def _reduced(part: pa.Array, markup: Markup | None) -> pa.Array:
    if markup is not None:
        return pa.array([to_text(cell, markup) for cell in part.to_pylist()], pa.string())
    # Only what holds a tag can be HTML; most columns hold none.
    marked = pc.match_substring(part, "<")
    if not pc.any(marked).as_py():
        return part
    texts = [to_text(cell, None) for cell in part.filter(marked).to_pylist()]
    return pc.replace_with_mask(part, marked, pa.array(texts, pa.string()))
