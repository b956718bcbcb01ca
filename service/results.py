"""Blocks of results as they pass by: what observers of a run (a report, another format) are given."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass(frozen=True)
class ResultRows:
    """Some rows of a backlog in order, with their results.

    Attributes
    ----------
    header : list of str
        The user's own columns, as they are; names may occur twice.
    rows : list of list of str
        Their cells, as wide as the header: missing cells are empty, surplus ones are left out.
        A byte that was no valid UTF-8 is a lone surrogate in them.
    results : pyarrow.Table
        The `RESULT_COLUMNS` as strings, without any prefix, one row for each of `rows`.
    texts : list of str
        What was read of each row, markup taken off.
    text_columns : list of str
        The names of the columns that it was read from.
    native : list of str or pyarrow.Table or None
        The rows as they were, where the input has types: JSON objects as text, or Arrow.
    """

    header: list[str]
    rows: list[list[str]]
    results: pa.Table
    texts: list[str]
    text_columns: list[str]
    native: list[str] | pa.Table | None = None


#: Called with each block of a run, in order, one at a time.
OnResults = Callable[[ResultRows], None]
