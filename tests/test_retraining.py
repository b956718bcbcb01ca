from __future__ import annotations

import json
import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from loopwise import LoopwiseError, Predictor, UsageError
from loopwise.errors import InputError
from loopwise.model.labels import AXES
from loopwise.model.modelfile import ModelFile
from loopwise.model.store import SHIPPED_ID, Home
from loopwise.training import TrainReport, candidate, train
from loopwise.training.build import N_FOLDS
from loopwise.training.candidate import known_cross_validation
from loopwise.training.corpus import Corpus
from loopwise.training.curve import N_CURVE_STEPS, draw_curve, learning_curve, print_curve
from loopwise.training.fit import fit
from loopwise.training.gate import Contradictions, compare, log_odds, objections
from loopwise.training.labels import LabelStore, Record
from loopwise.training.metrics import Interval
from loopwise.training.print_training import print_train_report
from loopwise.training.queue import task_queue, word_queue
from loopwise.training.userlabels import UserLabels, records_from
from tests.conftest import SOAK
from tests.retraining import (
    HARBOUR,
    RECIPE,
    WEIGHT,
    Command,
    as_csv,
    base_home,
    command,
    corpus,
    flipped_labels,
    harbour,
    home,
    quick,
)
from tests.retraining import run_training as run

__all__ = ["base_home", "command", "corpus", "home", "quick"]
pytestmark = pytest.mark.slow


@dataclass(frozen=True)
class Taught:
    """A home whose active model was taught 30 tasks of the trade, and 12 test rows."""

    home: Home
    report: TrainReport
    steps: list[str]


@pytest.fixture(scope="module")
def taught(base_home: Path, corpus: Corpus, tmp_path_factory: pytest.TempPathFactory) -> Taught:
    home = Home(tmp_path_factory.mktemp("taught") / "home")
    shutil.copytree(base_home, home.folder)
    tested = corpus.part(("test",)).rows[["text", "loop", "mode"]].iloc[:12]
    steps: list[str] = []
    labels = pd.concat([harbour()[:30], tested])
    return Taught(home, run(home, corpus, labels, promote=True, on_step=steps.append), steps)


def accuracy(model: ModelFile, frame: pd.DataFrame) -> dict[str, float]:
    scores = log_odds(model, frame["text"].tolist())
    return {axis: float(((scores[axis] > 0) == (frame[axis] == AXES[axis][1])).mean()) for axis in AXES}


def keystrokes(asked: list[str]) -> str:
    """The right keys for the tasks in the order in which they are asked."""
    answers = {row.text: row.loop[0] + row.mode[0] for row in harbour().itertuples()}
    return "".join(answers[text] for text in asked)


def test_sixty_labels_of_an_unseen_trade_help_and_a_rollback_restores_every_byte(
    home: Home, corpus: Corpus, command: Command, tmp_path: Path
) -> None:
    tasks = harbour()
    (tmp_path / "harbour.csv").write_text(HARBOUR.read_text("utf-8"))
    base = home.active_id()
    before = command("classify", "harbour.csv").stdout
    old = home.active_model()

    queue = task_queue(tasks["text"].tolist(), old, 60)
    asked = tasks["text"].iloc[queue].tolist()
    session = command("label", "harbour.csv", "-n", "60", "--who", "ann", stdin=keystrokes(asked))
    assert "60 answered, 0 skipped, 0 left" in session.stdout
    labels = LabelStore.of(home).read().labels()
    assert {label.text for label in labels} == set(asked)

    report = run(home, corpus)
    print_train_report(report)
    assert report.promoted
    for axis in AXES:
        gain = report.on_own[axis]
        assert gain.n == 60
        assert gain.difference.low > 0
        assert gain.new > gain.old + 0.1
        assert report.on_test[axis].difference.low >= -0.01
    rest = tasks.drop(tasks.index[queue])
    gained = accuracy(home.active_model(), rest)
    was = accuracy(old, rest)
    print(f"the other tasks of the trade: {was} → {gained}")
    for axis in AXES:
        assert gained[axis] > was[axis] + 0.05

    after = command("classify", "harbour.csv").stdout
    assert after != before
    assert command("models", "rollback").stdout == f"{base} is active now\n"
    assert command("classify", "harbour.csv").stdout == before


