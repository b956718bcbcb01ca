"""Whether a batch of tasks is still like what the model was made for, and what to do if not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pyarrow as pa

from loopwise.model.batch import BatchScorer
from loopwise.model.labels import AXES
from loopwise.model.modelfile import ModelFile
from loopwise.training.calibration import confidence
from loopwise.training.gate import log_odds

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from loopwise.training.userlabels import UserLabels

    Floats = NDArray[np.float64]

#: Population stability index from which a distribution counts as moved, and as drifted (Siddiqi, 2006,
#: "Credit risk scorecards"), above what chance alone makes of it.
MOVED: Final = 0.10
DRIFTED: Final = 0.25
#: The same for the share of unknown words, in addition to that of the reference.
UNKNOWN_MOVED: Final = 0.05
UNKNOWN_DRIFTED: Final = 0.10
#: Fewer texts than this tell nothing.
MIN_TEXTS: Final = 50
#: From so many labels that the model was not trained on, it is worth while to train again.
MANY_LABELS: Final = 30
_BINS: Final = 10
_BLOCK: Final = 8192
_VERDICTS: Final = ("steady", "moved", "drifted")


@dataclass(frozen=True)
class DriftFigure:
    """One property of the texts, in the reference and in the batch.

    Attributes
    ----------
    name : str
    reference, batch : float
        A share or a mean.
    psi : float or None
        Population stability index of the distribution behind it.
    verdict : str
        ``"steady"``, ``"moved"``, ``"drifted"``, ``"too few texts"`` or ``"not judged"``.
    """

    name: str
    reference: float
    batch: float
    psi: float | None
    verdict: str


@dataclass(frozen=True)
class DriftReport:
    """How a batch compares with a reference.

    Attributes
    ----------
    n_reference, n_batch : int
        Texts.
    figures : list of DriftFigure
    n_labels : int
        The user's labels that the model was not trained on.
    accuracy : dict of axis to float
        How often the model is right on those.
    advice : list of str
        What to do; empty if nothing.
    """

    n_reference: int
    n_batch: int
    figures: list[DriftFigure]
    n_labels: int
    accuracy: dict[str, float]
    advice: list[str]

    @property
    def drifted(self) -> bool:
        """Whether anything has drifted."""
        return any(figure.verdict == "drifted" for figure in self.figures)

    def to_dict(self) -> dict[str, Any]:
        """Return plain data for JSON."""
        return asdict(self) | {"drifted": self.drifted}


def population_stability_index(expected: Floats, actual: Floats) -> float:
    """Return the population stability index of two histograms over the same bins.

    It is the sum over the bins of the difference of the shares times the log of their ratio; half a text
    is added to each bin, so that empty ones count.
    """
    p, q = ((counts + 0.5) / (counts + 0.5).sum() for counts in (expected, actual))
    return float(((q - p) * np.log(q / p)).sum())


def monitor(
    texts: Sequence[str],
    model: ModelFile,
    reference: Sequence[str],
    *,
    is_backlog: bool = False,
    labels: UserLabels | None = None,
) -> DriftReport:
    """Compare a batch of texts with a reference.

    Parameters
    ----------
    texts : sequence of str
    model : ModelFile
    reference : sequence of str
        What the model is good at: test rows of its corpus, or an earlier batch.
    is_backlog : bool
        Whether the reference is an earlier batch. The corpus holds as many tasks of each kind on purpose,
        so that a backlog's balance of classes is no drift from it.
    labels : UserLabels, optional
        Labels, of which those count that the model was not trained on.
    """
    old, new = (_Profile.of(part, model) for part in (reference, texts))
    figures = [_unknown_figure(old, new)]
    for axis, names in AXES.items():
        edges = np.unique(np.quantile(old.confidence[axis], np.linspace(0, 1, _BINS + 1)[1:-1]))
        histograms = [_histogram(profile.confidence[axis], edges) for profile in (old, new)]
        before, now = (float(profile.confidence[axis].mean()) for profile in (old, new))
        figures.append(_figure(f"{axis}: mean confidence", before, now, histograms))
        before, now = (float((~profile.second[axis]).mean()) for profile in (old, new))
        balance = [np.bincount(profile.second[axis], minlength=2) for profile in (old, new)]
        figure = _figure(f"{axis}: share of {names[0]}", before, now, balance)
        figures.append(figure if is_backlog else replace(figure, verdict="not judged"))
    n_labels, accuracy = _on_new_labels(model, labels)
    return DriftReport(
        len(reference), len(texts), figures, n_labels, accuracy, _advice(figures, len(texts), n_labels)
    )


@dataclass(frozen=True)
class _Profile:
    n_texts: int
    unknown: float
    confidence: dict[str, Floats]
    second: dict[str, NDArray[np.bool_]]

    @classmethod
    def of(cls, texts: Sequence[str], model: ModelFile) -> _Profile:
        scorer = BatchScorer(model)
        n_words = n_known = 0
        for start in range(0, len(texts), _BLOCK):
            block = scorer.score(pa.array(texts[start : start + _BLOCK], pa.string()))
            n_words, n_known = n_words + int(block.n_words.sum()), n_known + int(block.n_known.sum())
        scores = log_odds(model, texts)
        second, sure = {}, {}
        for axis in AXES:
            # Under equal priors: another prior is another opinion, not another batch.
            second[str(axis)], sure[str(axis)] = confidence(scores[axis], 0.5)
        return cls(len(texts), 1 - n_known / n_words if n_words else 0.0, sure, second)


def _histogram(values: Floats, edges: Floats) -> NDArray[np.int64]:
    return np.bincount(np.searchsorted(edges, values), minlength=len(edges) + 1)


def _figure(name: str, before: float, now: float, histograms: list[NDArray[np.int64]]) -> DriftFigure:
    expected, actual = (h.astype(np.float64) for h in histograms)
    psi = population_stability_index(expected, actual)
    # What two samples of the same population differ by: a chi-square over the two sizes.
    chance = (len(expected) - 1) * (1 / max(expected.sum(), 1) + 1 / max(actual.sum(), 1))
    over = psi - chance
    return DriftFigure(name, before, now, psi, _verdict(over, MOVED, DRIFTED, actual.sum()))


def _unknown_figure(old: _Profile, new: _Profile) -> DriftFigure:
    verdict = _verdict(new.unknown - old.unknown, UNKNOWN_MOVED, UNKNOWN_DRIFTED, new.n_texts)
    return DriftFigure("unknown words", old.unknown, new.unknown, None, verdict)


def _verdict(over: float, moved: float, drifted: float, n_texts: float) -> str:
    if n_texts < MIN_TEXTS:
        return "too few texts"
    return _VERDICTS[int(over > moved) + int(over > drifted)]


def _on_new_labels(model: ModelFile, labels: UserLabels | None) -> tuple[int, dict[str, float]]:
    """Return how many labels the model was not trained on, and how often it is right on them."""
    if labels is None:
        return 0, {}
    trained_on = set(model.lineage().get("held_out", {}))
    fresh = [i for i, key in enumerate(labels.keys) if key not in trained_on]
    scores = log_odds(model, [labels.texts[i] for i in fresh])
    accuracy = {}
    for axis in AXES:
        truth = labels.second[axis][fresh]
        known = ~np.isnan(truth)
        if known.any():
            accuracy[str(axis)] = float(((scores[axis] > 0) == (truth == 1))[known].mean())
    return len(fresh), accuracy


def _advice(figures: list[DriftFigure], n_texts: int, n_labels: int) -> list[str]:
    if n_texts < MIN_TEXTS:
        return [f"{n_texts} texts are too few to tell; bring {MIN_TEXTS} or more"]
    unknown, *others = figures
    advice = []
    if unknown.verdict != "steady":
        advice.append("many words are unknown; tell the model about them: loopwise label BACKLOG --words")
    less_sure = any(
        f.verdict == "drifted" and f.batch < f.reference for f in others if "confidence" in f.name
    )
    balance = any(f.verdict == "drifted" for f in others if "share" in f.name)
    if less_sure or balance:
        why = "the model is less sure than it was" if less_sure else "the mixture of tasks is another"
        advice.append(f"{why}; label some of these tasks: loopwise label BACKLOG")
    if n_labels >= MANY_LABELS:
        advice.append(f"{n_labels} labels are not trained on yet: loopwise train")
    return advice
