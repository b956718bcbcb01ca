"""Classify on a Dask cluster: a Dask DataFrame, or a Parquet or CSV backlog from the command line.

The model goes to each worker once. Tasks name it by its fingerprint (`ModelSpec`); a worker loads it
from its folder if it can see it there, else from the parts that `send_model` brought, and keeps it.
"""

from __future__ import annotations

import hashlib
import io
import json
import re
import shutil
import socket
import tempfile
from collections import Counter, OrderedDict, deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from importlib.metadata import version
from itertools import pairwise
from pathlib import Path
from threading import Lock
from typing import IO, Any, Final
from uuid import uuid4
from weakref import WeakKeyDictionary

import pyarrow as pa
import pyarrow.parquet as pq

from loopwise.errors import InputError, LoopwiseError, MissingExtraError, ModelError, UsageError
from loopwise.model.modelfile import FIELDS_NAME, WEIGHTS_NAME, ModelFile
from loopwise.service.classify import (
    CsvClassifier,
    Options,
    Summary,
    open_input,
    open_output,
    summarize,
    umask,
    write_results,
)
from loopwise.service.columns import RESULT_COLUMNS
from loopwise.service.csvblocks import Block, CsvSource
from loopwise.service.layouts import recognise_layout
from loopwise.service.plan import Plan
from loopwise.service.predictor import Predictor, Settings
from loopwise.service.readers import arrow_texts
from loopwise.service.routes import Routes

try:
    import distributed
    import fsspec
    from dask import dataframe as dd
except ImportError as error:
    raise MissingExtraError(
        f"classifying on a cluster needs Dask ({error.name} is missing); "
        "install it with: pip install 'loopwise[distributed]'"
    ) from error

#: Rows of a Parquet part: some seconds of work, which is what a lost worker costs.
ROWS_PER_PART: Final = 200_000
#: Rows read, scored and written at a time within a part.
_ROWS_AT_ONCE: Final = 1 << 16
#: CSV blocks in flight for each thread of the cluster.
_AHEAD: Final = 3
#: Models that a worker keeps loaded.
_MAX_LOADED: Final = 4
#: Seconds to wait for a scheduler, and for its first worker.
_PATIENCE: Final = 30
_CSV_ENDINGS: Final = ("", ".csv", ".tsv", ".tab", ".txt")
#: What names a file and no folder of Parquet.
_FILE_ENDINGS: Final = (*_CSV_ENDINGS[1:], ".json", ".jsonl", ".xlsx", ".md")
_WEIGHT_PARTS: Final = (FIELDS_NAME, WEIGHTS_NAME)


# The model on the workers


@dataclass(frozen=True)
class ModelSpec:
    """What a task holds in place of the model: a few hundred bytes.

    Attributes
    ----------
    key : str
        Fingerprint of the weights, routes, settings and the release; equal keys give equal results.
    digest : str
        The SHA-256 of the model, as its ``model.json`` names it.
    folder : str
        Where the client read it.
    release : str
        The release of Loopwise that the client runs.
    routes, settings
        As in `Predictor`.
    """

    key: str
    digest: str = field(compare=False)
    folder: str = field(compare=False)
    release: str = field(compare=False)
    routes: Routes = field(compare=False)
    settings: Settings = field(compare=False)

    @classmethod
    def of(cls, predictor: Predictor) -> ModelSpec:
        """Return what names `predictor` to the workers."""
        digest = _digest(predictor.model)
        routes, settings = predictor.routes, predictor.settings
        table = sorted([*labels, *route] for labels, route in routes.table.items())
        thresholds = {axis: dict(of_axis) for axis, of_axis in settings.thresholds.items()}
        parts = [digest, table, dict(settings.prior), thresholds, version("loopwise")]
        key = hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
        folder = str(predictor.model.folder.absolute())
        return cls(key, digest, folder, version("loopwise"), routes, settings)

    def __dask_tokenize__(self) -> tuple[str, str]:
        return ("loopwise.ModelSpec", self.key)

    def predictor(self) -> Predictor:
        """Return the predictor, loaded at the first call in this process.

        Raises
        ------
        ModelError
            If this process can find the model neither in its folder nor among those sent to it.
        UsageError
            If it runs another release of Loopwise.
        """
        with _lock:
            if self.key not in _loaded:
                if version("loopwise") != self.release:
                    raise UsageError(
                        f"the worker on {_host()} runs loopwise {version('loopwise')} and you run "
                        f"{self.release}; install the same release on both"
                    )
                _remember(self.key, Predictor(self._find(), self.routes, self.settings))
            _loaded.move_to_end(self.key)
            return _loaded[self.key]

    def _find(self) -> ModelFile:
        for folder in (self.folder, _received.get(self.digest)):
            model = _load_if_same(folder, self.digest)
            if model is not None:
                return model
        raise ModelError(
            f"the worker on {_host()} cannot read the model in {self.folder} and was not sent it; make the "
            "Client before you call classify_frame, or call loopwise.service.distributed.send_model(client)"
        )


