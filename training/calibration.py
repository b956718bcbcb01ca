"""From raw scores to log-odds that mean what they say, and to thresholds for review.

Calibration is linear (Platt, 1999, "Probabilistic outputs for support vector machines"), so that
contributions still add up to the score. It is fitted on out-of-fold scores under equal priors; the
prior of a real backlog is added afterwards (see "Confidence" in the model card).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from scipy.special import expit, logit
from sklearn.linear_model import LogisticRegression

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Bools = NDArray[np.bool_]
    Floats = NDArray[np.float64]

#: Target accuracies for which thresholds are stored.
TARGETS: Final = (0.75, 0.8, 0.85, 0.9, 0.925, 0.95, 0.96, 0.97, 0.98, 0.99)
#: A threshold must rest on at least this many held-out rows.
MIN_ROWS: Final = 50


@dataclass(frozen=True)
class Calibration:
    """A straight line from raw scores to log-odds under equal priors."""

    slope: float
    intercept: float

    def apply(self, scores: Floats) -> Floats:
        """Return the log-odds of raw `scores`."""
        return self.slope * scores + self.intercept


def calibrate(scores: Floats, truth: Bools, weight: Floats | None = None) -> Calibration:
    """Fit Platt's line under equal priors.

    Parameters
    ----------
    scores : ndarray of float, shape (n,)
        Out-of-fold scores.
    truth : ndarray of bool, shape (n,)
        Whether a row is of the second class.
    weight : ndarray of float, shape (n,), optional
        Weight of each row before the classes are balanced.
    """
    weights = np.ones(len(truth)) if weight is None else weight
    balanced = prior_weights(truth, 0.5, weights)
    line = LogisticRegression(C=1e6, tol=1e-10).fit(scores[:, None], truth, sample_weight=balanced)
    # Two decimals are as much as the data say, and the same on every machine.
    return Calibration(round(float(line.coef_[0, 0]), 2), round(float(line.intercept_[0]), 2))


def half_natural(natural: Bools) -> Floats:
    """Return row weights under which natural rows weigh as much as all others together.

    Confidence is to hold for both: rows as our hands were asked for them, which are easier than a real
    backlog, and rows written without thought of labels, which are harder (see `Corpus.is_natural`). The
    weights sum to the number of rows; they are 1 where all rows are of one kind.
    """
    share = natural.mean() if len(natural) else 0.0
    if not 0 < share < 1:
        return np.ones(len(natural))
    return np.where(natural, 0.5 / share, 0.5 / (1 - share))


def prior_weights(truth: Bools, prior_first: float, weight: Floats | None = None) -> Floats:
    """Return row weights under which the first class has the share `prior_first`.

    They sum to the number of rows.
    """
    weights = np.ones(len(truth)) if weight is None else weight
    share_second = (weights * truth).sum() / weights.sum()
    factor = np.where(truth, (1 - prior_first) / share_second, prior_first / (1 - share_second))
    out = weights * factor
    return np.asarray(out * len(out) / out.sum())


def confidence(log_odds: Floats, prior_first: float) -> tuple[Bools, Floats]:
    """Return whether the label is the second class, and the probability that the label is right.

    The label is the likelier class under equal priors; the probability is under the prior.
    """
    second = log_odds > 0
    posterior = expit(log_odds + logit(1 - prior_first))
    return second, np.where(second, posterior, 1 - posterior)


@dataclass(frozen=True)
class ReviewThreshold:
    """From which confidence a predicted class needs no review, for a target accuracy.

    Attributes
    ----------
    target : float
        The accuracy aimed at.
    threshold : float
        Confidence in [0, 1]; above 1 where no threshold reaches the target.
    accuracy : float
        Weighted accuracy of the held-out rows above it.
    n_rows : int
        How many held-out rows it rests on.
    coverage : float
        Weighted share of the predictions of this class above it.
    """

    target: float
    threshold: float
    accuracy: float
    n_rows: int
    coverage: float

    @property
    def reached(self) -> bool:
        """Whether the target was reached on enough rows."""
        return self.threshold <= 1

    def to_dict(self) -> dict[str, Any]:
        """Return plain data for the model file."""
        return {
            "target": self.target,
            "threshold": round(self.threshold, 6),
            "accuracy": round(self.accuracy, 4),
            "n_rows": self.n_rows,
            "coverage": round(self.coverage, 4),
        }


def review_threshold(
    correct: Bools,
    conf: Floats,
    weight: Floats,
    target: float,
    *,
    floor: float = 0.0,
    min_rows: int = MIN_ROWS,
) -> ReviewThreshold:
    """Pick the lowest threshold from which held-out predictions of one class are right often enough.

    Parameters
    ----------
    correct : ndarray of bool, shape (n,)
        Whether a prediction of this class was right.
    conf, weight : ndarray of float, shape (n,)
        Its confidence, and its weight under the prior.
    target : float
        Accuracy in (0, 1).
    floor : float
        The threshold is no lower than this.
    min_rows : int
        Fewer rows than this support no threshold.
    """
    order = np.argsort(-conf, kind="stable")
    mass = np.cumsum(weight[order])
    accuracy = np.cumsum(weight[order] * correct[order]) / mass
    # Among equal confidences only the last row stands for the threshold.
    last = np.append(np.diff(conf[order]) != 0, True)
    allowed = last & (conf[order] >= floor) & (np.arange(1, len(order) + 1) >= min_rows)
    good = np.flatnonzero((accuracy >= target) & allowed)
    if not len(good):
        return ReviewThreshold(target, 1.01, float("nan"), 0, 0.0)
    at = int(good[-1])
    return ReviewThreshold(
        target, float(conf[order][at]), float(accuracy[at]), at + 1, float(mass[at] / mass[-1])
    )
