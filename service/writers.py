"""Writers: rows with their results as CSV, JSON, JSON Lines, Parquet, XLSX or a Markdown table.

The bytes of a CSV that goes out as a CSV do not pass here (see `CsvClassifier`): they are never parsed and
written anew. Here go all other pairs of formats.
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, ClassVar, Final

import pyarrow as pa

from loopwise.errors import InputError, LoopwiseError, MissingExtraError, UsageError
from loopwise.service.classify import harmless
from loopwise.service.columns import RESULT_COLUMNS
from loopwise.service.plan import Plan, valid_text
from loopwise.service.results import ResultRows

_BY_ENDING: Final = {
    ".csv": "csv",
    ".tsv": "tsv",
    ".tab": "tsv",
    ".json": "json",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".parquet": "parquet",
    ".xlsx": "xlsx",
    ".md": "markdown",
    ".markdown": "markdown",
}
#: What a spreadsheet program can hold.
XLSX_CELL: Final = 32_767
XLSX_ROWS: Final = 1_048_576
XLSX_COLUMNS: Final = 16_384


def format_of(output: str | None, wanted: str | None) -> str:
    """Return the format to write: the one `wanted`, or that of the output's ending, or CSV.

    Raises
    ------
    UsageError
        If there is no such format.
    """
    if wanted is not None:
        if wanted not in WRITERS:
            raise UsageError(f"there is no format {wanted!r}; the formats are: {', '.join(WRITERS)}")
        return wanted
    bare = (output or "").removesuffix(".gz").removesuffix(".zst")
    return _BY_ENDING.get(Path(bare).suffix.lower(), "csv")


@dataclass
class Writer:
    """Writes blocks of rows to a binary stream.

    `written` counts them; `replaced` the cells with bytes that were no UTF-8, where the format is Unicode.

    Attributes
    ----------
    out : binary file
    plan : Plan
    name : str
        How messages call the input.
    schema : pyarrow.Schema or None
        The types of the user's columns, where the input has them.
    """

    out: IO[bytes]
    plan: Plan
    name: str
    schema: pa.Schema | None = None
    written: int = 0
    replaced: int = 0
    #: The file ending of the format.
    ending: ClassVar[str] = ""
    #: Whether a name may stand for two columns.
    repeats_names: ClassVar[bool] = True

    def __post_init__(self) -> None:
        self.names = self.plan.names if self.repeats_names else unique_names(self.plan.names)
        self.added = [harmless(name) for name in self.plan.added]
        self.begin()

    def begin(self) -> None:
        """Write what comes before the rows."""

    def write(self, block: ResultRows) -> None:
        """Write a block of rows."""
        raise NotImplementedError

    def close(self) -> None:
        """Write what comes after the rows."""

    def abort(self) -> None:
        """Let go of the stream without another byte."""

    def valid(self, cell: str) -> str:
        """Return a cell of the user as valid Unicode."""
        valid = valid_text(cell)
        self.replaced += valid != cell
        return valid

    def rows(self, block: ResultRows) -> Iterator[list[str]]:
        """Yield own and added cells of each row, as strings."""
        empty = [""] * self.plan.n_empty
        results = zip(*(block.results[name].to_pylist() for name in RESULT_COLUMNS), strict=True)
        for own, ours in zip(block.rows, results, strict=True):
            self.written += 1
            yield [*own, *map(harmless, ours), *empty]


class CsvWriter(Writer):
    """CSV as RFC 4180 has it, with line feeds."""

    ending = ".csv"
    delimiter: ClassVar[str] = ","

    def begin(self) -> None:
        """Write the header."""
        self._put([[*self.names, *self.added]])

    def write(self, block: ResultRows) -> None:
        """Write a block of rows."""
        self._put(self.rows(block))

    def _put(self, rows: Iterator[list[str]] | list[list[str]]) -> None:
        sink = _LineFeeds()
        # A writer quotes the line breaks that its own line end is made of, so that is both.
        csv.writer(sink, delimiter=self.delimiter, lineterminator="\r\n").writerows(rows)
        self.out.write("".join(sink.lines).encode("utf-8", "surrogateescape"))


class _LineFeeds:
    def __init__(self) -> None:
        self.lines: list[str] = []

    def write(self, line: str) -> None:
        self.lines.append(line[:-2] + "\n")


class TsvWriter(CsvWriter):
    """As CSV, with tabs."""

    ending = ".tsv"
    delimiter = "\t"


class JsonLinesWriter(Writer):
    """An object a line. A JSON object goes out as it came in, with the results added at its end."""

    ending = ".jsonl"
    repeats_names = False

    def write(self, block: ResultRows) -> None:
        """Write a block of rows."""
        self.out.write("".join(text + "\n" for text in self.objects(block)).encode())

    def objects(self, block: ResultRows) -> Iterator[str]:
        """Yield each row as the text of an object."""
        own = block.native if isinstance(block.native, list) else None
        table = block.native if isinstance(block.native, pa.Table) else None
        typed = table.select(self.plan.kept).to_pylist() if table is not None else None
        results = zip(*(block.results[name].to_pylist() for name in RESULT_COLUMNS), strict=True)
        for i, ours in enumerate(results):
            self.written += 1
            if own is not None:
                members = _members(own[i], () if self.plan.keeps_all else self.plan.added)
            else:
                if typed is not None:
                    values = typed[i]
                else:
                    values = dict(zip(self.names, map(self.valid, block.rows[i]), strict=True))
                # JSON has no NaN.
                members = _dumped({k: None if v != v else v for k, v in values.items()})[1:-1]
            yield "{" + ", ".join([members, self._ours(ours)] if members else [self._ours(ours)]) + "}"

    def _ours(self, cells: tuple[str, ...]) -> str:
        # Confidences are numbers, with the digits that they have everywhere.
        values = [c if i in (1, 3) else _dumped(c) for i, c in enumerate((*cells, *[""] * self.plan.n_empty))]
        return ", ".join(f"{_dumped(n)}: {v}" for n, v in zip(self.added, values, strict=True))


def _members(text: str, replaced: Sequence[str]) -> str:
    """Return what stands between the braces of an object."""
    if replaced:
        values = json.loads(text)
        text = _dumped({key: value for key, value in values.items() if key not in replaced})
    return text.strip()[1:-1].strip()


def _dumped(value: Any) -> str:
    try:
        return json.dumps(value, ensure_ascii=False, default=str).encode().decode()
    except UnicodeEncodeError:
        return json.dumps(value, ensure_ascii=True, default=str)


class JsonWriter(JsonLinesWriter):
    """An array of the objects that `JsonLinesWriter` writes, one a line."""

    ending = ".json"

    def begin(self) -> None:
        """Open the array."""
        self.out.write(b"[")

    def write(self, block: ResultRows) -> None:
        """Write a block of rows."""
        for text in self.objects(block):
            self.out.write((",\n" if self.written > 1 else "\n").encode() + text.encode())

    def close(self) -> None:
        """Close the array."""
        self.out.write(b"\n]\n")


class _Valve(io.RawIOBase):
    """A stream that can be shut: what is written then is dropped."""

    def __init__(self, out: IO[bytes]) -> None:
        self._out = out
        self.shut = False

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        return len(data) if self.shut else self._out.write(data)


class ParquetWriter(Writer):
    """Parquet: the user's columns as strings, or with their types if the input has them."""

    ending = ".parquet"
    repeats_names = False

    def begin(self) -> None:
        """Write the schema."""
        import pyarrow.parquet as pq

        if self.schema is not None:
            own = [self.schema.field(i) for i in self.plan.kept]
        else:
            own = [pa.field(name, pa.string()) for name in self.names]
        numbers = [n for i, n in enumerate(self.added) if i in (1, 3)]
        ours = [pa.field(n, pa.float64() if n in numbers else pa.string()) for n in self.added]
        self._written_schema = pa.schema([*own, *ours])
        self._footer: list[Any] = []
        self._valve = _Valve(self.out)
        self._file = pq.ParquetWriter(self._valve, self._written_schema, metadata_collector=self._footer)

    def write(self, block: ResultRows) -> None:
        """Write a block of rows as a row group."""
        n_rows = len(block.rows)
        if isinstance(block.native, pa.Table):
            own = [block.native.column(i) for i in self.plan.kept]
        else:
            own = [pa.array(map(self.valid, column), pa.string()) for column in _columns(block)]
        ours = [block.results[name] for name in RESULT_COLUMNS]
        ours += [pa.array([""] * n_rows, pa.string())] * self.plan.n_empty
        typed = [c.cast(f.type) for c, f in zip([*own, *ours], self._written_schema, strict=True)]
        self._file.write_table(pa.Table.from_arrays(typed, schema=self._written_schema))

    def close(self) -> None:
        """Write the footer; what it counts is what was written."""
        self._file.close()
        self.written = self._footer[-1].num_rows

    def abort(self) -> None:
        """Close the file, which would else close itself later, with its bytes going nowhere."""
        self._valve.shut = True
        # After a failed write, Arrow cannot make up a footer.
        with suppress(RuntimeError, OSError, pa.ArrowException):
            self._file.close()


