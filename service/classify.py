"""Classify a CSV backlog as a stream: read, score and write in blocks, on all cores, memory bounded."""

from __future__ import annotations

import csv
import io
import os
import tempfile
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Final, NamedTuple, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv

from loopwise.errors import InputError, LoopwiseError, UsageError
from loopwise.model.labels import AXES
from loopwise.service.columns import RESULT_COLUMNS, ColumnMaker
from loopwise.service.csvblocks import Block, CsvSource, Record, parse_exactly
from loopwise.service.layouts import Layout
from loopwise.service.plan import Plan
from loopwise.service.results import OnResults, ResultRows

#: Blocks in flight for each worker.
_AHEAD: Final = 2
_COMPRESSIONS: Final = {".gz": "gzip", ".zst": "zstd"}


def n_cores() -> int:
    """Return how many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


@dataclass(frozen=True)
class Options:
    """How a backlog is classified.

    Attributes
    ----------
    text : tuple of str
        Columns that hold the task; found by name if empty.
    prefix : str
        Put before the names of the result columns.
    replace : bool
        Whether result columns that are there already are dropped.
    strict : bool
        Whether a row with more or fewer cells than the header is refused.
    jobs : int
        Threads.
    for_review : bool
        Whether the `REVIEW_COLUMNS` follow, empty, for corrections by hand.
    """

    text: tuple[str, ...] = ()
    prefix: str = ""
    replace: bool = False
    strict: bool = False
    jobs: int = 1
    for_review: bool = False

    def plan(self, name: str, header: list[str], layout: Layout | None) -> Plan:
        """Return what becomes of the columns of a backlog."""
        return Plan.make(
            name,
            header,
            text=self.text,
            prefix=self.prefix,
            replace=self.replace,
            for_review=self.for_review,
            layout=layout,
        )


@dataclass
class Summary:
    """What a run did.

    Attributes
    ----------
    rows : int
        Rows routed.
    written : int
        Rows of them that stand in the output.
    left_out : int
        Rows of them that were not asked for.
    quadrants : Counter of (loop, mode)
    review : int
        Rows that a person should look at.
    reasons : Counter of str
        How often each text of the review column occurs.
    ragged : list of int
        Lines whose row has more or fewer cells than the header.
    blank : int
        Blank lines, kept as they are.
    remarks : list of str
        What else a user should be told.
    text_columns : list of str
        The columns that were read as the task.
    """

    rows: int = 0
    written: int = 0
    left_out: int = 0
    quadrants: Counter[tuple[str, str]] = field(default_factory=Counter)
    review: int = 0
    reasons: Counter[str] = field(default_factory=Counter)
    ragged: list[int] = field(default_factory=list)
    blank: int = 0
    remarks: list[str] = field(default_factory=list)
    text_columns: list[str] = field(default_factory=list)

    def add(self, other: Summary) -> None:
        """Add the counts of another block."""
        self.rows += other.rows
        self.written += other.written
        self.left_out += other.left_out
        self.quadrants.update(other.quadrants)
        self.review += other.review
        self.reasons.update(other.reasons)
        self.ragged += other.ragged
        self.blank += other.blank
        self.remarks += other.remarks


class Outcome(NamedTuple):
    """What became of a block.

    Attributes
    ----------
    text : bytes
        What to write of a CSV, blank lines included.
    summary : Summary
    results : pyarrow.Table
        The result columns.
    rows : ResultRows or None
        The rows, if somebody looks at them.
    lines : pyarrow.BinaryArray or None
        Each record of `text` with its line end, if somebody chooses among them.
    """

    text: bytes
    summary: Summary
    results: pa.Table
    rows: ResultRows | None = None
    lines: pa.Array | None = None


class CsvClassifier:
    """Adds the result columns to the blocks of one CSV source.

    Parameters
    ----------
    source : CsvSource
    maker : ColumnMaker
    options : Options
    layout : Layout, optional
        The tracker that the CSV comes from.
    with_rows : bool
        Whether the rows are kept beside the bytes, for observers; without any, nothing is parsed for them.
    with_lines : bool
        Whether each record is kept beside the bytes, for a choice among them.
    rectangular : bool
        Whether a row with more cells than the header is refused, since the output has no place for them.

    Raises
    ------
    InputError, UsageError
        If there is no text column, or a result column is there already.
    """

    def __init__(
        self,
        source: CsvSource,
        maker: ColumnMaker,
        options: Options,
        *,
        layout: Layout | None = None,
        with_rows: bool = False,
        with_lines: bool = False,
        rectangular: bool = False,
    ) -> None:
        self.source = source
        self.options = options
        self.plan = options.plan(source.name, source.header, layout)
        self.with_rows = with_rows
        self.with_lines = with_lines
        self.rectangular = rectangular
        self._maker = maker
        self._empty = source.delimiter * self.plan.n_empty

    @property
    def text_columns(self) -> list[str]:
        """The columns that hold the task."""
        return self.plan.text_columns

    @property
    def header(self) -> bytes:
        """The header record of the result."""
        source = self.source
        added = [_quote_cell(harmless(name), source.delimiter) for name in self.plan.added]
        ours = source.delimiter.join(added).encode()
        own = source.header_raw if self.plan.keeps_all else b""
        own = own or _csv_line(self.plan.names, source.delimiter)
        return source.bom + source.delimiter.encode().join([own, ours] if own else [ours]) + source.line_end

    def run(self) -> Iterator[Outcome]:
        """Yield the result of each block in order, with its counts; `options.jobs` threads work ahead."""
        return run_ahead(self._block, self.source.blocks(), self.options.jobs)

    def _block(self, block: Block) -> Outcome:
        fast = self._fast(block) if block.records is None and self.plan.keeps_all else None
        return fast or self._exact(block)

    def _fast(self, block: Block) -> Outcome | None:
        """Classify a block with Arrow; None if it has to be read exactly."""
        ended = block.data.endswith(b"\n")
        if block.data.endswith(b"\r"):
            return None  # A line end that would melt into the one put after it.
        data = block.data if ended else block.data + self.source.line_end
        array = np.frombuffer(data, dtype=np.uint8)
        line_ends = np.flatnonzero(array == 10)
        quotes = np.flatnonzero(array == 34)
        record_ends = line_ends[np.searchsorted(quotes, line_ends) % 2 == 0] if len(quotes) else line_ends
        returns = int(np.count_nonzero(array[np.maximum(record_ends - 1, 0)] == 13))
        if returns not in (0, len(record_ends)):
            return None
        strip = 2 if returns else 1
        offsets = np.concatenate([[0], record_ends + 1]).astype(np.int32)
        if len(self.source.header) > 1 and np.diff(offsets).min(initial=strip + 1) == strip:
            return None  # A blank line; Arrow would fill it with empty cells.
        columns = [f"c{i}" for i in range(len(self.source.header))]
        wanted = [columns[i] for i in self.plan.text_at]
        try:
            table = pa.csv.read_csv(
                pa.BufferReader(data),
                pa.csv.ReadOptions(column_names=columns, use_threads=False, block_size=len(data) + 1),
                pa.csv.ParseOptions(
                    delimiter=self.source.delimiter,
                    newlines_in_values=len(quotes) > 0,
                    ignore_empty_lines=False,
                ),
                pa.csv.ConvertOptions(
                    include_columns=wanted,
                    column_types=dict.fromkeys(wanted, pa.string()),
                    strings_can_be_null=False,
                ),
            )
        except pa.ArrowInvalid:
            return None
        if table.num_rows != len(record_ends):
            return None
        parts = [column.combine_chunks() for column in table.columns]
        texts = self.plan.texts(parts, table.num_rows)
        results = self._maker.columns(texts).combine_chunks()
        records = pa.BinaryArray.from_buffers(
            pa.binary(), len(record_ends), [None, pa.py_buffer(offsets), pa.py_buffer(data)]
        )
        records = pc.binary_slice(records, 0, -strip)
        line_end = data[-strip:]
        out = pc.binary_join_element_wise(
            records,
            *(results[name].combine_chunks().cast(pa.binary()) for name in RESULT_COLUMNS[:4]),
            *(_quoted(results[name].combine_chunks(), self.source.delimiter) for name in ("review", "route")),
            pc.binary_join_element_wise(
                b'"',
                results["top_features"].combine_chunks().cast(pa.binary()),
                b'"' + self._empty.encode() + line_end,
                b"",
            ),
            self.source.delimiter.encode(),
        )
        text = bytes_of(out)
        summary = summarize(results, table.num_rows, len(out))
        rows = None
        if self.with_rows:
            rows = self._rows(parse_exactly(block, self.source.delimiter, []), results, texts)
        lines = out if self.with_lines else None
        return Outcome(text if ended else text[:-strip], summary, results, rows, lines)

    def _exact(self, block: Block) -> Outcome:
        """Classify a block record by record, as Python's `csv` reads it."""
        remarks: list[str] = []
        delimiter = self.source.delimiter
        records = parse_exactly(block, delimiter, remarks)
        width = len(self.source.header)
        single = width == 1
        rows = [r for r in records if r.cells or single]
        texts = self.plan.texts_of_rows([r.cells for r in rows])
        results = self._maker.columns(texts)
        cells = iter(zip(*(results[name].to_pylist() for name in RESULT_COLUMNS), strict=True))
        out: list[str] = []
        lines: list[str] = []
        ragged = []
        for record in records:
            if not record.cells and not single:
                out.append(record.raw)
                continue
            if len(record.cells) not in (width, 0):
                ragged.append(record.line)
            lines.append(self._with_results(record, next(cells), width))
            out.append(lines[-1])
        if ragged and self.options.strict:
            n_cells = next(len(r.cells) for r in records if r.line == ragged[0])
            raise InputError(
                f"{self.source.name}: line {ragged[0]} has {n_cells} cells and the header has {width}; "
                "nothing was written (--strict)"
            )
        if self.rectangular:
            self._refuse_surplus(records, width)
        summary = summarize(results, len(rows), len(lines))
        summary.ragged = ragged
        summary.blank = len(records) - len(rows)
        summary.remarks = remarks
        kept = self._rows(rows, results, texts) if self.with_rows else None
        ends = [
            line if line.endswith(("\n", "\r")) else line + self.source.line_end.decode() for line in lines
        ]
        apart = pa.array(map(_encoded, ends), pa.binary()) if self.with_lines else None
        return Outcome(_encoded("".join(out)), summary, results, kept, apart)

    def _refuse_surplus(self, records: list[Record], width: int) -> None:
        for record in records:
            if len(record.cells) > width:
                raise InputError(
                    f"{self.source.name}: line {record.line} has {len(record.cells)} cells and the header "
                    f"has {width}; only a CSV has a place for the surplus: write CSV, or put the line right"
                )

    def _rows(self, records: list[Record], results: pa.Table, texts: pa.Array) -> ResultRows:
        width = len(self.source.header)
        padded = [r.cells[:width] + [""] * (width - len(r.cells)) for r in records]
        own = padded if self.plan.keeps_all else [[cells[i] for i in self.plan.kept] for cells in padded]
        return ResultRows(self.plan.names, own, results, texts.to_pylist(), self.text_columns)

    def _with_results(self, record: Record, results: tuple[str, ...], width: int) -> str:
        """Return a record with its results: after its own cells, or before those beyond the header."""
        delimiter = self.source.delimiter
        bare = record.raw.rstrip("\r\n")
        line_end = record.raw[len(bare) :]
        ours = delimiter.join(
            [*results[:4], *(_quote_cell(harmless(c), delimiter) for c in results[4:6]), f'"{results[6]}"']
        )
        ours += self._empty
        if len(record.cells) <= width and self.plan.keeps_all:
            missing = width - max(len(record.cells), 1)
            return bare + delimiter * missing + delimiter + ours + line_end
        cells = record.cells + [""] * (width - len(record.cells))
        own = _csv_text([cells[i] for i in self.plan.kept], delimiter)
        surplus = _csv_text(cells[width:], delimiter)
        return delimiter.join([own, ours] + ([surplus] if surplus else [])) + line_end