def test_sixty_wrong_labels_are_turned_away(
    home: Home, corpus: Corpus, command: Command, tmp_path: Path
) -> None:
    base = home.active_id()
    (tmp_path / "wrong.csv").write_text(as_csv(flipped_labels()))
    assert command("labels", "add", "wrong.csv").stdout.startswith("60 added")
    report = run(home, corpus)
    assert not report.promoted
    assert report.difference["loop"].low < -0.01
    assert any(
        text.startswith("loop may be worse by more than 1% on the test rows") for text in report.objections
    )
    assert home.active_id() == base
    assert report.model_id in [model.id for model in home.models()]
    # Somebody who insists gets their way, and the way back.
    assert home.activate(report.model_id)
    assert home.rollback() == base


def test_labels_that_a_sure_model_contradicts_are_shown_before_anything_is_trained(
    command: Command, own_home: Path
) -> None:
    command("labels", "add", "-", "--who", "ann", stdin=as_csv(flipped_labels()))
    done = command("train")
    assert done.returncode == 1
    assert "labels contradict a model that is sure; please look at them:" in done.stderr
    assert "  loop: code, the model says knowledge (" in done.stderr
    last = done.stderr.splitlines()[-1]
    assert "nothing was trained. If they are right: loopwise train --promote" in last
    assert [model.id for model in Home(own_home).models()] == [SHIPPED_ID]


def test_at_a_terminal_a_person_may_train_on_doubtful_labels_all_the_same(command: Command) -> None:
    command("labels", "add", "-", stdin=as_csv(flipped_labels()))
    done = command("train", stdin="n\n", terminal=True)
    assert done.returncode == 1
    assert "Train all the same, without promoting?" in done.stdout
    assert done.stderr.splitlines()[-1] == "loopwise: nothing was trained"


