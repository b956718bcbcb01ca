"""Training: the shipped model is the one that the corpus gives, and the folded model is the pipeline."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.special import expit

from loopwise import Predictor
from loopwise.model.batch import BatchScorer
from loopwise.model.labels import AXES, Axis
from loopwise.model.modelfile import ModelFile
from loopwise.training.build import BuiltModel, build, delegation_floor
from loopwise.training.card import model_card
from loopwise.training.corpus import Corpus
from loopwise.training.fit import Recipe
from tests.conftest import SOAK
from tests.strategies import texts

#: Every kind of feature: words, pairs, sub-words, cues, vectors.
WITH_VECTORS = Recipe(vector_heads=("loop", "mode", "scope"), vector_words=3000, vector_dims=16)


@pytest.fixture(scope="module")
def small_corpus() -> Corpus:
    whole = Corpus.shipped()
    return Corpus(whole.rows.iloc[::25].reset_index(drop=True), whole.lexicon[::40], whole.out_of_scope)


@pytest.fixture(scope="module")
def built(small_corpus: Corpus) -> BuiltModel:
    """A small model with every kind of feature."""
    return build(small_corpus, WITH_VECTORS, n_jobs=1)


@pytest.fixture(scope="module")
def folded(built: BuiltModel, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ModelFile]:
    folder = tmp_path_factory.mktemp("model")
    built.write(folder, model_card(built.fields))
    return ModelFile.load(folder)  # type: ignore[return-value]


def worst_difference(built: BuiltModel, model: ModelFile, batch: list[str]) -> float:
    """Return the largest difference between probabilities of the pipelines and of the folded model."""
    predictor = Predictor(model)
    score = BatchScorer(model).score(pa.array(batch, pa.string()))
    worst = 0.0
    for axis, pipeline in built.pipelines().items():
        expected = pipeline.predict_proba(batch)[:, 1]
        columns = expit(getattr(score, axis) + predictor.settings.offset(axis))
        single = []
        for text in batch:
            answer = getattr(predictor.predict(text), axis)
            second = answer.label == AXES[axis][1]
            single.append(answer.confidence if second else 1 - answer.confidence)
        worst = max(worst, np.abs(columns - expected).max(), np.abs(np.array(single) - expected).max())
    return float(worst)


# 100 lists of 20 texts: two thousand.
@settings(
    max_examples=100,
    deadline=None,
    suppress_health_check=[HealthCheck.large_base_example, HealthCheck.data_too_large],
)
@given(batch=st.lists(texts, min_size=20, max_size=20))
def test_the_folded_model_gives_the_pipelines_probabilities(
    built: BuiltModel, folded: ModelFile, batch: list[str]
) -> None:
    assert worst_difference(built, folded, batch) < 1e-6


def test_training_twice_gives_the_same_model(built: BuiltModel, small_corpus: Corpus) -> None:
    again = build(small_corpus, WITH_VECTORS, n_jobs=2)
    for name, array in built.arrays.items():
        np.testing.assert_allclose(array, again.arrays[name], rtol=1e-5, atol=1e-6)
    for axis in AXES:
        for kind in ("hands", "natural", "test"):
            one, two = (b.fields["metrics"][kind][axis]["accuracy"] for b in (built, again))
            assert one == pytest.approx(two, abs=2e-3)


def test_the_card_gives_the_figures_of_the_model_file(built: BuiltModel) -> None:
    card = model_card(built.fields)
    assert card.startswith("---\n")
    accuracy = built.fields["metrics"]["test"]["loop"]["accuracy"][0]
    assert f"{accuracy:.3f}" in card


def test_the_lexicon_teaches_words_that_no_row_holds(small_corpus: Corpus) -> None:
    word = pd.DataFrame({"phrase": ["zorbify"], "loop": [2], "mode": [2], "trade": ["x"], "hand": ["x"]})
    taught = Corpus(small_corpus.rows, pd.concat([small_corpus.lexicon, word]), small_corpus.out_of_scope)
    from loopwise.training.fit import fit

    plain, knowing = (fit(c, Recipe()).decision_function(["zorbify"]) for c in (small_corpus, taught))
    assert knowing["loop"][0] < plain["loop"][0]
    assert knowing["mode"][0] > plain["mode"][0]


def test_a_grade_teaches_more_than_the_label_alone(small_corpus: Corpus) -> None:
    """Two words that stand only in autonomous tasks, which readers would watch or would not."""
    from loopwise.training.fit import fit

    rows = small_corpus.rows[small_corpus.rows["mode"] == "autonomous"].head(60).reset_index(drop=True)
    rows["text"] = [f"{'zorbify' if i % 2 else 'quaxify'} {text}" for i, text in enumerate(rows["text"])]
    rows["mode_grade"] = [4.0 if i % 2 else 0.0 for i in range(len(rows))]
    taught = replace(small_corpus, rows=pd.concat([small_corpus.rows, rows], ignore_index=True))

    def gap(recipe: Recipe) -> float:
        fitted = fit(taught, recipe, heads=("mode",))
        watched, routine = fitted.decision_function(["zorbify", "quaxify"])["mode"]
        return float(watched - routine)

    assert gap(Recipe()) > gap(Recipe(grade_weight=0.0)) + 0.1


def test_a_users_label_weighs_its_weight_times_a_natural_row(small_corpus: Corpus) -> None:
    from loopwise.training.fit import ExtraRows, _row_masses

    known, unknown = np.array([1.0, 0.0, 1.0]), np.array([np.nan, 0.0, 1.0])
    extra = ExtraRows(["a", "b", "c"], {"loop": known, "mode": unknown}, weight=8.0)
    recipe = Recipe(balanced=False)
    for axis in AXES:
        masses = _row_masses(axis, small_corpus, recipe, extra).sum(axis=0)
        rows, own = masses[:-3], masses[-3:]
        one = rows[small_corpus.is_natural & small_corpus.is_sure(axis)]
        np.testing.assert_allclose(own, 8.0 * one[0] * ~np.isnan(extra.second[axis]))


def test_a_users_labels_do_not_say_what_a_task_is(small_corpus: Corpus) -> None:
    from loopwise.training.fit import ExtraRows, fit

    noise = list(small_corpus.out_of_scope["text"].head(5))
    extra = ExtraRows(noise, {axis: np.ones(5) for axis in AXES}, weight=8.0)
    plain, taught = (
        fit(small_corpus, Recipe(), heads=("scope",), extra=own).decision_function(noise)["scope"]
        for own in (None, extra)
    )
    assert (taught < -1).all()
    np.testing.assert_allclose(plain, taught, atol=1)


def test_ungraded_rows_count_by_their_label(small_corpus: Corpus) -> None:
    from loopwise.training.fit import fit

    ungraded = replace(small_corpus, rows=small_corpus.rows.assign(mode_grade=np.float32("nan")))
    one, two = (
        fit(corpus, recipe, heads=("mode",)).decision_function(["fix it", "advise me"])["mode"]
        for corpus, recipe in ((ungraded, Recipe()), (small_corpus, Recipe(grade_weight=0.0)))
    )
    np.testing.assert_allclose(one, two, atol=1e-6)


@pytest.mark.slow
def test_the_shipped_model_is_what_the_corpus_gives(model: ModelFile, tmp_path: Path) -> None:
    """Retrains from the corpus: the final fit by default, the whole build in `make soak`."""
    corpus = Corpus.shipped()
    assert model.fields["corpus"]["fingerprint"] == corpus.fingerprint
    sample = corpus.texts[::15]
    if SOAK:
        again = build(corpus, Recipe())
        assert worst_difference(again, model, sample) < 1e-6
        return
    from loopwise.training.fit import fit

    fitted = fit(corpus.part(("train", "validation")), Recipe())
    raw = fitted.decision_function(sample)
    score = BatchScorer(model).score(pa.array(sample, pa.string()))
    for axis in AXES:
        line = model.fields["axes"][axis]["calibration"]
        expected = expit(line["slope"] * raw[axis] + line["intercept"])
        np.testing.assert_allclose(expit(getattr(score, axis)), expected, atol=1e-6)


def few_rows(hands: list[str], mode: str = "interactive") -> Corpus:
    """Return tasks of one mode, a row a hand, on whose labels everybody agrees."""
    rows = pd.DataFrame({"text": hands, "loop": "knowledge", "mode": mode, "unsure": "", "hand": hands})
    return Corpus(rows, pd.DataFrame(), pd.DataFrame())


LOOPS = {"code": 0.8, "knowledge": 0.8}


def floor_of(hands: list[str], loop: list[float], mode: list[float]) -> float:
    odds: dict[Axis, NDArray[np.float64]] = {"loop": np.array(loop), "mode": np.array(mode)}
    return delegation_floor(few_rows(hands), odds, LOOPS)


def test_tasks_that_are_looked_at_for_their_loop_do_not_raise_the_bar_for_delegating() -> None:
    natural = [f"n{i}" for i in range(20)]
    autonomous = [-3.0] * 20
    assert floor_of(natural, [5.0] * 20, autonomous) > 0.9
    assert floor_of(natural, [0.1] * 20, autonomous) == 0


def test_natural_rows_judge_and_all_rows_where_there_are_none() -> None:
    certain, doubtful = [-5.0] * 10, [-1.0] * 10
    hands = [f"n{i}" for i in range(10)] + [f"h{i}" for i in range(10)]
    assert floor_of(hands, [5.0] * 20, doubtful + certain) < floor_of(hands, [5.0] * 20, certain + doubtful)
    assert floor_of([f"h{i}" for i in range(10)], [5.0] * 10, certain) > 0.99


def test_nothing_interactive_needs_no_bar() -> None:
    routine = few_rows(["n1", "n2"], "autonomous")
    assert delegation_floor(routine, {"loop": np.full(2, 5.0), "mode": np.full(2, -5.0)}, LOOPS) == 0


def test_a_higher_target_never_lowers_a_threshold(model: ModelFile) -> None:
    for axis in AXES:
        for label, table in model.fields["axes"][axis]["review"].items():
            thresholds = [row["threshold"] for row in sorted(table, key=lambda row: row["target"])]
            assert thresholds == sorted(thresholds), (axis, label)
