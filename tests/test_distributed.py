from __future__ import annotations

import csv
import io
import os
import signal
import subprocess
import sys
import time
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import cloudpickle
import dask.dataframe as dd
import distributed
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from loopwise import Predictor
from loopwise.errors import InputError, LoopwiseError, ModelError, UsageError
from loopwise.model.modelfile import ModelFile
from loopwise.service import distributed as ours
from loopwise.service.backlogs import Writing, route_backlog
from loopwise.service.classify import CsvClassifier, Options, Summary, write_results
from loopwise.service.columns import RESULT_COLUMNS
from loopwise.service.csvblocks import CsvSource
from loopwise.service.distributed import ModelSpec, classify_backlog, classify_frame, send_model
from tests.conftest import ROOT, SOAK, Run

N_ROWS = 1_000_000 if SOAK else 10_000
N_PARTS = 20


@pytest.fixture(scope="module")
def backlog() -> pa.Table:
    """Rows of the corpus with ids, some without a body, one column of each awkward type."""
    with (ROOT / "data" / "corpus.csv").open(encoding="utf-8", newline="") as file:
        texts = [row["text"] for row in csv.DictReader(file)]
    numbers = range(N_ROWS)
    return pa.table(
        {
            "id": pa.array([f"PROJ-{i}" for i in numbers]),
            "title": pa.array([texts[i * 7 % len(texts)] if i % 100 else None for i in numbers]),
            "body": pa.array([texts[i * 11 % len(texts)] if i % 3 else None for i in numbers]),
            "points": pa.array([i % 13 if i % 5 else None for i in numbers], pa.int32()),
            "tags": pa.array([[str(i % 4)] * (i % 3) for i in numbers]),
        }
    )


@pytest.fixture(scope="module")
def routed(backlog: pa.Table, predictor: Predictor) -> pa.Table:
    result: pa.Table = predictor.predict_frame(backlog)
    return result


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """Two worker processes, each brought back by its nanny when it is killed."""
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, dashboard_address="127.0.0.1:0", silence_logs=60
    ) as cluster:
        yield cluster


@pytest.fixture
def client(cluster: Any) -> Iterator[Any]:
    with distributed.Client(cluster) as client:
        wait_for_both(client)
        yield client


def wait_for_both(client: Any) -> None:
    """Wait until two workers are there; on a busy machine a nanny may give up, and is then replaced."""
    try:
        client.wait_for_workers(2, timeout=30)
    except TimeoutError:
        client.cluster.scale(0)
        client.cluster.scale(2)
        client.wait_for_workers(2, timeout=60)


@pytest.fixture(scope="module")
def in_process() -> Iterator[Any]:
    """A cluster of one thread of this process, which sees its memory."""
    with distributed.Client(
        processes=False, n_workers=1, threads_per_worker=1, dashboard_address=None
    ) as one:
        yield one


def kill_one(client: Any) -> None:
    os.kill(next(iter(client.run(os.getpid).values())), signal.SIGKILL)


def kill_after_first(client: Any) -> Any:
    """Return a callback that kills a worker when the first part is done."""
    killed: list[int] = []

    def on_block(total: Summary, size: int) -> None:
        if not killed:
            killed.append(total.rows)
            kill_one(client)

    on_block.killed_at = killed  # type: ignore[attr-defined]
    return on_block


def read_folder(folder: Path) -> pa.Table:
    return pa.concat_tables([pq.read_table(path) for path in sorted(folder.glob("*.parquet"))])


def as_csv(table: pa.Table) -> bytes:
    out = io.StringIO(newline="")
    writer = csv.writer(out)
    names = ["id", "title", "body"]
    writer.writerow(names)
    writer.writerows(zip(*(table[name].to_pylist() for name in names), strict=True))
    return out.getvalue().encode()


def on_one_machine(data: bytes, predictor: Predictor) -> bytes:
    out = io.BytesIO()
    source = CsvSource.open(io.BytesIO(data), "backlog.csv")
    write_results(CsvClassifier(source, predictor.columns, Options()), out)
    return out.getvalue()