Item = TypeVar("Item")


def run_ahead(work: Callable[[Item], Outcome], items: Iterable[Item], jobs: int) -> Iterator[Outcome]:
    """Yield `work` of each item in order; `jobs` threads work ahead, each by so many items and no more."""
    with ThreadPoolExecutor(jobs) as pool:
        waiting: deque[Future[Outcome]] = deque()
        for item in items:
            waiting.append(pool.submit(work, item))
            if len(waiting) >= jobs * _AHEAD:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


class CsvOutput:
    """A CSV going out as the bytes that it is, with cells added; `written` counts its rows.

    Parameters
    ----------
    out : binary file
    classifier : CsvClassifier
    """

    #: Every byte goes out as it came in.
    replaced = 0

    def __init__(self, out: IO[bytes], classifier: CsvClassifier) -> None:
        self._out = out
        self._line_end = classifier.source.line_end
        self._ends_open = False
        self.written = 0
        out.write(classifier.header)

    def write(self, outcome: Outcome, mask: Any = None) -> None:
        """Write a block, or those of its rows for which a Boolean array holds."""
        if mask is None:
            text = outcome.text
            self.written += outcome.summary.written
        else:
            lines = outcome.lines.filter(mask)  # type: ignore[union-attr]
            text = bytes_of(lines)
            self.written += len(lines)
        if text:
            if self._ends_open:
                self._out.write(self._line_end)
            self._out.write(text)
            self._ends_open = not text.endswith((b"\n", b"\r"))

    def close(self) -> None:
        """Write what comes at the end: nothing."""

    def abort(self) -> None:
        """Let go of the stream: nothing to do."""


