"""Score whole columns: tokens are found with NumPy, encoded once with Arrow, looked up and summed by row.

Everything here computes what `loopwise.model.scorer` computes for one text; tests compare the two.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache, cached_property
from threading import Lock
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from loopwise.model import features
from loopwise.model.features import CUES, EDGE, LENGTH_EDGES
from loopwise.model.labels import AXES, Axis
from loopwise.model.modelfile import COLUMNS, ENGLISH, FOREIGN, KNOWN, ModelFile
from loopwise.model.scorer import RANKED_IN, SHOWN_FROM, Scorer

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
    Ints = NDArray[np.int64]

#: Distinct words remembered between blocks, at about 200 bytes each.
_CACHE_LIMIT: Final = 1 << 18
#: Row, feature and position of a feature share one 64-bit key when features are ranked: these bits are the
#: feature's and the position's.
_FEATURE_BITS: Final = 25
_PLACE_BITS: Final = 20
#: The largest position and the largest strength that are told apart.
_LATEST: Final = (1 << _PLACE_BITS) - 1
_STRONGEST: Final = (1 << 24) - 1
#: A block of texts holds at most this many rows, which bounds the memory; the key has room for eight times
#: as many.
MAX_ROWS: Final = 1 << 15


class BatchScorer:
    """Scores blocks of texts with a model file; threads may share one.

    Parameters
    ----------
    model : ModelFile
    """

    def __init__(self, model: ModelFile) -> None:
        self.intercepts = Scorer(model).intercepts
        self._model = model
        self._lock = Lock()
        offsets = _array(model, "word_offsets", np.uint32).astype(np.int32)
        spelling = pa.py_buffer(_array(model, "word_bytes", np.uint8))
        self._words = pa.StringArray.from_buffers(len(offsets) - 1, pa.py_buffer(offsets), spelling)
        self._word_values = _matrix(model, "word_values")
        self._word_flags = _array(model, "word_flags", np.uint8)
        self._bucket_values = _matrix(model, "bucket_values")
        self._cue_values = _matrix(model, "cue_values").astype(np.float64)
        self._pair_values = _matrix(model, "pair_values")
        keys = _array(model, "pair_keys", np.uint64)
        self._pair_keys = pa.array(keys)
        numbers = np.arange(len(self._words) + 1, dtype=np.uint64)
        self._starts_pair = np.isin(numbers, keys >> np.uint64(32))
        self._ends_pair = np.isin(numbers, keys & np.uint64(0xFFFFFFFF))
        self._vocabulary = _Vocabulary.of_edge()

    @cached_property
    def _pair_names(self) -> pa.StringArray:
        """How each pair is shown (see `pair_name`)."""
        keys = _array(self._model, "pair_keys", np.uint64)
        first, second = keys >> np.uint64(32), keys & np.uint64(0xFFFFFFFF)
        between = np.where(first == 0, 1, 0) + np.where(second == 0, 2, 0)
        words = pa.concat_arrays([pa.array([""], pa.string()), self._words])
        return pc.binary_join_element_wise(
            words.take(pa.array(first)),
            pa.array([" ", "^", "$", "^$"]).take(pa.array(between)),
            words.take(pa.array(second)),
            "",
        )

    def score(self, texts: pa.Array) -> BatchScore:
        """Score a string array of at most `MAX_ROWS` texts without nulls."""
        if len(texts) > MAX_ROWS:
            raise ValueError(f"a block has at most {MAX_ROWS} texts, not {len(texts)}")
        block = tokenize_block(texts)
        encoded = block.words.dictionary_encode()
        vocabulary, entries = self._look_up(encoded.dictionary.to_pylist())
        n_rows = len(texts)

        # The stream: every row's words after an edge, and an edge at the end of all.
        starts = np.concatenate([[0], np.cumsum(block.n_words + 1)])
        stream = np.zeros(starts[-1] + 1, dtype=np.int64)
        is_word = np.ones(len(stream), dtype=bool)
        is_word[starts] = False
        stream[is_word] = entries[encoded.indices.to_numpy()]
        row_of = np.repeat(np.arange(n_rows), block.n_words + 1)

        at = np.flatnonzero(vocabulary.starts_pair[stream[:-1]] & vocabulary.ends_pair[stream[1:]])
        numbers = vocabulary.numbers
        keys = numbers[stream[at]] << np.uint64(32) | numbers[stream[at + 1]]
        pair = pc.index_in(pa.array(keys), value_set=self._pair_keys)
        known = pair.is_valid().to_numpy(zero_copy_only=False)
        at, pair = at[known], pair.drop_null().to_numpy().astype(np.int64)
        pair_rows = row_of[at]

        length_class = np.searchsorted(LENGTH_EDGES, block.n_words)
        cues = np.zeros((n_rows, len(CUES)))
        cues[:, : block.marks.shape[1]] = block.marks
        cues[np.arange(n_rows), block.marks.shape[1] + length_class] = 1.0

        sums = cues @ self._cue_values
        for column in range(len(COLUMNS)):
            if n_rows:
                per_token = vocabulary.values[column][stream[:-1]]
                sums[:, column] += np.add.reduceat(per_token, starts[:-1], dtype=np.float64)
            per_pair = self._pair_values[pair, column]
            sums[:, column] += np.bincount(pair_rows, weights=per_pair, minlength=n_rows)
        scale = 1 / np.sqrt(np.where(sums[:, 3] > 0, sums[:, 3], np.inf))
        packed = vocabulary.counts[stream[:-1]]
        counts = np.add.reduceat(packed, starts[:-1]) if n_rows else np.zeros(0, dtype=np.int64)
        return BatchScore(
            loop=self.intercepts[0] + sums[:, 0] * scale,
            mode=self.intercepts[1] + sums[:, 1] * scale,
            scope=self.intercepts[2] + sums[:, 2] * scale,
            n_words=block.n_words,
            n_known=counts & 0xFFFFF,
            n_english=counts >> 20 & 0xFFFFF,
            n_foreign=counts >> 40,
            _parts=_Parts(
                self, vocabulary, stream, is_word, starts, row_of, at, pair, pair_rows, cues, scale
            ),
        )

    def _look_up(self, words: list[str]) -> tuple[_Vocabulary, NDArray[np.int64]]:
        """Return the vocabulary with `words` in it, and the entry of each."""
        with self._lock:
            vocabulary = self._vocabulary
            if len(vocabulary.names) + len(words) > _CACHE_LIMIT:
                vocabulary = _Vocabulary.of_edge()
            index = vocabulary.index
            missing = [word for word in words if word not in index]
            if missing:
                vocabulary = self._extend(vocabulary, missing)
            self._vocabulary = vocabulary
            return vocabulary, np.array([index[word] for word in words], dtype=np.int64)

    def _extend(self, vocabulary: _Vocabulary, words: list[str]) -> _Vocabulary:
        found = pc.index_in(pa.array(words, pa.string()), value_set=self._words)
        known = found.is_valid().to_numpy(zero_copy_only=False)
        place = found.fill_null(0).to_numpy().astype(np.int64)
        numbers = np.where(known, place + 1, 0).astype(np.uint64)
        values = np.zeros((len(words), len(COLUMNS)))
        flags = np.zeros(len(words), dtype=np.int64)
        if known.any():
            values[known] = self._word_values[place[known]]
            flags[known] = self._word_flags[place[known]]
        unknown = [word for word, is_known in zip(words, known, strict=True) if not is_known]
        values[~known] = subword_sums(unknown, self._bucket_values)
        first = len(vocabulary.names)
        vocabulary.index.update((word, first + i) for i, word in enumerate(words))
        return _Vocabulary(
            index=vocabulary.index,
            names=pa.concat_arrays([vocabulary.names, pa.array(words, pa.string())]),
            values=np.hstack([vocabulary.values, values.T]),
            counts=np.concatenate([vocabulary.counts, _packed_counts(flags)]),
            numbers=np.concatenate([vocabulary.numbers, numbers]),
            starts_pair=np.concatenate([vocabulary.starts_pair, known & self._starts_pair[numbers]]),
            ends_pair=np.concatenate([vocabulary.ends_pair, known & self._ends_pair[numbers]]),
        )

    def __getstate__(self) -> dict[str, Any]:
        return {"folder": self._model.folder}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(ModelFile.load(state["folder"]))  # type: ignore[misc]


@dataclass(frozen=True)
class BatchScore:
    """The scores of a block of texts, one entry a row (see `loopwise.model.scorer.Score`)."""

    loop: Floats
    mode: Floats
    scope: Floats
    n_words: Ints
    n_known: Ints
    n_english: Ints
    n_foreign: Ints
    _parts: _Parts

    def top_features(self, axis: Axis, turned: NDArray[np.bool_], k: int) -> pa.Array:
        """Return the `k` strongest features of each row as text, ``"test +1.31, flaky -0.84"``.

        Parameters
        ----------
        axis : {"loop", "mode"}
        turned : ndarray of bool, shape (n_rows,)
            Where the sign is turned around: contributions are shown toward the label.
        k : int
            How many, at most.
        """
        return self._parts.top_features(list(AXES).index(axis), turned, k)


@dataclass(frozen=True)
class _Vocabulary:
    """The words met so far. Entry 0 is the edge of the text. Only `index` is ever changed, by adding."""

    index: dict[str, int]
    names: pa.StringArray
    values: NDArray[np.float64]
    counts: Ints
    numbers: NDArray[np.uint64]
    starts_pair: NDArray[np.bool_]
    ends_pair: NDArray[np.bool_]

    @classmethod
    def of_edge(cls) -> _Vocabulary:
        return cls(
            index={},
            names=pa.array([EDGE], pa.string()),
            values=np.zeros((len(COLUMNS), 1)),
            counts=np.zeros(1, dtype=np.int64),
            numbers=np.zeros(1, dtype=np.uint64),
            starts_pair=np.ones(1, dtype=bool),
            ends_pair=np.ones(1, dtype=bool),
        )


@dataclass(frozen=True)
class _Parts:
    """What a block's scores were added up from, kept for its explanations."""

    scorer: BatchScorer
    vocabulary: _Vocabulary
    stream: Ints
    is_word: NDArray[np.bool_]
    starts: Ints
    row_of: Ints
    pair_at: Ints
    pair: Ints
    pair_rows: Ints
    cues: Floats
    scale: Floats

    @cached_property
    def _distinct(self) -> _Distinct:
        """Every distinct feature of every row: words, pairs and cues are numbered one after the other."""
        first_pair = len(self.vocabulary.names)
        first_cue = first_pair + len(self.scorer._pair_values)
        word_at = np.flatnonzero(self.is_word)
        cue_rows, cue = np.nonzero(self.cues)
        rows = np.concatenate([self.row_of[word_at], self.pair_rows, cue_rows])
        ids = np.concatenate([self.stream[word_at], self.pair + first_pair, cue + first_cue])
        # In the order of the single scorer: a word, the pair that it ends; the cues at last.
        order = np.concatenate([2 * word_at, 2 * self.pair_at + 3, 2 * self.starts[cue_rows + 1] + 2 + cue])
        order -= 2 * self.starts[rows]
        keys = (rows << _FEATURE_BITS | ids) << _PLACE_BITS | np.minimum(order, _LATEST)
        keys.sort()
        first = np.flatnonzero(np.diff(keys >> _PLACE_BITS, prepend=-1))
        times = np.diff(first, append=len(keys))
        keys = keys[first]
        features = keys >> _PLACE_BITS
        rows, ids = features >> _FEATURE_BITS, features & ((1 << _FEATURE_BITS) - 1)
        return _Distinct(rows, ids, times * self.scale[rows], _LATEST - (keys & _LATEST))

    def top_features(self, axis: int, turned: NDArray[np.bool_], k: int) -> pa.Array:
        distinct = self._distinct
        tables = (
            self.vocabulary.values[axis],
            self.scorer._pair_values[:, axis],
            self.scorer._cue_values[:, axis],
        )
        values = np.concatenate(tables)[distinct.ids] * distinct.factor
        size = np.abs(values)
        rank = np.minimum((size * RANKED_IN).astype(np.int64), _STRONGEST)
        keys = np.where(size >= SHOWN_FROM, rank << _PLACE_BITS | distinct.earliness, 0)
        # Every row has features, its length class at least, so that no segment is empty.
        starts = np.searchsorted(distinct.rows, np.arange(len(turned)))
        best_texts = []
        for _ in range(k if len(turned) else 0):
            best = np.maximum.reduceat(keys, starts)
            at = np.flatnonzero((keys == best[distinct.rows]) & (keys > 0))
            keys[at] = 0
            best_texts.append(self._texts(distinct.rows[at], distinct.ids[at], values[at], turned))
        if not best_texts:
            return pa.array([""] * len(turned), pa.string())
        return pc.binary_join_element_wise(*best_texts, ", ", null_handling="skip")

    def _texts(self, rows: Ints, ids: Ints, values: Floats, turned: NDArray[np.bool_]) -> pa.Array:
        """Return ``name +1.23`` for each of `rows`, null for the others."""
        cents = np.rint(np.where(turned[rows], -values, values) * 100).astype(np.int64)
        numbers = _cents_text().take(pa.array(np.clip(cents, -_MOST_CENTS, _MOST_CENTS) + _MOST_CENTS))
        names = self._names.take(pa.array(ids))
        texts = pc.binary_join_element_wise(names, numbers, " ")
        place = np.full(len(turned), -1)
        place[rows] = np.arange(len(rows))
        return texts.take(pa.array(place, mask=place < 0))

    @cached_property
    def _names(self) -> pa.StringArray:
        """How each feature is shown, by its number."""
        return pa.concat_arrays([self.vocabulary.names, self.scorer._pair_names, pa.array(CUES, pa.string())])


