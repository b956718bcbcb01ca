"""Measure a model on a labelled file, and say what the figures mean for a team."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pyarrow as pa

from loopwise.errors import InputError, UsageError
from loopwise.model.batch import BatchScorer
from loopwise.model.labels import AXES, Axis
from loopwise.service.predictor import Predictor
from loopwise.training.metrics import AxisFigures, Interval, axis_figures, balanced_accuracy, mean_interval

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Bools = NDArray[np.bool_]
    Floats = NDArray[np.float64]

_TRUE = ("1", "true", "yes", "x")


@dataclass(frozen=True)
class LabelledTexts:
    """Texts with their labels.

    Attributes
    ----------
    texts : list of str
    second : dict of axis to ndarray of bool
        Whether the label is the second class of the axis.
    sure : dict of axis to ndarray of bool
        Whether the label counts in the figures.
    source : list of str or None
        Where each text comes from.
    """

    texts: list[str]
    second: dict[Axis, Bools]
    sure: dict[Axis, Bools]
    source: list[str] | None

    @classmethod
    def read(cls, path: Path | str) -> LabelledTexts:
        """Read a CSV with the columns text, loop and mode.

        Rows marked in ``loop_unsure``, ``mode_unsure`` (1 or true) or ``unsure`` (loop, mode or both)
        are left out of the figures of that axis; so are rows without a label on it.

        Raises
        ------
        UsageError, InputError
            If the file or a column is missing, or a label is unknown; the message names the line.
        """
        try:
            frame = pd.read_csv(path, dtype="string", keep_default_na=False, encoding="utf-8-sig")
        except FileNotFoundError:
            raise UsageError(f"{path}: there is no such file") from None
        except (OSError, ValueError) as error:
            raise InputError(f"{path}: cannot be read as a CSV ({error})") from error
        for name in ("text", *AXES):
            if name not in frame.columns:
                raise InputError(
                    f"{path}: there is no column {name!r}; needed are text, loop and mode, "
                    f"and the columns are: {', '.join(map(repr, frame.columns))}"
                )
        second, sure = {}, {}
        unsure = frame["unsure"].str.lower() if "unsure" in frame else pd.Series("", index=frame.index)
        for axis, names in AXES.items():
            label = frame[axis].str.strip().str.lower()
            unknown = ~label.isin([*names, ""])
            if unknown.any():
                at = int(np.flatnonzero(unknown)[0])
                raise InputError(
                    f"{path}: row {at + 1} has the {axis} {frame[axis].iloc[at]!r}; "
                    f"valid are {' and '.join(names)}"
                )
            marked = unsure.isin([axis, "both", *_TRUE])
            if f"{axis}_unsure" in frame:
                marked |= frame[f"{axis}_unsure"].str.lower().isin(_TRUE)
            second[axis] = (label == names[1]).to_numpy(dtype=bool)
            sure[axis] = (~marked & (label != "")).to_numpy(dtype=bool)
        source = frame["source"].tolist() if "source" in frame else None
        return cls(frame["text"].tolist(), second, sure, source)


@dataclass(frozen=True)
class RoutedFigures:
    """What a team gets: how much goes through without a look, and how right that is.

    Attributes
    ----------
    share_routed : Interval
        Share of rows without any reason for review.
    accuracy : dict of axis to Interval
        Accuracy among those.
    by_class : dict of label to Interval
        Accuracy among those predicted as the class.
    unsafe_delegation : Interval
        Share of the truly interactive rows that would be delegated without a look.
    """

    share_routed: Interval
    accuracy: dict[Axis, Interval]
    by_class: dict[str, Interval]
    unsafe_delegation: Interval


@dataclass(frozen=True)
class Evaluation:
    """The figures of a model on a labelled file.

    Attributes
    ----------
    axes : dict of axis to AxisFigures
    sources : dict of str to dict of axis to dict of str to float
        ``n``, ``accuracy`` and ``balanced_accuracy`` by source; empty without that column.
    routed : RoutedFigures
    unknown_words : float
        Share of the words that neither corpus nor lexicon holds.
    predictions : DataFrame
        A row a text: labels, confidences, review.
    prior : dict of axis to float
    """

    axes: dict[Axis, AxisFigures]
    sources: dict[str, dict[Axis, dict[str, float]]]
    routed: RoutedFigures
    unknown_words: float
    predictions: pd.DataFrame
    prior: dict[Axis, float]

    def to_dict(self) -> dict[str, Any]:
        """Return plain data for JSON."""
        return {
            "axes": {axis: figures.to_dict() for axis, figures in self.axes.items()},
            "sources": self.sources,
            "routed": asdict(self.routed),
            "unknown_words": self.unknown_words,
            "prior": self.prior,
        }


def evaluate(predictor: Predictor, data: LabelledTexts, n_samples: int = 1000) -> Evaluation:
    """Predict all texts of `data` and compare with their labels.

    Parameters
    ----------
    predictor : Predictor
    data : LabelledTexts
    n_samples : int
        Bootstrap resamples for the intervals.
    """
    table = predictor.columns.columns(pa.array(data.texts, pa.string()))
    predictions = table.to_pandas()
    predictions["text"] = data.texts
    reviewed = (predictions["review"] != "").to_numpy(dtype=bool)
    axes: dict[Axis, AxisFigures] = {}
    predicted: dict[Axis, Bools] = {}
    for axis, names in AXES.items():
        predicted[axis] = (predictions[axis] == names[1]).to_numpy(dtype=bool)
        conf = predictions[f"{axis}_confidence"].astype(float).to_numpy()
        keep = data.sure[axis]
        axes[axis] = axis_figures(
            data.second[axis][keep], predicted[axis][keep], conf[keep], names, n_samples
        )
    return Evaluation(
        axes=axes,
        sources=_by_source(data, predicted),
        routed=_routed(data, predicted, reviewed, n_samples),
        unknown_words=unknown_share(predictor, data.texts),
        predictions=predictions,
        prior=dict(predictor.settings.prior),
    )


def unknown_share(predictor: Predictor, texts: list[str]) -> float:
    """Return the share of the words of `texts` that neither corpus nor lexicon holds."""
    score = BatchScorer(predictor.model)
    known = words = 0
    for start in range(0, len(texts), 8192):
        block = score.score(pa.array(texts[start : start + 8192], pa.string()))
        known += int(block.n_known.sum())
        words += int(block.n_words.sum())
    return 1 - known / words if words else 0.0


def _by_source(data: LabelledTexts, predicted: dict[Axis, Bools]) -> dict[str, dict[Axis, dict[str, float]]]:
    if data.source is None:
        return {}
    source = np.array(data.source, dtype=object)
    figures: dict[str, dict[Axis, dict[str, float]]] = {}
    for name in dict.fromkeys(data.source):
        figures[name] = {}
        for axis in AXES:
            keep = (source == name) & data.sure[axis]
            truth, said = data.second[axis][keep], predicted[axis][keep]
            if len(truth):
                figures[name][axis] = {
                    "n": len(truth),
                    "accuracy": float((truth == said).mean()),
                    "balanced_accuracy": balanced_accuracy(truth, said),
                }
    return figures


def _routed(
    data: LabelledTexts, predicted: dict[Axis, Bools], reviewed: Bools, n_samples: int
) -> RoutedFigures:
    free = ~reviewed

    def share(values: Bools) -> Interval:
        return mean_interval(values.astype(np.float64), n_samples)

    accuracy, by_class = {}, {}
    for axis, names in AXES.items():
        keep = free & data.sure[axis]
        right = data.second[axis] == predicted[axis]
        accuracy[axis] = share(right[keep])
        for name, is_class in zip(names, (False, True), strict=True):
            by_class[name] = share(right[keep & (predicted[axis] == is_class)])
    interactive = data.second["mode"] & data.sure["mode"]
    delegated = free & ~predicted["mode"]
    return RoutedFigures(share(free), accuracy, by_class, share(delegated[interactive]))
