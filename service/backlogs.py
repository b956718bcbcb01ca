"""Open any backlog, classify it, write it in any format: what `loopwise classify` does."""

from __future__ import annotations

import io
import os
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Final

import pyarrow as pa
import pyarrow.compute as pc

from loopwise.errors import InputError, LoopwiseError, UsageError
from loopwise.model.labels import AXES
from loopwise.service.classify import (
    CsvClassifier,
    CsvOutput,
    Options,
    Outcome,
    Summary,
    open_input,
    open_output,
    run_ahead,
    summarize,
)
from loopwise.service.columns import RESULT_COLUMNS, ColumnMaker
from loopwise.service.csvblocks import CsvSource
from loopwise.service.layouts import LAYOUTS, Layout, recognise_layout
from loopwise.service.readers import guess_kind, read_table, sources
from loopwise.service.results import OnResults, ResultRows
from loopwise.service.tables import Chunk, Table
from loopwise.service.textcolumns import BODIES, TITLES, WHOLE
from loopwise.service.writers import WRITERS, Writer, check_counts, format_of

if TYPE_CHECKING:
    from loopwise.service.predictor import Predictor

#: What `--only` takes: `review`, or a class.
ONLY: Final = ("review", *AXES["loop"], *AXES["mode"])
#: Rows that a dry run shows.
DRY_ROWS: Final = 10


@dataclass(frozen=True)
class Reading:
    """How a backlog is read; all is recognised unless given.

    Attributes
    ----------
    source : str or None
        One of `sources`: a format or a tracker.
    delimiter, encoding : str or None
    has_header : bool
        Of a CSV: whether the first line names the columns.
    sheet : str or None
        Of a workbook.
    """

    source: str | None = None
    delimiter: str | None = None
    encoding: str | None = None
    has_header: bool = True
    sheet: str | None = None


@dataclass(frozen=True)
class Writing:
    """What is written.

    Attributes
    ----------
    output : str or None
        A file; standard output if None or ``-``.
    format : str or None
        One of `WRITERS`; by the output's ending if None.
    only : tuple of str
        Which rows, of `ONLY`; all if empty. Two answers to one question: either; to two: both.
    split : str or None
        A folder for a file a route, instead of `output`.
    dry_run : bool
        Show the first rows and write nothing.
    """

    output: str | None = None
    format: str | None = None
    only: tuple[str, ...] = ()
    split: str | None = None
    dry_run: bool = False


@dataclass(frozen=True)
class Backlog:
    """An open backlog: a CSV or another table, and the tracker that it comes from."""

    source: CsvSource | Table
    layout: Layout | None
    kind: str

    @property
    def name(self) -> str:
        """How messages call the file."""
        return self.source.name


@contextmanager
def open_backlog(path: str, reading: Reading) -> Iterator[Backlog]:
    """Open a backlog of any format; ``-`` is standard input.

    Raises
    ------
    UsageError, InputError
        If there is no such file, or it is not what it was taken for.
    """
    if reading.source is not None and reading.source not in sources():
        raise UsageError(f"--from {reading.source}: there is none such; choose of: {', '.join(sources())}")
    with open_input(path) as (stream, name):
        kind = _kind_of(stream, path, reading)
        if reading.sheet is not None and kind != "xlsx":
            raise UsageError(f"{name}: --sheet names a sheet of a workbook, and this was taken for {kind}")
        if kind == "csv":
            yield _csv_backlog(stream, name, reading)
        else:
            table = read_table(kind, stream, name, encoding=reading.encoding, sheet=reading.sheet)
            layout = LAYOUTS.get(reading.source or "", table.layout)
            yield Backlog(table, layout, table.kind)


def _kind_of(stream: Any, path: str, reading: Reading) -> str:
    if reading.source is not None and reading.source not in LAYOUTS:
        return reading.source
    if reading.source is None and (reading.delimiter or not reading.has_header):
        return "csv"
    head = stream.peek(1 << 13) if hasattr(stream, "peek") else b""
    return guess_kind("" if path == "-" else path, head, WHOLE + TITLES + BODIES)


