"""What to ask next: tasks and words whose answers teach the model most.

small-text and scikit-activeml were looked at. Each wants its own data set and classifier wrappers, and
brings packages that nothing else here needs (dill; matplotlib and makefun). What is needed of them is one
greedy loop over features that the model has anyway, so it stands here.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from loopwise.model.features import tokenize
from loopwise.model.labels import AXES
from loopwise.model.modelfile import ENGLISH, FOREIGN, KNOWN, ModelFile
from loopwise.model.scorer import MAX_TEXT_LENGTH, Scorer
from loopwise.model.vectorizer import TaskVectorizer
from loopwise.training.gate import log_odds
from loopwise.training.labels import text_key

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

#: Texts that are compared with each other; of a larger backlog a part is taken.
POOL: Final = 2000
#: Texts whose words are counted.
_WORD_TEXTS: Final = 20_000
#: What a text weighs at least, however sure the model is.
_FLOOR: Final = 0.05
#: Texts of this cosine or more count as the same: one answer does for both.
_SAME: Final = 0.6
_MIN_ROWS: Final = 2
_EXAMPLES: Final = 3


def task_queue(
    texts: Sequence[str],
    model: ModelFile,
    n: int,
    *,
    done: Collection[str] = (),
    seed: int = 0,
) -> list[int]:
    """Return the indices of the texts to ask about, the most telling first.

    Each text asked about stands for the texts that are like it. The queue covers as much uncertainty as
    it can: a text gains what it adds to that, so that of near-duplicates one is asked, and an odd one out
    waits (weighted facility location, picked greedily as in Nemhauser, Wolsey and Fisher, 1978).

    Parameters
    ----------
    texts : sequence of str
    model : ModelFile
        Whose uncertainty counts.
    n : int
        Length of the queue.
    done : collection of str
        Keys (see `text_key`) of texts that are answered already: they stand for their likes too.
    seed : int
        Seeds the choice of a part where there are more than `POOL` texts.
    """
    first: dict[str, int] = {}
    for index, text in enumerate(texts):
        if tokenize(text):
            first.setdefault(text_key(text), index)
    open_ = [index for key, index in first.items() if key not in done]
    if not open_:
        return []
    weight = _uncertainty(model, [texts[i] for i in open_])
    chosen = _pool(weight, seed)
    pool, weight = [open_[i] for i in chosen], weight[chosen]
    answered = [index for key, index in first.items() if key in done][-POOL:]
    features = TaskVectorizer().fit([texts[i] for i in pool]).transform([texts[i] for i in pool + answered])
    # Rows have length 1, so that products are cosines.
    alike = np.minimum((features @ features[: len(pool)].T).toarray() / _SAME, 1.0)
    covered = alike[len(pool) :].max(axis=0, initial=0.0)
    return [pool[i] for i in _greedy(alike[: len(pool)], weight, covered, n)]


def _uncertainty(model: ModelFile, texts: Sequence[str]) -> Floats:
    """Return for each text how unsure the model is, from 0 to 1, the mean of both axes."""
    scores = log_odds(model, texts)
    doubt = [2 / (1 + np.exp(np.abs(scores[axis]))) for axis in AXES]
    return np.asarray(np.maximum(np.mean(doubt, axis=0), _FLOOR))


def _pool(weight: Floats, seed: int) -> NDArray[np.int64]:
    """Return the indices of at most `POOL` texts: mostly the least sure, some drawn from the rest."""
    order = np.argsort(-weight, kind="stable")
    if len(order) <= POOL:
        return order
    n_unsure = 3 * POOL // 4
    drawn = np.random.default_rng(seed).permutation(order[n_unsure:])[: POOL - n_unsure]
    return np.concatenate([order[:n_unsure], drawn])


def _greedy(alike: Floats, weight: Floats, covered: Floats, n: int) -> list[int]:
    picked: list[int] = []
    for _ in range(min(n, len(weight))):
        gain = np.maximum(alike - covered, 0) @ weight
        gain[picked] = -1.0
        best = int(gain.argmax())
        picked.append(best)
        covered = np.maximum(covered, alike[best])
    return picked


@dataclass(frozen=True)
class WordQuestion:
    """A word to ask about.

    Attributes
    ----------
    word : str
        Folded.
    n_rows : int
        How many texts hold it.
    n_hanging : int
        On how many texts the answer would be the other one without it.
    known : bool
        Whether the model was shown it.
    examples : list of str
        Some of those texts.
    """

    word: str
    n_rows: int
    n_hanging: int
    known: bool
    examples: list[str]


def word_queue(
    texts: Sequence[str], model: ModelFile, n: int, *, done: Collection[str] = ()
) -> list[WordQuestion]:
    """Return the words to ask about: frequent unknown ones, and those on which most answers hang.

    Parameters
    ----------
    texts : sequence of str
    model : ModelFile
    n : int
        How many at most.
    done : collection of str
        Keys (see `text_key`) of words that are answered already.
    """
    distinct = list(dict.fromkeys(text[:MAX_TEXT_LENGTH] for text in texts[:_WORD_TEXTS]))
    scorer = Scorer(model)
    rows: Counter[str] = Counter()
    hanging: Counter[str] = Counter()
    doubt: dict[str, float] = {}
    examples: dict[str, list[str]] = {}
    for text, unsure in zip(distinct, _uncertainty(model, distinct).tolist(), strict=True):
        words = set(tokenize(text))
        rows.update(words)
        hanging.update(words & set(_hanging(scorer, text)))
        for word in words:
            doubt[word] = doubt.get(word, 0.0) + unsure
            if len(shown := examples.setdefault(word, [])) < _EXAMPLES:
                shown.append(text)
    asked = [
        WordQuestion(word, n_rows, hanging[word], known, examples[word])
        for word, n_rows in rows.items()
        if text_key(word) not in done
        and (known := _askable(scorer, word)) is not None
        and (hanging[word] if known else n_rows) >= _MIN_ROWS
    ]
    # An unknown word may settle every text that holds it and is in doubt; a known one those that hang on it.
    worth = {q.word: float(q.n_hanging) if q.known else doubt[q.word] for q in asked}
    return sorted(asked, key=lambda q: (-worth[q.word], -q.n_rows, q.word))[:n]


def _hanging(scorer: Scorer, text: str) -> list[str]:
    """Return the features without which the answer on an axis would be the other one."""
    score = scorer.score(text[:MAX_TEXT_LENGTH])
    totals = (score.loop, score.mode)
    return [
        name
        for name, *parts in score.contributions
        if any(total * (total - part) < 0 for total, part in zip(totals, parts, strict=True))
    ]


def _askable(scorer: Scorer, word: str) -> bool | None:
    """Return whether the model knows `word`; None if there is no point in asking about it."""
    flags = scorer.token(word).flags
    if len(word) < 3 or "#" in word or flags & (ENGLISH | FOREIGN):
        return None
    return bool(flags & KNOWN)