class _Distinct(NamedTuple):
    """The distinct features of a block, grouped by row.

    `factor` is how often a feature occurs over the norm of its text; `earliness` is larger the
    earlier it occurs first.
    """

    rows: Ints
    ids: Ints
    factor: Floats
    earliness: Ints


@dataclass(frozen=True)
class TokenBlock:
    """The words of a block of texts.

    Attributes
    ----------
    words : StringArray
        All words of all texts, folded, in order.
    n_words : ndarray of int64, shape (n_rows,)
    marks : ndarray of bool, shape (n_rows, n_marks)
        Which of `features.CUE_MARKS` each text holds.
    """

    words: pa.StringArray
    n_words: Ints
    marks: NDArray[np.bool_]


def tokenize_block(texts: pa.Array) -> TokenBlock:
    """Find the words of a string array, as `features.tokenize` does for one text."""
    texts = texts.cast(pa.string())
    data, offsets = _buffers(texts)
    marks = np.zeros((len(texts), len(features.CUE_MARKS)), dtype=bool)
    for column, mark in enumerate(features.CUE_MARKS):
        marks[_rows_of(np.flatnonzero(data == ord(mark)), offsets), column] = True
    foreign = np.unique(_rows_of(np.flatnonzero(data >= 0x80), offsets))
    if len(foreign):
        # "#" stands for a digit in a folded text, and for itself in a plain one.
        folded = [features.fold(text).replace("#", "0") for text in texts.take(pa.array(foreign)).to_pylist()]
        mask = np.zeros(len(texts), dtype=bool)
        mask[foreign] = True
        texts = pc.replace_with_mask(texts, pa.array(mask), pa.array(folded, pa.string()))
        data, offsets = _buffers(texts)
    spelling = _WORD_BYTES[data]
    inside = spelling != 0
    begins = inside.copy()
    begins[1:] &= ~inside[:-1]
    # A row that begins inside a word begins a word, whatever ended the row before.
    edges = offsets[:-1][offsets[:-1] < len(data)]
    begins[edges] = inside[edges]
    begin_at = np.flatnonzero(begins)
    n_words = np.diff(np.searchsorted(begin_at, offsets))
    letters = spelling[inside]
    word_offsets = np.append(np.flatnonzero(begins[inside]), len(letters)).astype(np.int32)
    words = pa.StringArray.from_buffers(len(begin_at), pa.py_buffer(word_offsets), pa.py_buffer(letters))
    return TokenBlock(words, n_words, marks)


