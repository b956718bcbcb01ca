"""Columns by which a team looks at its backlog (assignee, labels, project …), found by name and counted."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final

#: What columns are called, by what they mean; any case. The first name that is there counts.
KINDS: Final = (
    ("assignee", "assignees", "assigned to", "owner", "owners", "members", "responsible"),
    ("project", "project name", "projects", "board", "board name", "repository", "repo"),
    ("status", "state", "list", "list name", "section/column", "section", "column"),
    ("labels", "label", "tags", "tag", "categories", "category"),
    ("priority", "severity"),
    ("type", "issue type", "issuetype", "work item type", "kind"),
    ("team", "component/s", "components", "component", "area path", "area"),
    ("milestone", "sprint", "iteration path", "cycle name", "epic", "epic name"),
)
#: Columns whose cells hold several values.
SEVERAL: Final = frozenset(
    {"assignees", "owners", "members", "projects", "labels", "label", "tags", "tag", "categories"}
    | {"component/s", "components"}
)
#: Facets on a page.
MAX_FACETS: Final = 6
#: Values counted apart; further ones are counted together.
MAX_VALUES: Final = 1000
#: Characters of a value.
MAX_LENGTH: Final = 60
#: What the rows without a value, and those beyond `MAX_VALUES`, are counted as.
NONE: Final = "(none)"
OTHERS: Final = "(others)"
#: In which field of an object its name stands (labels and people, as `gh` exports them).
_NAME_FIELDS: Final = ("name", "title", "login", "fullName", "displayName")
_BETWEEN: Final = "\x1f"
_UNFIT: Final = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff\ufffe\uffff]+")


def shown(text: str, length: int = MAX_LENGTH) -> str:
    """Return text on one line without control characters and lone surrogates, cut if it is long."""
    # Far more than is shown is never looked at: a cell may be a megabyte.
    clean = " ".join(_UNFIT.sub(" ", text[: 4 * length + 200]).split())
    return clean if len(clean) <= length else clean[: length - 1].rstrip() + "…"


@dataclass
class Facet:
    """One column, or several of one name, and how the tasks spread over its values.

    Attributes
    ----------
    name : str
        As the user's header has it.
    at : list of int
        Where it stands in a row.
    several : bool
        Whether commas and semicolons part values.
    counts : dict of str to list of int
        For each value the tasks in each quadrant, and those to review.
    """

    name: str
    at: list[int]
    several: bool
    counts: dict[str, list[int]] = field(default_factory=dict)

    def cells(self, rows: Sequence[Sequence[str]]) -> list[str]:
        """Return what the rows hold of this facet, several columns as one text."""
        if len(self.at) == 1:
            return [row[self.at[0]] for row in rows]
        return [_BETWEEN.join(row[i] for i in self.at) for row in rows]

    def values(self, cell: str) -> list[str]:
        """Return the distinct values of one of the `cells`; `NONE` if there is none."""
        parts: Iterable[str] = cell.split(_BETWEEN)
        parts = [value for part in parts for value in self._values_of(part)]
        return list(dict.fromkeys(value for part in parts if (value := shown(part)))) or [NONE]

    def _values_of(self, part: str) -> list[str]:
        named = _named(part) if part[:1] in ("[", "{") else None
        if named is not None:
            return named
        return re.split("[,;\n]", part) if self.several else [part]

    def add(self, cells: Sequence[str], quadrants: Sequence[int], review: Sequence[bool]) -> None:
        """Count some rows."""
        for (cell, quadrant, look), n in Counter(zip(cells, quadrants, review, strict=True)).items():
            for value in self.values(cell):
                known = value in self.counts or len(self.counts) < MAX_VALUES
                counts = self.counts.setdefault(value if known else OTHERS, [0] * 5)
                counts[quadrant] += n
                counts[4] += look * n

    def ranked(self) -> list[tuple[str, list[int]]]:
        """Return the values with their counts: those of most tasks first, `NONE` and `OTHERS` last."""
        return sorted(
            self.counts.items(),
            key=lambda entry: (entry[0] == OTHERS, entry[0] == NONE, -sum(entry[1][:4]), entry[0]),
        )

    def listed(self, n: int) -> tuple[list[tuple[int, str, list[int]]], int]:
        """Return the `n` foremost values, with their places and counts, and how many are left out.

        `NONE` and `OTHERS` are always among them.
        """
        ranked = [(at, value, counts) for at, (value, counts) in enumerate(self.ranked())]
        named = [entry for entry in ranked if entry[1] not in (NONE, OTHERS)]
        return named[:n] + ranked[len(named) :], len(named[n:])

    @property
    def tells_something(self) -> bool:
        """Whether it parts the tasks into groups: not if all have one value, or each its own."""
        named = {value: sum(c[:4]) for value, c in self.counts.items() if value not in (NONE, OTHERS)}
        n_others = sum(self.counts.get(OTHERS, [0])[:4])
        return (
            len(self.counts) > 1
            and n_others <= sum(named.values())
            and (len(named) <= 12 or sum(named.values()) >= 1.5 * len(named))
        )


def find_facets(header: Sequence[str], taken: Sequence[str] = ()) -> list[Facet]:
    """Return the facets that a header has, at most `MAX_FACETS`.

    Parameters
    ----------
    header : sequence of str
    taken : sequence of str
        Columns that are used already: the text is no facet.
    """
    places: dict[str, list[int]] = {}
    for at, name in enumerate(header):
        if name not in taken:
            places.setdefault(name.strip().lower(), []).append(at)
    found = [next((name for name in names if name in places), None) for names in KINDS]
    return [Facet(shown(header[places[name][0]]), places[name], name in SEVERAL) for name in found if name][
        :MAX_FACETS
    ]


def _named(cell: str) -> list[str] | None:
    """Return the names in a cell that is JSON: an object, or a list of objects or strings; None otherwise."""
    try:
        data = json.loads(cell)
    except (ValueError, RecursionError):
        return None
    entries = data if isinstance(data, list) else [data]
    names = []
    for entry in entries:
        name = (
            next((entry[f] for f in _NAME_FIELDS if entry.get(f)), "") if isinstance(entry, dict) else entry
        )
        if not isinstance(name, str):
            return None
        names.append(name)
    return names
