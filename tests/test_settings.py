"""Options that change how scores are read: the prior, the target accuracy, the share that goes to review."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from loopwise import Predictor
from loopwise.errors import UsageError
from loopwise.service.cli import main
from loopwise.service.settings import changed_settings, thresholds_for_share

BACKLOG = Path(__file__).resolve().parent.parent / "data" / "examples" / "backlog.csv"


def run(*arguments: str) -> int:
    """Run the command line; return its exit code."""
    with pytest.MonkeyPatch.context() as patch, pytest.raises(SystemExit) as left:
        patch.setattr("sys.argv", ["loopwise", *arguments])
        main()
    return int(left.value.code or 0)


def titles() -> list[str]:
    with BACKLOG.open(newline="", encoding="utf-8") as file:
        return [row["title"] for row in csv.DictReader(file)]


@pytest.mark.parametrize("share", [0.25, 0.5, 0.75])
def test_about_the_share_that_was_asked_for_goes_to_review(share: float, tmp_path: Path) -> None:
    out = tmp_path / "out.csv"
    assert run("classify", str(BACKLOG), "-o", str(out), "--review-share", str(share)) == 0
    with out.open(newline="", encoding="utf-8") as file:
        reviews = [row["review"] != "" for row in csv.DictReader(file)]
    assert abs(sum(reviews) / len(reviews) - share) <= 1.5 / len(reviews)


def test_those_sent_to_review_are_the_least_certain() -> None:
    predictor = Predictor.load()
    thresholds, _ = thresholds_for_share(predictor, 0.5, titles())
    found = list(predictor.with_settings(thresholds=thresholds).predict_many(titles()))
    certain = [min(p.loop.confidence, p.mode.confidence) for p in found if not p.review]
    doubtful = [min(p.loop.confidence, p.mode.confidence) for p in found if "low confidence" in p.review]
    assert certain
    assert doubtful
    assert max(doubtful) < min(certain)


def test_no_share_is_small_enough_to_let_noise_pass() -> None:
    noise = ["qxzv wkjh", "", "zzzz"] * 5 + titles()[:15]
    thresholds, _ = thresholds_for_share(Predictor.load(), 0.1, noise)
    found = Predictor.load().with_settings(thresholds=thresholds).predict_many(noise)
    assert all(p.review for p in list(found)[:15])


def test_the_prior_is_estimated_from_the_backlog_and_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("classify", str(BACKLOG), "-o", str(tmp_path / "out.csv"), "--prior", "auto") == 0
    assert "loopwise: prior estimated from 64 rows of this backlog: loop=code:0." in capsys.readouterr().err


def test_an_estimated_prior_changes_confidences_and_no_label(tmp_path: Path) -> None:
    plain, auto = tmp_path / "plain.csv", tmp_path / "auto.csv"
    assert run("classify", str(BACKLOG), "-o", str(plain)) == 0
    assert run("classify", str(BACKLOG), "-o", str(auto), "--prior", "auto") == 0
    with plain.open(newline="") as a, auto.open(newline="") as b:
        before, after = list(csv.DictReader(a)), list(csv.DictReader(b))
    assert [r["mode"] for r in before] == [r["mode"] for r in after]
    assert [r["mode_confidence"] for r in before] != [r["mode_confidence"] for r in after]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--review-share", "1.5"], "--review-share 1.5: choose a number between 0 and 1, such as 0.2"),
        (["--review-share", "0.2", "--target-accuracy", "0.9"], "both set the thresholds: choose one"),
        (["--target-accuracy", "1.2"], "--target-accuracy 1.2: choose a number from 0.5"),
    ],
)
def test_what_cannot_be_is_said(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("classify", str(BACKLOG), *arguments) == 2
    assert message in capsys.readouterr().err


def test_standard_input_cannot_be_read_twice(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("classify", "-", "--review-share", "0.2") == 2
    assert "name a file, not standard input" in capsys.readouterr().err


def test_a_single_text_has_no_share() -> None:
    with pytest.raises(UsageError, match="use them with classify or evaluate"):
        changed_settings(Predictor.load(), ["auto"], None)