def _columns(block: ResultRows) -> list[tuple[str, ...]]:
    return list(zip(*block.rows, strict=True)) if block.rows else [()] * len(block.header)


class XlsxWriter(Writer):
    """An XLSX workbook of one sheet. Every cell is text: nothing is run or becomes a date."""

    ending = ".xlsx"

    def begin(self) -> None:
        """Write the header, which stays in sight and filters."""
        try:
            from openpyxl import Workbook
        except ImportError:
            raise MissingExtraError(
                "to write XLSX, install the extra: pip install 'loopwise[xlsx]'"
            ) from None
        width = len(self.names) + len(self.added)
        if width > XLSX_COLUMNS:
            raise InputError(
                f"{self.name}: {width} columns, and an XLSX sheet holds {XLSX_COLUMNS}; write CSV"
            )
        self._book = Workbook(write_only=True)
        self._sheet = self._book.create_sheet("backlog")
        self._sheet.freeze_panes = "A2"
        self._n_lines = 0
        self._append([*self.names, *self.added])

    def write(self, block: ResultRows) -> None:
        """Write a block of rows."""
        for cells in self.rows(block):
            self._append(cells)

    def _append(self, cells: list[str]) -> None:
        from openpyxl.cell import WriteOnlyCell

        self._n_lines += 1
        if self._n_lines > XLSX_ROWS:
            raise InputError(f"{self.name}: an XLSX sheet holds {XLSX_ROWS} rows; write CSV or Parquet")
        row = []
        for i, text in enumerate(cells):
            # Control characters are spelt out as the format demands (_x0001_), and read back by spreadsheets.
            value = _spelt_out(self.valid(text))
            if len(value) > XLSX_CELL:
                raise InputError(
                    f"{self.name}: row {self._n_lines - 1} holds {len(value)} characters in "
                    f"{[*self.names, *self.added][i]!r}, and an XLSX cell holds {XLSX_CELL}; "
                    "write CSV or Parquet"
                )
            cell = WriteOnlyCell(self._sheet, value)
            cell.data_type = "s"
            row.append(cell if text else None)
        self._sheet.append(row)

    def abort(self) -> None:
        """Close the sheet, which else complains when it is collected."""
        self._sheet.close()

    def close(self) -> None:
        """Write the workbook."""
        packed = io.BytesIO()
        self._book.save(packed)
        self.out.write(packed.getbuffer())


