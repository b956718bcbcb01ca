from __future__ import annotations

import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from loopwise import Predictor
from loopwise.service.textcolumns import join_parts, join_text
from tests.conftest import Run

ROWS = st.lists(st.tuples(*[st.sampled_from(["", "a", "b c"])] * 3), max_size=8)


@given(ROWS)
def test_columns_are_joined_as_single_texts_are(rows: list[tuple[str, str, str]]) -> None:
    parts = [pa.array([row[i] for row in rows], pa.string()) for i in range(3)]
    assert join_parts(parts, len(rows)).to_pylist() == [join_text(row) for row in rows]


def test_a_row_without_title_and_body_is_kept(loopwise: Run) -> None:
    done = loopwise("classify", "-", stdin="title,body\nFix the test,now\n,\nBook the vet,\n")
    assert done.returncode == 0, done.stderr
    starts = [line.split(",")[:3] for line in done.stdout.splitlines()[1:]]
    assert starts[0] == ["Fix the test", "now", "code"]
    assert starts[1][:2] == ["", ""]
    assert starts[2] == ["Book the vet", "", "knowledge"]


@pytest.mark.parametrize("missing", [None, float("nan"), pd.NA, pd.NaT])
def test_missing_cells_of_any_kind_are_empty_text(predictor: Predictor, missing: object) -> None:
    alone = predictor.predict_frame(pd.DataFrame({"title": ["Fix the test"]}))
    frame = pd.DataFrame({"title": ["Fix the test"], "body": pd.Series([missing], dtype=object)})
    assert predictor.predict_frame(frame)["loop_confidence"].item() == alone["loop_confidence"].item()