def write_results(
    classifier: CsvClassifier,
    out: IO[bytes],
    on_block: Callable[[Summary, int], None] = lambda total, size: None,
    on_results: OnResults | None = None,
) -> Summary:
    """Classify a CSV and write all of the result to a binary stream.

    Parameters
    ----------
    classifier : CsvClassifier
    out : binary file
    on_block : callable
        Called after each block with the running summary and the bytes read so far, for a progress bar.
    on_results : callable, optional
        Called with the rows of each block and their results, in order; the classifier has to be made
        `with_rows`.
    """
    output, total = CsvOutput(out, classifier), Summary()
    for outcome in classifier.run():
        if on_results and outcome.rows is not None:
            on_results(outcome.rows)
        output.write(outcome)
        total.add(outcome.summary)
        on_block(total, classifier.source.bytes_read)
    total.remarks += classifier.source.remarks
    return total


@contextmanager
def open_input(path: str) -> Iterator[tuple[IO[bytes], str]]:
    """Open a file, or standard input for ``-``, decompressed by its ending; yields it with its name."""
    if path == "-":
        import sys

        yield sys.stdin.buffer, "standard input"
        return
    if Path(path).is_dir():
        raise UsageError(f"{path}: this is a folder; name a file in it")
    try:
        compression = _COMPRESSIONS.get(Path(path).suffix.lower())
        stream: Any = Path(path).open("rb")  # noqa: SIM115 - closed by the with below
    except FileNotFoundError:
        raise UsageError(f"{path}: there is no such file") from None
    except OSError as error:
        raise UsageError(f"{path}: cannot be read ({error.strerror})") from error
    with stream:
        if compression:
            try:
                with pa.CompressedInputStream(stream, compression) as plain:
                    yield io.BufferedReader(_ArrowRaw(plain, path)), path
            except OSError as error:
                raise InputError(f"{path}: cannot be decompressed ({error})") from error
        else:
            yield stream, path