def subword_sums(words: list[str], bucket_values: NDArray[np.float32]) -> Floats:
    """Return the summed values of the sub-word buckets of each word, shape (n_words, n_columns)."""
    sums = np.zeros((len(words), bucket_values.shape[1]))
    if not words:
        return sums
    spelled = [b"<" + word.encode("utf-8", "replace")[: features.SUBWORD_BYTES] + b">" for word in words]
    data = np.frombuffer(b"".join(spelled), dtype=np.uint8).astype(np.uint32)
    lengths = np.array([len(s) for s in spelled])
    owner = np.repeat(np.arange(len(words)), lengths)
    left = np.repeat(np.cumsum(lengths), lengths) - np.arange(len(data))
    value = np.full(len(data), features.HASH_BASIS, dtype=np.uint32)
    keys = []
    for length in range(1, features.SUBWORD_MAX + 1):
        fits = left >= length
        at = np.flatnonzero(fits)
        value[at] = (value[at] ^ data[at + length - 1]) * np.uint32(features.HASH_PRIME)
        if length >= features.SUBWORD_MIN:
            bucket = (value[at] * np.uint32(features.MIX_PRIME)) >> np.uint32(32 - features.BUCKET_BITS)
            keys.append(owner[at] << 32 | bucket.astype(np.int64))
    distinct = np.unique(np.concatenate(keys))
    for column in range(bucket_values.shape[1]):
        weights = bucket_values[distinct & 0xFFFFFFFF, column]
        sums[:, column] = np.bincount(distinct >> 32, weights=weights, minlength=len(words))
    return sums