def _csv_backlog(stream: IO[bytes], name: str, reading: Reading) -> Backlog:
    source = CsvSource.open(
        stream,
        name,
        delimiter=reading.delimiter,
        encoding=reading.encoding,
        has_header=reading.has_header,
    )
    layout = LAYOUTS.get(reading.source) if reading.source else recognise_layout(source.header)
    separated = {",": "CSV", "\t": "TSV"}.get(source.delimiter, f"CSV with {source.delimiter!r}")
    return Backlog(source, layout, layout.title if layout else separated)


class TableClassifier:
    """Classifies the rows of a table; the twin of `CsvClassifier`.

    Parameters
    ----------
    table : Table
    maker : ColumnMaker
    options : Options
    layout : Layout or None
    """

    def __init__(self, table: Table, maker: ColumnMaker, options: Options, layout: Layout | None) -> None:
        self.table = table
        self.options = options
        self.plan = options.plan(table.name, table.header, layout)
        self._maker = maker

    def run(self) -> Iterator[Outcome]:
        """Yield the result of each chunk in order; `options.jobs` threads work ahead."""
        return run_ahead(self._chunk, self.table.read(), self.options.jobs)

    def _chunk(self, chunk: Chunk) -> Outcome:
        plan = self.plan
        texts = plan.texts_of_rows(chunk.cells)
        results = self._maker.columns(texts).combine_chunks()
        own = chunk.cells if plan.keeps_all else [[row[i] for i in plan.kept] for row in chunk.cells]
        rows = ResultRows(plan.names, own, results, texts.to_pylist(), plan.text_columns, chunk.native)
        return Outcome(b"", summarize(results, len(chunk.lines), 0), results, rows)


def route_backlog(
    path: str,
    predictor: Predictor,
    *,
    reading: Reading = Reading(),
    writing: Writing = Writing(),
    options: Options = Options(),  # noqa: B008
    say: Callable[[str], None] = lambda line: None,
    on_block: Callable[[Summary, int], None] = lambda total, size: None,
    on_results: OnResults | None = None,
) -> Summary:
    """Classify a backlog and write the result.

    Parameters
    ----------
    path : str
        A file, or ``-`` for standard input.
    predictor : Predictor
    reading, writing : Reading, Writing
    options : Options
    say : callable
        Told what the file was taken for, before anything is written.
    on_block : callable
        Called after each block with the running summary and the bytes read so far.
    on_results : callable, optional
        Called with the rows of each block and their results, in order, whatever is written.

    Raises
    ------
    UsageError, InputError
        If the backlog or what is asked for is not in order; no output file is then made.
    LoopwiseError
        If the output cannot be written, or does not hold as many rows as it should.
    """
    _check(writing)
    with open_backlog(path, reading) as backlog:
        as_it_is = _goes_as_it_is(backlog.source, writing)
        watched = on_results is not None or not as_it_is
        classifier = _classifier(backlog, predictor, options, writing, as_it_is=as_it_is, with_rows=watched)
        columns = ", ".join(classifier.plan.text_columns)
        say(f"reading {backlog.name} as {backlog.kind}, text from: {columns}")
        total = Summary(text_columns=list(classifier.plan.text_columns))
        if writing.dry_run:
            _dry_run(classifier, writing, total)
        else:
            with _open_sink(writing, classifier, predictor, as_it_is) as sink:
                for outcome in classifier.run():
                    if on_results and outcome.rows is not None:
                        on_results(outcome.rows)
                    total.add(outcome.summary)
                    sink.write(outcome)
                    on_block(total, getattr(backlog.source, "bytes_read", 0))
                sink.close()
                total.written, total.left_out = sink.counts()
                total.remarks += sink.remarks(backlog.name)
                check_counts(total.rows, total.written, total.left_out, backlog.name)
        total.remarks += backlog.source.remarks
    return total


def _classifier(
    backlog: Backlog,
    predictor: Predictor,
    options: Options,
    writing: Writing,
    *,
    as_it_is: bool,
    with_rows: bool,
) -> CsvClassifier | TableClassifier:
    if isinstance(backlog.source, Table):
        return TableClassifier(backlog.source, predictor.columns, options, backlog.layout)
    return CsvClassifier(
        backlog.source,
        predictor.columns,
        options,
        layout=backlog.layout,
        with_rows=with_rows,
        with_lines=bool(writing.only or writing.split),
        rectangular=not as_it_is and not writing.dry_run,
    )


