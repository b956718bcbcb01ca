"""Figures about predictions: accuracy, calibration, coverage, and how sure we are of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from sklearn.metrics import confusion_matrix

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Bools = NDArray[np.bool_]
    Floats = NDArray[np.float64]

N_BOOTSTRAP = 1000
N_BINS = 10


class Interval(NamedTuple):
    """A figure with the 2.5 % and 97.5 % quantiles of its bootstrap."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}]"


def bootstrap(
    statistic: Callable[[NDArray[np.int64]], float], n: int, n_samples: int = N_BOOTSTRAP, seed: int = 0
) -> Interval:
    """Return a statistic of `n` rows with its percentile bootstrap interval (Efron, 1979).

    Parameters
    ----------
    statistic : callable
        Takes row indices, with repeats, and returns a figure.
    n : int
        Number of rows.
    n_samples : int
        Number of resamples.
    seed : int
        Seeds the resampling, so that the interval is the same every time.
    """
    if n == 0:
        return Interval(float("nan"), float("nan"), float("nan"))
    rng = np.random.default_rng(seed)
    values = [statistic(rng.integers(0, n, n)) for _ in range(n_samples)]
    low, high = np.nanquantile(values, [0.025, 0.975])
    return Interval(float(statistic(np.arange(n))), float(low), float(high))


def mean_interval(values: Floats, n_samples: int = N_BOOTSTRAP) -> Interval:
    """Return the mean of `values` with its bootstrap interval."""
    return bootstrap(lambda rows: float(values[rows].mean()), len(values), n_samples)


def balanced_accuracy(truth: Bools, predicted: Bools) -> float:
    """Return the mean of the recalls of the classes that occur in `truth`."""
    recalls = [(predicted[truth == c] == c).mean() for c in (False, True) if (truth == c).any()]
    return float(np.mean(recalls))


def expected_calibration_error(correct: Bools, confidence: Floats, n_bins: int = N_BINS) -> float:
    """Return the mean distance between confidence and accuracy over bins of equal mass.

    As Nixon et al. (2019), "Measuring calibration in deep learning", call it: adaptive, top label.
    """
    if not len(correct):
        return float("nan")
    order = np.argsort(confidence, kind="stable")
    parts = [part for part in np.array_split(order, n_bins) if len(part)]
    gaps = [abs(correct[p].mean() - confidence[p].mean()) * len(p) for p in parts]
    return float(sum(gaps) / len(order))


@dataclass(frozen=True)
class ClassFigures:
    """How predictions of one class fare."""

    n_true: int
    n_predicted: int
    precision: float
    recall: float
    mean_confidence: float
    calibration_error: float


@dataclass(frozen=True)
class AxisFigures:
    """How predictions on one axis fare. Intervals are 95 % percentile bootstrap intervals."""

    n: int
    accuracy: Interval
    balanced_accuracy: Interval
    macro_f1: Interval
    calibration_error: Interval
    confusion: list[list[int]]
    classes: dict[str, ClassFigures]

    def to_dict(self) -> dict[str, Any]:
        """Return plain data for JSON; intervals become ``[value, low, high]``."""
        return asdict(self)


def axis_figures(
    truth: Bools, predicted: Bools, confidence: Floats, names: tuple[str, str], n_samples: int = N_BOOTSTRAP
) -> AxisFigures:
    """Compute the figures of one axis.

    Parameters
    ----------
    truth, predicted : ndarray of bool, shape (n,)
        Whether the label is the second class.
    confidence : ndarray of float, shape (n,)
        Probability that the predicted label is right.
    names : (str, str)
        The two classes.
    n_samples : int
        Number of bootstrap resamples.
    """
    n = len(truth)
    correct = truth == predicted

    def interval(statistic: Callable[[Bools, Bools, Floats], float]) -> Interval:
        return bootstrap(lambda rows: statistic(truth[rows], predicted[rows], confidence[rows]), n, n_samples)

    classes = {}
    for name, is_class in zip(names, (False, True), strict=True):
        said = predicted == is_class
        classes[name] = ClassFigures(
            n_true=int((truth == is_class).sum()),
            n_predicted=int(said.sum()),
            precision=_mean(correct[said]),
            recall=_mean(correct[truth == is_class]),
            mean_confidence=_mean(confidence[said]),
            calibration_error=expected_calibration_error(correct[said], confidence[said]),
        )
    return AxisFigures(
        n=n,
        accuracy=interval(lambda t, p, c: float(np.mean(t == p))),
        balanced_accuracy=interval(lambda t, p, c: balanced_accuracy(t, p)),
        macro_f1=interval(lambda t, p, c: _macro_f1(t, p)),
        calibration_error=interval(lambda t, p, c: expected_calibration_error(t == p, c)),
        confusion=confusion_matrix(truth, predicted, labels=[False, True]).tolist()
        if n
        else [[0, 0], [0, 0]],
        classes=classes,
    )


def _mean(values: NDArray[Any]) -> float:
    return float(np.mean(values)) if len(values) else float("nan")


def _macro_f1(truth: Bools, predicted: Bools) -> float:
    scores = []
    for c in (False, True):
        both = int(((truth == c) & (predicted == c)).sum())
        either = int((truth == c).sum() + (predicted == c).sum())
        if either:
            scores.append(2 * both / either)
    return float(np.mean(scores)) if scores else float("nan")
