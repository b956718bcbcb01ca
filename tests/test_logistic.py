"""The logistic regression over factors is scikit-learn's over the matrix."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression

from loopwise.model.vectorizer import FactoredFeatures, TaskVectorizer
from loopwise.model.vectors import WordVectors
from loopwise.training import logistic
from loopwise.training.logistic import fit_logistic
from tests.strategies import texts

TASKS = [
    "fix the null check in `parser.py`",
    "write the newsletter",
    "Why does the build fail?",
    "rename 300 photos by date",
    "draft a speech for Ana's farewell",
    "bump numpy to 2.1",
    "which vendor should we choose?",
    "export the list to csv",
] * 5
PHRASES = ["null check", "newsletter", "export the list", "zorbify"]


@pytest.fixture(scope="module")
def vectorizer() -> TaskVectorizer:
    return TaskVectorizer(phrases=PHRASES, vectors=WordVectors.shipped().head(3000, 8)).fit(TASKS)


@settings(max_examples=60, deadline=None)
@given(batch=st.lists(texts, min_size=1, max_size=10))
def test_products_with_factors_are_those_with_the_matrix(
    vectorizer: TaskVectorizer, batch: list[str]
) -> None:
    rng = np.random.default_rng(0)
    parts = [vectorizer.factored(batch), vectorizer.factored(PHRASES, whole=False)]
    factored = FactoredFeatures.vstack(parts)
    matrix = factored.tocsr()
    across, down = rng.normal(size=matrix.shape[1]), rng.normal(size=matrix.shape[0])
    np.testing.assert_allclose(factored @ across, matrix @ across, atol=1e-9)
    np.testing.assert_allclose(factored.rmatvec(down), matrix.T @ down, atol=1e-9)
    few = factored.first_columns(7)
    np.testing.assert_allclose(few @ across[:7], matrix[:, :7] @ across[:7], atol=1e-9)


@pytest.mark.parametrize("C", [0.5, 10.0])
def test_the_fit_is_scikit_learns_on_rows_that_count_for_both_classes(
    vectorizer: TaskVectorizer, C: float
) -> None:
    rng = np.random.default_rng(1)
    X = vectorizer.factored(TASKS)
    first, second = rng.uniform(0, 2, size=(2, len(TASKS)))
    first[:10] = 0.0
    first[20:22] = second[20:22] = 0.0
    ours = fit_logistic(X, first, second, C=C)

    matrix = vectorizer.transform([*TASKS, *TASKS])
    labels = np.repeat([False, True], len(TASKS))
    theirs = LogisticRegression(C=C, solver="newton-cg", tol=1e-10, max_iter=500)
    theirs.fit(matrix, labels, sample_weight=np.concatenate([first, second]))
    np.testing.assert_allclose(
        expit(ours.decision_function(matrix)), expit(theirs.decision_function(matrix)), atol=1e-6
    )
    assert ours.predict(matrix[:3]).dtype == bool


def test_a_class_without_weight_is_named(vectorizer: TaskVectorizer) -> None:
    some, none = np.ones(len(TASKS)), np.zeros(len(TASKS))
    unknown = np.full_like(none, np.nan)
    for first, second, name in (
        (some, none, "second"),
        (none, some, "first"),
        (unknown, some, "first"),
    ):
        with pytest.raises(ValueError, match=f"the weight of the {name} class"):
            fit_logistic(vectorizer.factored(TASKS), first, second, C=1.0)


def test_stopping_early_is_said(vectorizer: TaskVectorizer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logistic, "MAX_ITERATIONS", 1)
    half = np.where(np.arange(len(TASKS)) % 2 == 0, 1.0, 0.0)
    with pytest.warns(ConvergenceWarning, match="Gradient"):
        fit_logistic(vectorizer.factored(TASKS), half, 1 - half, C=10.0)
