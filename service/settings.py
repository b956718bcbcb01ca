"""Options that change how scores are read: the prior of a backlog, the target accuracy."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from loopwise.errors import UsageError
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
    predictor: Predictor, priors: Sequence[str], target: float | None, texts: Sequence[str] | None = None
) -> Predictor:
    """Return `predictor` with another prior or target accuracy, as the options say."""
    import sys

    prior: dict[Axis, float] = {}
    for text in priors:
        if text == "auto":
            if texts is None:
                raise UsageError(
                    "--prior auto estimates the shares from a whole file; so far it works with evaluate only"
                )
            prior |= estimated_prior(predictor, texts)
            shares = ", ".join(f"{axis}={AXES[axis][0]}:{share:.2f}" for axis, share in prior.items())
            print(f"loopwise: prior estimated from this batch: {shares}", file=sys.stderr)
        else:
            axis, share = parse_prior(text)
            prior[axis] = share
    thresholds: dict[Axis, dict[str, float]] = {}
    if target is not None:
        thresholds, remarks = thresholds_for(predictor, target)
        for remark in remarks:
            print(f"loopwise: {remark}", file=sys.stderr)
    return predictor.with_settings(prior=prior, thresholds=thresholds)


def estimated_prior(predictor: Predictor, texts: Sequence[str]) -> dict[Axis, float]:
    """Estimate the share of each axis' first class in a batch (see `estimate_prior`)."""
    import pyarrow as pa

    from loopwise.model.batch import BatchScorer, estimate_prior

    scorer = BatchScorer(predictor.model)
    return estimate_prior(scorer, pa.array(list(texts), pa.string()))
