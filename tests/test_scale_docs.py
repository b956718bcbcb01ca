"""The code in docs/scale.md runs as it stands."""

from __future__ import annotations

import copy
import os
import re
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from loopwise import Predictor
from loopwise.service.columns import RESULT_COLUMNS
from tests.conftest import ROOT

N_ROWS = 40


def code_with(mark: str) -> str:
    blocks: list[str] = re.findall(
        r"```python\n(.*?)```", (ROOT / "docs" / "scale.md").read_text("utf-8"), re.DOTALL
    )
    (block,) = [block for block in blocks if mark in block]
    return block


@pytest.fixture
def tickets(tmp_path: Path) -> pa.Table:
    rows = {
        "title": ["Fix the flaky test", "Book the vet"] * (N_ROWS // 2),
        "description": [None, f"in {N_ROWS} days"] * (N_ROWS // 2),
    }
    table = pa.table(rows)
    pq.write_table(table, tmp_path / "tickets.parquet", row_group_size=10)
    return table


def run(code: str, folder: Path) -> str:
    (folder / "example.py").write_text(code, "utf-8")
    home = {"HF_HOME": str(folder / "hf"), "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(
        [sys.executable, "example.py"],
        cwd=folder, env=os.environ | home, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
def test_the_dask_example_gives_what_one_machine_gives(
    tickets: pa.Table, predictor: Predictor, tmp_path: Path
) -> None:
    run(code_with("classify_frame("), tmp_path)
    routed = pa.concat_tables(
        [pq.read_table(path) for path in sorted((tmp_path / "routed").glob("*.parquet"))]
    )
    expected = predictor.predict_frame(tickets)
    for name in RESULT_COLUMNS:
        assert routed[name].to_pylist() == expected[name].to_pylist()


@pytest.mark.slow
def test_the_datasets_example_gives_what_one_machine_gives(
    tickets: pa.Table, predictor: Predictor, tmp_path: Path
) -> None:
    lines = run(code_with("num_proc=2"), tmp_path).splitlines()
    assert lines[0] == str(list(RESULT_COLUMNS))
    expected = predictor.predict_frame(tickets).slice(0, 3).to_pylist()
    assert lines[1:] == [f"{row['loop']}, {row['mode']}, {row['route']}" for row in expected]


def test_a_cached_map_is_not_taken_for_that_of_another_model(predictor: Predictor) -> None:
    from datasets.fingerprint import Hasher

    other_model = copy.copy(predictor.model)
    digests = predictor.model.fields["sha256"] | {"model.json": "0" * 64}
    object.__setattr__(other_model, "fields", predictor.model.fields | {"sha256": digests})
    same, other = Predictor(predictor.model), Predictor(other_model)
    assert Hasher.hash(same.map_batch) == Hasher.hash(predictor.map_batch)
    assert Hasher.hash(other.map_batch) != Hasher.hash(predictor.map_batch)
