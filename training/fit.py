"""Fit the two questions: one vectorizer, one logistic regression an axis, on rows and labelled words."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pandas as pd
from joblib import Parallel, delayed
from scipy.special import expit
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GroupKFold

from loopwise.model.features import tokenize
from loopwise.model.labels import AXES, Axis
from loopwise.model.vectorizer import FactoredFeatures, TaskVectorizer
from loopwise.model.vectors import WordVectors
from loopwise.training.corpus import Corpus
from loopwise.training.logistic import fit_logistic

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

#: The heads of a model in the order of the model file.
HEADS: Final = ("loop", "mode", "scope")


@dataclass(frozen=True)
class Recipe:
    """Everything about training that can be varied.

    Attributes
    ----------
    C : dict of str to float
        Inverse strength of the L2 penalty, by head.
    balanced : bool
        Whether rows are weighted so that both classes of an axis weigh the same.
    unsure_weight : float
        Weight of a row whose label on the axis is unsure; on the mode only where it has no grade.
    natural_weight : dict of axis to float
        Weight of a row written without thought of labels (see `Corpus.is_natural`) next to another's 1.
    grade_weight : float
        How much of a row's target on the mode comes from its grade, in [0, 1]; the rest is its label. A
        row that is graded counts in full though its label be unsure: the grade says so already.
    grade_middle, grade_slope : float
        The grade at which a row counts for both classes alike, and how steeply that changes around it (a
        logistic curve). Chosen on natural hands left out; readers use the upper half of the scale sparingly.
    lexicon_weight : dict of axis to float
        Weight of a lexicon entry of grade 2 or -2 next to a row's 1; grade 1 weighs half.
    neutral_weight : float
        Weight of an entry of grade 0, relative to `lexicon_weight`. It enters once with either label, so
        that it draws the weight of its words toward nothing.
    scope_word_weight : float
        Weight of a lexicon entry as an example of a task, for the question whether a text is one.
    use_lexicon : bool
        Whether labelled words take part.
    vector_heads : tuple of str
        The heads that see borrowed meaning (see `loopwise.model.vectors`). None of them by default: beside
        the lexicon of today the vectors bring nothing (the ablations in the model card).
    vector_words, vector_dims : int or None
        How much of the shipped table they see; None for all of it.
    vectorizer : dict
        Parameters of `TaskVectorizer`.
    seed : int
        Seeds the folds and everything else that is drawn.
    """

    C: dict[str, float] = field(default_factory=lambda: {"loop": 10.0, "mode": 2.0, "scope": 10.0})
    balanced: bool = True
    unsure_weight: float = 0.3
    natural_weight: dict[str, float] = field(default_factory=lambda: {"loop": 1.0, "mode": 10.0})
    grade_weight: float = 0.6
    grade_middle: float = 4.0
    grade_slope: float = 1.4
    lexicon_weight: dict[str, float] = field(default_factory=lambda: {"loop": 1.0, "mode": 4.0})
    neutral_weight: float = 1.0
    scope_word_weight: float = 1.0
    use_lexicon: bool = True
    vector_heads: tuple[str, ...] = ()
    vector_words: int | None = None
    vector_dims: int | None = None
    vectorizer: dict[str, Any] = field(default_factory=dict)
    seed: int = 20261121

    def with_(self, **changes: Any) -> Recipe:
        """Return a copy with some fields changed."""
        return replace(self, **changes)

    def to_dict(self) -> dict[str, Any]:
        """Return plain data for the model file and the search log."""
        return asdict(self)

    def load_vectors(self) -> WordVectors | None:
        """Read borrowed meaning as far as this recipe uses it; None if no head sees it."""
        return WordVectors.shipped().head(self.vector_words, self.vector_dims) if self.vector_heads else None


@dataclass(frozen=True)
class FittedHeads:
    """A fitted vectorizer with its classifiers, not yet calibrated.

    Attributes
    ----------
    vectorizer : TaskVectorizer
    classifiers : dict of str to LogisticRegression
        By head; ``decision_function`` points toward the second class, for scope toward being a task.
    """

    vectorizer: TaskVectorizer
    classifiers: dict[str, LogisticRegression]

    def decision_function(self, texts: Sequence[str]) -> dict[str, Floats]:
        """Return the raw score of each text, by head."""
        matrix = self.vectorizer.transform(texts)
        return {head: clf.decision_function(matrix) for head, clf in self.classifiers.items()}


@dataclass(frozen=True)
class ExtraRows:
    """Rows from outside the corpus: a user's labels.

    Attributes
    ----------
    texts : list of str
    second : dict of axis to ndarray of float
        1 for the second class, 0 for the first, NaN where the axis was not labelled.
    weight : float
        Weight of each row next to 1 for a natural row of the corpus.
    words : DataFrame
        Lexicon entries of the user: ``phrase, loop, mode``.
    word_weight : float
        Weight of each of `words` with grade 2 or -2, next to 1 for a natural row of the corpus.
    """

    texts: list[str]
    second: dict[Axis, Floats]
    weight: float
    words: pd.DataFrame | None = None
    word_weight: float = 1.0


def fit(
    corpus: Corpus,
    recipe: Recipe,
    *,
    heads: Sequence[str] = HEADS,
    extra: ExtraRows | None = None,
) -> FittedHeads:
    """Fit the vectorizer on the corpus' rows and one classifier a head on rows and words.

    Parameters
    ----------
    corpus : Corpus
        All of its rows are used.
    recipe : Recipe
    heads : sequence of str
        Which of `HEADS` to fit.
    extra : ExtraRows, optional
        A user's labels.
    """
    lexicon = _merged_lexicon(corpus, recipe, extra)
    phrases = list(lexicon["phrase"])
    texts = corpus.texts + (extra.texts if extra else [])
    vectors = recipe.load_vectors()
    vectorizer = TaskVectorizer(phrases=phrases, vectors=vectors, **recipe.vectorizer).fit(texts)
    rows = vectorizer.factored(texts)
    words = vectorizer.factored(phrases, whole=False)
    noise = vectorizer.factored(corpus.out_of_scope["text"])
    n_rows, n_words, n_noise = rows.shape[0], words.shape[0], noise.shape[0]
    X = FactoredFeatures.vstack([rows, words, noise])

    def fit_head(head: str) -> LogisticRegression:
        if head == "scope":
            # Whether a text is a task at all: rows and words are, noise is not; of a user's we don't know.
            weight = np.repeat([1.0, recipe.scope_word_weight, 1.0], [n_rows, n_words, n_noise])
            weight[len(corpus.texts) : n_rows] = 0.0
            masses = _masses(weight, np.arange(len(weight)) < n_rows + n_words)
        else:
            own = _row_masses(head, corpus, recipe, extra), _word_masses(head, recipe, lexicon)  # type: ignore[arg-type]
            masses = np.hstack([*own, np.zeros((2, n_noise))])
        n_columns = vectorizer.n_features_ if head in recipe.vector_heads else vectorizer.n_lexical_
        classifier = fit_logistic(X.first_columns(n_columns), *masses, C=recipe.C[head])
        unused = np.zeros((1, vectorizer.n_features_ - n_columns))
        classifier.coef_ = np.hstack([classifier.coef_, unused])
        classifier.n_features_in_ = vectorizer.n_features_
        return classifier

    return FittedHeads(vectorizer, {head: fit_head(head) for head in heads})


def _merged_lexicon(corpus: Corpus, recipe: Recipe, extra: ExtraRows | None) -> pd.DataFrame:
    """Return ``phrase, loop, mode, loop_weight, mode_weight``, a line for each folded phrase.

    The user's words replace those of the corpus.
    """
    lexicon = corpus.lexicon if recipe.use_lexicon else corpus.lexicon[:0]
    base = lexicon[["phrase", *AXES]].assign(**_for_axes(recipe.lexicon_weight))
    if extra is not None and extra.words is not None and len(extra.words):
        weights = {axis: extra.word_weight * weight for axis, weight in recipe.natural_weight.items()}
        own = extra.words[["phrase", *AXES]].assign(**_for_axes(weights))
        base = pd.concat([own, base[~base["phrase"].isin(own["phrase"])]])
    folded = base.assign(phrase=[" ".join(tokenize(p)) for p in base["phrase"]])
    folded = folded[folded["phrase"] != ""]
    return folded.groupby("phrase", sort=True, as_index=False).mean()


def _for_axes(weights: dict[str, float]) -> dict[str, float]:
    return {f"{axis}_weight": weights[axis] for axis in AXES}


def _row_masses(axis: Axis, corpus: Corpus, recipe: Recipe, extra: ExtraRows | None) -> Floats:
    """Return the weights of all rows, the user's too, in the first class and in the second, shape (2, n).

    On the mode a grade tells two rows of one label apart, which teaches more than the label (soft
    targets: Hinton, Vinyals and Dean, 2015, "Distilling the knowledge in a neural network").
    """
    share = corpus.is_second(axis).astype(np.float64)
    sure = corpus.is_sure(axis)
    if axis == "mode" and recipe.grade_weight > 0:
        graded = expit(recipe.grade_slope * (corpus.mode_grade - recipe.grade_middle))
        known = ~np.isnan(graded)
        share[known] += recipe.grade_weight * (graded - share)[known]
        sure = sure | known
    weight = np.where(sure, 1.0, recipe.unsure_weight)
    weight *= np.where(corpus.is_natural, recipe.natural_weight[axis], 1.0)
    if extra is not None:
        labelled = ~np.isnan(extra.second[axis])
        each = extra.weight * recipe.natural_weight[axis]
        share = np.concatenate([share, np.nan_to_num(extra.second[axis])])
        weight = np.concatenate([weight, np.where(labelled, each, 0.0)])
    return _masses(weight, share, balanced=recipe.balanced)


def _word_masses(axis: Axis, recipe: Recipe, lexicon: pd.DataFrame) -> Floats:
    """Return the weights of labelled words in the first class and in the second, shape (2, n)."""
    # Grades point to code and to interactive; scores point to the second class of each axis.
    grades = lexicon[axis].to_numpy(dtype=np.float64) * (-1 if axis == "loop" else 1)
    scale = lexicon[f"{axis}_weight"].to_numpy(dtype=np.float64)
    strength = np.nan_to_num(scale * np.abs(grades) / 2)  # NaN where nothing was said.
    neutral = np.where(grades == 0, scale * recipe.neutral_weight / 2, 0.0)
    return _masses(strength, grades > 0, balanced=recipe.balanced) + neutral


def _masses(weight: Floats, share: Floats | NDArray[np.bool_], *, balanced: bool = True) -> Floats:
    """Return the weight of each row in the first class and in the second, shape (2, n).

    Balanced, both classes weigh the same, and all together what they weighed.
    """
    masses = np.stack([weight * (1 - share), weight * share])
    sums = masses.sum(axis=1, keepdims=True)
    if balanced and sums.all():
        masses *= 0.5 * sums.sum() / sums
    return masses


def out_of_fold(
    corpus: Corpus,
    recipe: Recipe,
    folds: Sequence[NDArray[np.int64]],
    *,
    heads: Sequence[str] = ("loop", "mode"),
    n_jobs: int = 2,
    on_fold: Callable[[], None] | None = None,
) -> dict[str, Floats]:
    """Return the raw score of every row by a model that was not fitted on its fold.

    Parameters
    ----------
    folds : sequence of ndarray of int
        Row indices held out together; each row is in exactly one.
    n_jobs : int
        Processes.
    on_fold : callable, optional
        Called after each fold, for a progress bar.
    """
    scores = {head: np.zeros(len(corpus.rows)) for head in heads}
    jobs = (delayed(_score_fold)(corpus, recipe, fold, heads) for fold in folds)
    results = Parallel(n_jobs=n_jobs, return_as="generator")(jobs)
    for fold, result in zip(folds, results, strict=True):
        for head in heads:
            scores[head][fold] = result[head]
        if on_fold is not None:
            on_fold()
    return scores


def _score_fold(
    corpus: Corpus,
    recipe: Recipe,
    held_out: NDArray[np.int64],
    heads: Sequence[str],
) -> dict[str, Floats]:
    inside = np.ones(len(corpus.rows), dtype=bool)
    inside[held_out] = False
    rest = Corpus(corpus.rows[inside].reset_index(drop=True), corpus.lexicon, corpus.out_of_scope)
    texts = [corpus.texts[i] for i in held_out]
    return fit(rest, recipe, heads=heads).decision_function(texts)


def folds_by(keys: Sequence[Any], n_folds: int, seed: int) -> list[NDArray[np.int64]]:
    """Return row indices of `n_folds` parts in which rows of equal key stay together."""
    codes = pd.factorize(np.asarray(keys, dtype=object))[0]
    splitter = GroupKFold(n_splits=n_folds, shuffle=True, random_state=seed)
    return [held_out for _, held_out in splitter.split(codes, groups=codes)]
