"""Score one text at a time, in plain Python: the fast start, and the reference for the batch scorer."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import sqrt
from typing import Final, NamedTuple

from loopwise.model.features import CUES, EDGE, cues, subword_buckets, tokenize
from loopwise.model.modelfile import COLUMNS, ENGLISH, FOREIGN, KNOWN, ModelFile

WIDTH: Final = len(COLUMNS)
_CACHE_LIMIT: Final = 1 << 16
#: Characters of one text that are read; what follows is cut off, so that a log file stays cheap.
MAX_TEXT_LENGTH: Final = 100_000
#: Contributions smaller than this would read as 0.00 and are not shown.
SHOWN_FROM: Final = 0.01
#: Contributions are ranked by their size in whole parts of 1 / `RANKED_IN`.
RANKED_IN: Final = 4096


class Token(NamedTuple):
    """What the model knows of a word: its parts, its squared norm, its flags, its 1-based number or 0."""

    name: str
    loop: float
    mode: float
    scope: float
    norm: float
    flags: int
    number: int


class Feature(NamedTuple):
    """What the model knows of a pair or a cue."""

    name: str
    loop: float
    mode: float
    scope: float
    norm: float


@dataclass(frozen=True, slots=True)
class Score:
    """What the model adds up for one text.

    Attributes
    ----------
    loop, mode, scope : float
        Calibrated log-odds under equal priors toward knowledge, interactive, and being a task.
    found : list of (str, float, float, ...)
        Name, part for loop, part for mode of every feature of the text in its order, not yet scaled.
    scale : float
        What the parts are multiplied by.
    n_words, n_known, n_english, n_foreign : int
        Number of words, of those the model was shown, and of those that mark a language.
    """

    loop: float
    mode: float
    scope: float
    found: Sequence[Token | Feature]
    scale: float
    n_words: int
    n_known: int
    n_english: int
    n_foreign: int

    @property
    def contributions(self) -> list[tuple[str, float, float]]:
        """Name, contribution to loop, contribution to mode of every distinct feature that counts.

        In the order of the text; with the intercepts they sum to `loop` and `mode`. Made when asked for,
        since most calls never are.
        """
        parts: dict[str, tuple[float, float]] = {}
        for name, loop, mode, *_ in self.found:
            before = parts.get(name)
            parts[name] = (before[0] + loop, before[1] + mode) if before else (loop, mode)
        return [(name, loop * self.scale, mode * self.scale) for name, (loop, mode) in parts.items()]


class _WordTable:
    """The sorted words of a model file as a sequence of bytes, for `bisect`."""

    def __init__(self, model: ModelFile) -> None:
        self._bytes = model.arrays["word_bytes"]
        self._offsets = model.arrays["word_offsets"]

    def __len__(self) -> int:
        return len(self._offsets) - 1

    def __getitem__(self, i: int) -> bytes:
        return self._bytes[self._offsets[i] : self._offsets[i + 1]].tobytes()

    def __iter__(self) -> Iterator[bytes]:
        return (self[i] for i in range(len(self)))

    def find(self, word: bytes) -> int:
        """Return the number of `word`, or -1."""
        i = bisect_left(self, word)
        return i if i < len(self) and self[i] == word else -1


class Scorer:
    """Scores texts with a model file. Safe to share between threads: caches only ever gain entries."""

    def __init__(self, model: ModelFile) -> None:
        self.model = model
        self.words = _WordTable(model)
        arrays = model.arrays
        self._word_values = arrays["word_values"]
        self._word_flags = arrays["word_flags"]
        self._pair_keys = arrays["pair_keys"]
        self._pair_values = arrays["pair_values"]
        self._bucket_values = arrays["bucket_values"]
        values = arrays["cue_values"]
        self._cues: list[Feature] = [
            Feature(name, *values[i * WIDTH : (i + 1) * WIDTH]) for i, name in enumerate(CUES)
        ]
        self.intercepts: Final = (
            float(model.fields["axes"]["loop"]["intercept"]),
            float(model.fields["axes"]["mode"]["intercept"]),
            float(model.fields["scope"]["intercept"]),
        )
        self._tokens: dict[str, Token] = {}
        self._pairs: dict[int, Feature | None] = {}

    def token(self, word: str) -> Token:
        """Return everything the model knows of a folded word, looked up once and remembered."""
        number = self.words.find(word.encode("utf-8", "replace"))
        if number >= 0:
            loop, mode, scope, norm = self._word_values[number * WIDTH : (number + 1) * WIDTH]
            entry = Token(word, loop, mode, scope, norm, self._word_flags[number], number + 1)
        else:
            loop = mode = scope = norm = 0.0
            for bucket in subword_buckets(word):
                start = bucket * WIDTH
                loop += self._bucket_values[start]
                mode += self._bucket_values[start + 1]
                scope += self._bucket_values[start + 2]
                norm += self._bucket_values[start + 3]
            entry = Token(word, loop, mode, scope, norm, 0, 0)
        if len(self._tokens) >= _CACHE_LIMIT:
            self._tokens = {}
        self._tokens[word] = entry
        return entry

    def pair(self, key: int, first: str, second: str) -> Feature | None:
        """Return what the model knows of the pair of two words by its key, or None."""
        i = bisect_left(self._pair_keys, key)
        entry: Feature | None = None
        if i < len(self._pair_keys) and self._pair_keys[i] == key:
            loop, mode, scope, norm = self._pair_values[i * WIDTH : (i + 1) * WIDTH]
            entry = Feature(pair_name(first, second), loop, mode, scope, norm)
        if len(self._pairs) >= _CACHE_LIMIT:
            self._pairs = {}
        self._pairs[key] = entry
        return entry

    def score(self, text: str) -> Score:
        """Score `text`; any string will do, the empty one included."""
        words = tokenize(text)
        tokens, known_pairs = self._tokens, self._pairs
        found: list[Token | Feature] = []
        n_known = n_english = n_foreign = 0
        previous_word, previous = EDGE, 0
        for word in words:
            token = tokens.get(word) or self.token(word)
            found.append(token)
            flags, number = token.flags, token.number
            if flags:
                n_known += flags & KNOWN
                n_english += (flags & ENGLISH) >> 1
                n_foreign += (flags & FOREIGN) >> 2
            if number and (previous or previous_word is EDGE):
                key = previous << 32 | number
                pair = known_pairs[key] if key in known_pairs else self.pair(key, previous_word, word)
                if pair:
                    found.append(pair)
            previous_word, previous = word, number
        if previous or not words:
            key = previous << 32
            pair = known_pairs[key] if key in known_pairs else self.pair(key, previous_word, EDGE)
            if pair:
                found.append(pair)
        found += [self._cues[cue] for cue in cues(text, len(words))]
        loop = mode = scope = squared = 0.0
        for feature in found:
            loop += feature[1]
            mode += feature[2]
            scope += feature[3]
            squared += feature[4]
        scale = 1.0 / sqrt(squared) if squared > 0 else 0.0
        return Score(
            loop=self.intercepts[0] + loop * scale,
            mode=self.intercepts[1] + mode * scale,
            scope=self.intercepts[2] + scope * scale,
            found=found,
            scale=scale,
            n_words=len(words),
            n_known=n_known,
            n_english=n_english,
            n_foreign=n_foreign,
        )


def strongest(contributions: list[tuple[str, float]], k: int, sign: float = 1.0) -> list[tuple[str, float]]:
    """Return the `k` contributions of largest absolute value, strongest first, times `sign`.

    Those under `SHOWN_FROM` are left out; of two that are equally strong the earlier comes first.
    """
    ranked = [
        (-int(abs(value) * RANKED_IN), place)
        for place, (_, value) in enumerate(contributions)
        if not -SHOWN_FROM < value < SHOWN_FROM
    ]
    ranked.sort()
    shown = (contributions[place] for _, place in ranked[:k])
    return [(name, sign * value) for name, value in shown]


def pair_name(first: str, second: str) -> str:
    """Return how a pair is shown: ``a b``, or ``^a`` and ``b$`` at the edges of the text."""
    if first == EDGE:
        return f"^{second}" if second != EDGE else "^$"
    return f"{first}$" if second == EDGE else f"{first} {second}"
