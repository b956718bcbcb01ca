"""The layouts of known trackers: how they are recognised, which columns hold the task, in which markup."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from loopwise.service.plaintext import Markup


@dataclass(frozen=True)
class Layout:
    """How one tracker lays out its export.

    Attributes
    ----------
    title : str
        How messages call it.
    needs : tuple of str
        Columns that it has and that tell it from others, in lower case.
    text : tuple of str
        Patterns of the columns that hold the task, in lower case; found by name as everywhere if empty.
    markup : dict of str to Markup
        Which of them are written in markup.
    """

    title: str
    needs: tuple[str, ...]
    text: tuple[str, ...] = ()
    markup: dict[str, Markup] = field(default_factory=dict)

    def fits(self, names: Sequence[str]) -> bool:
        """Whether a header is of this layout."""
        lower = {name.strip().lower() for name in names}
        return all(need in lower for need in self.needs)

    def text_columns(self, names: Sequence[str]) -> list[str]:
        """Return the columns of a header that hold the task, in the layout's order."""
        found = [n for p in self.text for n in names if re.fullmatch(p, n.strip().lower())]
        return list(dict.fromkeys(found))

    def markup_of(self, name: str) -> Markup | None:
        """Return the markup of a column."""
        return self.markup.get(name.strip().lower())


#: By the name that `--from` takes.
LAYOUTS: Final = {
    "jira": Layout(
        "Jira CSV",
        ("issue key", "summary"),
        ("summary", "description"),
        {"description": "wiki", "environment": "wiki", "comment": "wiki"},
    ),
    "azure": Layout(
        "Azure Boards CSV",
        ("work item type", "state"),
        (r"title(?: \d+)?", "description", "repro steps"),
        {"description": "html", "repro steps": "html", "acceptance criteria": "html"},
    ),
    "linear": Layout(
        "Linear CSV",
        ("team", "title", "description", "cycle number"),
        ("title", "description"),
        {"description": "markdown"},
    ),
    "asana": Layout("Asana CSV", ("task id", "name", "section/column"), ("name", "notes")),
    "github": Layout("GitHub issues", ("number", "title", "body"), ("title", "body"), {"body": "markdown"}),
}


def recognise_layout(names: Sequence[str]) -> Layout | None:
    """Return the layout that a header is of, if it is a known one."""
    return next((layout for layout in LAYOUTS.values() if layout.fits(names)), None)