_lock = Lock()
_loaded: OrderedDict[str, Predictor] = OrderedDict()
#: Where the models lie that were sent to this worker, by digest.
_received: dict[str, Path] = {}
#: Digests of the models that were sent through a client.
_sent: WeakKeyDictionary[Any, set[str]] = WeakKeyDictionary()


def _remember(key: str, predictor: Predictor) -> None:
    _loaded[key] = predictor
    while len(_loaded) > _MAX_LOADED:
        _loaded.popitem(last=False)


def _digest(model: ModelFile) -> str:
    digest: str = model.fields["sha256"][FIELDS_NAME]
    return digest


def _load_if_same(folder: Path | str | None, digest: str) -> ModelFile | None:
    """Load the model in `folder`, if there is one and it is the one that `digest` names."""
    if folder is None or not (Path(folder) / FIELDS_NAME).is_file():
        return None
    try:
        model = ModelFile.load(folder)
    except ModelError:
        return None
    return model if _digest(model) == digest else None


def _host() -> str:
    return socket.gethostname()


class _ModelPlugin(distributed.WorkerPlugin):  # type: ignore[misc]
    """Brings the parts of a model to every worker, those that join later included."""

    def __init__(self, digest: str, parts: dict[str, bytes]) -> None:
        self.name = f"loopwise-model-{digest[:16]}"
        self._digest, self._parts = digest, parts

    def setup(self, worker: Any) -> None:
        # A folder of its own each time: the model that came before may be in use.
        folder = Path(tempfile.mkdtemp(prefix=f"{self.name}-", dir=worker.local_directory))
        for name, data in self._parts.items():
            (folder / name).write_bytes(data)
        _received[self._digest] = folder
        self._parts = {}


def send_model(client: distributed.Client, predictor: Predictor | None = None) -> None:
    """Send a model to all workers of a cluster, those that join later included; once for each model.

    `classify_frame` does this for the client that is there when it is called.

    Parameters
    ----------
    client : distributed.Client
    predictor : Predictor, optional
        The active model unless given.
    """
    model = (predictor or Predictor.load()).model
    digest = _digest(model)
    sent = _sent.setdefault(client, set())
    if digest in sent:
        return
    parts = {name: (model.folder / name).read_bytes() for name in _WEIGHT_PARTS}
    plugin = _ModelPlugin(digest, parts)
    with _clear_errors(client):
        client.register_plugin(plugin, name=plugin.name)
    sent.add(digest)


# A Dask DataFrame


