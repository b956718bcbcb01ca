"""Classify a CSV backlog as a stream: read, score and write in blocks, on all cores, memory bounded."""

from __future__ import annotations

import csv
import io
import os
import tempfile
from collections import Counter, deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Final, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv

from loopwise.errors import InputError, LoopwiseError, UsageError
from loopwise.model.labels import AXES
from loopwise.service.columns import RESULT_COLUMNS, ColumnMaker
from loopwise.service.csvblocks import Block, CsvSource, Record, parse_exactly
from loopwise.service.results import OnResults, ResultRows
from loopwise.service.textcolumns import find_text_columns, join_parts, join_text

#: Blocks in flight for each worker.
_AHEAD: Final = 2
#: Where people correct the model's answers (see `loopwise labels add --corrections`).
REVIEW_COLUMNS: Final = ("loop_correct", "mode_correct")
_COMPRESSIONS: Final = {".gz": "gzip", ".zst": "zstd"}


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


@dataclass
class Summary:
    """What a run did.

    Attributes
    ----------
    rows : int
        Rows routed.
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
    """

    rows: int = 0
    quadrants: Counter[tuple[str, str]] = field(default_factory=Counter)
    review: int = 0
    reasons: Counter[str] = field(default_factory=Counter)
    ragged: list[int] = field(default_factory=list)
    blank: int = 0
    remarks: list[str] = field(default_factory=list)

    def add(self, other: Summary) -> None:
        """Add the counts of another block."""
        self.rows += other.rows
        self.quadrants.update(other.quadrants)
        self.review += other.review
        self.reasons.update(other.reasons)
        self.ragged += other.ragged
        self.blank += other.blank
        self.remarks += other.remarks


class Outcome(NamedTuple):
    """What became of a block: the bytes to write, its counts, and its rows if somebody looks at them."""

    text: bytes
    summary: Summary
    rows: ResultRows | None = None


class CsvClassifier:
    """Adds the result columns to the blocks of one CSV source.

    Parameters
    ----------
    source : CsvSource
    maker : ColumnMaker
    options : Options
    with_rows : bool
        Whether the rows are kept beside the bytes, for observers; without any, nothing is parsed for them.

    Raises
    ------
    InputError, UsageError
        If there is no text column, or a result column is there already.
    """

    def __init__(
        self, source: CsvSource, maker: ColumnMaker, options: Options, *, with_rows: bool = False
    ) -> None:
        self.source = source
        self.options = options
        self.with_rows = with_rows
        self._maker = maker
        wanted = REVIEW_COLUMNS if options.for_review else ()
        # Corrections that are there already stay where they are.
        review = [name for name in wanted if options.prefix + name not in source.header]
        self.added = [options.prefix + name for name in (*RESULT_COLUMNS, *review)]
        self._empty = source.delimiter * len(review)
        taken = [name for name in self.added if name in source.header]
        if taken and not options.replace:
            raise UsageError(
                f"{source.name}: the column{'s' * (len(taken) > 1)} {', '.join(taken)} "
                "would be written twice; use --replace to replace, or --prefix TEXT to keep both"
            )
        self._kept = [i for i, name in enumerate(source.header) if name not in self.added]
        names = [source.header[i] for i in self._kept]
        self.text_columns = find_text_columns(names, options.text or None)
        self._text_at = [source.header.index(name) for name in self.text_columns]

    @property
    def header(self) -> bytes:
        """The header record of the result."""
        source = self.source
        if len(self._kept) == len(source.header) and source.header_raw:
            added = _csv_line(self.added, source.delimiter)
            return source.bom + source.header_raw + source.delimiter.encode() + added + source.line_end
        names = [source.header[i] for i in self._kept] + self.added
        return source.bom + _csv_line(names, source.delimiter) + source.line_end

    def run(self) -> Iterator[Outcome]:
        """Yield the result of each block in order, with its counts; `options.jobs` threads work ahead."""
        with ThreadPoolExecutor(self.options.jobs) as pool:
            waiting: deque[Future[Outcome]] = deque()
            for block in self.source.blocks():
                waiting.append(pool.submit(self._block, block))
                if len(waiting) >= self.options.jobs * _AHEAD:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()

    def _block(self, block: Block) -> Outcome:
        fast = (
            self._fast(block)
            if block.records is None and len(self._kept) == len(self.source.header)
            else None
        )
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
        wanted = [columns[i] for i in self._text_at]
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
        results = self._maker.columns(join_parts(parts, table.num_rows)).combine_chunks()
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
        text = _bytes_of(out)
        summary = _summary(results, table.num_rows)
        rows = (
            self._rows(parse_exactly(block, self.source.delimiter, []), results) if self.with_rows else None
        )
        return Outcome(text if ended else text[:-strip], summary, rows)

    def _exact(self, block: Block) -> Outcome:
        """Classify a block record by record, as Python's `csv` reads it."""
        remarks: list[str] = []
        delimiter = self.source.delimiter
        records = parse_exactly(block, delimiter, remarks)
        width = len(self.source.header)
        single = width == 1
        rows = [r for r in records if r.cells or single]
        texts = [join_text([r.cells[i] if i < len(r.cells) else "" for i in self._text_at]) for r in rows]
        clean = [t.encode("utf-8", "replace").decode() for t in texts]
        results = self._maker.columns(pa.array(clean, pa.string()))
        cells = iter(zip(*(results[name].to_pylist() for name in RESULT_COLUMNS), strict=True))
        out = io.StringIO(newline="")
        ragged = []
        for record in records:
            if not record.cells and not single:
                out.write(record.raw)
                continue
            if len(record.cells) not in (width, 0):
                ragged.append(record.line)
            out.write(self._with_results(record, next(cells), width))
        if ragged and self.options.strict:
            n_cells = next(len(r.cells) for r in records if r.line == ragged[0])
            raise InputError(
                f"{self.source.name}: line {ragged[0]} has {n_cells} cells and the header has {width}; "
                "nothing was written (--strict)"
            )
        summary = _summary(results, len(rows))
        summary.ragged = ragged
        summary.blank = len(records) - len(rows)
        summary.remarks = remarks
        kept = self._rows(rows, results) if self.with_rows else None
        return Outcome(out.getvalue().encode("utf-8", "surrogateescape"), summary, kept)

    def _rows(self, records: list[Record], results: pa.Table) -> ResultRows:
        width = len(self.source.header)
        padded = [r.cells[:width] + [""] * (width - len(r.cells)) for r in records]
        texts = [join_text([cells[i] for i in self._text_at]) for cells in padded]
        own = padded if len(self._kept) == width else [[cells[i] for i in self._kept] for cells in padded]
        header = [self.source.header[i] for i in self._kept]
        return ResultRows(header, own, results, texts, self.text_columns)

    def _with_results(self, record: Record, results: tuple[str, ...], width: int) -> str:
        """Return a record with its results: after its own cells, or before those beyond the header."""
        delimiter = self.source.delimiter
        bare = record.raw.rstrip("\r\n")
        line_end = record.raw[len(bare) :]
        ours = delimiter.join(
            [*results[:4], *(_quote_cell(c, delimiter) for c in results[4:6]), f'"{results[6]}"']
        )
        ours += self._empty
        if len(record.cells) <= width and len(self._kept) == width:
            missing = width - max(len(record.cells), 1)
            return bare + delimiter * missing + delimiter + ours + line_end
        cells = record.cells + [""] * (width - len(record.cells))
        own = _csv_text([cells[i] for i in self._kept], delimiter)
        surplus = _csv_text(cells[width:], delimiter)
        return delimiter.join([own, ours] + ([surplus] if surplus else [])) + line_end