class _ArrowRaw(io.RawIOBase):
    """An Arrow stream as a raw Python file."""

    def __init__(self, stream: Any, name: str) -> None:
        self._stream, self._name = stream, name

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        try:
            data = self._stream.read(len(buffer))
        except OSError as error:
            raise InputError(f"{self._name}: cannot be decompressed ({error})") from error
        buffer[: len(data)] = data
        return len(data)


@contextmanager
def open_output(path: str) -> Iterator[IO[bytes]]:
    """Open a file to be written beside and renamed at the end, compressed by its ending.

    Whatever goes wrong on the way, no half file stands under the name.
    """
    target = Path(path)
    folder = target.parent
    if not folder.is_dir():
        raise UsageError(f"{path}: the folder {str(folder)!r} does not exist; create it first")
    if target.is_dir():
        raise UsageError(f"{path}: this is a folder; name a file")
    try:
        descriptor, partial = tempfile.mkstemp(prefix=f".{target.name}.", suffix=".partial", dir=folder)
    except OSError as error:
        raise LoopwiseError(f"{path}: cannot be written ({error.strerror})") from error
    try:
        with os.fdopen(descriptor, "wb") as file:
            compression = _COMPRESSIONS.get(target.suffix.lower())
            if compression:
                with pa.CompressedOutputStream(pa.PythonFile(file, "w"), compression) as packed:
                    yield packed
                if not file.closed:
                    _sync(file)
            else:
                yield file
                _sync(file)
        _as_new_files_are(Path(partial), target)
        Path(partial).replace(target)
    except OSError as error:
        if isinstance(error, BrokenPipeError):
            raise
        raise LoopwiseError(f"{path}: cannot be written ({error.strerror or error})") from error
    finally:
        Path(partial).unlink(missing_ok=True)