@pytest.mark.slow
def test_a_frame_is_complete_and_equal_when_a_worker_is_killed_midway(
    backlog: pa.Table, predictor: Predictor, client: Any
) -> None:
    frame = backlog.select(["id", "title", "body"]).to_pandas()
    lazy = classify_frame(dd.from_pandas(frame, npartitions=N_PARTS), text=["title", "body"])
    persisted = lazy.persist()
    done = distributed.as_completed(distributed.futures_of(persisted))
    next(done)
    kill_one(client)
    expected = predictor.predict_frame(frame, ["title", "body"])
    pd.testing.assert_frame_equal(persisted.compute(), expected, check_dtype=False)


@pytest.mark.slow
def test_parquet_is_complete_and_equal_when_a_worker_is_killed_midway(
    backlog: pa.Table, routed: pa.Table, predictor: Predictor, client: Any, tmp_path: Path
) -> None:
    pq.write_table(backlog, tmp_path / "in.parquet", row_group_size=N_ROWS // 3)
    on_block = kill_after_first(client)
    total = classify_backlog(
        str(tmp_path / "in.parquet"), str(tmp_path / "out"), predictor, Options(),
        client.scheduler.address, rows_per_part=N_ROWS // N_PARTS, on_block=on_block,
    )  # fmt: skip
    assert 0 < on_block.killed_at[0] < N_ROWS
    assert total.rows == N_ROWS
    assert read_folder(tmp_path / "out").equals(routed)
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []
    assert {path.suffix for path in (tmp_path / "out").iterdir()} == {".parquet"}


@pytest.mark.slow
def test_csv_is_the_same_to_the_byte_when_a_worker_is_killed_midway(
    backlog: pa.Table, predictor: Predictor, client: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("loopwise.service.csvblocks.BLOCK_BYTES", N_ROWS * 10)
    data = as_csv(backlog)
    (tmp_path / "in.csv").write_bytes(data)
    on_block = kill_after_first(client)
    total = classify_backlog(
        str(tmp_path / "in.csv"), str(tmp_path / "out.csv"), predictor, Options(),
        client.scheduler.address, on_block=on_block,
    )  # fmt: skip
    assert 0 < on_block.killed_at[0] < N_ROWS
    assert total.rows == N_ROWS
    assert (tmp_path / "out.csv").read_bytes() == on_one_machine(data, predictor)


def test_a_trackers_markup_is_read_as_on_one_machine(
    predictor: Predictor, in_process: Any, tmp_path: Path
) -> None:
    address = in_process.scheduler.address
    azure = ROOT / "data" / "examples" / "azure.csv"
    classify_backlog(str(azure), str(tmp_path / "out.csv"), predictor, Options(), address)
    route_backlog(str(azure), predictor, writing=Writing(str(tmp_path / "one.csv")))
    assert (tmp_path / "out.csv").read_bytes() == (tmp_path / "one.csv").read_bytes()

    cells = ["<div><b>Fix</b> the login test</div>", "Ship a < b", "Write the notes"]
    pq.write_table(pa.table({"title": cells}), tmp_path / "in.parquet")
    classify_backlog(str(tmp_path / "in.parquet"), str(tmp_path / "out"), predictor, Options(), address)
    route_backlog(str(tmp_path / "in.parquet"), predictor, writing=Writing(str(tmp_path / "one.parquet")))
    assert read_folder(tmp_path / "out").equals(pq.read_table(tmp_path / "one.parquet"))


@pytest.mark.slow
def test_the_command_classifies_a_folder_of_parquet_on_a_cluster(
    backlog: pa.Table, predictor: Predictor, cluster: Any, loopwise: Run, tmp_path: Path
) -> None:
    (tmp_path / "in").mkdir()
    for name, first in (("part.9", 0), ("part.10", 500)):
        pq.write_table(backlog.slice(first, 500), tmp_path / "in" / f"{name}.parquet")
    done = loopwise(
        "classify", "in", "-o", "out", "--scheduler", cluster.scheduler_address, "--prefix", "lw_"
    )
    assert done.returncode == 0, done.stderr
    assert "1000 rows routed" in done.stderr
    result = read_folder(tmp_path / "out")
    expected = predictor.predict_frame(backlog.slice(0, 1000))
    names = [f"lw_{name}" if name in RESULT_COLUMNS else name for name in expected.column_names]
    assert result.equals(expected.rename_columns(names))


@pytest.mark.slow
def test_the_command_starts_a_cluster_of_its_own(predictor: Predictor, loopwise: Run, tmp_path: Path) -> None:
    data = b'title,n\n"Fix the\nflaky test",1\n\nBook the vet,2,3'
    (tmp_path / "in.csv").write_bytes(data)
    done = loopwise("classify", "in.csv", "-o", "out.csv", "--scheduler", "local", "--jobs", "1")
    assert done.returncode == 0, done.stderr
    assert "1 rows of in.csv have more or fewer cells than the header (lines 5)" in done.stderr
    assert (tmp_path / "out.csv").read_bytes() == on_one_machine(data, predictor)


def test_the_graph_holds_no_model(predictor: Predictor) -> None:
    weights = len(pickle_of_partitions(predictor)) - len(pickle_of_partitions(None))
    assert weights < 10_000


def pickle_of_partitions(predictor: Predictor | None) -> bytes:
    frame = dd.from_map(_titles, range(4), meta=_titles(0))
    lazy = frame if predictor is None else classify_frame(frame, predictor=predictor)
    pickled: bytes = cloudpickle.dumps(dict(lazy.__dask_graph__()))
    return pickled


def _titles(number: int) -> pd.DataFrame:
    return pd.DataFrame({"title": [f"Fix test {number}"], "n": [number]})


def test_the_frame_promises_the_dtypes_that_it_gives(predictor: Predictor) -> None:
    lazy = classify_frame(dd.from_map(_titles, range(3), meta=_titles(0)), predictor=predictor)
    result = lazy.compute(scheduler="sync")
    assert lazy.dtypes.equals(result.dtypes)
    added = list(RESULT_COLUMNS)
    assert lazy.dtypes[added].equals(predictor.predict_frame(_titles(0)).dtypes[added])
    assert list(lazy.columns) == ["title", "n", *RESULT_COLUMNS]


def test_a_partition_without_rows_has_the_same_dtypes(predictor: Predictor) -> None:
    frame = dd.from_map(_titles, range(3), meta=_titles(0))
    lazy = classify_frame(frame[frame["n"] > 0], predictor=predictor)
    assert lazy.get_partition(0).compute(scheduler="sync").dtypes.equals(lazy.dtypes)


def test_an_unknown_column_is_refused_before_anything_runs(predictor: Predictor) -> None:
    frame = dd.from_map(_titles, range(3), meta=_titles(0))
    with pytest.raises(UsageError, match="there is no column 'story'; the columns are: 'title', 'n'"):
        classify_frame(frame, "story", predictor=predictor)
    with pytest.raises(UsageError, match="the frame already has the column loop;"):
        classify_frame(frame.assign(loop="x"), predictor=predictor)


def test_a_process_loads_a_model_once(predictor: Predictor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ours, "_loaded", OrderedDict())
    spec = ModelSpec.of(predictor)
    first = spec.predictor()
    assert ModelSpec.of(predictor).predictor() is first
    other = predictor.with_settings(prior={"mode": 0.5})
    assert ModelSpec.of(other).predictor().settings.prior["mode"] == 0.5
    assert ModelSpec.of(other).key != spec.key


def test_a_changed_model_in_the_same_folder_is_not_used(
    predictor: Predictor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ours, "_loaded", OrderedDict())
    monkeypatch.setattr(ours, "_received", {})
    spec = replace(ModelSpec.of(predictor), digest="0" * 64)
    with pytest.raises(ModelError, match=r"cannot read the model in .* and was not sent it; make the Client"):
        spec.predictor()


def test_another_release_on_the_worker_is_refused(
    predictor: Predictor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ours, "_loaded", OrderedDict())
    spec = replace(ModelSpec.of(predictor), release="99.0")
    with pytest.raises(UsageError, match=r"runs loopwise .* and you run 99\.0; install the same release"):
        spec.predictor()


def _predict_without(spec: ModelSpec) -> str:
    """On a worker: predict as if the folder of the model were on another machine."""
    ours._loaded.clear()
    hidden = replace(spec, folder="/not/on/this/machine")
    return hidden.predictor().predict("Fix the flaky login test").loop.label


@pytest.mark.slow
def test_a_worker_that_does_not_see_the_folder_uses_the_model_it_was_sent(
    predictor: Predictor, client: Any
) -> None:
    send_model(client, predictor)
    before = set(client.run(os.getpid))
    kill_one(client)
    until = time.monotonic() + 30
    while before <= set(client.scheduler_info()["workers"]) and time.monotonic() < until:
        time.sleep(0.05)
    wait_for_both(client)
    assert set(client.scheduler_info()["workers"]) - before
    assert set(client.run(_predict_without, ModelSpec.of(predictor)).values()) == {"code"}


def test_a_failed_run_leaves_nothing(predictor: Predictor, in_process: Any, tmp_path: Path) -> None:
    pq.write_table(pa.table({"title": ["Fix the test"] * 100}), tmp_path / "in.parquet")
    address = in_process.scheduler.address

    def stop(total: Summary, size: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        classify_backlog(
            str(tmp_path / "in.parquet"), str(tmp_path / "out"), predictor, Options(), address, on_block=stop
        )
    assert [path.name for path in tmp_path.iterdir()] == ["in.parquet"]


def test_a_result_that_is_not_seen_here_is_an_error(
    predictor: Predictor, in_process: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pq.write_table(pa.table({"title": ["Fix the test"]}), tmp_path / "in.parquet")
    monkeypatch.setattr(ours, "_write_part", lambda *a: Summary(rows=1))
    address = in_process.scheduler.address
    with pytest.raises(LoopwiseError, match=r"part-000000\.parquet was written by a worker and is not here"):
        classify_backlog(str(tmp_path / "in.parquet"), str(tmp_path / "out"), predictor, Options(), address)
    assert not (tmp_path / "out").exists()


def test_an_object_store_is_read_and_written_by_its_url(predictor: Predictor, in_process: Any) -> None:
    import fsspec

    memory = fsspec.filesystem("memory")
    table = pa.table({"title": ["Fix the test", "Book the vet"], "n": [1, None]})
    with memory.open("/bucket/in/year=2026/a.parquet", "wb") as file:
        pq.write_table(table, file)
    address = in_process.scheduler.address
    classify_backlog("memory://bucket/in", "memory://bucket/out", predictor, Options(), address)
    names = [path.removeprefix("/bucket/out/") for path in memory.find("/bucket/out")]
    assert names == ["_SUCCESS", "year=2026/part-000000.parquet"]
    with memory.open("/bucket/out/year=2026/part-000000.parquet", "rb") as file:
        assert pq.read_table(file).equals(predictor.predict_frame(table))

    with memory.open("/bucket/in.csv", "wb") as file:
        file.write(b"title\nFix the test\n")
    classify_backlog("memory://bucket/in.csv", "memory://bucket/out.csv", predictor, Options(), address)
    assert memory.cat("/bucket/out.csv") == on_one_machine(b"title\nFix the test\n", predictor)


def test_a_worker_that_does_not_see_the_folder_is_named(predictor: Predictor, tmp_path: Path) -> None:
    pq.write_table(pa.table({"title": ["Fix the test"]}), tmp_path / "in.parquet")
    (piece,), schema = ours._pieces(str(tmp_path / "in.parquet"), 10)
    columns = ours._Columns.of(schema, "in.parquet", Options())
    with pytest.raises(LoopwiseError, match=r"the worker on .* does not see .*/elsewhere/part-000000"):
        ours._classify_piece(piece, str(tmp_path / "elsewhere"), ModelSpec.of(predictor), columns)


def test_a_result_that_is_there_already_is_not_overwritten(predictor: Predictor, tmp_path: Path) -> None:
    pq.write_table(pa.table({"title": ["Fix the test"]}), tmp_path / "in.parquet")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "precious.txt").write_text("x")
    with pytest.raises(UsageError, match="out: is there already; remove it or name another folder"):
        classify_backlog(
            str(tmp_path / "in.parquet"), str(tmp_path / "out"), predictor, Options(jobs=1), "local"
        )


@pytest.mark.parametrize(
    ("source", "target", "scheduler", "message"),
    [
        ("in.parquet", None, "local", "--scheduler needs a place to write to; name it with -o"),
        ("in.parquet", "out.csv", "local", "Parquet comes back as a folder of Parquet"),
        ("in.csv", "out.parquet", "local", "a CSV comes back as a CSV; name one with -o"),
        ("in.jsonl", "out.csv", "local", "a cluster reads Parquet and CSV; leave out --scheduler"),
        ("none.parquet", "out", "local", "there is no such file or folder"),
        ("in.csv", "out.csv", "host", "write an address such as tcp://host:8786, or local"),
        ("in.csv", "nope://x/out.csv", "local", "nope"),
        ("broken.parquet", "out", "local", "this is not a Parquet file"),
        ("folder", "out", "local", "this folder holds no .parquet file"),
        ("taken.parquet", "out", "local", "the column route would be written twice; use --replace"),
    ],
)
def test_a_wrong_request_says_what_is_wrong(
    source: str, target: str | None, scheduler: str, message: str, predictor: Predictor, tmp_path: Path
) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "in.csv").write_text("title\nFix the test\n")
    (tmp_path / "broken.parquet").write_bytes(b"PAR1 not really")
    pq.write_table(pa.table({"title": ["Fix the test"]}), tmp_path / "in.parquet")
    pq.write_table(pa.table({"title": ["x"], "route": ["y"]}), tmp_path / "taken.parquet")
    place = target if target is None or "://" in target else str(tmp_path / target)
    with pytest.raises(UsageError, match=message):
        classify_backlog(str(tmp_path / source), place, predictor, Options(jobs=1), scheduler)


def test_files_with_other_columns_are_refused(predictor: Predictor, tmp_path: Path) -> None:
    pq.write_table(pa.table({"title": ["Fix the test"]}), tmp_path / "a.parquet")
    pq.write_table(pa.table({"subject": ["Fix the test"]}), tmp_path / "b.parquet")
    with pytest.raises(InputError, match=r"b\.parquet: its columns differ from those of .*a\.parquet"):
        classify_backlog(str(tmp_path), str(tmp_path / "out"), predictor, Options(jobs=1), "local")


@pytest.mark.parametrize("group_size", [1, 7, 40, 1000])
def test_pieces_hold_every_row_once(group_size: int, tmp_path: Path) -> None:
    table = pa.table({"n": list(range(103))})
    pq.write_table(table, tmp_path / "in.parquet", row_group_size=group_size)
    pieces, _ = ours._pieces(str(tmp_path / "in.parquet"), 10)
    with pq.ParquetFile(tmp_path / "in.parquet") as parquet:
        tables = [table for piece in pieces for table in ours._tables(parquet, piece)]
    assert pa.concat_tables(tables).equals(table)
    assert len(pieces) in range(8, 16)
    assert [table.num_rows for table in tables] == [piece.n_rows for piece in pieces]


def test_a_cluster_without_loopwise_is_told_how_to_get_it(in_process: Any) -> None:
    message = r"has no Loopwise; .*: pip install 'loopwise\[distributed\]=="
    with pytest.raises(UsageError, match=message), ours._clear_errors(in_process):
        raise Exception("ModuleNotFoundError(\"No module named 'loopwise'\")")


def test_a_missing_dask_is_named_with_its_command(model: ModelFile) -> None:
    code = (
        "import sys; sys.modules['distributed'] = None\n"
        "from loopwise.errors import MissingExtraError\n"
        "try: import loopwise.service.distributed\n"
        "except MissingExtraError as error: print(error)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "install it with: pip install 'loopwise[distributed]'" in done.stdout