def classify_frame(
    frame: dd.DataFrame, text: str | Sequence[str] | None = None, *, predictor: Predictor | None = None
) -> dd.DataFrame:
    """Return a Dask DataFrame with the seven result columns added, lazily.

    Each row is what `Predictor.predict_frame` gives for it. The partitions, the index and all other
    columns stay as they are; some ten to two hundred thousand rows a partition work well.

    Parameters
    ----------
    frame : dask.dataframe.DataFrame
    text : str or sequence of str, optional
        The columns that hold the task, read together; found by name unless given.
    predictor : Predictor, optional
        The active model unless given.

    Raises
    ------
    UsageError
        If there is no such column, or a result column is there already.
    InputError
        If no column is named and none is found.
    """
    predictor = predictor or Predictor.load()
    spec = ModelSpec.of(predictor)
    with _lock:
        _remember(spec.key, predictor)
    try:
        client = distributed.Client.current()
    except ValueError:
        pass  # Threads or processes of this machine: they see the folder.
    else:
        send_model(client, predictor)
    wanted = [text] if isinstance(text, str) else text
    # Of one made-up row, since pandas types nothing by an empty list.
    meta = predictor.predict_frame(frame._meta_nonempty, wanted).iloc[:0]
    dtypes = {name: meta[name].dtype for name in RESULT_COLUMNS}
    return frame.map_partitions(_classify_partition, spec, wanted, dtypes, meta=meta)


def _classify_partition(part: Any, spec: ModelSpec, text: list[str] | None, dtypes: dict[str, Any]) -> Any:
    return spec.predictor().predict_frame(part, text).astype(dtypes)


# A backlog from the command line


def classify_backlog(
    source: str,
    target: str | None,
    predictor: Predictor,
    options: Options,
    scheduler: str,
    *,
    delimiter: str | None = None,
    encoding: str | None = None,
    has_header: bool = True,
    rows_per_part: int = ROWS_PER_PART,
    on_block: Callable[[Summary, int], None] = lambda total, size: None,
) -> Summary:
    """Classify a backlog on a Dask cluster: Parquet into a folder of Parquet, CSV into the same CSV.

    A Parquet backlog is read and written by the workers; a CSV goes through this process block by
    block, so that its result is, to the byte, that of one machine. The result appears whole or not
    at all (see `_output_folder` for object stores).

    Parameters
    ----------
    source, target : str
        A Parquet file, a folder of them, or a CSV; paths or fsspec URLs.
    predictor : Predictor
    options : Options
        As for one machine; `jobs` counts the processes of ``local``.
    scheduler : str
        The address of a scheduler, or ``local`` for a cluster on this machine.
    delimiter, encoding, has_header
        How a CSV is read; see `CsvSource.open`.
    rows_per_part : int
        Rows of each Parquet part.
    on_block : callable
        Called after each part with the running summary and the bytes done so far.

    Raises
    ------
    UsageError, InputError
        If the input or the options are wrong, or the scheduler is not there.
    LoopwiseError
        If a part could not be done, or the result is not where it should be.
    """
    if target is None or target == "-":
        raise UsageError("--scheduler needs a place to write to; name it with -o")
    is_parquet = _ending(source) in (".parquet", ".pq") or _is_folder(source)
    spec = ModelSpec.of(predictor)
    if is_parquet:
        if _ending(target) in _FILE_ENDINGS:
            raise UsageError(f"{target}: Parquet comes back as a folder of Parquet; name one with -o")
        pieces, schema = _pieces(source, rows_per_part)
        columns = _Columns.of(schema, source, options)
        with _output_folder(target) as folder, _client(scheduler, options.jobs) as client:
            send_model(client, predictor)
            return _run_pieces(client, pieces, folder, spec, columns, on_block)
    if _ending(source) not in _CSV_ENDINGS:
        raise UsageError(f"{source}: a cluster reads Parquet and CSV; leave out --scheduler, or convert it")
    if _ending(target) not in _CSV_ENDINGS:
        raise UsageError(f"{target}: a CSV comes back as a CSV; name one with -o")
    with _open_csv(source) as (stream, name):
        csv = CsvSource.open(stream, name, delimiter=delimiter, encoding=encoding, has_header=has_header)
        with _open_target(target) as out, _client(scheduler, options.jobs) as client:
            classifier = _ClusterClassifier(csv, predictor, options, client, spec)
            send_model(client, predictor)
            with _clear_errors(client):
                return write_results(classifier, out, on_block)


