"""From a fitted vectorizer and its linear heads to one weight a feature.

A head's score for a token is the token's fixed vector times the head's coefficients: the word's own
column, its sub-words and its borrowed vector (``w = w_tfidf + V·theta``) all end up in one number.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from safetensors.numpy import save

from loopwise.model.features import CUES, EDGE, N_BUCKETS
from loopwise.model.modelfile import (
    CARD_NAME,
    FIELDS_NAME,
    KNOWN,
    LINEAGE_NAME,
    WEIGHTS_NAME,
    signed,
)
from loopwise.model.vectorizer import TaskVectorizer

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True)
class Head:
    """A linear head over a vectorizer's features, calibrated: its score is a log-odds.

    Attributes
    ----------
    coefficients : ndarray of shape (n_features,)
    intercept : float
    """

    coefficients: NDArray[np.float64]
    intercept: float


def fold(
    vectorizer: TaskVectorizer, heads: Sequence[Head], language_words: dict[str, int]
) -> dict[str, NDArray[Any]]:
    """Return the arrays of a model file (see `ModelFile`) for three heads: loop, mode, scope.

    Parameters
    ----------
    vectorizer : TaskVectorizer
        Fitted.
    heads : sequence of Head
        In the order of `loopwise.model.modelfile.COLUMNS`.
    language_words : dict of str to int
        Folded words that mark a language, with the flag `ENGLISH` or `FOREIGN`.
    """
    weights = np.column_stack([head.coefficients for head in heads])
    borrowed = vectorizer.vectors.words if vectorizer.vectors is not None else ()
    vocabulary = set(vectorizer.words_).union(borrowed, language_words)
    words = sorted(vocabulary, key=lambda w: w.encode("utf-8", "replace"))
    number = {word: i + 1 for i, word in enumerate(words)} | {EDGE: 0}
    n_words, n_pairs = len(vectorizer.words_), len(vectorizer.pairs_)
    after_pairs = n_words + n_pairs
    after_buckets = after_pairs + N_BUCKETS
    after_cues = after_buckets + len(CUES)

    token_weights = np.concatenate(
        [weights[:n_words], weights[after_pairs:after_buckets], weights[after_cues:]]
    )
    rows, squared_norms = vectorizer.token_features(words)
    word_values = np.column_stack([rows @ token_weights, squared_norms])

    keys, pair_columns = [], []
    for pair, column in vectorizer.pairs_.items():
        first, second = pair.split(" ")
        keys.append(number[first] << 32 | number[second])
        pair_columns.append(column)
    order = np.argsort(np.array(keys, dtype=np.uint64))
    idf = (vectorizer.pair_idf_ * vectorizer.pair_scale)[pair_columns]
    pair_weights = weights[n_words:after_pairs][pair_columns] * idf[:, None]
    pair_values = np.column_stack([pair_weights, idf**2])[order]

    bucket_idf = vectorizer.bucket_idf_ * vectorizer.subword_scale
    bucket_weights = weights[after_pairs:after_buckets] * bucket_idf[:, None]
    cue_weights = weights[after_buckets:after_cues] * vectorizer.cue_scale
    cue_norms = np.full(len(CUES), vectorizer.cue_scale**2)

    spelling = [word.encode("utf-8", "replace") for word in words]
    flags = [KNOWN * (word in vectorizer.words_) | language_words.get(word, 0) for word in words]
    return {
        "word_bytes": np.frombuffer(b"".join(spelling), dtype=np.uint8),
        "word_offsets": np.cumsum([0, *map(len, spelling)]).astype(np.uint32),
        "word_flags": np.array(flags, dtype=np.uint8),
        "word_values": word_values.astype(np.float32),
        "pair_keys": np.array(keys, dtype=np.uint64)[order],
        "pair_values": pair_values.astype(np.float32),
        "bucket_values": np.column_stack([bucket_weights, bucket_idf**2]).astype(np.float32),
        "cue_values": np.column_stack([cue_weights, cue_norms]).astype(np.float32),
    }


def write_model(
    folder: Path,
    arrays: dict[str, NDArray[Any]],
    fields: dict[str, Any],
    card: str,
    lineage: dict[str, Any] | None = None,
) -> None:
    """Write a model folder: the weights, where they come from, the card, and last the signed fields."""
    folder.mkdir(parents=True, exist_ok=True)
    parts = {WEIGHTS_NAME: save({name: np.ascontiguousarray(array) for name, array in arrays.items()})}
    if lineage is not None:
        parts[LINEAGE_NAME] = (json.dumps(lineage, indent=1) + "\n").encode()
    for name, data in parts.items():
        (folder / name).write_bytes(data)
    (folder / CARD_NAME).write_text(card, encoding="utf-8")
    (folder / FIELDS_NAME).write_bytes(signed(fields, parts))
