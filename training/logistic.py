"""Logistic regression over a linear operator, on rows that may count for both classes."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Final

import numpy as np
from scipy.optimize import minimize
from scipy.sparse.linalg import LinearOperator
from scipy.special import expit
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

#: Norm of the gradient, the weights summing to 1, at which training stops: so near the minimum that every
#: machine arrives at the same model.
TOLERANCE: Final = 1e-9
MAX_ITERATIONS: Final = 200


def fit_logistic(X: LinearOperator, first: Floats, second: Floats, *, C: float) -> LogisticRegression:
    """Fit an L2-penalised logistic regression by a trust-region Newton method.

    The minimum is that of scikit-learn's ``LogisticRegression(C=C)`` on every row twice, once for each
    class. That would need a matrix, where products with `X` and its transpose are enough; see Lin, Weng
    and Keerthi, 2008, "Trust region Newton method for large-scale logistic regression".

    Parameters
    ----------
    X : LinearOperator of shape (n_rows, n_features)
    first, second : ndarray of shape (n_rows,)
        Weight of each row in the first class and in the second; a row with neither takes no part.
    C : float
        Inverse strength of the penalty, which leaves out the intercept.

    Returns
    -------
    LogisticRegression
        With classes ``False`` (the first) and ``True``.

    Raises
    ------
    ValueError
        If a class has no weight, or a weight is not a number.

    Warns
    -----
    ConvergenceWarning
        If the minimum was not reached.
    """
    for name, mass in (("first", first), ("second", second)):
        if not mass.sum() > 0:
            raise ValueError(
                f"there is nothing to learn from: the weight of the {name} class is {mass.sum()}"
            )
    total = float(first.sum() + second.sum())
    first, second = first / total, second / total
    penalty = 1 / (C * total)
    n_features = X.shape[1]

    def scores(point: Floats) -> Floats:
        return np.asarray(X.matvec(point[:-1]) + point[-1])

    def gradient_of(per_row: Floats, point: Floats) -> Floats:
        return np.append(X.rmatvec(per_row) + penalty * point[:-1], per_row.sum())

    def loss(point: Floats) -> tuple[float, Floats]:
        z = scores(point)
        value = first @ np.logaddexp(0, z) + second @ np.logaddexp(0, -z)
        value += penalty / 2 * (point[:-1] @ point[:-1])
        return float(value), gradient_of(first * expit(z) - second * expit(-z), point)

    curved_at, curvature = np.full(n_features + 1, np.nan), np.zeros(len(first))

    def hessian_product(point: Floats, direction: Floats) -> Floats:
        nonlocal curved_at, curvature
        if not np.array_equal(point, curved_at):  # One point is asked for many directions.
            z = scores(point)
            curved_at, curvature = point.copy(), (first + second) * expit(z) * expit(-z)
        return gradient_of(curvature * scores(direction), direction)

    found = minimize(
        loss,
        np.zeros(n_features + 1),
        jac=True,
        hessp=hessian_product,
        method="trust-ncg",
        options={"gtol": TOLERANCE, "maxiter": MAX_ITERATIONS},
    )
    # Rounding may stop it a little short of the tolerance, which is near enough.
    if (slope := np.linalg.norm(found.jac)) > 100 * TOLERANCE:
        warnings.warn(f"{found.message} Gradient: {slope:.1g}", ConvergenceWarning, stacklevel=2)
    classifier = LogisticRegression(C=C)
    classifier.classes_ = np.array([False, True])
    classifier.coef_, classifier.intercept_ = found.x[None, :-1], found.x[-1:]
    classifier.n_features_in_ = n_features
    return classifier