def _ending(path: str) -> str:
    """Return the ending of a path or URL, in lower case, without that of a compression."""
    name = path.rstrip("/").lower().removesuffix(".gz").removesuffix(".zst")
    return Path(name).suffix


def _is_folder(path: str) -> bool:
    if path == "-":
        return False
    fs, place = _filesystem(path)
    return bool(fs.isdir(place))


def _filesystem(path: str) -> tuple[Any, str]:
    """Return the file system of a path or URL, and the path in it; absolute, as workers stand elsewhere."""
    try:
        fs, place = fsspec.core.url_to_fs(path)
    except (ImportError, ValueError) as error:
        raise UsageError(f"{path}: {error}") from error
    return fs, place


def _is_local(fs: Any) -> bool:
    return "file" in ((fs.protocol,) if isinstance(fs.protocol, str) else fs.protocol)


@contextmanager
def _client(scheduler: str, jobs: int) -> Iterator[distributed.Client]:
    """Connect to a scheduler and wait for a worker, or start a cluster on this machine."""
    if scheduler == "local":
        with (
            distributed.LocalCluster(
                n_workers=jobs, threads_per_worker=1, dashboard_address="127.0.0.1:0", silence_logs=50
            ) as cluster,
            distributed.Client(cluster) as client,
        ):
            yield client
        return
    if "://" not in scheduler:
        raise UsageError(f"--scheduler {scheduler!r}: write an address such as tcp://host:8786, or local")
    try:
        client = distributed.Client(scheduler, timeout=_PATIENCE, set_as_default=False)
    except (OSError, ValueError, TimeoutError) as error:
        raise UsageError(
            f"--scheduler {scheduler}: no scheduler answers there; start one with: dask scheduler"
        ) from error
    with client:
        try:
            client.wait_for_workers(1, timeout=_PATIENCE)
        except TimeoutError as error:
            raise LoopwiseError(
                f"{scheduler}: the scheduler has no workers; start one with: dask worker {scheduler}"
            ) from error
        yield client


@contextmanager
def _clear_errors(client: distributed.Client) -> Iterator[None]:
    """Turn what Dask raises about the cluster into errors that a user can act on."""
    try:
        yield
    except distributed.KilledWorker as error:
        raise LoopwiseError(
            "some rows were given to several workers, and each of them died; they may have too little memory"
        ) from error
    except Exception as error:
        # Dask passes on only the text of what went wrong as a worker unpickled.
        if "No module named 'loopwise" not in str(error):
            raise
        raise UsageError(
            f"the cluster at {client.scheduler.address} has no Loopwise; on each worker and on the "
            f"scheduler: pip install 'loopwise[distributed]=={version('loopwise')}'"
        ) from error


# Parquet


@dataclass(frozen=True)
class _Piece:
    """Some rows of a Parquet file: `n_rows` after the first `skip` of these row groups.

    `folder` is the subfolder of the backlog that holds the file; its name may be a column (``year=2026``).
    """

    path: str
    folder: str
    number: int
    row_groups: tuple[int, ...]
    skip: int
    n_rows: int
    n_bytes: int

    @property
    def name(self) -> str:
        """The file that it is written to: numbered in the order of the rows, in its subfolder."""
        name = f"part-{self.number:06}.parquet"
        return f"{self.folder}/{name}" if self.folder else name