def _check(writing: Writing) -> None:
    for name in writing.only:
        if name not in ONLY:
            raise UsageError(f"--only {name}: there is none such; choose of: {', '.join(ONLY)}")
    if writing.split is not None and writing.output not in (None, "-"):
        raise UsageError("--split writes a file a route into a folder, -o writes one file: choose one")
    format_of(writing.output, writing.format)


def _goes_as_it_is(source: CsvSource | Table, writing: Writing) -> bool:
    """Whether a CSV goes out as the bytes that it is, with cells added."""
    if not isinstance(source, CsvSource) or writing.dry_run:
        return False
    kind = format_of(writing.output, writing.format)
    return kind == "csv" or (kind == "tsv" and source.delimiter == "\t")


# --- Which rows ---------------------------------------------------------------------------------


def chosen_rows(results: pa.Table, only: tuple[str, ...]) -> Any:
    """Return which rows are asked for, as a Boolean array; None for all."""
    mask = None
    for axis, classes in AXES.items():
        wanted = [name for name in only if name in classes]
        if wanted:
            mask = _and(mask, pc.is_in(results[axis], value_set=pa.array(wanted)))
    if "review" in only:
        mask = _and(mask, pc.not_equal(results["review"], ""))
    if isinstance(mask, pa.ChunkedArray):
        mask = mask.combine_chunks()
    return mask


def _and(one: Any, other: Any) -> Any:
    return other if one is None else pc.and_(one, other)


def _choose(rows: ResultRows, mask: Any) -> ResultRows:
    """Return the rows for which the mask holds."""
    if mask is None:
        return rows
    at = pc.indices_nonzero(mask).to_pylist()
    native = rows.native
    if isinstance(native, list):
        native = [native[i] for i in at]
    elif native is not None:
        native = native.filter(mask)
    own, texts = [rows.rows[i] for i in at], [rows.texts[i] for i in at]
    return ResultRows(rows.header, own, rows.results.filter(mask), texts, rows.text_columns, native)


# --- Where they go ------------------------------------------------------------------------------


class _Sink:
    """One output, or one for each route."""

    def __init__(self, parts: dict[str, CsvOutput | _Rows], only: tuple[str, ...]) -> None:
        self._parts = parts
        self._only = only
        self._left_out = 0

    def write(self, outcome: Outcome) -> None:
        mask = chosen_rows(outcome.results, self._only)
        if mask is not None:
            self._left_out += len(mask) - (pc.sum(mask).as_py() or 0)
        for route, part in self._parts.items():
            here = _and(mask, pc.equal(outcome.results["route"], route)) if route else mask
            if isinstance(here, pa.ChunkedArray):
                here = here.combine_chunks()
            part.write(outcome, here)

    def close(self) -> None:
        for part in self._parts.values():
            part.close()

    def abort(self) -> None:
        for part in self._parts.values():
            part.abort()

    def counts(self) -> tuple[int, int]:
        """Return how many rows were written, and how many left out."""
        return sum(part.written for part in self._parts.values()), self._left_out

    def remarks(self, name: str) -> list[str]:
        """Return what a user should be told about what was written."""
        n = sum(part.replaced for part in self._parts.values())
        return [f"{name}: {n} cells hold bytes that are no UTF-8; written as ?"] if n else []


class _Rows:
    """Rows in another format."""

    def __init__(self, writer: Writer) -> None:
        self._writer = writer

    def write(self, outcome: Outcome, mask: Any) -> None:
        if outcome.rows is not None and outcome.rows.rows:
            rows = _choose(outcome.rows, mask)
            if rows.rows:
                self._writer.write(rows)

    def close(self) -> None:
        self._writer.close()

    def abort(self) -> None:
        self._writer.abort()

    @property
    def written(self) -> int:
        return self._writer.written

    @property
    def replaced(self) -> int:
        return self._writer.replaced


