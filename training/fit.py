"""Fit the two questions: one vectorizer, one logistic regression an axis, on rows and labelled words."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pandas as pd
import scipy.sparse as sp
from joblib import Parallel, delayed
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GroupKFold

from loopwise.model.features import tokenize
from loopwise.model.labels import Axis
from loopwise.model.vectorizer import TaskVectorizer
from loopwise.model.vectors import WordVectors
from loopwise.training.corpus import Corpus

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

#: Folds only measure: they may stop a little earlier.
FOLD_TOLERANCE: Final = 1e-5
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
        Weight of a row whose label on the axis is unsure.
    natural_weight : dict of axis to float
        Weight of a row written without thought of labels (see `Corpus.is_natural`) next to another's 1.
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

    C: dict[str, float] = field(default_factory=lambda: {"loop": 10.0, "mode": 5.0, "scope": 10.0})
    balanced: bool = True
    unsure_weight: float = 0.3
    natural_weight: dict[str, float] = field(default_factory=lambda: {"loop": 1.0, "mode": 3.0})
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
        Weight of each row next to 1 for a row of the corpus that is not natural.
    words : DataFrame
        Lexicon entries of the user: ``phrase, loop, mode``.
    word_weight : float
        Weight of each of `words` next to an entry of the lexicon's 1.
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
    tol: float = 1e-7,
    n_jobs: int = 1,
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
    tol : float
        Where Newton's method stops; the default gives the same model on any machine.
    n_jobs : int
        Threads, of which each fits one head at a time.
    """
    lexicon = _merged_lexicon(corpus, extra) if recipe.use_lexicon else _merged_lexicon(corpus, None).iloc[:0]
    phrases = list(lexicon["phrase"])
    texts = corpus.texts + (extra.texts if extra else [])
    vectors = recipe.load_vectors()
    vectorizer = TaskVectorizer(phrases=phrases, vectors=vectors, **recipe.vectorizer).fit(texts)
    rows = vectorizer.transform(texts)
    words = vectorizer.transform_phrases(phrases)

    def fit_head(head: str) -> LogisticRegression:
        if head == "scope":
            X, y, weight = _scope_data(corpus, recipe, vectorizer, rows[: len(corpus.texts)], words)
        else:
            X, y, weight = _axis_data(head, corpus, recipe, lexicon, rows, words, extra)  # type: ignore[arg-type]
        # Newton's method converges to the optimum itself; lbfgs stops somewhere near it.
        classifier = LogisticRegression(C=recipe.C[head], solver="newton-cg", tol=tol, max_iter=200)
        n_columns = vectorizer.n_features_ if head in recipe.vector_heads else vectorizer.n_lexical_
        classifier.fit(X[:, :n_columns], y, sample_weight=weight)
        unused = np.zeros((1, vectorizer.n_features_ - n_columns))
        classifier.coef_ = np.hstack([classifier.coef_, unused])
        classifier.n_features_in_ = vectorizer.n_features_
        return classifier

    # Sparse products let go of the interpreter, so threads share the matrices and the cores.
    fitted = Parallel(n_jobs=n_jobs, prefer="threads")(delayed(fit_head)(head) for head in heads)
    return FittedHeads(vectorizer, dict(zip(heads, fitted, strict=True)))


def _merged_lexicon(corpus: Corpus, extra: ExtraRows | None) -> pd.DataFrame:
    """Return ``phrase, loop, mode, weight`` with one line for each folded phrase, the user's words first."""
    base = corpus.lexicon[["phrase", "loop", "mode"]].assign(weight=1.0)
    if extra is not None and extra.words is not None and len(extra.words):
        own = extra.words[["phrase", "loop", "mode"]].assign(weight=extra.word_weight)
        base = pd.concat([own, base[~base["phrase"].isin(own["phrase"])]])
    folded = base.assign(phrase=[" ".join(tokenize(p)) for p in base["phrase"]])
    folded = folded[folded["phrase"] != ""]
    return folded.groupby("phrase", sort=True, as_index=False)[["loop", "mode", "weight"]].mean()


def _axis_data(
    axis: Axis,
    corpus: Corpus,
    recipe: Recipe,
    lexicon: pd.DataFrame,
    rows: sp.csr_matrix,
    words: sp.csr_matrix,
    extra: ExtraRows | None,
) -> tuple[sp.csr_matrix, NDArray[np.bool_], Floats]:
    """Return features, labels and weights of one axis: the rows, the user's rows, the labelled words."""
    y = corpus.is_second(axis)
    weight = np.where(corpus.is_sure(axis), 1.0, recipe.unsure_weight)
    weight *= np.where(corpus.is_natural, recipe.natural_weight[axis], 1.0)
    if extra is not None:
        labelled = ~np.isnan(extra.second[axis])
        y = np.concatenate([y, extra.second[axis] == 1])
        weight = np.concatenate([weight, np.where(labelled, extra.weight, 0.0)])
    if recipe.balanced:
        weight = _balance(weight, y)
    # Grades point to code and to interactive; scores point to the second class of each axis.
    grades = lexicon[axis].to_numpy(dtype=np.float64) * (-1 if axis == "loop" else 1)
    scale = recipe.lexicon_weight[axis] * lexicon["weight"].to_numpy(dtype=np.float64)
    graded, neutral = np.abs(grades) > 0, grades == 0  # Neither where nothing was said (NaN).
    word_weight, word_y = (scale * np.abs(grades) / 2)[graded], grades[graded] > 0
    if recipe.balanced and graded.any():
        word_weight = _balance(word_weight, word_y)
    half = (scale * recipe.neutral_weight / 2)[neutral]
    return (
        sp.vstack([rows, words[graded], words[neutral], words[neutral]]).tocsr(),
        np.concatenate([y, word_y, np.ones(len(half), dtype=bool), np.zeros(len(half), dtype=bool)]),
        np.concatenate([weight, word_weight, half, half]),
    )


def _scope_data(
    corpus: Corpus, recipe: Recipe, vectorizer: TaskVectorizer, rows: sp.csr_matrix, words: sp.csr_matrix
) -> tuple[sp.csr_matrix, NDArray[np.bool_], Floats]:
    """Return features, labels and weights of the question whether a text is a task at all."""
    noise = vectorizer.transform(list(corpus.out_of_scope["text"]))
    tasks = rows.shape[0] + words.shape[0]
    y = np.arange(tasks + noise.shape[0]) < tasks
    weight = np.ones(len(y))
    weight[rows.shape[0] : tasks] = recipe.scope_word_weight
    return sp.vstack([rows, words, noise]).tocsr(), y, _balance(weight, y)


def _balance(weight: Floats, y: NDArray[np.bool_]) -> Floats:
    """Scale weights so that both classes weigh the same, and all together what they weighed."""
    total, second = weight.sum(), weight[y].sum()
    if not 0 < second < total:
        return weight
    return np.asarray(weight * np.where(y, 0.5 * total / second, 0.5 * total / (total - second)))


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
    return fit(rest, recipe, heads=heads, tol=FOLD_TOLERANCE).decision_function(texts)


def folds_by(keys: Sequence[Any], n_folds: int, seed: int) -> list[NDArray[np.int64]]:
    """Return row indices of `n_folds` parts in which rows of equal key stay together."""
    codes = pd.factorize(np.asarray(keys, dtype=object))[0]
    splitter = GroupKFold(n_splits=n_folds, shuffle=True, random_state=seed)
    return [held_out for _, held_out in splitter.split(codes, groups=codes)]
