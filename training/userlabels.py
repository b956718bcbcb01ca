"""A user's labels on their way into training: what stands, as rows and words with a weight."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import numpy as np
import pandas as pd
from joblib import Parallel, delayed

from loopwise.errors import InputError
from loopwise.model.features import tokenize
from loopwise.model.labels import AXES, Axis
from loopwise.training.corpus import Corpus
from loopwise.training.fit import ExtraRows, Recipe, fit, folds_by
from loopwise.training.labelfiles import labelled_rows, parse_label
from loopwise.training.labels import Label, LabelLog, Record

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

#: What a label of the user weighs next to a natural row of the corpus. With an earlier corpus, fifty
#: labels of an unseen trade lifted loop and mode on its other tasks from .835 and .942 to .864 and .942 with
#: weight 1, .883 and .951 with 2, .893 and .961 with 4, .893 and .981 with 8, and cost nothing on the
#: corpus. A weight that is much larger learns wrong labels as eagerly.
DEFAULT_WEIGHT: Final = 8.0
#: A word speaks for every task that holds it, and weighs this much more. With 4, ten words of that trade
#: did for the loop what fifty of its tasks do (see docs/retrain.md).
WORD_FACTOR: Final = 4.0
#: The user's labels are held out in this many parts.
N_PARTS: Final = 5

#: What `train` takes as labels: a frame or rows with text, loop and mode, a file of them, or records.
LabelSource: TypeAlias = "pd.DataFrame | Path | str | Sequence[Record] | Sequence[Mapping[str, Any]]"


@dataclass(frozen=True)
class UserLabels:
    """What stands about tasks and words.

    Attributes
    ----------
    tasks, words : list of Label
    """

    tasks: list[Label]
    words: list[Label]

    @classmethod
    def of(cls, log: LabelLog, more: Sequence[Record] = ()) -> UserLabels:
        """Return what stands in a label file, with the answers of `more` above them."""
        above = LabelLog(list(more), [])
        return cls(
            _overlaid(log.labels("task"), above.labels("task")),
            _overlaid(log.labels("word"), above.labels("word")),
        )

    @cached_property
    def texts(self) -> list[str]:
        """The labelled tasks."""
        return [label.text for label in self.tasks]

    @cached_property
    def keys(self) -> list[str]:
        """What identifies each labelled task."""
        return [label.key for label in self.tasks]

    @cached_property
    def second(self) -> dict[Axis, Floats]:
        """For each axis and task 1 for the second class, 0 for the first, NaN for no answer."""
        values: dict[Axis, Floats] = {}
        for axis, names in AXES.items():
            code = {names[0]: 0.0, names[1]: 1.0, None: np.nan}
            values[axis] = np.array([code[label.answer(axis)] for label in self.tasks], dtype=np.float64)
        return values

    @cached_property
    def groups(self) -> list[str]:
        """For each task its words, by which tasks that differ in case, digits or signs go together."""
        return [" ".join(tokenize(text)) for text in self.texts]

    def tasks_as_rows(self) -> list[dict[str, Any]]:
        """Return the labelled tasks as `train` takes them: text, loop, mode."""
        return [{"text": label.text, "loop": label.loop, "mode": label.mode} for label in self.tasks]

    @property
    def fingerprint(self) -> str:
        """A SHA-256 over all labels, whatever their order."""
        lines = sorted(f"{label.key} {label.loop} {label.mode}" for label in self.tasks + self.words)
        return hashlib.sha256("\n".join(lines).encode()).hexdigest()

    def extra(self, weight: float, rows: Sequence[int] | None = None) -> ExtraRows | None:
        """Return the labels as `fit` takes them: the tasks with the indices `rows`, or all; all words."""
        chosen = list(range(len(self.tasks)) if rows is None else rows)
        if not chosen and not self.words:
            return None
        words = pd.DataFrame(
            [(label.text, label.loop, label.mode) for label in self.words],
            columns=["phrase", "loop", "mode"],
        ).astype({"loop": "float64", "mode": "float64"})
        second = {axis: values[chosen] for axis, values in self.second.items()}
        texts = [self.texts[i] for i in chosen]
        return ExtraRows(texts, second, weight, words if len(words) else None, WORD_FACTOR * weight)

    def parts(self, n_parts: int = N_PARTS, seed: int = 0) -> list[NDArray[np.int64]]:
        """Return the indices of the tasks in parts to be held out; fewer than two if there is too little."""
        n_groups = len(set(self.groups))
        if n_groups < 2:
            return []
        return folds_by(self.groups, min(n_parts, n_groups), seed)


def _overlaid(below: list[Label], above: list[Label]) -> list[Label]:
    merged = {label.key: label for label in below}
    for label in above:
        before = merged.get(label.key)
        loop, mode = (
            before.answer(axis) if before and label.answer(axis) is None else label.answer(axis)
            for axis in AXES
        )
        merged[label.key] = Label(label.text, loop, mode, label.records)
    return list(merged.values())


def records_from(labels: LabelSource) -> list[Record]:
    """Return labels given in any of the forms of `LabelSource`.

    Raises
    ------
    UsageError, InputError
        If there is no such file or column, or an answer is unknown; the message names the row.
    """
    if isinstance(labels, str | Path):
        from loopwise.service.backlog_texts import read_texts

        table = read_texts(str(labels))
        records, refused = labelled_rows(table, "this run")
        if refused:
            raise InputError(f"{labels}: line {refused[0][0]}: {refused[0][1]}")
        return records
    rows: Sequence[Any] = labels.to_dict("records") if isinstance(labels, pd.DataFrame) else labels
    return [row if isinstance(row, Record) else _record(n, row) for n, row in enumerate(rows)]


def _record(number: int, row: Mapping[Any, Any]) -> Record:
    text = row.get("text")
    if not isinstance(text, str) or not text.strip():
        raise InputError(f"labels: row {number} has no text; needed are text, and loop, mode or both")
    said: dict[str, Any] = {}
    for axis in AXES:
        value = row.get(axis)
        try:
            said[axis] = None if value is None or value != value else parse_label(axis, str(value))
        except ValueError as error:
            raise InputError(f"labels: row {number}: {error}") from None
    return Record(text, who="this run", **said)


def held_out_scores(
    corpus: Corpus,
    recipe: Recipe,
    labels: UserLabels,
    weight: float,
    *,
    n_jobs: int = 2,
    on_part: Callable[[], None] = lambda: None,
) -> dict[Axis, Floats]:
    """Return the raw score of every labelled task by a model that was not shown its answer.

    Parameters
    ----------
    corpus : Corpus
        What is trained on besides the labels; all of its rows.
    recipe : Recipe
    labels : UserLabels
    weight : float
    n_jobs : int
        Processes.
    on_part : callable
        Called after each of at most `N_PARTS` parts.

    Returns
    -------
    dict of axis to ndarray
        NaN for all if there are too few labels.
    """
    scores = {axis: np.full(len(labels.tasks), np.nan) for axis in AXES}
    parts = labels.parts(seed=recipe.seed)
    jobs = (delayed(score_part)(corpus, recipe, labels, weight, part) for part in parts)
    for part, found in zip(parts, Parallel(n_jobs=n_jobs, return_as="generator")(jobs), strict=True):
        for axis in AXES:
            scores[axis][part] = found[axis]
        on_part()
    return scores


def score_part(
    corpus: Corpus,
    recipe: Recipe,
    labels: UserLabels,
    weight: float,
    held_out: NDArray[np.int64],
    shown: Sequence[int] | None = None,
) -> dict[str, Floats]:
    """Return the scores of the tasks `held_out` by a model of the tasks `shown`, or of all others."""
    if shown is None:
        shown = sorted(set(range(len(labels.tasks))).difference(held_out.tolist()))
    extra = labels.extra(weight, shown)
    fitted = fit(corpus, recipe, heads=tuple(AXES), extra=extra)
    return fitted.decision_function([labels.texts[i] for i in held_out])
