"""Figures about predictions: accuracy, calibration, coverage, and how sure we are of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
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
    return _percentiles(statistic(np.arange(n)), values)


def _percentiles(value: float, samples: Sequence[float] | Floats) -> Interval:
    low, high = np.nanquantile(samples, [0.025, 0.975])
    return Interval(float(value), float(low), float(high))


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
    cells = (
        confusion_matrix(truth, predicted, labels=[False, True]) if n else np.zeros((2, 2), dtype=np.int64)
    )
    accuracy, balanced, macro_f1 = _rates(cells, n_samples)
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
        accuracy=accuracy,
        balanced_accuracy=balanced,
        macro_f1=macro_f1,
        calibration_error=_calibration_interval(correct, confidence, n_samples),
        confusion=cells.tolist(),
        classes=classes,
    )


def _mean(values: NDArray[Any]) -> float:
    return float(np.mean(values)) if len(values) else float("nan")


def _rates(cells: NDArray[np.int64], n_samples: int) -> list[Interval]:
    """Return accuracy, balanced accuracy and macro-F1 with their bootstrap intervals.

    All three are functions of the confusion matrix, and to draw rows with repeats is to draw the
    four cells of that matrix from a multinomial distribution.
    """
    n = int(cells.sum())
    if n == 0:
        return [Interval(float("nan"), float("nan"), float("nan"))] * 3
    drawn = np.random.default_rng(0).multinomial(n, cells.ravel() / n, size=n_samples)
    counts = np.vstack([cells.ravel()[None], drawn]).astype(np.float64)
    true_first, wrong_second, wrong_first, true_second = counts.T
    errors = wrong_first + wrong_second
    # A class that no row has is left out of the mean recall, and of the mean F1 if nobody says it either.
    with np.errstate(invalid="ignore"):
        recalls = [true_first / (true_first + wrong_second), true_second / (true_second + wrong_first)]
        scores = [2 * right / (2 * right + errors) for right in (true_first, true_second)]
    figures = (true_first + true_second) / n, np.nanmean(recalls, axis=0), np.nanmean(scores, axis=0)
    return [_percentiles(figure[0], figure[1:]) for figure in figures]


def _calibration_interval(correct: Bools, confidence: Floats, n_samples: int) -> Interval:
    """Return the expected calibration error with its bootstrap interval.

    Drawn rows are binned too, so that each adds noise to its bin: the interval leans to larger errors.
    """
    n = len(correct)
    order = np.argsort(confidence, kind="stable")
    gaps = correct[order] - confidence[order]
    return bootstrap(
        lambda rows: repeated_calibration_error(gaps, np.bincount(rows, minlength=n)), n, n_samples
    )


def repeated_calibration_error(gaps: Floats, repeats: NDArray[np.int64], n_bins: int = N_BINS) -> float:
    """Return the expected calibration error of rows of which some occur several times, without sorting.

    Parameters
    ----------
    gaps : ndarray of float, shape (n,)
        Whether each row is right (1 or 0) minus its confidence, in the order of the confidence.
    repeats : ndarray of int, shape (n,)
        How often each row occurs.
    n_bins : int
        Bins of equal mass, as `expected_calibration_error` cuts them.
    """
    total = int(repeats.sum())
    sizes = np.full(min(n_bins, total), total // n_bins) + (np.arange(min(n_bins, total)) < total % n_bins)
    edges = np.cumsum(sizes)
    rows_up_to = np.cumsum(repeats)
    gap_up_to = np.cumsum(repeats * gaps)
    # An edge may fall among the repeats of one row, which all have the same gap.
    last = np.searchsorted(rows_up_to, edges)
    sums = gap_up_to[last] - (rows_up_to[last] - edges) * gaps[last]
    return float(np.abs(np.diff(sums, prepend=0.0)).sum() / total)
