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
from scipy.sparse.linalg import LinearOperator
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.utils.validation import check_is_fitted

from loopwise.model.features import CUES, N_BUCKETS, cues, pairs, subword_buckets, tokenize
from loopwise.model.vectors import WordVectors

if TYPE_CHECKING:
    from numpy.typing import NDArray

# Training meets every text and every word several times, in fitting, transforming and in each fold.
_words = lru_cache(maxsize=1 << 18)(tokenize)
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
        tokenized = [_words(text) for text in X]
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
        words_of_phrases = [_words(phrase) for phrase in self.phrases]
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
        return self.factored(X).tocsr()

    def factored(self, X: Iterable[str], *, whole: bool = True) -> FactoredFeatures:
        """As `transform`, not multiplied out.

        Parameters
        ----------
        X : iterable of str
        whole : bool
            False for phrases out of context: they have no edges of the text, and no cues.
        """
        check_is_fitted(self)
        texts = list(X)
        tokenized = [_words(text) for text in texts]
        distinct = {w: i for i, w in enumerate(dict.fromkeys(chain.from_iterable(tokenized)))}
        tokens, token_norms = self.token_features(list(distinct))
        counts = _incidence(([distinct[w] for w in words] for words in tokenized), len(distinct))
        squared = counts @ token_norms

        def known_pairs(words: list[str]) -> list[int]:
            found = pairs(words) if whole else pairs(words)[1:-1]
            return [self.pairs_[p] for p in found if p in self.pairs_]

        pair_counts = _incidence(map(known_pairs, tokenized), len(self.pairs_))
        pair_values = self.pair_idf_ * self.pair_scale
        squared += pair_counts @ pair_values**2
        cue_rows = (
            cues(text, len(words)) if whole and self.cue_scale else []
            for text, words in zip(texts, tokenized, strict=True)
        )
        cue_counts = _incidence(cue_rows, len(CUES))
        squared += cue_counts @ np.full(len(CUES), self.cue_scale**2)

        # Both factors span all columns; each leaves those of the other empty.
        n_words, n_dims = len(self.words_), self.n_features_ - self.n_lexical_
        after_buckets = n_words + N_BUCKETS
        token_blocks = [
            tokens[:, :n_words],
            sp.csr_matrix((len(distinct), len(self.pairs_))),
            tokens[:, n_words:after_buckets],
            sp.csr_matrix((len(distinct), len(CUES))),
            tokens[:, after_buckets:],
        ]
        text_blocks = [
            sp.csr_matrix((len(texts), n_words)),
            pair_counts @ sp.diags(pair_values),
            sp.csr_matrix((len(texts), N_BUCKETS)),
            cue_counts * self.cue_scale,
            sp.csr_matrix((len(texts), n_dims)),
        ]
        scale = 1 / np.sqrt(np.where(squared > 0, squared, 1.0))
        return FactoredFeatures(counts, sp.hstack(token_blocks, "csr"), sp.hstack(text_blocks, "csr"), scale)

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


class FactoredFeatures(LinearOperator):  # type: ignore[misc]
    """The features of texts as factors: how often each token occurs, the features of tokens, and the rest.

    A product with the factors costs a fifth of one with the matrix: a token's sub-words are gone
    through once, and not once for each text that holds it. Training consists of such products.

    Parameters
    ----------
    counts : csr_matrix of shape (n_texts, n_tokens)
    tokens : csr_matrix of shape (n_tokens, n_features)
    rest : csr_matrix of shape (n_texts, n_features)
        Features that are of the text and of no single token.
    scale : ndarray of shape (n_texts,)
        One over the norm of each text.
    """

    def __init__(
        self, counts: sp.csr_matrix, tokens: sp.csr_matrix, rest: sp.csr_matrix, scale: NDArray[np.float64]
    ) -> None:
        super().__init__(np.dtype(np.float64), rest.shape)
        self.counts, self.tokens, self.rest, self.scale = counts, tokens, rest, scale

    def _matvec(self, vector: NDArray[np.float64]) -> NDArray[np.float64]:
        flat = vector.ravel()
        return np.asarray(self.scale * (self.counts @ (self.tokens @ flat) + self.rest @ flat))

    def _rmatvec(self, vector: NDArray[np.float64]) -> NDArray[np.float64]:
        scaled = self.scale * vector.ravel()
        return np.asarray(self.tokens.T @ (self.counts.T @ scaled) + self.rest.T @ scaled)

    def first_columns(self, n_features: int) -> FactoredFeatures:
        """Return the first `n_features` columns; texts keep the norm that they have with all."""
        if n_features == self.shape[1]:
            return self
        return FactoredFeatures(
            self.counts, self.tokens[:, :n_features], self.rest[:, :n_features], self.scale
        )

    def tocsr(self) -> sp.csr_matrix:
        """Return the product, a sparse matrix."""
        return (sp.diags(self.scale) @ (self.counts @ self.tokens + self.rest)).tocsr()

    @classmethod
    def vstack(cls, parts: Sequence[FactoredFeatures]) -> FactoredFeatures:
        """Return the rows of all `parts`, one after another."""
        return cls(
            sp.block_diag([part.counts for part in parts], "csr"),
            sp.vstack([part.tokens for part in parts], "csr"),
            sp.vstack([part.rest for part in parts], "csr"),
            np.concatenate([part.scale for part in parts]),
        )


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