def estimate_prior(scorer: BatchScorer, texts: pa.Array, iterations: int = 500) -> dict[Axis, float]:
    """Estimate the share of each axis' first class in a batch of texts.

    Expectation maximisation of Saerens, Latinne and Decaestecker (2002), "Adjusting the outputs of a
    classifier to new a priori probabilities", from log-odds under equal priors; kept in [0.02, 0.98].
    """
    blocks = [scorer.score(texts[i : i + MAX_ROWS]) for i in range(0, len(texts), MAX_ROWS)]
    shares: dict[Axis, float] = {}
    for axis in AXES:
        odds = np.exp(np.concatenate([getattr(block, axis) for block in blocks] or [np.zeros(0)]))
        second = 0.5
        for _ in range(iterations if len(odds) else 0):
            ratio = second / (1 - second)
            updated = float(np.clip(np.mean(odds * ratio / (1 + odds * ratio)), 0.02, 0.98))
            converged = abs(updated - second) < 1e-9
            second = updated
            if converged:
                break
        shares[axis] = 1 - second
    return shares


def _array(model: ModelFile, name: str, dtype: Any) -> NDArray[Any]:
    return np.frombuffer(model.arrays[name], dtype=dtype)


def _matrix(model: ModelFile, name: str) -> NDArray[np.float32]:
    return _array(model, name, np.float32).reshape(-1, len(COLUMNS))


