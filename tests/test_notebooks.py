"""The notebooks: stored without output, and run top to bottom; what they share, and their plots."""

from __future__ import annotations

import importlib
import json
import re
import sys
from pathlib import Path
from typing import Any

import nbformat
import pandas as pd
import pytest
from nbclient import NotebookClient

from loopwise.errors import InputError, MissingExtraError
from loopwise.training.corpus import Corpus
from loopwise.training.teaching import (
    SMALL_VARIABLE,
    as_table,
    card_table,
    contrast_pairs,
    example,
    harbour,
    labelled,
    quadrant,
    teaching_corpus,
)
from loopwise.training.teaching_plots import (
    QUADRANTS,
    plot_before_after,
    plot_lengths,
    plot_parts,
    plot_quadrants,
    plot_shares,
    side_by_side,
)

from .conftest import ROOT, SOAK

NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
#: These take seconds even on little data; `make soak` and CI run them too.
SLOWEST = ("3-your-own-labels",)


def by_name(path: Path) -> str:
    return path.stem


def read(path: Path) -> Any:
    return nbformat.reads(path.read_text("utf-8"), as_version=4)  # type: ignore[no-untyped-call]


def test_there_are_four_notebooks() -> None:
    assert [path.stem[0] for path in NOTEBOOKS] == ["1", "2", "3", "4"]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=by_name)
def test_a_notebook_is_stored_without_output(path: Path) -> None:
    code = [cell for cell in read(path).cells if cell.cell_type == "code"]
    assert code and all(cell.outputs == [] and cell.execution_count is None for cell in code)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=by_name)
def test_a_notebook_names_no_folder_of_a_machine(path: Path) -> None:
    assert not re.search(r"(/home/|/Users/|/tmp/|/work/|[A-Z]:\\\\)", path.read_text("utf-8"))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=by_name)
def test_the_list_of_notebooks_names_each(path: Path) -> None:
    assert path.name in (ROOT / "notebooks" / "README.md").read_text("utf-8")


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=by_name)
def test_a_notebook_runs_from_top_to_bottom(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if path.stem in SLOWEST and not SOAK:
        pytest.skip("runs in make soak and in CI")
    monkeypatch.setenv(SMALL_VARIABLE, "1")
    notebook = read(path)
    NotebookClient(
        notebook, timeout=300, startup_timeout=180, resources={"metadata": {"path": str(tmp_path)}}
    ).execute()
    outputs = [out for cell in notebook.cells if cell.cell_type == "code" for out in cell.outputs]
    assert [out.text for out in outputs if out.output_type == "stream" and out.name == "stderr"] == []
    shown = json.dumps(notebook)
    assert str(ROOT) not in shown and str(tmp_path) not in shown
    assert list(tmp_path.iterdir()) in ([], [tmp_path / "home"])


@pytest.fixture(scope="module")
def corpus() -> Corpus:
    return Corpus.shipped()


def test_small_mode_takes_a_small_part_of_the_corpus(corpus: Corpus, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(SMALL_VARIABLE, "1")
    small = teaching_corpus()
    assert len(small.rows) < len(corpus.rows) / 10
    assert set(small.rows["id"]) <= set(corpus.rows["id"])
    assert (small.rows["split"] == "test").sum() == 200


def test_a_contrast_pair_differs_in_its_label(corpus: Corpus) -> None:
    pairs = contrast_pairs(corpus.rows, 20)
    assert len(pairs) == 20
    assert (pairs["label"] != pairs["other_label"]).all()


def test_a_table_of_the_card_is_found_by_its_columns() -> None:
    table = card_table("agreement", "Cohen's kappa")
    assert list(table.iloc[:, 0]) == ["loop", "mode"]


def test_a_table_that_the_card_does_not_have_is_named() -> None:
    with pytest.raises(InputError, match=r"data/README\.md has no table with the columns colour, taste"):
        card_table("colour", "taste")


def test_a_table_never_reads_a_task_as_html() -> None:
    assert "<b>" not in as_table([("Make it <b>bold</b>",)], ["task"]).to_html()


def test_the_answers_of_the_harbour_are_labels() -> None:
    assert set(harbour()["loop"]) == {"code", "knowledge"}
    assert set(harbour()["mode"]) == {"autonomous", "interactive"}


def test_a_sample_backlog_keeps_empty_cells_as_text() -> None:
    frame = example("backlog.csv")
    assert not frame.isna().any().any()
    assert (frame == "").any().any()


def test_labelled_rows_leave_unsure_ones_out(corpus: Corpus) -> None:
    data = labelled(corpus)
    unsure = corpus.rows["unsure"].isin(["loop", "both"]).to_numpy()
    assert (data.sure["loop"] == ~unsure).all()


def test_a_quadrant_names_both_answers() -> None:
    rows = pd.DataFrame({"loop": ["code", "knowledge"], "mode": ["autonomous", "interactive"]})
    assert set(quadrant(rows)) <= set(QUADRANTS)


PLOTS = {
    "quadrants": lambda: plot_quadrants(pd.DataFrame({"code, autonomous": [3]}, index=["bug"]), "t"),
    "lengths": lambda: plot_lengths({"ours": [10, 20, 300]}, "t"),
    "parts": lambda: plot_parts([("word", 1.2), ("other", -0.3)], "t"),
    "shares": lambda: plot_shares({"loop": [0.1, 0.9]}, [1, 2], ("x", "y"), "t"),
    "before and after": lambda: plot_before_after({"loop": 0.5}, {"loop": 0.75}, "t"),
}


@pytest.mark.parametrize("name", PLOTS)
def test_a_plot_is_an_svg_with_a_description(name: str) -> None:
    svg = PLOTS[name]()
    assert re.match(r'<svg viewBox="[^"]+" role="img" aria-label="t">', svg)
    assert svg.rstrip().endswith("</svg>")


def test_a_bar_that_speaks_against_the_answer_has_another_colour() -> None:
    svg = plot_parts([("for", 1.0), ("against", -1.0)], "t")
    assert "#0072b2" in svg.lower() and "#d55e00" in svg.lower()


def test_the_gain_is_written_beside_its_line() -> None:
    assert "+0.250" in plot_before_after({"loop": 0.5}, {"loop": 0.75}, "t")


def test_without_matplotlib_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.delitem(sys.modules, "loopwise.training.teaching_plots")
    monkeypatch.delitem(sys.modules, "loopwise.training.plots")
    with pytest.raises(MissingExtraError, match=r"pip install 'loopwise\[notebooks\]'"):
        importlib.import_module("loopwise.training.teaching_plots")


def test_plots_stand_side_by_side() -> None:
    svg = plot_parts([("word", 1.0)], "t")
    assert side_by_side(svg, svg)._repr_html_().count("<svg") == 2


def test_two_plots_on_a_page_share_no_ids() -> None:
    first, second = (set(re.findall(r'\sid="([^"]+)"', plot_parts([("w", 1.0)], "t"))) for _ in range(2))
    assert first and not first & second
