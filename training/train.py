"""Train a candidate, compare it with the active model on the same held-out rows, and promote it or not."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
import pyarrow as pa

from loopwise.model.batch import BatchScorer
from loopwise.model.labels import AXES, Axis
from loopwise.model.modelfile import ModelFile
from loopwise.model.store import Home
from loopwise.model.vectors import WordVectors
from loopwise.training.build import BuiltModel, build
from loopwise.training.card import model_card
from loopwise.training.corpus import Corpus
from loopwise.training.fit import Recipe
from loopwise.training.metrics import Interval, mean_interval

if TYPE_CHECKING:
    from numpy.typing import NDArray


#: A candidate may be worse than the active model by this much, at the lower end of the interval.
TOLERANCE: Final = 0.01


@dataclass(frozen=True)
class TrainReport:
    """What a training run made, and what became of it.

    Attributes
    ----------
    model_id : str
    folder : Path
        Where the candidate was written.
    built : BuiltModel
        The candidate and its figures.
    difference : dict of axis to Interval
        Accuracy of the candidate minus that of the active model, on the test rows, paired.
    promoted : bool
        Whether the candidate is the active model now.
    """

    model_id: str
    folder: Path
    built: BuiltModel
    difference: dict[Axis, Interval]
    promoted: bool

    @property
    def no_worse(self) -> bool:
        """Whether the candidate passes the gate on both axes."""
        return all(d.low >= -TOLERANCE for d in self.difference.values())


def train(
    *,
    home: Path | str | None = None,
    recipe: Recipe | None = None,
    promote: bool | None = None,
    n_jobs: int = 2,
    on_step: Callable[[str], None] = lambda step: None,
) -> TrainReport:
    """Train a candidate into a home and compare it with the active model.

    Parameters
    ----------
    home : path, optional
        See `Home.find`.
    recipe : Recipe, optional
    promote : bool, optional
        Make the candidate active: always, never, or by default only if it is no worse.
    n_jobs : int
        Processes.
    on_step : callable
        Called with a few words after each of `loopwise.training.build.N_STEPS` steps.
    """
    place = Home.find(home)
    corpus = Corpus.shipped()
    built = build(corpus, recipe or Recipe(), WordVectors.shipped(), n_jobs=n_jobs, on_step=on_step)
    model_id = place.new_model_id(datetime.now(UTC))
    partial = place.model_folder(model_id).with_name(f".{model_id}.partial")
    partial.parent.mkdir(parents=True, exist_ok=True)
    try:
        built.write(partial, model_card(built.fields))
        candidate = ModelFile.load(partial)
        test = corpus.part(("test",))
        old, new = correct_by_axis(place.active_model(), test), correct_by_axis(candidate, test)
        partial.replace(place.model_folder(model_id))
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    difference = {axis: paired_difference(new[axis], old[axis]) for axis in AXES}
    report = TrainReport(model_id, place.model_folder(model_id), built, difference, promoted=False)
    if promote or (promote is None and report.no_worse):
        place.activate(model_id)
        return TrainReport(model_id, report.folder, built, difference, promoted=True)
    return report


def correct_by_axis(model: ModelFile, corpus: Corpus) -> dict[Axis, NDArray[np.bool_]]:
    """Return for each sure row of `corpus` whether `model` labels it right, by axis."""
    score = BatchScorer(model)
    right = {}
    for axis in AXES:
        sure = corpus.is_sure(axis)
        texts = [text for text, keep in zip(corpus.texts, sure, strict=True) if keep]
        parts = [
            getattr(score.score(pa.array(texts[i : i + 8192], pa.string())), axis) > 0
            for i in range(0, len(texts), 8192)
        ]
        right[axis] = np.concatenate(parts) == corpus.is_second(axis)[sure]
    return right


def paired_difference(new: NDArray[np.bool_], old: NDArray[np.bool_]) -> Interval:
    """Return the difference of two accuracies on the same rows, with its bootstrap interval."""
    change = new.astype(np.float64) - old.astype(np.float64)
    return mean_interval(change)