def _packed_counts(flags: NDArray[Any]) -> Ints:
    """Spread the flags of words over one integer, so that one sum counts all three."""
    wide = flags.astype(np.int64)
    return (wide & KNOWN) | (wide & ENGLISH) >> 1 << 20 | (wide & FOREIGN) >> 2 << 40


def _buffers(texts: pa.StringArray) -> tuple[NDArray[np.uint8], Ints]:
    """Return the bytes of a string array, and where each text begins in them."""
    _, offset_buffer, data_buffer = texts.buffers()
    offsets = np.frombuffer(offset_buffer, dtype=np.int32)[texts.offset : texts.offset + len(texts) + 1]
    if not len(texts) or data_buffer is None:
        return np.zeros(0, dtype=np.uint8), np.zeros(len(texts) + 1, dtype=np.int64)
    data = np.frombuffer(data_buffer, dtype=np.uint8)[offsets[0] : offsets[-1]]
    return data, offsets.astype(np.int64) - offsets[0]


def _rows_of(positions: Ints, offsets: Ints) -> Ints:
    return np.searchsorted(offsets, positions, side="right") - 1


def _word_bytes() -> NDArray[np.uint8]:
    """Return what each byte of a folded text becomes in a word, 0 where it separates words."""
    table = np.zeros(256, dtype=np.uint8)
    for code in range(128):
        word = features.tokenize(chr(code))
        table[code] = ord(word[0]) if word else 0
    table[ord("#")] = 0
    table[0x80:] = np.arange(0x80, 0x100)
    return table


_WORD_BYTES: Final = _word_bytes()

_MOST_CENTS: Final = 9999


@cache
def _cents_text() -> pa.Array:
    """Contributions as they are shown, from -99.99 to +99.99."""
    return pa.array([f"{cents / 100:+.2f}" for cents in range(-_MOST_CENTS, _MOST_CENTS + 1)])