@contextmanager
def _open_sink(
    writing: Writing, classifier: CsvClassifier | TableClassifier, predictor: Predictor, as_it_is: bool
) -> Iterator[_Sink]:
    kind = format_of(writing.output, writing.format)

    def part(out: IO[bytes]) -> CsvOutput | _Rows:
        if as_it_is and isinstance(classifier, CsvClassifier):
            return CsvOutput(out, classifier)
        source = classifier.source if isinstance(classifier, CsvClassifier) else classifier.table
        schema = source.schema if isinstance(source, Table) else None
        return _Rows(WRITERS[kind](out, classifier.plan, source.name, schema))

    with ExitStack() as stack:
        if writing.split is not None:
            files = _open_files(writing.split, _ending(kind, classifier), predictor, stack)
        elif writing.output in (None, "-"):
            files = {"": _standard_output(stack)}
        else:
            files = {"": stack.enter_context(open_output(str(writing.output)))}
        sink = _Sink({route: part(file) for route, file in files.items()}, writing.only)
        # Whatever goes wrong, writers let go before the files under them are closed.
        stack.push(lambda kind, error, trace: sink.abort() if error is not None else None)
        yield sink
        sys.stdout.flush()


def _standard_output(stack: ExitStack) -> IO[bytes]:
    """Return standard output as a stream that writes all it is given, also where Python runs unbuffered."""
    out = sys.stdout.buffer
    if not isinstance(out, io.RawIOBase):
        return out
    buffered = os.fdopen(sys.stdout.fileno(), "wb", closefd=False)
    stack.callback(buffered.close)
    return buffered


def _open_files(folder: str, ending: str, predictor: Predictor, stack: ExitStack) -> dict[str, IO[bytes]]:
    """Open a file for each route in a folder, which is made if need be."""
    place = Path(folder)
    if place.exists() and not place.is_dir():
        raise UsageError(f"{folder}: this is a file; --split wants a folder")
    try:
        place.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise LoopwiseError(f"{folder}: cannot be made ({error.strerror})") from error
    names = safe_names(list(dict.fromkeys(route.name for route in predictor.routes.table.values())))
    return {r: stack.enter_context(open_output(str(place / (n + ending)))) for r, n in names.items()}


def _ending(kind: str, classifier: CsvClassifier | TableClassifier) -> str:
    if kind == "csv" and isinstance(classifier, CsvClassifier) and classifier.source.delimiter == "\t":
        return ".tsv"
    return WRITERS[kind].ending


def safe_names(routes: list[str]) -> dict[str, str]:
    """Return a file name without ending for each route: small letters, digits, hyphens; all different."""
    names: dict[str, str] = {}
    for route in routes:
        bare = re.sub(r"[^a-z0-9]+", "-", route.lower()).strip("-")[:60].rstrip("-") or "route"
        if re.fullmatch(r"con|prn|aux|nul|(?:com|lpt)\d", bare):
            bare = f"route-{bare}"  # Windows keeps these names for devices.
        name, number = bare, 2
        while name in names.values():
            name, number = f"{bare}-{number}", number + 1
        names[route] = name
    return names


# --- A dry run ----------------------------------------------------------------------------------


def _dry_run(classifier: CsvClassifier | TableClassifier, writing: Writing, total: Summary) -> None:
    """Print the first rows with their results; the rest of the file is not read."""
    shown: list[tuple[str, ...]] = []
    for outcome in classifier.run():
        rows = outcome.rows
        if rows is None:
            raise InputError("a dry run needs rows")
        rows = _choose(rows, chosen_rows(outcome.results, writing.only))
        results = zip(*(rows.results[n].to_pylist() for n in RESULT_COLUMNS), strict=True)
        shown += [(*r[:6], text) for r, text in zip(results, rows.texts, strict=True)]
        if len(shown) >= DRY_ROWS:
            break
    total.remarks.append(f"a dry run: the first {len(shown[:DRY_ROWS])} rows are shown, nothing is written")
    print(_table_of(shown[:DRY_ROWS]))


def _table_of(rows: list[tuple[str, ...]]) -> str:
    lines = [("loop", "mode", "route", "review", "text")]
    for loop, loop_confidence, mode, mode_confidence, review, route, text in rows:
        one_line = " ".join(text.split())
        lines.append(
            (
                f"{loop} {float(loop_confidence):.2f}",
                f"{mode} {float(mode_confidence):.2f}",
                route,
                review,
                one_line if len(one_line) <= 50 else one_line[:49] + "…",
            )
        )
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join(c.ljust(w) for c, w in zip(line, widths, strict=True)).rstrip() for line in lines
    )