def _sync(file: IO[bytes]) -> None:
    file.flush()
    os.fsync(file.fileno())


def umask() -> int:
    """Return which permissions new files and folders are not given."""
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _as_new_files_are(partial: Path, target: Path) -> None:
    """Give the file the mode that the target has, or that a new file would have."""
    try:
        mode = target.stat().st_mode & 0o777
    except FileNotFoundError:
        mode = 0o666 & ~umask()
    partial.chmod(mode)


def summarize(results: pa.Table, n_rows: int, n_written: int) -> Summary:
    """Return the counts of some rows: `n_rows` that were read, of which `n_written` stand in the output."""
    quadrants: Counter[tuple[str, str]] = Counter()
    second = {axis: pc.equal(results[axis], AXES[axis][1]) for axis in AXES}
    for loop, is_loop in zip(AXES["loop"], (pc.invert(second["loop"]), second["loop"]), strict=True):
        for mode, is_mode in zip(AXES["mode"], (pc.invert(second["mode"]), second["mode"]), strict=True):
            quadrants[loop, mode] = pc.sum(pc.and_(is_loop, is_mode)).as_py() or 0
    reasons = {c["values"]: c["counts"] for c in results["review"].value_counts().to_pylist()}
    review = n_rows - reasons.pop("", 0)
    return Summary(n_rows, written=n_written, quadrants=quadrants, review=review, reasons=Counter(reasons))


def _quoted(values: pa.Array, delimiter: str) -> pa.Array:
    """Quote the cells that need it; there are few distinct ones."""
    encoded = values.dictionary_encode()
    cells = [_quote_cell(harmless(cell), delimiter).encode() for cell in encoded.dictionary.to_pylist()]
    return pa.array(cells, pa.binary()).take(encoded.indices)


def harmless(cell: str) -> str:
    """Return a cell of ours so that no spreadsheet runs it: what begins like a formula gets an apostrophe."""
    return "'" + cell if cell.startswith(("=", "+", "-", "@", "\t", "\r", "\n")) else cell


def _quote_cell(cell: str, delimiter: str) -> str:
    if delimiter in cell or '"' in cell or "\n" in cell or "\r" in cell:
        return '"' + cell.replace('"', '""') + '"'
    return cell


def _csv_text(cells: list[str], delimiter: str) -> str:
    if not cells:
        return ""
    out = io.StringIO(newline="")
    # The writer quotes line breaks only if they are of its own kind: it is given both.
    csv.writer(out, delimiter=delimiter, lineterminator="\r\n").writerow(cells)
    return out.getvalue()[:-2]


def _csv_line(cells: list[str], delimiter: str) -> bytes:
    return _encoded(_csv_text(cells, delimiter))


def _encoded(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


def bytes_of(array: pa.Array) -> bytes:
    """Return the values of a binary array, one after the other."""
    _, offsets, data = array.buffers()
    ends = np.frombuffer(offsets, dtype=np.int32)
    begin, end = int(ends[array.offset]), int(ends[array.offset + len(array)])
    return memoryview(data)[begin:end].tobytes() if data is not None else b""
