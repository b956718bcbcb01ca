"""Read the texts of a backlog, with the line and the other cells of each, for labelling and monitoring."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from loopwise.service.backlogs import Reading, open_backlog
from loopwise.service.columns import RESULT_COLUMNS
from loopwise.service.csvblocks import CsvSource, parse_exactly
from loopwise.service.plan import Plan, valid_text
from loopwise.service.tables import Table

#: Rows that are enough to estimate shares of a backlog from.
FIRST_ROWS: Final = 100_000


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
    kind : str
        What it was taken for.
    columns, text_columns : list of str
        All columns, and those that hold the task.
    rows : list of TextRow
    """

    name: str
    kind: str
    columns: list[str]
    text_columns: list[str]
    rows: list[TextRow]


def read_texts(
    path: str,
    text_columns: Sequence[str] | None = None,
    *,
    names: Sequence[str] = (),
    source: str | None = None,
) -> BacklogTexts:
    """Read a backlog of any format whole.

    Parameters
    ----------
    path : str
        A file, or ``-`` for standard input.
    text_columns : sequence of str, optional
        The columns that hold the task, read together; found by name unless given.
    names : sequence of str
        Names to look for first.
    source : str, optional
        What the file is, where guessing is wrong (see `--from`).

    Raises
    ------
    UsageError, InputError
        If there is no such file or column, or it is not what it was taken for.
    """
    with open_backlog(path, Reading(source=source)) as backlog:
        columns = [valid_text(column) for column in backlog.source.header]
        own = [column for column in columns if column not in RESULT_COLUMNS]
        named = [column for column in own if column.strip().lower() in names][:1]
        wanted = text_columns or named
        plan = Plan.make(backlog.name, columns, text=wanted, replace=True, layout=backlog.layout)
        rows = []
        for lines, cells in _blocks(backlog.source):
            texts = plan.texts_of_rows(cells).to_pylist()
            for line, text, row in zip(lines, texts, cells, strict=True):
                padded = [*map(valid_text, row), *[""] * len(columns)]
                rows.append(TextRow(line, text, dict(zip(columns, padded, strict=False))))
    return BacklogTexts(backlog.name, backlog.kind, columns, plan.text_columns, rows)


def first_texts(
    path: str, reading: Reading, text_columns: Sequence[str] | None = None, limit: int = FIRST_ROWS
) -> list[str]:
    """Return the texts of the first rows of a backlog; the rest is not read.

    Raises
    ------
    UsageError, InputError
        As `read_texts`.
    """
    with open_backlog(path, reading) as backlog:
        plan = Plan.make(
            backlog.name, backlog.source.header, text=text_columns or [], replace=True, layout=backlog.layout
        )
        texts: list[str] = []
        for _, cells in _blocks(backlog.source):
            texts += plan.texts_of_rows(cells).to_pylist()
            if len(texts) >= limit:
                break
    return texts[:limit]


def _blocks(source: CsvSource | Table) -> Iterator[tuple[list[int], list[list[str]]]]:
    """Yield the lines and the cells of the rows, a block at a time."""
    if isinstance(source, Table):
        yield from ((chunk.lines, chunk.cells) for chunk in source.read())
        return
    for block in source.blocks():
        records = [r for r in parse_exactly(block, source.delimiter, []) if r.cells]
        yield [r.line for r in records], [r.cells for r in records]
