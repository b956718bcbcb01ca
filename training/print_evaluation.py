"""Print figures for people."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
from rich.console import Console
from rich.table import Table
from rich.text import Text

from loopwise.model.labels import AXES, Axis

if TYPE_CHECKING:
    from loopwise.training.evaluate import Evaluation, LabelledTexts
    from loopwise.training.metrics import AxisFigures


def _console() -> Console:
    return Console(highlight=False, soft_wrap=True)


def print_evaluation(evaluation: Evaluation) -> None:
    """Print the figures of an evaluation as tables."""
    console = _console()
    console.print(axes_table(evaluation.axes))
    console.print(_classes_table(evaluation))
    for axis, figures in evaluation.axes.items():
        first, second = AXES[axis]
        (a, b), (c, d) = figures.confusion
        console.print(
            f"{axis}: {first} said {first} {a}, {second} {b}; {second} said {first} {c}, {second} {d}"
        )
    if evaluation.sources:
        table = Table("source", "n", "loop", "mode", "mode balanced", box=None, title="by source")
        for name, by_axis in evaluation.sources.items():
            loop, mode = by_axis.get("loop"), by_axis.get("mode")
            table.add_row(
                Text(name),
                str(max(f["n"] for f in by_axis.values())) if by_axis else "0",
                f"{loop['accuracy']:.3f}" if loop else "",
                f"{mode['accuracy']:.3f}" if mode else "",
                f"{mode['balanced_accuracy']:.3f}" if mode else "",
            )
        console.print(table)
    routed = evaluation.routed
    console.print(f"routed without review: {routed.share_routed}")
    for axis, figure in routed.accuracy.items():
        first, second = AXES[axis]
        console.print(
            f"  right on {axis}: {figure}  ({first} {routed.by_class[first]}, "
            f"{second} {routed.by_class[second]})"
        )
    console.print(f"unsafe delegation (interactive tasks delegated unseen): {routed.unsafe_delegation}")
    console.print(f"unknown words: {evaluation.unknown_words:.1%}")


def axes_table(axes: Mapping[Axis, AxisFigures]) -> Table:
    """Return the figures of each axis as a table."""
    table = Table("axis", "n", "accuracy", "balanced", "macro-F1", "calibration error", box=None)
    for axis, f in axes.items():
        figures = (f.accuracy, f.balanced_accuracy, f.macro_f1, f.calibration_error)
        table.add_row(axis, str(f.n), *map(str, figures))
    return table


def _classes_table(evaluation: Evaluation) -> Table:
    columns = ("class", "true", "said", "precision", "recall", "mean confidence", "calibration error")
    table = Table(*columns, box=None)
    for figures in evaluation.axes.values():
        for name, c in figures.classes.items():
            numbers = (c.precision, c.recall, c.mean_confidence, c.calibration_error)
            table.add_row(name, str(c.n_true), str(c.n_predicted), *(f"{n:.3f}" for n in numbers))
    return table


def print_errors(evaluation: Evaluation, data: LabelledTexts, n: int) -> None:
    """Print the `n` errors that the model was surest of."""
    console = _console()
    predictions = evaluation.predictions
    for axis, names in AXES.items():
        said = (predictions[axis] == names[1]).to_numpy()
        wrong = np.flatnonzero((said != data.second[axis]) & data.sure[axis])
        conf = predictions[f"{axis}_confidence"].astype(float).to_numpy()
        for at in wrong[np.argsort(-conf[wrong])][:n]:
            right = names[int(data.second[axis][at])]
            features = predictions["top_features"].iloc[at]
            verdict = f"{axis}: {conf[at]:.2f} {names[int(said[at])]}, is {right}"
            line = f"{verdict}: {data.texts[at][:160]!r}  [{features}]"
            console.print(Text(line))
