"""Options that change how scores are read: the prior of a backlog, how much goes to review."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from loopwise.errors import UsageError
from loopwise.messages import say
from loopwise.model.labels import AXES, Axis
from loopwise.service.predictor import Predictor


def parse_prior(text: str) -> tuple[Axis, float]:
    """Parse ``mode=autonomous:0.7`` into the axis and the share of its first class.

    Raises
    ------
    UsageError
        If it does not read so.
    """
    axis, equals, rest = text.partition("=")
    label, colon, number = rest.partition(":")
    names = AXES.get(axis)  # type: ignore[call-overload]
    if not (equals and colon and names and label in names):
        raise UsageError(
            f"--prior {text!r}: write AXIS=CLASS:SHARE, such as mode=autonomous:0.7 or loop=code:0.6, or auto"
        )
    try:
        share = float(number)
    except ValueError:
        share = -1.0
    if not 0 < share < 1:
        raise UsageError(f"--prior {text!r}: the share must be a number between 0 and 1, not {number!r}")
    return axis, share if label == names[0] else 1 - share  # type: ignore[return-value]


def thresholds_for(predictor: Predictor, target: float) -> tuple[dict[Axis, dict[str, float]], list[str]]:
    """Return the review thresholds for a target accuracy, and what there is to say about them.

    They are those stored for the nearest target that is no lower.
    """
    if not 0.5 <= target < 1:
        raise UsageError(f"--target-accuracy {target}: choose a number from 0.5 up to, not including, 1")
    chosen: dict[Axis, dict[str, float]] = {}
    remarks = []
    for axis in AXES:
        chosen[axis] = {}
        for label, table in predictor.model.fields["axes"][axis]["review"].items():
            entry: dict[str, Any] = next((e for e in table if e["target"] >= target - 1e-9), table[-1])
            chosen[axis][label] = entry["threshold"]
            if entry["threshold"] > 1:
                remarks.append(
                    f"too few held-out rows support an accuracy of {target} for {label}: "
                    "all of them go to review"
                )
    return chosen, remarks


def changed_settings(
    predictor: Predictor,
    priors: Sequence[str],
    target: float | None,
    review_share: float | None = None,
    texts: Callable[[], Sequence[str]] | None = None,
) -> Predictor:
    """Return `predictor` with another prior and other review thresholds, as the options say.

    Parameters
    ----------
    predictor : Predictor
    priors : sequence of str
        As `--prior` takes them.
    target : float or None
        Accuracy in [0.5, 1) of what needs no review.
    review_share : float or None
        Share in (0, 1) of the backlog that goes to review.
    texts : callable, optional
        Returns the texts of the backlog; called at most once, and only if an option needs them.
    """
    if target is not None and review_share is not None:
        raise UsageError("--target-accuracy and --review-share both set the thresholds: choose one")
    sample: list[str] = []
    if "auto" in priors or review_share is not None:
        if texts is None:
            raise UsageError(
                "--prior auto and --review-share look at a whole backlog: use them with classify or evaluate"
            )
        sample = list(texts())
    predictor = predictor.with_settings(prior=_prior(predictor, priors, sample))
    remarks: list[str] = []
    thresholds: dict[Axis, dict[str, float]] = {}
    if target is not None:
        thresholds, remarks = thresholds_for(predictor, target)
    elif review_share is not None:
        thresholds, remarks = thresholds_for_share(predictor, review_share, sample)
    for remark in remarks:
        say(remark)
    return predictor.with_settings(thresholds=thresholds)


def _prior(predictor: Predictor, priors: Sequence[str], sample: Sequence[str]) -> dict[Axis, float]:
    prior: dict[Axis, float] = {}
    for text in priors:
        if text == "auto":
            prior |= estimated_prior(predictor, sample)
            shares = ", ".join(f"{axis}={AXES[axis][0]}:{share:.2f}" for axis, share in prior.items())
            say(f"prior estimated from {len(sample)} rows of this backlog: {shares}")
        else:
            axis, share = parse_prior(text)
            prior[axis] = share
    return prior


def thresholds_for_share(
    predictor: Predictor, share: float, texts: Sequence[str]
) -> tuple[dict[Axis, dict[str, float]], list[str]]:
    """Return one threshold for all classes so that about a share of the texts goes to review.

    Texts that go there for other reasons count. Returns what there is to say about it as well.
    """
    import numpy as np
    import pyarrow as pa

    if not 0 < share < 1:
        raise UsageError(f"--review-share {share}: choose a number between 0 and 1, such as 0.2")
    open_to_all = {axis: dict.fromkeys(classes, 0.0) for axis, classes in AXES.items()}
    results = predictor.with_settings(thresholds=open_to_all).columns.columns(pa.array(texts, pa.string()))
    confidences = [results[f"{axis}_confidence"].cast(pa.float64()).to_numpy() for axis in AXES]
    flagged = results["review"].to_numpy() != ""
    lowest = np.sort(np.minimum(*confidences)[~flagged])
    n_more = round(share * len(texts)) - int(flagged.sum())
    threshold = float(lowest[min(n_more, len(lowest) - 1)]) if n_more > 0 and len(lowest) else 0.0
    remark = (
        f"about {share:.0%} of the backlog go to review: what is less certain than {threshold:.2f} on either "
        f"question, and what is no clear task (from {len(texts)} rows)"
    )
    return {axis: dict.fromkeys(classes, threshold) for axis, classes in AXES.items()}, [remark]


def estimated_prior(predictor: Predictor, texts: Sequence[str]) -> dict[Axis, float]:
    """Estimate the share of each axis' first class in a batch (see `estimate_prior`)."""
    import pyarrow as pa

    from loopwise.model.batch import BatchScorer, estimate_prior

    scorer = BatchScorer(predictor.model)
    return estimate_prior(scorer, pa.array(list(texts), pa.string()))
