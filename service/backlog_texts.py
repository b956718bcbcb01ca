"""Read the texts of a backlog, with the line and the other cells of each, for labelling and monitoring."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from loopwise.service.classify import open_input
from loopwise.service.columns import RESULT_COLUMNS
from loopwise.service.csvblocks import CsvSource, parse_exactly
from loopwise.service.textcolumns import find_text_columns, join_text


class TextRow(NamedTuple):
    """One row: its line in the file, its task, and all of its cells by column."""

    line: int
    text: str
    cells: dict[str, str]


@dataclass(frozen=True)
class BacklogTexts:
    """The rows of a backlog.

    Attributes
    ----------
    name : str
        How messages call the file.
    columns, text_columns : list of str
        All columns, and those that hold the task.
    rows : list of TextRow
    """

    name: str
    columns: list[str]
    text_columns: list[str]
    rows: list[TextRow]


def read_texts(
    path: str, text_columns: Sequence[str] | None = None, *, names: Sequence[str] = ()
) -> BacklogTexts:
    """Read a CSV backlog whole.

    Parameters
    ----------
    path : str
        A file, or ``-`` for standard input.
    text_columns : sequence of str, optional
        The columns that hold the task, read together; found by name unless given.
    names : sequence of str
        Names to look for first.

    Raises
    ------
    UsageError, InputError
        If there is no such file or column, or it is not a CSV.
    """
    with open_input(path) as (stream, name):
        source = CsvSource.open(stream, name)
        columns = [_clean(column) for column in source.header]
        own = [column for column in columns if column not in RESULT_COLUMNS]
        named = [column for column in own if column.strip().lower() in names][:1]
        chosen = find_text_columns(own, text_columns or named)
        rows = []
        for block in source.blocks():
            for record in parse_exactly(block, source.delimiter, []):
                if record.cells:
                    padded = [*map(_clean, record.cells), *[""] * len(columns)]
                    cells = dict(zip(columns, padded, strict=False))
                    rows.append(TextRow(record.line, join_text([cells[c] for c in chosen]), cells))
    return BacklogTexts(name, columns, chosen, rows)


def _clean(cell: str) -> str:
    """Replace what is no valid UTF-8."""
    return cell.encode("utf-8", "replace").decode()