def write_results(
    classifier: CsvClassifier,
    out: IO[bytes],
    on_block: Callable[[Summary, int], None] = lambda total, size: None,
    on_results: OnResults | None = None,
) -> Summary:
    """Classify a CSV and write the result to a binary stream.

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
    source = classifier.source
    out.write(classifier.header)
    total = Summary()
    ends_open = False
    for text, summary, rows in classifier.run():
        if on_results and rows:
            on_results(rows)
        if ends_open:
            out.write(source.line_end)
        out.write(text)
        ends_open = bool(text) and not text.endswith((b"\n", b"\r"))
        total.add(summary)
        on_block(total, source.bytes_read)
    total.remarks += source.remarks
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


def _as_new_files_are(partial: Path, target: Path) -> None:
    """Give the file the mode that the target has, or that a new file would have."""
    try:
        mode = target.stat().st_mode & 0o777
    except FileNotFoundError:
        mask = os.umask(0)
        os.umask(mask)
        mode = 0o666 & ~mask
    partial.chmod(mode)


def _summary(results: pa.Table, n_rows: int) -> Summary:
    quadrants: Counter[tuple[str, str]] = Counter()
    second = {axis: pc.equal(results[axis], AXES[axis][1]) for axis in AXES}
    for loop, is_loop in zip(AXES["loop"], (pc.invert(second["loop"]), second["loop"]), strict=True):
        for mode, is_mode in zip(AXES["mode"], (pc.invert(second["mode"]), second["mode"]), strict=True):
            quadrants[loop, mode] = pc.sum(pc.and_(is_loop, is_mode)).as_py() or 0
    reasons = {c["values"]: c["counts"] for c in results["review"].value_counts().to_pylist()}
    review = n_rows - reasons.pop("", 0)
    return Summary(n_rows, quadrants, review, Counter(reasons))


def _quoted(values: pa.Array, delimiter: str) -> pa.Array:
    """Quote the cells that need it; there are few distinct ones."""
    encoded = values.dictionary_encode()
    cells = [_quote_cell(cell, delimiter).encode() for cell in encoded.dictionary.to_pylist()]
    return pa.array(cells, pa.binary()).take(encoded.indices)


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
    return _csv_text(cells, delimiter).encode("utf-8", "surrogateescape")


def _bytes_of(array: pa.Array) -> bytes:
    """Return the values of a binary array, one after the other."""
    _, offsets, data = array.buffers()
    ends = np.frombuffer(offsets, dtype=np.int32)
    begin, end = int(ends[array.offset]), int(ends[array.offset + len(array)])
    return memoryview(data)[begin:end].tobytes() if data is not None else b""
