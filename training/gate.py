"""Whether a candidate may take the place of the active model: paired comparisons on the same rows."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pandas as pd
import pyarrow as pa

from loopwise.model.batch import BatchScorer
from loopwise.model.labels import AXES, Axis
from loopwise.model.modelfile import ModelFile
from loopwise.training.calibration import confidence
from loopwise.training.metrics import Interval, bootstrap

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from loopwise.training.labels import Record
    from loopwise.training.userlabels import UserLabels

    Bools = NDArray[np.bool_]
    Floats = NDArray[np.float64]

#: A candidate may be worse than the active model by this much, at the lower end of the interval.
TOLERANCE: Final = 0.01
#: A model that is surer than this of the other class is contradicted by a label.
SURE: Final = 0.95
#: Labels of which more than this share contradict a sure model are not trusted unasked.
MAX_CONTRADICTED: Final = 0.30
_BLOCK: Final = 8192


@dataclass(frozen=True)
class Flip:
    """A text on which two models differ."""

    text: str
    truth: str
    old: str
    new: str

    @property
    def fixed(self) -> bool:
        """Whether the new model is the right one."""
        return self.new == self.truth


@dataclass(frozen=True)
class Comparison:
    """Two models on the same held-out rows, on one axis.

    Attributes
    ----------
    n : int
        Number of rows.
    old, new : float
        Accuracy of each.
    difference : Interval
        `new` minus `old`, with the interval of a bootstrap over whole groups of rows.
    flips : list of Flip
        Where they differ.
    """

    n: int
    old: float
    new: float
    difference: Interval
    flips: list[Flip] = field(repr=False)

    @property
    def fixed(self) -> int:
        """How many rows only the new model has right."""
        return sum(flip.fixed for flip in self.flips)

    @property
    def broken(self) -> int:
        """How many rows only the old model has right."""
        return len(self.flips) - self.fixed

    def to_dict(self) -> dict[str, Any]:
        """Return the figures as plain data, without the texts."""
        figures = {"n": self.n, "old": self.old, "new": self.new, "difference": list(self.difference)}
        return figures | {"fixed": self.fixed, "broken": self.broken}


def compare(
    axis: Axis, texts: Sequence[str], truth: Bools, old: Bools, new: Bools, groups: Iterable[Any]
) -> Comparison:
    """Compare two models' answers on the same rows.

    Parameters
    ----------
    axis : str
    texts : sequence of str
    truth, old, new : ndarray of bool
        Whether the right answer, and that of each model, is the second class.
    groups : iterable
        Rows of equal value are drawn together: they are variants of each other.
    """
    names = AXES[axis]
    change = (new == truth).astype(np.float64) - (old == truth)
    frame = pd.DataFrame({"change": change, "group": list(groups)})
    by_group = frame.groupby("group", sort=False)["change"].agg(["sum", "size"]).to_numpy(dtype=np.float64)

    def mean_change(drawn: NDArray[np.int64]) -> float:
        total, n = by_group[drawn].sum(axis=0)
        return float(total / n)

    flips = [
        Flip(texts[i], names[int(truth[i])], names[int(old[i])], names[int(new[i])])
        for i in np.flatnonzero(old != new).tolist()
    ]
    was, now = (float((said == truth).mean()) if len(truth) else float("nan") for said in (old, new))
    return Comparison(len(truth), was, now, bootstrap(mean_change, len(by_group)), flips)


def log_odds(model: ModelFile, texts: Sequence[str]) -> dict[Axis, Floats]:
    """Return the calibrated log-odds toward the second class under equal priors, by axis."""
    scorer = BatchScorer(model)
    blocks = [
        scorer.score(pa.array(texts[start : start + _BLOCK], pa.string()))
        for start in range(0, max(len(texts), 1), _BLOCK)
    ]
    return {axis: np.concatenate([getattr(block, axis) for block in blocks]) for axis in AXES}


@dataclass(frozen=True)
class Contradiction:
    """A label that a model is sure is wrong.

    Attributes
    ----------
    text : str
    axis : str
    said, model_says : str
        The answer of the label, and that of the model.
    confidence : float
    records : list of Record
        What the label rests on.
    """

    text: str
    axis: Axis
    said: str
    model_says: str
    confidence: float
    records: list[Record] = field(repr=False)


@dataclass(frozen=True)
class Contradictions:
    """The labels that contradict a sure model, the surest first.

    Attributes
    ----------
    found : list of Contradiction
    n_tasks, n_contradicted : int
        Labelled tasks, and how many of them are contradicted on one axis or both.
    """

    found: list[Contradiction]
    n_tasks: int
    n_contradicted: int

    @property
    def too_many(self) -> bool:
        """Whether they are so many that somebody should say that the labels are right."""
        return self.n_contradicted > MAX_CONTRADICTED * self.n_tasks

    def __str__(self) -> str:
        return f"{self.n_contradicted} of {self.n_tasks} labels contradict a model that is sure"


def contradictions(model: ModelFile, labels: UserLabels) -> Contradictions:
    """Return the labels of which `model` is sure, at `SURE` or above, that they are wrong."""
    found = []
    scores = log_odds(model, labels.texts)
    for axis, names in AXES.items():
        second, conf = confidence(scores[axis], float(model.fields["prior"][axis]))
        said = labels.second[axis]
        for i in np.flatnonzero(~np.isnan(said) & (second != (said == 1)) & (conf >= SURE)):
            label = labels.tasks[i]
            model_says = names[int(second[i])]
            answer = str(label.answer(axis))
            found.append(Contradiction(label.text, axis, answer, model_says, float(conf[i]), label.records))
    found.sort(key=lambda c: -c.confidence)
    return Contradictions(found, len(labels.tasks), len({c.text for c in found}))


def objections(
    on_test: Mapping[Axis, Comparison], on_own: Mapping[Axis, Comparison], doubtful: Contradictions
) -> list[str]:
    """Return what speaks against promoting a candidate; nothing if the gate is open.

    Parameters
    ----------
    on_test : mapping of axis to Comparison
        On the corpus's test groups: the lower bound must be no worse than ``-TOLERANCE`` on each axis.
    on_own : mapping of axis to Comparison
        On the user's labels, held out: together they must not get worse, nor surely so on one axis.
        One label more or less on one axis is chance; it may not outweigh a gain on the other.
    doubtful : Contradictions
    """
    found = []
    if doubtful.too_many:
        found.append(f"{doubtful}, more than {MAX_CONTRADICTED:.0%}")
    for axis, compared in on_test.items():
        if compared.difference.low < -TOLERANCE:
            found.append(
                f"{axis} may be worse by more than {TOLERANCE:.0%} on the test rows "
                f"({_signed(compared.difference)})"
            )
    for axis, compared in on_own.items():
        if compared.difference.high < 0:
            found.append(f"{axis} is worse on your own labels ({_signed(compared.difference)})")
    fixed = sum(compared.fixed for compared in on_own.values())
    broken = sum(compared.broken for compared in on_own.values())
    if broken > fixed:
        found.append(f"your own labels get worse: {broken} answers broken, {fixed} fixed")
    return found


def _signed(interval: Interval) -> str:
    return f"{interval.value:+.3f} [{interval.low:+.3f}, {interval.high:+.3f}]"
