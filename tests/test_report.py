from __future__ import annotations

import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from loopwise import Predictor
from loopwise.errors import MissingExtraError
from loopwise.model.labels import AXES
from loopwise.service.cli import app
from loopwise.training.evaluate import Evaluation, LabelledTexts, evaluate
from loopwise.training.plots import plot_reliability, reliability_bins, risk_coverage
from loopwise.training.report import Answers, render_report, strongest_words, threshold_rows, worst_errors
from tests.conftest import Run

SCRIPT = "Fix <script>alert('x')</script> & \"quotes\" in the login form"
TASKS = (
    ("Fix the flaky login test", "code", "autonomous"),
    ("Book the vet", "knowledge", "autonomous"),
    ("Talk with Sam about the promotion he did not get", "knowledge", "interactive"),
    (SCRIPT, "knowledge", "interactive"),
    ("Why is production down again?", "code", "interactive"),
    ("Bump eslint", "code", "autonomous"),
)
#: Attributes through which a page can fetch something.
FETCHING = {"src", "href", "xlink:href", "srcset", "data", "action", "poster", "background", "content"}


class Page(HTMLParser):
    """The text, tags and attributes of a page."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self.text = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]

    def handle_data(self, data: str) -> None:
        self.text += data


def labelled(rows: tuple[tuple[str, str, str], ...] = TASKS) -> LabelledTexts:
    second = {
        axis: np.array([row[at] == AXES[axis][1] for row in rows]) for at, axis in enumerate(AXES, start=1)
    }
    sure = {axis: np.ones(len(rows), dtype=bool) for axis in AXES}
    return LabelledTexts([row[0] for row in rows], second, sure, None)


@pytest.fixture(scope="module")
def data() -> LabelledTexts:
    return labelled()


@pytest.fixture(scope="module")
def evaluation(predictor: Predictor, data: LabelledTexts) -> Evaluation:
    return evaluate(predictor, data, n_samples=20)


@pytest.fixture(scope="module")
def html(evaluation: Evaluation, data: LabelledTexts, predictor: Predictor) -> str:
    return render_report(evaluation, data, predictor, "tasks.csv")


@pytest.fixture(scope="module")
def many(predictor: Predictor) -> LabelledTexts:
    """Eighty texts, every label the opposite of what the model says, on both axes."""
    texts = [f"{verb} the {thing}" for verb in ("Fix", "Book", "Plan", "Write") for thing in (
        "test", "vet", "essay", "parser", "offsite", "report", "form", "build", "talk", "button",
        "budget", "letter", "script", "visit", "query", "photo", "menu", "page", "cache", "song",
    )]  # fmt: skip
    said = [predictor.predict(text) for text in texts]
    second = {axis: np.array([getattr(p, axis).label == AXES[axis][0] for p in said]) for axis in AXES}
    return LabelledTexts(texts, second, {axis: np.ones(80, dtype=bool) for axis in AXES}, None)


def write_csv(folder: Path) -> None:
    rows = "\n".join('"' + text.replace('"', '""') + f'",{loop},{mode}' for text, loop, mode in TASKS)
    (folder / "tasks.csv").write_text(f"text,loop,mode\n{rows}\n", "utf-8")


def test_the_page_holds_every_figure_that_evaluate_prints(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_csv(tmp_path)
    report = tmp_path / "report.html"
    app(["evaluate", str(tmp_path / "tasks.csv"), "--report", str(report)], standalone_mode=False)
    page = Page(report.read_text("utf-8")).text
    printed = re.findall(r"\d+\.\d+%?", capsys.readouterr().out)
    assert len(printed) > 40
    assert [figure for figure in printed if figure not in page] == []
    assert [p.name for p in tmp_path.iterdir() if "partial" in p.name] == []


@pytest.mark.slow
def test_a_missing_folder_is_named_and_nothing_is_printed(loopwise: Run, tmp_path: Path) -> None:
    write_csv(tmp_path)
    done = loopwise("evaluate", "tasks.csv", "--report", "nowhere/report.html")
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr == (
        "loopwise: nowhere/report.html: the folder 'nowhere' does not exist; create it first\n"
    )


@pytest.mark.slow
@pytest.mark.parametrize("package", ["jinja2", "matplotlib"])
def test_a_missing_extra_is_named_with_its_command(package: str) -> None:
    code = (
        f"import sys; sys.modules[{package!r}] = None\n"
        "from loopwise.errors import MissingExtraError\n"
        "try: import loopwise.training.report\n"
        "except MissingExtraError as error: print(error.exit_code, error)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout.startswith(f"2 --report needs {package}")
    assert done.stdout.endswith("pip install 'loopwise[report]'\n")
    assert MissingExtraError.exit_code == 2


def test_a_text_with_a_script_is_shown_and_not_run(html: str) -> None:
    page = Page(html)
    assert "script" not in page.tags
    assert SCRIPT in page.text


def test_the_name_of_the_file_is_escaped_too(
    evaluation: Evaluation, data: LabelledTexts, predictor: Predictor
) -> None:
    page = Page(render_report(evaluation, data, predictor, "<img src=x>.csv"))
    assert "img" not in page.tags
    assert "Loopwise on <img src=x>.csv" in page.text


def test_the_page_refers_to_nothing_outside_itself(html: str) -> None:
    page = Page(html)
    assert not {"link", "script", "img", "iframe", "object", "embed", "base"} & set(page.tags)
    pointers = [value for name, value in page.attributes if name in FETCHING]
    assert [value for value in pointers if "//" in value] == []
    assert [value for name, value in page.attributes if name.endswith("href") and value[:1] != "#"] == []
    assert re.findall(r"https?:", html) == []
    assert "@import" not in html
    assert [target for target in re.findall(r"url\((.)", html) if target != "#"] == []


def test_every_part_of_a_plot_that_is_referred_to_is_there_once(html: str) -> None:
    attributes = Page(html).attributes
    ids = [value for name, value in attributes if name == "id"]
    referred = {value[1:] for name, value in attributes if name.endswith("href")}
    referred |= set(re.findall(r"url\(#([^)]*)\)", html))
    assert len(ids) == len(set(ids))
    assert referred
    assert referred <= set(ids)


def test_there_is_a_plot_for_each_class_and_a_curve_for_each_axis(html: str) -> None:
    labels = [value for name, value in Page(html).attributes if name == "aria-label"]
    assert labels == [
        "Reliability diagram of the predictions code",
        "Reliability diagram of the predictions knowledge",
        "Risk-coverage curve of loop",
        "Reliability diagram of the predictions autonomous",
        "Reliability diagram of the predictions interactive",
        "Risk-coverage curve of mode",
    ]


def test_the_same_evaluation_makes_the_same_page(
    html: str, evaluation: Evaluation, data: LabelledTexts, predictor: Predictor
) -> None:
    assert render_report(evaluation, data, predictor, "tasks.csv") == html


def test_fifty_errors_are_listed_at_most(many: LabelledTexts, predictor: Predictor) -> None:
    page = Page(render_report(evaluate(predictor, many, n_samples=5), many, predictor, "tasks.csv"))
    assert "50 of 160 wrong answers" in page.text
    assert page.text.count(": said ") == 50


def test_the_worst_errors_are_those_the_model_was_surest_of(
    many: LabelledTexts, predictor: Predictor
) -> None:
    errors = worst_errors(evaluate(predictor, many, n_samples=5), many, predictor)
    confidences = [round(error.confidence, 6) for error in errors]
    assert confidences == sorted(confidences, reverse=True)
    said = [predictor.predict(text) for text in many.texts]
    everyone = sorted((getattr(p, axis).confidence for p in said for axis in AXES), reverse=True)
    assert confidences == [round(c, 6) for c in everyone[:50]]


def test_an_error_is_explained_by_its_own_features(evaluation: Evaluation, predictor: Predictor) -> None:
    error = next(e for e in worst_errors(evaluation, labelled(), predictor) if e.text == SCRIPT)
    assert error.top_features == getattr(predictor.predict(SCRIPT), error.axis).top_features
    assert error.said != error.truth


def test_rows_that_are_unsure_are_no_errors(many: LabelledTexts, predictor: Predictor) -> None:
    none = LabelledTexts(many.texts, many.second, {a: np.zeros(80, dtype=bool) for a in AXES}, None)
    evaluation = evaluate(predictor, none, n_samples=5)
    assert worst_errors(evaluation, none, predictor) == []
    assert "None: every answer is right" in render_report(evaluation, none, predictor, "tasks.csv")


def test_the_thresholds_in_use_count_what_the_review_column_says(
    many: LabelledTexts, predictor: Predictor
) -> None:
    evaluation = evaluate(predictor, many, n_samples=5)
    answers = {axis: Answers.of(evaluation, many, axis) for axis in AXES}
    used, *others = threshold_rows(evaluation, answers, predictor)
    reviewed = int((evaluation.predictions["review"] != "").sum())
    assert (used.target, used.match, used.wrong, used.review) == ("in use", 0, 80 - reviewed, reviewed)
    assert all(row.match + row.wrong + row.review == 80 for row in others)
    reviews = [row.review for row in others]
    assert reviews == sorted(reviews)


def test_a_strong_word_brings_what_the_report_says_when_it_stands_alone(predictor: Predictor) -> None:
    for axis, names in AXES.items():
        words = strongest_words(predictor.model, axis, 5)
        assert list(words) == list(names)
        for sign, label in zip((-1, 1), names, strict=True):
            for word, weight in words[label]:
                token = predictor._scorer.token(word)
                alone = (token.loop if axis == "loop" else token.mode) / token.norm**0.5
                assert weight == pytest.approx(sign * alone, rel=1e-5)
                assert weight > 0


def test_bins_hold_equal_shares_of_the_rows() -> None:
    confidence = np.linspace(0.5, 1, 25)
    bins = reliability_bins(confidence > 0.7, confidence, 5)
    assert bins[:, 2].tolist() == [5.0] * 5
    assert bins[0, 1] == 0
    assert bins[-1, 1] == 1


def test_equally_sure_rows_are_answered_together() -> None:
    coverage, risk = risk_coverage(np.array([True, False, True, True]), np.array([0.9, 0.7, 0.7, 0.5]))
    assert coverage.tolist() == [0.25, 0.75, 1.0]
    assert risk.tolist() == pytest.approx([0, 1 / 3, 1 / 4])


def test_a_class_that_was_never_said_has_a_plot_that_says_so() -> None:
    svg = plot_reliability(np.zeros(0, dtype=bool), np.zeros(0), "code", False)
    assert "no such prediction" in svg
