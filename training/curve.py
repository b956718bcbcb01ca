"""How accuracy on a user's tasks grows with their labels, and what the next fifty may buy."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from math import log2
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from joblib import Parallel, delayed

from loopwise.errors import LoopwiseError, MissingExtraError, UsageError
from loopwise.model.labels import AXES, Axis
from loopwise.model.store import Home
from loopwise.training.corpus import Corpus
from loopwise.training.fit import Recipe
from loopwise.training.labels import LabelStore
from loopwise.training.metrics import Interval, bootstrap
from loopwise.training.userlabels import DEFAULT_WEIGHT, LabelSource, UserLabels, records_from, score_part

if TYPE_CHECKING:
    from numpy.typing import NDArray

#: Labels are held out in this many parts, and the others shown in these shares.
N_CURVE_PARTS: Final = 3
SHARES: Final = (0.0, 0.25, 0.5, 1.0)
N_CURVE_STEPS: Final = N_CURVE_PARTS * len(SHARES)
#: Fewer labels than this make no curve.
MIN_LABELS: Final = 20
NEXT: Final = 50


@dataclass(frozen=True)
class CurvePoint:
    """Accuracy on held-out tasks of the user, after so many labels.

    Attributes
    ----------
    n_labels : int
    accuracy : dict of axis to Interval
    """

    n_labels: int
    accuracy: dict[Axis, Interval]


@dataclass(frozen=True)
class LearningCurve:
    """The points of a learning curve.

    Attributes
    ----------
    points : list of CurvePoint
        From none of the user's labels to two thirds of them.
    n_labels : int
        How many there are.
    """

    points: list[CurvePoint]
    n_labels: int

    def expected_gain(self, axis: Axis, more: int = NEXT) -> float:
        """Return what `more` labels may add to the accuracy, if each doubling adds what the last one did.

        A gain of labels is worth less the more there are; this is a straight line over the logarithm of
        their number, and never more than what is missing.
        """
        half, whole = self.points[-2:]
        slope = whole.accuracy[axis].value - half.accuracy[axis].value
        slope /= log2(whole.n_labels / half.n_labels)
        gain = slope * log2((self.n_labels + more) / self.n_labels)
        return float(min(max(gain, 0.0), 1 - whole.accuracy[axis].value))

    def to_dict(self) -> dict[str, Any]:
        """Return plain data for JSON."""
        return {
            "points": [asdict(point) for point in self.points],
            "n_labels": self.n_labels,
            "next": {"n_labels": NEXT, "gain": {axis: self.expected_gain(axis) for axis in AXES}},
        }


def learning_curve(
    labels: LabelSource | None = None,
    *,
    home: Path | str | None = None,
    corpus: Corpus | None = None,
    recipe: Recipe | None = None,
    weight: float = DEFAULT_WEIGHT,
    n_jobs: int = 2,
    on_step: Callable[[str], None] = lambda step: None,
) -> LearningCurve:
    """Train with growing parts of the labels, and measure each time on others.

    Parameters
    ----------
    labels, home, corpus, recipe, weight, n_jobs
        As in `loopwise.training.train`.
    on_step : callable
        Called with a few words after each of `N_CURVE_STEPS` trainings.

    Raises
    ------
    UsageError
        If there are fewer than `MIN_LABELS` labels.
    """
    place = Home.find(home)
    corpus, recipe = corpus or Corpus.shipped(), recipe or Recipe()
    own = UserLabels.of(LabelStore.of(place).read(), records_from(labels) if labels is not None else [])
    parts = own.parts(N_CURVE_PARTS, recipe.seed)
    if len(own.tasks) < MIN_LABELS or len(parts) < N_CURVE_PARTS:
        raise UsageError(
            f"{len(own.tasks)} labelled tasks make no curve; {MIN_LABELS} are needed. "
            "Label some: loopwise label BACKLOG"
        )
    rows = corpus.part(("train", "validation"))
    jobs = [(part, shown) for part in parts for shown in _shown(len(own.tasks), part, recipe.seed)]
    tasks = (delayed(score_part)(rows, recipe, own, weight, part, shown) for part, shown in jobs)
    scores = {axis: np.full((len(SHARES), len(own.tasks)), np.nan) for axis in AXES}
    results = Parallel(n_jobs=n_jobs, return_as="generator")(tasks)
    for number, ((part, _), found) in enumerate(zip(jobs, results, strict=True)):
        for axis in AXES:
            scores[axis][number % len(SHARES), part] = found[axis]
        on_step(f"{SHARES[number % len(SHARES)]:.0%} of the labels")
    lines = place.active_model().fields["axes"]
    points = []
    for level in range(len(SHARES)):
        n_shown = round(float(np.mean([len(shown) for _, shown in jobs[level :: len(SHARES)]])))
        accuracy: dict[Axis, Interval] = {}
        for axis, second in own.second.items():
            line = lines[axis]["calibration"]
            said = line["slope"] * scores[axis][level] + line["intercept"] > 0
            accuracy[axis] = _accuracy(said, second)
        points.append(CurvePoint(n_shown, accuracy))
    return LearningCurve(points, len(own.tasks))


def _shown(n_labels: int, held_out: NDArray[np.int64], seed: int) -> list[list[int]]:
    """Return for each of `SHARES` the labels that are shown: each is part of the next."""
    rest = np.setdiff1d(np.arange(n_labels), held_out)
    order = np.random.default_rng(seed).permutation(rest)
    return [sorted(order[: round(share * len(rest))].tolist()) for share in SHARES]


def _accuracy(said: NDArray[np.bool_], second: NDArray[np.float64]) -> Interval:
    known = ~np.isnan(second)
    right = (said == (second == 1))[known]
    return bootstrap(lambda rows: float(right[rows].mean()), len(right))


def print_curve(curve: LearningCurve) -> None:
    """Print a learning curve as a table with bars."""
    from rich.console import Console
    from rich.table import Table

    console = Console(highlight=False)
    console.print("accuracy on your other tasks")
    table = Table("labels", *AXES, box=None, padding=(0, 1))
    for point in curve.points:
        cells = [f"{_bar(point.accuracy[axis].value)} {point.accuracy[axis]}" for axis in AXES]
        table.add_row(str(point.n_labels), *cells)
    console.print(table)
    for axis in AXES:
        console.print(f"{axis}: the next {NEXT} labels may add {curve.expected_gain(axis):+.3f}")


def _bar(share: float, width: int = 10) -> str:
    full = round(share * width) if share == share else 0
    return "█" * full + "░" * (width - full)


def draw_curve(curve: LearningCurve, path: Path) -> None:
    """Draw a learning curve into a file, its kind by the ending.

    Raises
    ------
    MissingExtraError
        If matplotlib is not installed.
    LoopwiseError
        If the file cannot be written.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingExtraError(
            "drawing needs matplotlib; install it with: pip install 'loopwise[report]'"
        ) from error
    figure = Figure(figsize=(6.4, 4.0), layout="constrained")
    axes = figure.subplots()
    for axis in AXES:
        numbers = [point.n_labels for point in curve.points]
        values = [point.accuracy[axis] for point in curve.points]
        (line,) = axes.plot(numbers, [v.value for v in values], marker="o", label=axis)
        axes.fill_between(
            numbers, [v.low for v in values], [v.high for v in values], color=line.get_color(), alpha=0.15
        )
    axes.set(xlabel="labels of your own", ylabel="accuracy on your other tasks", ylim=(None, 1.0))
    axes.grid(alpha=0.3)
    axes.legend()
    try:
        figure.savefig(path)
    except (OSError, ValueError) as error:
        raise LoopwiseError(f"{path}: cannot be drawn ({error})") from error