def test_training_from_the_command_line(
    home: Home, corpus: Corpus, command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(candidate, "Recipe", lambda: RECIPE)
    monkeypatch.setattr(Corpus, "shipped", lambda: corpus)
    base = home.active_id()
    rows = as_csv(harbour()[:8][["text", "loop", "mode"]]) + "bad,music,\n"
    (tmp_path / "run.csv").write_text(rows)
    options = ("--labels", "run.csv", "--weight", "1", "--jobs", "1")
    done = command("train", *options, "--no-promote")
    assert done.returncode == 0
    assert "line 10 is refused: the loop 'music' is neither code nor knowledge" in done.stderr
    assert "trained on the corpus, 8 labelled tasks and 0 labelled words of yours (weight 1)" in done.stdout
    assert f"compared with {base}, which was active, on rows" in done.stdout
    assert re.search(r"your labels +loop +8 +0\.\d{3} +\d\.\d{3} +[+-]0\.", done.stdout)
    assert f"{base} stays active; to change: loopwise models promote" in done.stdout
    # Labels for one run only are not kept.
    assert LabelStore.of(home).read().records == []
    assert home.active_id() == base
    done = command("train", "--jobs", "1", "--yes")
    assert "there are no labels of your own; make some with: loopwise label BACKLOG" in done.stderr
    assert "is active now; to go back: loopwise models rollback" in done.stdout


def test_ten_words_do_what_fifty_rows_do(
    home: Home, corpus: Corpus, capsys: pytest.CaptureFixture[str]
) -> None:
    tasks, model = harbour(), home.active_model()
    texts = tasks["text"].tolist()
    rows = np.random.default_rng(3).permutation(len(tasks))[:50]
    words = word_queue(texts, model, 10)
    assert not any(asked.known for asked in words)

    def grade(word: str, axis: str, pro: str) -> int:
        holding = tasks["text"].str.lower().str.contains(word)
        return 2 if (tasks.loc[holding, axis] == pro).mean() > 0.5 else -2

    graded = [
        Record(a.word, "word", grade(a.word, "loop", "code"), grade(a.word, "mode", "interactive"))
        for a in words
    ]
    rest = tasks.drop(tasks.index[rows])
    part = corpus.part(("train", "validation"))
    figures = {"nothing": accuracy(model, rest)}
    fifty = records_from(tasks.iloc[rows])
    for name, records in (("fifty rows", fifty), ("ten words", graded)):
        kinds = [[r for r in records if r.kind == kind] for kind in ("task", "word")]
        assert sum(map(bool, kinds)) == 1
        labels = UserLabels.of(LabelStore.of(home).read(), records)
        fitted = fit(part, RECIPE, heads=("loop", "mode"), extra=labels.extra(WEIGHT))
        scores = fitted.decision_function(rest["text"].tolist())
        figures[name] = {
            axis: float(((scores[axis] > 0) == (rest[axis] == AXES[axis][1])).mean()) for axis in AXES
        }
    for name, by_axis in figures.items():
        print(f"after {name}: " + ", ".join(f"{axis} {value:.3f}" for axis, value in by_axis.items()))
    for axis in AXES:
        gained = figures["ten words"][axis] - figures["nothing"][axis]
        assert gained >= 0.8 * (figures["fifty rows"][axis] - figures["nothing"][axis])


def test_a_model_knows_where_it_comes_from(taught: Taught, corpus: Corpus) -> None:
    home, report = taught.home, taught.report
    model = home.load(report.model_id)
    lineage = model.lineage()
    assert lineage["parent"] == report.parent == home.previous_id()
    assert lineage["corpus"] == corpus.fingerprint
    assert (lineage["labels"]["n_tasks"], lineage["labels"]["weight"]) == (42, WEIGHT)
    assert lineage["labels"]["fingerprint"] == report.labels.fingerprint
    assert set(lineage["versions"]) == {"loopwise", "scikit-learn", "scipy", "numpy"}
    assert len(lineage["held_out"]) == 42
    card = (model.folder / "README.md").read_text("utf-8")
    assert "## Where it comes from" in card
    assert f"while {report.parent} was active" in card
    assert home.history()[-1].why.startswith("own labels: loop ")


def test_the_file_answers_as_the_comparison_said(taught: Taught, corpus: Corpus) -> None:
    rows = corpus.part(("test",)).rows.iloc[12:]
    test = Corpus(rows.reset_index(drop=True), corpus.lexicon, corpus.out_of_scope)
    scores = log_odds(taught.home.active_model(), test.texts)
    for axis in AXES:
        sure = test.is_sure(axis)
        right = (scores[axis] > 0)[sure] == test.is_second(axis)[sure]
        # Test rows that were labelled are not tested on.
        assert taught.report.on_test[axis].n == len(right)
        assert taught.report.on_test[axis].new == pytest.approx(float(right.mean()), abs=0.002)


def test_a_label_is_always_answered_by_a_model_that_was_not_shown_it(
    taught: Taught, corpus: Corpus, tmp_path: Path
) -> None:
    shutil.copytree(taught.home.folder, tmp_path / "again")
    again = run(tmp_path / "again", corpus, taught.report.labels.tasks_as_rows())
    for axis in AXES:
        assert again.on_own[axis].old == pytest.approx(taught.report.on_own[axis].new)
        assert again.on_own[axis].flips == []
    assert again.promoted


def test_training_again_does_not_repeat_the_cross_validation(taught: Taught, corpus: Corpus) -> None:
    parent = taught.home.load(taught.report.parent)
    assert known_cross_validation(corpus, RECIPE, [parent]) is not None
    assert known_cross_validation(corpus, RECIPE.with_(balanced=False), [parent]) is None
    assert known_cross_validation(corpus.part(("train",)), RECIPE, [parent]) is None
    assert taught.steps.count("cross-validation known") == N_FOLDS
    for name in ("calibration", "thresholds", "review"):
        fields = taught.report.built.fields["axes"]["loop"]
        assert fields[name] == parent.fields["axes"]["loop"][name]


def test_nobody_is_promoted_over_a_model_that_came_meanwhile(home: Home, corpus: Corpus) -> None:
    done: list[bool] = []

    def promote_another(step: str) -> None:
        if not done:
            done.append(home.activate(SHIPPED_ID))

    report = run(home, corpus, on_step=promote_another)
    assert not report.promoted
    assert report.objections == ["shipped was promoted meanwhile; train again"]
    assert home.active_id() == SHIPPED_ID


def test_training_twice_at_a_time_is_refused(home: Home, corpus: Corpus) -> None:
    with home.training_lock(), pytest.raises(LoopwiseError, match=r"loopwise train .* is writing there"):
        run(home, corpus)


def test_labels_of_every_form_are_taken(tmp_path: Path) -> None:
    frame = pd.DataFrame({"text": ["a", "b"], "loop": ["code", None], "mode": [np.nan, "i"]})
    expected = [("a", "code", None), ("b", None, "interactive")]
    (tmp_path / "l.csv").write_text(frame.to_csv(index=False))
    for form in (frame, frame.to_dict("records"), tmp_path / "l.csv", records_from(frame)):
        assert [(r.text, r.loop, r.mode) for r in records_from(form)] == expected


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([{"text": "a", "loop": "music"}], "row 0: the loop 'music' is neither code nor knowledge"),
        ([{"text": "a", "loop": "code"}, {"loop": "code"}], "row 1 has no text"),
    ],
)
def test_a_label_that_is_none_is_named_by_its_row(rows: list[dict[str, str]], message: str) -> None:
    with pytest.raises(InputError, match=message):
        records_from(rows)


