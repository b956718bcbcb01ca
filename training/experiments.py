"""Vary a recipe and measure it the hard way: the search behind the shipped model, and its ablations.

Every trial is scored on whole natural hands left out (rows that were written without thought of labels),
which behave more like strangers' texts than random folds do, and on a labelled file where one is given.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from joblib import Parallel, delayed

from loopwise.model.labels import AXES, Axis
from loopwise.training.calibration import calibrate
from loopwise.training.corpus import Corpus
from loopwise.training.evaluate import LabelledTexts
from loopwise.training.fit import Recipe, fit, folds_by, out_of_fold
from loopwise.training.metrics import Interval, balanced_accuracy, mean_interval

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Bools = NDArray[np.bool_]

#: The natural hands are left out in this many parts.
N_PARTS: Final = 3


@dataclass(frozen=True)
class Trial:
    """What one recipe measured.

    Attributes
    ----------
    name : str
    recipe : Recipe
    n_rows, n_words : int
        Rows and lexicon entries that it was fitted on.
    right : dict of (str, axis) to ndarray of bool
        Whether each row was labelled right, on ``"natural"`` (see `Corpus.is_natural`) and, where
        given, ``"file"``.
    truth : dict of (str, axis) to ndarray of bool
        The labels of the same rows.
    """

    name: str
    recipe: Recipe
    n_rows: int
    n_words: int
    right: dict[tuple[str, Axis], Bools]
    truth: dict[tuple[str, Axis], Bools]

    def balanced(self, kind: str, axis: Axis) -> float:
        """Return the balanced accuracy on one kind of held-out."""
        truth = self.truth[kind, axis]
        return balanced_accuracy(truth, truth == self.right[kind, axis])

    @property
    def score(self) -> float:
        """The mean balanced accuracy over both axes and all kinds of held-out: what a search maximises."""
        return float(np.mean([self.balanced(kind, axis) for kind, axis in self.truth]))

    def to_dict(self) -> dict[str, Any]:
        """Return plain data for a log."""
        figures = {
            f"{kind}_{axis}": {
                "accuracy": float(self.right[kind, axis].mean()),
                "balanced_accuracy": self.balanced(kind, axis),
            }
            for kind, axis in self.truth
        }
        about = {"name": self.name, "n_rows": self.n_rows, "n_words": self.n_words, "score": self.score}
        return about | {"figures": figures, "recipe": self.recipe.to_dict()}


def run_trial(
    name: str,
    recipe: Recipe,
    corpus: Corpus,
    labelled: LabelledTexts | None = None,
) -> Trial:
    """Measure one recipe on hands left out, and on a labelled file where one is given.

    Parameters
    ----------
    name : str
    recipe : Recipe
    corpus : Corpus
        Without its test rows.
    labelled : LabelledTexts, optional
    """
    # Everything else is always trained on: natural hands alone are left out.
    natural = np.flatnonzero(corpus.is_natural)
    by_hand = folds_by(list(corpus.rows["hand"].iloc[natural]), N_PARTS, recipe.seed)
    folds = [natural[part] for part in by_hand]
    scores = out_of_fold(corpus, recipe, folds, n_jobs=1)
    right: dict[tuple[str, Axis], Bools] = {}
    truth: dict[tuple[str, Axis], Bools] = {}
    lines = {}
    for axis in AXES:
        sure = corpus.is_sure(axis) & corpus.is_natural
        truth["natural", axis] = corpus.is_second(axis)[sure]
        lines[axis] = calibrate(scores[axis][sure], truth["natural", axis])
        right["natural", axis] = (lines[axis].apply(scores[axis][sure]) > 0) == truth["natural", axis]
    if labelled is not None:
        fitted = fit(corpus, recipe, heads=("loop", "mode"))
        decided = fitted.decision_function(labelled.texts)
        for axis in AXES:
            sure = labelled.sure[axis]
            truth["file", axis] = labelled.second[axis][sure]
            right["file", axis] = (lines[axis].apply(decided[axis][sure]) > 0) == truth["file", axis]
    return Trial(name, recipe, len(corpus.rows), len(corpus.lexicon), right, truth)


def search_space(base: Recipe) -> list[tuple[str, Recipe]]:
    """Return the recipes that a search tries: the base, and each setting varied by itself."""
    features: dict[str, Sequence[Any]] = {
        "pair_scale": (0.5, 1.4),
        "subword_scale": (0.0, 0.6),
        "cue_scale": (0.0, 2.0),
        "min_df_pair": (3,),
    }
    trials = [("base", base)]
    trials += [
        (f"{name}={value}", replace(base, vectorizer=base.vectorizer | {name: value}))
        for name, values in features.items()
        for value in values
    ]
    trials += [
        (f"C_{axis}={C:g}", replace(base, C=base.C | {axis: C}))
        for axis, C in product(AXES, (1.0, 3.0, 10.0, 40.0))
        if base.C[axis] != C
    ]
    trials += [
        (f"lexicon_weight_{axis}={w:g}", replace(base, lexicon_weight=base.lexicon_weight | {axis: w}))
        for axis, w in product(AXES, (0.5, 1.0, 2.0, 4.0, 8.0))
        if w != base.lexicon_weight[axis]
    ]
    trials += [
        (f"natural_weight_{axis}={w:g}", replace(base, natural_weight=base.natural_weight | {axis: w}))
        for axis, w in product(AXES, (1.0, 3.0, 10.0))
        if w != base.natural_weight[axis]
    ]
    trials += [(f"grade_weight={w:g}", replace(base, grade_weight=w)) for w in (0.0, 0.3, 0.9)]
    trials += [(f"neutral_weight={w:g}", replace(base, neutral_weight=w)) for w in (0.0, 2.0)]
    trials += [
        (f"vectors for {' and '.join(heads)}", replace(base, vector_heads=heads))
        for heads in (("loop",), ("loop", "mode"))
    ]
    trials.append(("classes as they are", replace(base, balanced=False)))
    return trials


def ablation_space(base: Recipe, corpus: Corpus) -> Iterator[tuple[str, Recipe, Corpus]]:
    """Yield the rows of the ablation table: each lever by itself, then fewer rows, then fewer words."""
    yield "rows only", replace(base, use_lexicon=False), corpus
    yield "rows + words", base, corpus
    yield "rows + vectors (loop)", replace(base, use_lexicon=False, vector_heads=("loop",)), corpus
    yield "rows + words + vectors (loop)", replace(base, vector_heads=("loop",)), corpus
    yield "rows + words + vectors (both)", replace(base, vector_heads=("loop", "mode")), corpus
    yield "without neutral words", replace(base, neutral_weight=0.0), corpus
    yield "without grades of the mode", replace(base, grade_weight=0.0), corpus
    rng = np.random.default_rng(base.seed)
    row_order = rng.permutation(len(corpus.rows))
    word_order = rng.permutation(len(corpus.lexicon))
    for share in (0.5, 0.25, 0.1, 0.02):
        rows = corpus.rows.iloc[np.sort(row_order[: int(share * len(row_order))])].reset_index(drop=True)
        yield f"{share:.0%} of the rows", base, replace(corpus, rows=rows)
    for share in (0.5, 0.25, 0.1):
        lexicon = corpus.lexicon.iloc[np.sort(word_order[: int(share * len(word_order))])]
        yield f"{share:.0%} of the words", base, replace(corpus, lexicon=lexicon.reset_index(drop=True))


def run_trials(
    trials: Iterable[tuple[str, Recipe, Corpus]],
    labelled: LabelledTexts | None,
    log: Path,
    *,
    n_jobs: int = 2,
    on_trial: Callable[[Trial], None] = lambda trial: None,
) -> list[Trial]:
    """Run trials in parallel and write each to `log`, one JSON object a line, as soon as it is done."""
    jobs = (delayed(run_trial)(name, recipe, corpus, labelled) for name, recipe, corpus in trials)
    done = []
    with log.open("w", encoding="utf-8") as file:
        for trial in Parallel(n_jobs=n_jobs, return_as="generator")(jobs):
            file.write(json.dumps(trial.to_dict()) + "\n")
            file.flush()
            done.append(trial)
            on_trial(trial)
    return done


def compare(best: Trial, other: Trial) -> dict[tuple[str, Axis], Interval]:
    """Return the paired, class-balanced difference in accuracy of two trials on the same rows."""
    differences = {}
    for key, truth in best.truth.items():
        change = best.right[key].astype(float) - other.right[key].astype(float)
        second = max(float(truth.mean()), 1e-9)
        weighted = change * np.where(truth, 0.5 / second, 0.5 / (1 - second))
        differences[key] = mean_interval(weighted)
    return differences


@dataclass(frozen=True)
class Search:
    """What a search for a better recipe found.

    Attributes
    ----------
    trials : list of Trial
        Best score first; the base is among them.
    base : Trial
        The recipe that would be used without a search.
    chosen : Trial
        The best trial if it beats the base for certain (see `beats`), otherwise the base.
    """

    trials: list[Trial]
    base: Trial
    chosen: Trial

    @classmethod
    def of(cls, trials: Sequence[Trial]) -> Search:
        """Rank trials, of which the first is the base, and choose."""
        ranked = sorted(trials, key=lambda trial: -trial.score)
        best = ranked[0]
        return cls(ranked, trials[0], best if beats(best, trials[0]) else trials[0])

    @property
    def runner_up(self) -> Trial:
        """The best trial besides the chosen one."""
        return next(trial for trial in self.trials if trial is not self.chosen)


def beats(trial: Trial, other: Trial) -> bool:
    """Return whether a trial is better than another somewhere, and worse nowhere, for certain.

    Certain means that the 95 % interval of the paired difference lies on one side of zero.
    """
    differences = compare(trial, other).values()
    return any(d.low > 0 for d in differences) and not any(d.high < 0 for d in differences)


def search(
    corpus: Corpus,
    labelled: LabelledTexts | None,
    log: Path,
    *,
    space: Sequence[tuple[str, Recipe]] | None = None,
    n_jobs: int = 2,
    on_trial: Callable[[Trial], None] = lambda trial: None,
) -> Search:
    """Try every recipe of a space on held-out hands, and choose one.

    Parameters
    ----------
    corpus : Corpus
        Its test rows take no part.
    labelled : LabelledTexts, optional
        Tasks from outside, measured on as well.
    log : Path
        Where each trial is written, one JSON object a line.
    space : sequence of (name, Recipe), optional
        The base first; `search_space` of the usual recipe unless given.
    n_jobs : int
        Processes.
    on_trial : callable
        Called with each trial when it is done.
    """
    rows = corpus.part(("train", "validation"))
    recipes = search_space(Recipe()) if space is None else space
    trials = ((name, recipe, rows) for name, recipe in recipes)
    return Search.of(run_trials(trials, labelled, log, n_jobs=n_jobs, on_trial=on_trial))


def trial_table(trials: Sequence[Trial]) -> str:
    """Return trials as a Markdown table of balanced accuracies."""
    keys = list(trials[0].truth)
    head = ["", "rows", "words", *(f"{axis}, {kind}" for kind, axis in keys)]
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for trial in trials:
        figures = [f"{trial.balanced(kind, axis):.3f}" for kind, axis in keys]
        words = trial.n_words if trial.recipe.use_lexicon else 0
        lines.append("| " + " | ".join([trial.name, str(trial.n_rows), str(words), *figures]) + " |")
    return "\n".join(lines)


def search_report(found: Search) -> str:
    """Return what a search found as Markdown: the choice, the runner-up and the margin, all trials."""
    lines = [trial_table(found.trials), "", f"Chosen: {found.chosen.name}."]
    if found.chosen is found.base:
        lines.append("No other recipe is better somewhere and worse nowhere for certain.")
    lines.append(f"Runner-up: {found.runner_up.name}. Balanced accuracy of the chosen minus that:")
    for (kind, axis), difference in compare(found.chosen, found.runner_up).items():
        value, low, high = difference
        lines.append(f"- {axis}, {kind}: {value:+.4f} [{low:+.4f}, {high:+.4f}]")
    return "\n".join(lines)
