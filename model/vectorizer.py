"""TF-IDF over words, pairs, sub-words and cues, with borrowed meaning beside it, as one transformer.

The feature contract: every token has a fixed vector and a fixed squared norm, and a text is the
sum of its tokens' vectors divided by the root of the sum of their squared norms. So a linear
score over these features is itself a sum over tokens divided by that root, and can be folded
into one number a token (`loopwise.model.folding`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from itertools import chain, pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import scipy.sparse as sp
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.utils.validation import check_is_fitted

from loopwise.model.features import CUES, N_BUCKETS, cues, pairs, subword_buckets, tokenize
from loopwise.model.vectors import WordVectors

if TYPE_CHECKING:
    from numpy.typing import NDArray

#: Training meets every word several times, in fitting, transforming and in each fold.
_buckets = lru_cache(maxsize=1 << 17)(subword_buckets)


class TaskVectorizer(TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """Turn task texts into a sparse matrix of features, in the order words, pairs, sub-words, cues, vectors.

    Parameters
    ----------
    phrases : sequence of str, default=()
        Phrases of the lexicon. Their words and pairs join the vocabulary with the largest idf.
    vectors : WordVectors or None, default=None
        Borrowed meaning; a word's block is its idf times its vector.
    pair_scale, subword_scale, cue_scale, vector_scale : float
        Weight of each block next to the words' own, which is 1. Zero switches a block off.
    min_df_pair, min_df_subword : int
        Pairs and sub-words in fewer texts than this are left out.

    Attributes
    ----------
    words_, pairs_ : dict of str to int
        Column of each word, and of each pair (counted from the first pair).
    word_idf_, pair_idf_, bucket_idf_ : ndarray of float64
        Smooth inverse document frequency, ``ln((1 + n) / (1 + df)) + 1`` as in scikit-learn;
        0 for sub-word buckets that are left out.
    max_idf_ : float
        The idf of a word that no text of the corpus holds.
    """

    def __init__(
        self,
        *,
        phrases: Sequence[str] = (),
        vectors: WordVectors | None = None,
        pair_scale: float = 1.0,
        subword_scale: float = 0.3,
        cue_scale: float = 4.0,
        vector_scale: float = 1.0,
        min_df_pair: int = 2,
        min_df_subword: int = 2,
    ) -> None:
        self.phrases = phrases
        self.vectors = vectors
        self.pair_scale = pair_scale
        self.subword_scale = subword_scale
        self.cue_scale = cue_scale
        self.vector_scale = vector_scale
        self.min_df_pair = min_df_pair
        self.min_df_subword = min_df_subword

    def fit(self, X: Iterable[str], y: object = None) -> TaskVectorizer:
        """Learn the vocabulary and the idf weights from the texts `X`; `y` is ignored."""
        tokenized = [tokenize(text) for text in X]
        n_texts = len(tokenized)
        word_df = Counter(chain.from_iterable(map(set, tokenized)))
        pair_df = Counter(chain.from_iterable(set(pairs(words)) for words in tokenized))
        position = {word: i for i, word in enumerate(word_df)}
        counts = _incidence(([position[w] for w in words] for words in tokenized), len(position))
        subwords = _incidence(map(_buckets, word_df), N_BUCKETS)
        bucket_df = (counts @ subwords).getnnz(axis=0).astype(np.float64)

        def idf(df: NDArray[np.float64]) -> NDArray[np.float64]:
            return np.log((1 + n_texts) / (1 + df)) + 1

        self.max_idf_ = float(idf(np.ones(1))[0])
        pair_df = Counter({p: df for p, df in pair_df.items() if df >= self.min_df_pair})
        words_of_phrases = [tokenize(phrase) for phrase in self.phrases]
        self.words_, self.word_idf_ = self._vocabulary(word_df, idf, chain.from_iterable(words_of_phrases))
        inner_pairs = (f"{a} {b}" for ws in words_of_phrases for a, b in pairwise(ws))
        self.pairs_, self.pair_idf_ = self._vocabulary(pair_df, idf, inner_pairs)
        self.bucket_idf_ = np.where(bucket_df >= self.min_df_subword, idf(bucket_df), 0.0)
        return self

    def _vocabulary(
        self,
        df: Counter[str],
        idf: Callable[[NDArray[np.float64]], NDArray[np.float64]],
        more: Iterable[str],
    ) -> tuple[dict[str, int], NDArray[np.float64]]:
        known = sorted(df)
        added = sorted(set(more).difference(df))
        weights = idf(np.array([df[k] for k in known], dtype=np.float64))
        weights = np.concatenate([weights, np.full(len(added), self.max_idf_)])
        return {name: column for column, name in enumerate(known + added)}, weights

    @property
    def n_lexical_(self) -> int:
        """Number of columns before those of the vectors."""
        return len(self.words_) + len(self.pairs_) + N_BUCKETS + len(CUES)

    @property
    def n_features_(self) -> int:
        """Number of columns."""
        dims = 0 if self.vectors is None else self.vectors.matrix.shape[1]
        return self.n_lexical_ + dims

    def transform(self, X: Iterable[str]) -> sp.csr_matrix:
        """Return the features of the texts `X`, shape (n_texts, n_features_), rows divided by their norm."""
        return self._transform(X, whole=True)

    def transform_phrases(self, X: Iterable[str]) -> sp.csr_matrix:
        """As `transform`, for phrases out of context: no edges of the text, no cues."""
        return self._transform(X, whole=False)

    def _transform(self, X: Iterable[str], *, whole: bool) -> sp.csr_matrix:
        check_is_fitted(self)
        texts = list(X)
        tokenized = [tokenize(text) for text in texts]
        distinct = {w: i for i, w in enumerate(dict.fromkeys(chain.from_iterable(tokenized)))}
        token_rows, token_norms = self.token_features(list(distinct))
        counts = _incidence(([distinct[w] for w in words] for words in tokenized), len(distinct))
        matrix = counts @ token_rows
        squared = counts @ token_norms

        def known_pairs(words: list[str]) -> list[int]:
            found = pairs(words) if whole else pairs(words)[1:-1]
            return [self.pairs_[p] for p in found if p in self.pairs_]

        pair_counts = _incidence(map(known_pairs, tokenized), len(self.pairs_))
        pair_values = self.pair_idf_ * self.pair_scale
        squared += pair_counts @ pair_values**2
        blocks = [pair_counts @ sp.diags(pair_values)]
        cue_rows = (
            cues(text, len(words)) if whole and self.cue_scale else []
            for text, words in zip(texts, tokenized, strict=True)
        )
        cue_counts = _incidence(cue_rows, len(CUES))
        squared += cue_counts @ np.full(len(CUES), self.cue_scale**2)
        blocks.append(cue_counts * self.cue_scale)

        n_words = len(self.words_)
        ordered = [
            matrix[:, :n_words],
            blocks[0],
            matrix[:, n_words : n_words + N_BUCKETS],
            blocks[1],
            matrix[:, n_words + N_BUCKETS :],
        ]
        scale = sp.diags(1 / np.sqrt(np.where(squared > 0, squared, 1.0)))
        return (scale @ sp.hstack(ordered)).tocsr()

    def token_features(self, words: Sequence[str]) -> tuple[sp.csr_matrix, NDArray[np.float64]]:
        """Return the fixed vectors of single words, and their fixed squared norms.

        Parameters
        ----------
        words : sequence of str
            Folded words.

        Returns
        -------
        rows : csr_matrix of shape (n, n_words + N_BUCKETS + n_dims)
            The words' own columns, their sub-words, their vectors.
        squared_norms : ndarray of shape (n,)
        """
        columns = [self.words_.get(word, -1) for word in words]
        known = np.array(columns) >= 0
        idf = np.where(known, self.word_idf_[columns] if words else 0.0, self.max_idf_)
        own = _incidence(([c] if c >= 0 else [] for c in columns), len(self.words_))
        squared = np.where(known, idf**2, 0.0)
        blocks = [sp.diags(idf) @ own]

        buckets = map(_buckets, words) if self.subword_scale else ([] for _ in words)
        bucket_values = self.bucket_idf_ * self.subword_scale
        subwords = _incidence(buckets, N_BUCKETS)
        squared += subwords @ bucket_values**2
        blocks.append(subwords @ sp.diags(bucket_values))

        if self.vectors is not None:
            rows = [self.vectors.index.get(word, -1) for word in words]
            found = np.array(rows) >= 0
            weight = np.where(found, idf * self.vector_scale, 0.0)
            norms = self.vectors.squared_norms[rows] if words else np.zeros(0)
            squared += weight**2 * norms
            borrowed = np.where(found[:, None], self.vectors.matrix[rows], 0.0)
            blocks.append(sp.csr_matrix(weight[:, None] * borrowed))
        return sp.hstack(blocks).tocsr(), squared

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.string = True
        tags.input_tags.two_d_array = False
        return tags


def _incidence(rows: Iterable[list[int]], n_columns: int) -> sp.csr_matrix:
    """Return a matrix that counts, for each row, how often each column index occurs in it."""
    indices: list[int] = []
    indptr = [0]
    for row in rows:
        indices.extend(row)
        indptr.append(len(indices))
    shape = (len(indptr) - 1, n_columns)
    matrix = sp.csr_matrix((np.ones(len(indices)), indices, indptr), shape=shape)
    matrix.sum_duplicates()
    return matrix
