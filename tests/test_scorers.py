from __future__ import annotations

import pickle
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loopwise import Predictor
from loopwise.model.batch import BatchScorer
from loopwise.model.labels import AXES
from loopwise.model.modelfile import ModelFile
from loopwise.model.scorer import Scorer, strongest
from tests.strategies import WORDS, texts


@pytest.fixture(scope="module")
def single(model: ModelFile) -> Scorer:
    return Scorer(model)


@pytest.fixture(scope="module")
def batch(model: ModelFile) -> BatchScorer:
    return BatchScorer(model)


@settings(max_examples=200, deadline=None)
@given(block=st.lists(texts, max_size=12))
def test_columns_score_as_single_texts_do(single: Scorer, batch: BatchScorer, block: list[str]) -> None:
    columns = batch.score(pa.array(block, pa.string()))
    scores = [single.score(text) for text in block]
    for name in ("loop", "mode", "scope", "n_words", "n_known", "n_english", "n_foreign"):
        expected = [getattr(score, name) for score in scores]
        np.testing.assert_allclose(getattr(columns, name), expected, atol=1e-9)
    for axis in AXES:
        turned = np.arange(len(block)) % 2 == 1
        shown = columns.top_features(axis, turned, 3).to_pylist()
        for score, back, text in zip(scores, turned, shown, strict=True):
            contributions = [(n, a if axis == "loop" else b) for n, a, b in score.contributions]
            strong = strongest(contributions, 3, -1.0 if back else 1.0)
            assert text == ", ".join(f"{name} {value:+.2f}" for name, value in strong)


@settings(max_examples=200, deadline=None)
@given(text=texts)
def test_contributions_and_intercept_equal_the_score(predictor: Predictor, text: str) -> None:
    prediction = predictor.predict(text)
    for answer in (prediction.loop, prediction.mode):
        total = answer.intercept + sum(c for _, c in answer.contributions)
        assert total == pytest.approx(answer.score, abs=1e-6)
        assert answer.confidence == pytest.approx(1 / (1 + np.exp(-answer.score)), abs=1e-9)


def test_an_empty_block_scores_to_nothing(batch: BatchScorer) -> None:
    assert len(batch.score(pa.array([], pa.string())).loop) == 0


def test_lone_surrogates_are_scored_like_punctuation(predictor: Predictor) -> None:
    assert predictor.predict("fix \ud800 test").loop.label == predictor.predict("fix test").loop.label


def test_threads_share_one_predictor(predictor: Predictor) -> None:
    many = [" ".join(WORDS[i % len(WORDS) :]) + str(i) for i in range(400)]
    expected = [predictor.predict(text) for text in many]
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(predictor.predict, many)) == expected


def test_a_predictor_survives_pickling(predictor: Predictor) -> None:
    again = pickle.loads(pickle.dumps(predictor))
    assert again.predict("Fix the flaky test") == predictor.predict("Fix the flaky test")
