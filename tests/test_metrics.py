"""The figures: what they say on hand-made predictions, and that quick ways to the bootstrap are right."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, balanced_accuracy_score, f1_score

from loopwise.training.metrics import (
    axis_figures,
    bootstrap,
    expected_calibration_error,
    repeated_calibration_error,
)

NAMES = ("code", "knowledge")


def predictions(n: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return truth, prediction and confidence of `n` rows, right somewhat less often than they say."""
    rng = np.random.default_rng(n)
    truth = rng.random(n) < 0.3
    confidence = rng.uniform(0.5, 1, n)
    return truth, truth ^ (rng.random(n) > confidence - 0.1), confidence


def test_rates_are_those_of_scikit_learn() -> None:
    truth, predicted, confidence = predictions(400)
    figures = axis_figures(truth, predicted, confidence, NAMES)
    assert figures.accuracy.value == pytest.approx(accuracy_score(truth, predicted))
    assert figures.balanced_accuracy.value == pytest.approx(balanced_accuracy_score(truth, predicted))
    assert figures.macro_f1.value == pytest.approx(f1_score(truth, predicted, average="macro"))
    expected = expected_calibration_error(truth == predicted, confidence)
    assert figures.calibration_error.value == pytest.approx(expected)


def test_intervals_are_those_of_drawing_rows() -> None:
    truth, predicted, confidence = predictions(400)
    figures = axis_figures(truth, predicted, confidence, NAMES)
    right = truth == predicted
    drawn = {
        "accuracy": lambda rows: float(right[rows].mean()),
        "balanced_accuracy": lambda rows: float(balanced_accuracy_score(truth[rows], predicted[rows])),
        "macro_f1": lambda rows: float(f1_score(truth[rows], predicted[rows], average="macro")),
        "calibration_error": lambda rows: expected_calibration_error(right[rows], confidence[rows]),
    }
    for name, statistic in drawn.items():
        slow = bootstrap(statistic, 400, seed=5)
        quick = getattr(figures, name)
        width = slow.high - slow.low
        assert quick.low == pytest.approx(slow.low, abs=width / 8), name
        assert quick.high == pytest.approx(slow.high, abs=width / 8), name


def test_a_class_that_nobody_has_or_says_is_left_out_of_the_means() -> None:
    truth = np.array([False, False, False])
    figures = axis_figures(truth, truth, np.array([0.9, 0.8, 0.7]), NAMES)
    assert figures.balanced_accuracy == (1.0, 1.0, 1.0)
    assert figures.macro_f1.value == 1.0


def test_no_rows_have_no_figures() -> None:
    nothing = np.zeros(0, dtype=bool)
    figures = axis_figures(nothing, nothing, np.zeros(0), NAMES)
    assert figures.n == 0
    assert np.isnan(figures.accuracy.value)
    assert np.isnan(figures.calibration_error.value)


@given(
    rows=st.lists(st.tuples(st.booleans(), st.integers(0, 4)), min_size=1, max_size=60).filter(
        lambda rows: any(n for _, n in rows)
    )
)
def test_repeated_rows_give_the_calibration_error_of_the_rows_written_out(
    rows: list[tuple[bool, int]],
) -> None:
    correct = np.array([right for right, _ in rows])
    repeats = np.array([n for _, n in rows])
    confidence = np.linspace(0.5, 0.99, len(rows))
    written_out = np.repeat(np.arange(len(rows)), repeats)
    expected = expected_calibration_error(correct[written_out], confidence[written_out])
    assert repeated_calibration_error(correct - confidence, repeats) == pytest.approx(expected)
