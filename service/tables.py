"""A backlog that is not a CSV, as a header and rows of strings."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Final

import pyarrow as pa

from loopwise.service.layouts import Layout

#: Rows in a chunk: what is scored at once and held in memory for each thread.
CHUNK_ROWS: Final = 8192


@dataclass(frozen=True)
class Chunk:
    """Some rows in order.

    Attributes
    ----------
    lines : list of int
        Where each row stands: its line in a text file, its number in others, from 1.
    cells : list of list of str
        The rows, as wide as the header.
    native : list of str or pyarrow.Table or None
        The rows as they were, where the format has types: JSON objects as text, or Arrow.
    """

    lines: list[int]
    cells: list[list[str]]
    native: list[str] | pa.Table | None = None


@dataclass
class Table:
    """A backlog being read.

    Attributes
    ----------
    name : str
        How messages call the file.
    kind : str
        What it was taken for, such as ``JSON Lines``.
    header : list of str
    read : callable
        Returns the chunks; to be called once.
    layout : Layout or None
        The tracker that it comes from, if that is known.
    remarks : list of str
        What a user should be told about how the file was read; may grow while it is read.
    schema : pyarrow.Schema or None
        The types of the columns, where the format has them.
    """

    name: str
    kind: str
    header: list[str]
    read: Callable[[], Iterator[Chunk]]
    layout: Layout | None = None
    remarks: list[str] = field(default_factory=list)
    schema: pa.Schema | None = None


def chunks_of(rows: list[list[str]], lines: list[int], native: list[str] | None = None) -> Iterator[Chunk]:
    """Yield rows that are in memory in chunks."""
    for i in range(0, len(rows), CHUNK_ROWS):
        part = slice(i, i + CHUNK_ROWS)
        yield Chunk(lines[part], rows[part], native[part] if native is not None else None)


def cell_text(value: Any) -> str:
    """Return a value of any type as the text of a cell; nothing is the empty text.

    A list is its values with commas; an object that has a name, a login or a title is that.
    """
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list):
        return ", ".join(cell_text(item) for item in value)
    if isinstance(value, dict):
        for key in ("name", "login", "title", "displayName", "value"):
            if isinstance(value.get(key), str) and value[key]:
                return str(value[key])
        from json import dumps

        return dumps(value, ensure_ascii=False, default=str)
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    if hasattr(value, "isoformat"):
        return str(value.isoformat(" ") if hasattr(value, "hour") and hasattr(value, "year") else value)
    return str(value)
