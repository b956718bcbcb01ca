from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from loopwise.model.modelfile import ModelFile
from loopwise.training.corpus import Corpus
from loopwise.training.labelfiles import parse_grade
from loopwise.training.labels import LabelLog
from loopwise.training.monitor import DriftReport, monitor, population_stability_index
from loopwise.training.userlabels import UserLabels, records_from
from tests.retraining import HARBOUR, Command, command, harbour

__all__ = ["command"]


@pytest.fixture(scope="module")
def tested() -> list[str]:
    return Corpus.shipped().part(("test",)).texts


def verdicts(report: DriftReport) -> dict[str, str]:
    return {figure.name: figure.verdict for figure in report.figures}


def test_the_stability_index_is_what_the_formula_says() -> None:
    index = population_stability_index(np.array([49.5, 49.5]), np.array([24.5, 74.5]))
    assert index == pytest.approx(
        (0.25 - 0.5) * np.log(0.25 / 0.5) + (0.75 - 0.5) * np.log(0.75 / 0.5), abs=1e-4
    )
    same = np.array([10.0, 0.0, 5.0])
    assert population_stability_index(same, same) == 0
    assert np.isfinite(population_stability_index(np.array([10.0, 0.0]), np.array([0.0, 10.0])))


def test_more_of_the_same_is_steady(model: ModelFile, tested: list[str]) -> None:
    report = monitor(tested[::2], model, tested[1::2], is_backlog=True)
    assert set(verdicts(report).values()) == {"steady"}
    assert report.advice == []
    assert not report.drifted


def test_an_unseen_trade_drifts_and_the_advice_names_the_commands(
    model: ModelFile, tested: list[str]
) -> None:
    report = monitor(harbour()["text"].tolist(), model, tested)
    assert verdicts(report)["unknown words"] == "drifted"
    assert verdicts(report)["loop: mean confidence"] == "drifted"
    assert verdicts(report)["loop: share of code"] == "not judged"
    assert any("loopwise label BACKLOG --words" in advice for advice in report.advice)
    assert any(advice.endswith("loopwise label BACKLOG") for advice in report.advice)


def test_another_mixture_counts_only_against_an_earlier_batch(model: ModelFile) -> None:
    code = ["Fix the failing unit test", "Refactor the parser module"] * 40
    knowledge = ["Write the press release", "Book flights for the offsite"] * 40
    assert verdicts(monitor(code, model, knowledge, is_backlog=True))["loop: share of code"] == "drifted"
    assert verdicts(monitor(code, model, knowledge))["loop: share of code"] == "not judged"


def test_few_texts_tell_nothing(model: ModelFile, tested: list[str]) -> None:
    report = monitor(harbour()["text"].tolist()[:20], model, tested)
    assert report.advice == ["20 texts are too few to tell; bring 50 or more"]
    assert verdicts(report)["unknown words"] == "too few texts"


def test_labels_that_were_not_trained_on_are_a_reason_to_train(model: ModelFile, tested: list[str]) -> None:
    labels = UserLabels.of(LabelLog([], []), records_from(harbour()[:40]))
    report = monitor(tested[::2], model, tested, labels=labels)
    assert report.n_labels == 40
    assert 0.3 < report.accuracy["loop"] < 1
    assert report.advice == ["40 labels are not trained on yet: loopwise train"]


def test_monitor_from_the_command_line(command: Command, tmp_path: Path) -> None:
    done = command("monitor", HARBOUR)
    assert done.returncode == 0
    assert "192 texts, compared with" in done.stdout
    assert "unknown words" in done.stdout
    assert "loopwise label BACKLOG --words" in done.stdout
    figures = json.loads(command("monitor", HARBOUR, "--baseline", HARBOUR, "--json").stdout)
    assert (figures["n_reference"], figures["n_batch"], figures["drifted"]) == (192, 192, False)


@pytest.mark.parametrize(
    ("axis", "cell", "grade"),
    [("loop", "2", 2), ("loop", " -1 ", -1), ("loop", "", None), ("loop", "Knowledge", -2), ("mode", "i", 2)],
)
def test_grades_are_read(axis: str, cell: str, grade: int | None) -> None:
    assert parse_grade(axis, cell) == grade  # type: ignore[arg-type]