# What XML cannot hold or reads otherwise, and what would be read as one of these spellings.
_UNSPEAKABLE: Final = re.compile("[\x00-\x08\x0b-\x1f\ufffe\uffff]|_(?=x[0-9A-Fa-f]{4}_)")


def _spelt_out(text: str) -> str:
    return _UNSPEAKABLE.sub(lambda found: f"_x{ord(found[0]):04X}_", text)


class MarkdownWriter(Writer):
    """A table as GitHub reads it; a line break in a cell is a <br>."""

    ending = ".md"

    def begin(self) -> None:
        """Write the header."""
        names = [*self.names, *self.added]
        self.out.write(f"{_markdown_row(names)}|{' --- |' * len(names)}\n".encode())

    def write(self, block: ResultRows) -> None:
        """Write a block of rows."""
        rows = (list(map(self.valid, cells)) for cells in self.rows(block))
        self.out.write("".join(map(_markdown_row, rows)).encode())


def _markdown_row(cells: list[str]) -> str:
    plain = (valid_text(c).replace("\\", "\\\\").replace("|", "\\|") for c in cells)
    broken = ("<br>".join(c.replace("\r\n", "\n").replace("\r", "\n").split("\n")) for c in plain)
    return f"| {' | '.join(broken)} |\n"


def unique_names(names: Sequence[str]) -> list[str]:
    """Return the names with a number behind those that were there before: Labels, Labels (2)."""
    seen: Counter[str] = Counter()
    taken, unique = set(names), []
    for name in names:
        seen[name] += 1
        new = name
        while seen[name] > 1 and (new == name or new in taken):
            new = f"{name} ({seen[name]})"
            seen[name] += new in taken
        taken.add(new)
        unique.append(new)
    return unique


def check_counts(read: int, written: int, left_out: int, name: str) -> None:
    """Compare what was read with what was written.

    Raises
    ------
    LoopwiseError
        If a row is missing, or there is one too many.
    """
    if read != written + left_out:
        raise LoopwiseError(
            f"{name}: {read} rows were read, but {written} written and {left_out} left out on purpose; "
            "the result is not to be trusted. This is a fault in Loopwise: please report it"
        )


#: By the name that `--format` takes.
WRITERS: Final[dict[str, type[Writer]]] = {
    "csv": CsvWriter,
    "tsv": TsvWriter,
    "json": JsonWriter,
    "jsonl": JsonLinesWriter,
    "parquet": ParquetWriter,
    "xlsx": XlsxWriter,
    "markdown": MarkdownWriter,
}