@dataclass(frozen=True)
class _Columns:
    """What becomes of the columns of each table: the plan that one machine would make."""

    plan: Plan

    @classmethod
    def of(cls, schema: pa.Schema, source: str, options: Options) -> _Columns:
        if options.for_review:
            raise UsageError("--for-review makes columns to fill by hand; it is for CSV")
        plan = options.plan(source, list(schema.names), recognise_layout(schema.names))
        twice = [name for name, n in Counter(schema.names).items() if n > 1]
        if twice:
            raise InputError(f"{source}: the column {twice[0]} occurs twice; rename one of them")
        return cls(plan)

    def schema(self, own: pa.Schema) -> pa.Schema:
        """Return the schema of the result, for tables with the schema `own`."""
        kinds = [pa.float64() if name.endswith("confidence") else pa.string() for name in self.plan.added]
        ours = map(pa.field, self.plan.added, kinds)
        return pa.schema([*(own.field(i) for i in self.plan.kept), *ours], metadata=own.metadata)

    def apply(self, table: pa.Table, predictor: Predictor) -> tuple[pa.Table, Summary]:
        """Return the table with its results, and their counts."""
        parts = [pa.array(arrow_texts(table.column(i)), pa.string()) for i in self.plan.text_at]
        results = predictor.columns.columns(self.plan.texts(parts, table.num_rows))
        routed = table.select(self.plan.kept)
        for name, added in zip(RESULT_COLUMNS, self.plan.added, strict=True):
            column = results[name].cast(pa.float64()) if name.endswith("confidence") else results[name]
            routed = routed.append_column(added, column)
        return routed, summarize(results, table.num_rows, table.num_rows)


def _pieces(source: str, rows_per_part: int) -> tuple[list[_Piece], pa.Schema]:
    """Cut a Parquet backlog into pieces of about `rows_per_part` rows, by the footers of its files."""
    fs, place = _filesystem(source)
    if not fs.exists(place):
        raise UsageError(f"{source}: there is no such file or folder")
    files = _parquet_files(fs, place) if fs.isdir(place) else [(place, "")]
    if not files:
        raise InputError(f"{source}: this folder holds no .parquet file")
    pieces: list[_Piece] = []
    schema = None
    for path, subfolder in files:
        url = fs.unstrip_protocol(path)
        try:
            with fs.open(path, "rb") as file, pq.ParquetFile(file) as parquet:
                footer, own = parquet.metadata, parquet.schema_arrow
        except pa.ArrowInvalid as error:
            raise InputError(f"{url}: this is not a Parquet file ({error})") from error
        schema = own if schema is None else schema
        if not own.equals(schema):
            raise InputError(f"{url}: its columns differ from those of {files[0][0]}; classify them apart")
        pieces += _pieces_of(url, subfolder, footer, rows_per_part, len(pieces))
    return pieces, schema


def _parquet_files(fs: Any, folder: str) -> list[tuple[str, str]]:
    """Return the Parquet files in a folder and below with their subfolders, part.10 after part.9.

    Hidden ones and those that begin with an underscore are left out.
    """
    found = []
    for path in fs.find(folder):
        inner = path[len(folder.rstrip("/")) :].strip("/").split("/")
        if inner[-1].endswith((".parquet", ".pq")) and not any(part[0] in "._" for part in inner):
            found.append((path, "/".join(inner[:-1])))
    return sorted(found, key=lambda both: [int(p) if p.isdigit() else p for p in re.split(r"(\d+)", both[0])])