@pytest.mark.parametrize("weight", [-1.0, float("nan"), 1e9])
def test_a_weight_that_makes_no_sense_is_refused(own_home: Path, weight: float) -> None:
    with pytest.raises(UsageError, match="is not a number from 0 to 1000"):
        train(home=own_home, weight=weight)


def test_a_conflict_is_not_trained_on(home: Home) -> None:
    store = LabelStore.of(home)
    store.append(
        [Record("x y", loop="code", who="a"), Record("x y", loop="knowledge", mode="autonomous", who="b")]
    )
    extra = UserLabels.of(store.read()).extra(8.0)
    assert extra is not None
    assert np.isnan(extra.second["loop"]).all()
    assert extra.second["mode"].tolist() == [0.0]


def test_variants_of_a_task_are_held_out_together() -> None:
    texts = [
        f"{verb} the {noun} {n}" for verb in ("Fix", "Book") for noun in ("lock", "crane") for n in range(5)
    ]
    labels = UserLabels.of(
        LabelStore(Path("none")).read(), records_from([{"text": t, "loop": "c"} for t in texts])
    )
    for part in labels.parts():
        assert len(part) % 5 == 0


def figures(value: float, low: float, high: float, fixed: int, broken: int) -> Any:
    truth = np.ones(20, dtype=bool)
    compared = compare("loop", ["x"] * 20, truth, truth, truth, range(20))
    flips = [_flip("knowledge")] * fixed + [_flip("code")] * broken
    return type(compared)(20, 0.5, 0.5 + value, Interval(value, low, high), flips)


def _flip(new: str) -> Any:
    from loopwise.training.gate import Flip

    return Flip("x", "knowledge", "code" if new == "knowledge" else "knowledge", new)


@pytest.mark.parametrize(
    ("on_test", "on_own", "contradicted", "objected"),
    [
        ((0.0, -0.010, 0.010, 2, 2), (0.1, 0.0, 0.2, 2, 0), 0, []),
        ((0.0, -0.011, 0.010, 2, 2), (0.1, 0.0, 0.2, 2, 0), 0, ["loop may be worse by more than 1%"]),
        (
            (0.0, 0.0, 0.0, 0, 0),
            (-0.1, -0.2, 0.1, 0, 1),
            0,
            ["your own labels get worse: 1 answers broken, 0 fixed"],
        ),
        ((0.0, 0.0, 0.0, 0, 0), (-0.2, -0.3, -0.1, 3, 3), 0, ["loop is worse on your own labels"]),
        ((0.0, 0.0, 0.0, 0, 0), (0.1, 0.0, 0.2, 2, 0), 3, []),
        ((0.0, 0.0, 0.0, 0, 0), (0.1, 0.0, 0.2, 2, 0), 4, ["4 of 10 labels contradict a model that is sure"]),
    ],
)
def test_the_gate(on_test: Any, on_own: Any, contradicted: int, objected: list[str]) -> None:
    doubtful = Contradictions([], 10, contradicted)
    found = objections({"loop": figures(*on_test)}, {"loop": figures(*on_own)}, doubtful)
    assert len(found) == len(objected)
    assert all(text.startswith(start) for text, start in zip(found, objected, strict=True))