def _pieces_of(url: str, subfolder: str, footer: Any, rows_per_part: int, number: int) -> list[_Piece]:
    """Put small row groups together and cut large ones."""
    groups = [footer.row_group(i) for i in range(footer.num_row_groups)]
    pieces: list[_Piece] = []
    waiting: list[int] = []

    def cut() -> None:
        n_rows = sum(groups[i].num_rows for i in waiting)
        n_bytes = sum(groups[i].total_byte_size for i in waiting)
        n_cuts = max(1, round(n_rows / rows_per_part))
        edges = [n_rows * i // n_cuts for i in range(n_cuts + 1)]
        for first, last in pairwise(edges):
            at = number + len(pieces)
            pieces.append(_Piece(url, subfolder, at, tuple(waiting), first, last - first, n_bytes // n_cuts))
        waiting.clear()

    for i, group in enumerate(groups):
        if waiting and sum(groups[j].num_rows for j in waiting) + group.num_rows > rows_per_part:
            cut()
        waiting.append(i)
    # A file without rows still is a part, for its columns.
    cut()
    return pieces


def _run_pieces(
    client: distributed.Client,
    pieces: list[_Piece],
    folder: str,
    spec: ModelSpec,
    columns: _Columns,
    on_block: Callable[[Summary, int], None],
) -> Summary:
    """Let the workers read, classify and write all pieces; check that all is there."""
    total, n_bytes = Summary(), 0
    run = uuid4().hex
    fs, place = _filesystem(folder)
    # Here and not on the workers: one that does not see the folder fails with a clear message.
    for subfolder in {piece.folder for piece in pieces} - {""}:
        fs.makedirs(f"{place}/{subfolder}", exist_ok=True)
    futures = client.map(
        _classify_piece,
        pieces,
        folder=folder,
        spec=spec,
        columns=columns,
        key=[f"loopwise-part-{run}-{piece.number}" for piece in pieces],
        pure=False,
    )
    by_key = {future.key: piece for future, piece in zip(futures, pieces, strict=True)}
    with _clear_errors(client):
        for future in distributed.as_completed(futures, loop=client.loop):
            total.add(future.result())
            n_bytes += by_key[future.key].n_bytes
            on_block(total, n_bytes)
    _check_parts(folder, pieces)
    return total


def _classify_piece(piece: _Piece, folder: str, spec: ModelSpec, columns: _Columns) -> Summary:
    """On a worker: write the part that belongs to a piece, whole or not at all."""
    predictor = spec.predictor()
    try:
        source_fs, source = _filesystem(piece.path)
        with source_fs.open(source, "rb") as file, pq.ParquetFile(file) as parquet:
            return _write_part(parquet, piece, f"{folder}/{piece.name}", predictor, columns)
    except FileNotFoundError as error:
        raise LoopwiseError(
            f"the worker on {_host()} does not see {error.filename or piece.path}; all workers must see the "
            "backlog and the folder of the result: use a shared folder or an object store"
        ) from error
    except (OSError, pa.ArrowException) as error:
        raise LoopwiseError(f"{piece.path}: the worker on {_host()} could not go on ({error})") from error


def _write_part(parquet: Any, piece: _Piece, target: str, predictor: Predictor, columns: _Columns) -> Summary:
    fs, place = _filesystem(target)
    # A worker that was given up may still be writing the same part.
    partial = f"{place}.{uuid4().hex}.partial" if _is_local(fs) else place
    total = Summary()
    schema = columns.schema(parquet.schema_arrow)
    with fs.open(partial, "wb") as out, pq.ParquetWriter(out, schema) as writer:
        for table in _tables(parquet, piece):
            routed, counts = columns.apply(table, predictor)
            writer.write_table(routed)
            total.add(counts)
    if partial != place:
        Path(partial).replace(place)
    return total


def _tables(parquet: Any, piece: _Piece) -> Iterator[pa.Table]:
    """Yield the rows of a piece, some at a time."""
    skip, left = piece.skip, piece.n_rows
    for batch in parquet.iter_batches(_ROWS_AT_ONCE, list(piece.row_groups), use_threads=False):
        if left <= 0:
            return
        rows = batch.slice(skip, left)
        skip = max(0, skip - batch.num_rows)
        left -= rows.num_rows
        if rows.num_rows:
            yield pa.Table.from_batches([rows])


def _check_parts(folder: str, pieces: list[_Piece]) -> None:
    """Check that this machine sees every part with all its rows, and remove what else is there."""
    fs, place = _filesystem(folder)
    fs.invalidate_cache()
    left_over = set(fs.find(place))
    for piece in pieces:
        path = f"{place}/{piece.name}"
        if path not in left_over:
            raise LoopwiseError(
                f"{folder}: {piece.name} was written by a worker and is not here; workers and this machine "
                "must share the folder: name one that all of them see, or an object store"
            )
        left_over.remove(path)
        with fs.open(path, "rb") as file, pq.ParquetFile(file) as parquet:
            n_rows = parquet.metadata.num_rows
        if n_rows != piece.n_rows:
            raise LoopwiseError(f"{path} has {n_rows} rows instead of {piece.n_rows}")
    for path in left_over:
        fs.rm(path)


@contextmanager
def _output_folder(target: str) -> Iterator[str]:
    """Yield the folder to write parts to, whole under the name of `target` at the end or not at all.

    On a file system it stands beside and is renamed. An object store has no rename of a folder: parts
    are written in place, each whole, and an empty ``_SUCCESS`` follows when all are there; after a
    failure they are removed.
    """
    fs, place = _filesystem(target)
    if fs.exists(place) and (not fs.isdir(place) or fs.ls(place)):
        raise UsageError(f"{target}: is there already; remove it or name another folder")
    if not _is_local(fs):
        try:
            yield fs.unstrip_protocol(place)
            fs.touch(f"{place}/_SUCCESS")
        except BaseException:
            if fs.exists(place):
                fs.rm(place, recursive=True)
            raise
        return
    path = Path(place)
    if not path.parent.is_dir():
        raise UsageError(f"{target}: the folder {str(path.parent)!r} does not exist; create it first")
    try:
        partial = Path(tempfile.mkdtemp(prefix=f".{path.name}.", suffix=".partial", dir=path.parent))
    except OSError as error:
        raise LoopwiseError(f"{target}: cannot be written ({error.strerror})") from error
    try:
        # As a new folder is made, so that workers of other users may write to it as the umask says.
        partial.chmod(0o777 & ~umask())
        yield str(partial)
        partial.replace(path)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


# CSV


@contextmanager
def _open_csv(source: str) -> Iterator[tuple[IO[bytes], str]]:
    """Open a CSV on this machine or in an object store; yields it with its name."""
    if "://" not in source:
        with open_input(source) as both:
            yield both
        return
    fs, place = _filesystem(source)
    if not fs.exists(place):
        raise UsageError(f"{source}: there is no such file")
    with fsspec.open(source, "rb", compression="infer") as stream:
        yield stream, source


@contextmanager
def _open_target(target: str) -> Iterator[IO[bytes]]:
    """Open the CSV to write, renamed at the end; for an object store, sent there at the end."""
    if "://" not in target:
        with open_output(target) as out:
            yield out
        return
    fs, place = _filesystem(target)
    with tempfile.TemporaryDirectory(prefix="loopwise-") as folder:
        whole = Path(folder) / Path(place).name
        with open_output(str(whole)) as out:
            yield out
        fs.put_file(str(whole), place)


class _ClusterClassifier(CsvClassifier):
    """Reads the blocks of a CSV here and lets the workers classify them."""

    def __init__(
        self,
        source: CsvSource,
        predictor: Predictor,
        options: Options,
        client: distributed.Client,
        spec: ModelSpec,
    ) -> None:
        super().__init__(source, predictor.columns, options, layout=recognise_layout(source.header))
        self._client, self._spec = client, spec

    def run(self) -> Iterator[Any]:
        """Yield the result of each block in order; some are under way on the workers."""
        # What a worker needs of the source: everything but the stream.
        source = replace(self.source, _stream=io.BytesIO(), _rest=b"", remarks=[])
        ahead = _AHEAD * max(1, sum(self._client.nthreads().values()))
        waiting: deque[distributed.Future] = deque()
        run = uuid4().hex
        for number, block in enumerate(self.source.blocks()):
            # Within the task and not scattered, so that it outlives a worker.
            work = (_classify_block, block, source, self.options, self._spec)
            waiting.append(self._client.submit(*work, key=f"loopwise-block-{run}-{number}", pure=False))
            if len(waiting) >= ahead:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def _classify_block(block: Block, source: CsvSource, options: Options, spec: ModelSpec) -> Any:
    """On a worker: the result of one block of a CSV."""
    layout = recognise_layout(source.header)
    return CsvClassifier(source, spec.predictor().columns, options, layout=layout)._block(block)