def test_groups_are_drawn_together_when_models_are_compared() -> None:
    truth = np.ones(40, dtype=bool)
    new = truth.copy()
    new[:10] = False
    alone = compare("loop", ["x"] * 40, truth, truth, new, range(40))
    together = compare("loop", ["x"] * 40, truth, truth, new, [i // 10 for i in range(40)])
    assert alone.difference.value == together.difference.value == -0.25
    assert together.difference.low < alone.difference.low
    assert (alone.fixed, alone.broken) == (0, 10)


def test_a_learning_curve_grows_and_can_be_drawn(
    home: Home, corpus: Corpus, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    steps: list[str] = []
    curve = learning_curve(
        harbour()[:64],
        home=home.folder,
        corpus=corpus,
        recipe=RECIPE,
        weight=WEIGHT,
        n_jobs=1,
        on_step=steps.append,
    )
    assert len(steps) == N_CURVE_STEPS
    assert [point.n_labels for point in curve.points] == [0, 11, 22, 43]
    first, *_, last = curve.points
    assert all(last.accuracy[axis].value > first.accuracy[axis].value for axis in AXES)
    assert 0 <= curve.expected_gain("loop") <= 1 - last.accuracy["loop"].value
    json.dumps(curve.to_dict())
    print_curve(curve)
    assert "loop: the next 50 labels may add +0." in capsys.readouterr().out
    draw_curve(curve, tmp_path / "curve.svg")
    assert (tmp_path / "curve.svg").read_text("utf-8").count("<svg") == 1
    with pytest.raises(LoopwiseError, match=r"curve\.music: cannot be drawn"):
        draw_curve(curve, tmp_path / "curve.music")


def test_too_few_labels_make_no_curve(command: Command) -> None:
    done = command("labels", "curve")
    assert done.returncode == 2
    assert "0 labelled tasks make no curve; 20 are needed. Label some: loopwise label BACKLOG" in done.stderr


def test_two_models_are_compared_on_test_rows_and_a_backlog(taught: Taught, command: Command) -> None:
    old, new = taught.report.parent, taught.report.model_id
    done = command("models", "diff", old, new, HARBOUR, "--home", taught.home.folder)
    assert done.returncode == 0
    assert "labels: n_tasks: 0 → 42" in done.stdout
    assert "of 192 tasks are answered differently" in done.stdout
    same = command("models", "diff", old, old, HARBOUR, "--home", taught.home.folder).stdout
    assert "loop: 0 of 192 tasks are answered differently" in same


@pytest.mark.skipif(not SOAK, reason="trains on the whole corpus; set LOOPWISE_SOAK=1")
def test_the_whole_corpus_learns_a_trade_and_turns_wrong_labels_away(own_home: Path) -> None:
    tasks = harbour()
    queue = task_queue(tasks["text"].tolist(), ModelFile.shipped(), 60)
    rest = tasks.drop(tasks.index[queue])
    report = train(tasks.iloc[queue], home=own_home)
    print_train_report(report)
    assert report.promoted
    before, after = accuracy(ModelFile.shipped(), rest), accuracy(Home(own_home).active_model(), rest)
    print(f"other tasks of the trade: {before} → {after}")
    assert after["loop"] > before["loop"] + 0.05
    home = Home(own_home)
    home.rollback()
    wrong = train(flipped_labels(), home=own_home)
    print_train_report(wrong)
    assert not wrong.promoted
    assert home.active_id() == SHIPPED_ID
    assert Predictor.load(home=own_home).predict("Fix the flaky test").loop.label == "code"
