"""Score one text at a time, in plain Python: the fast start, and the reference for the batch scorer."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import dataclass
from math import sqrt
from typing import Final

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

#: Contribution to loop, to mode, to scope; squared norm; flags; 1-based word number or 0.
Token = tuple[float, float, float, float, int, int]
#: Contribution to loop, to mode, to scope; squared norm; how it is shown.
Pair = tuple[float, float, float, float, str]


@dataclass(frozen=True, slots=True)
class Score:
    """What the model adds up for one text.

    Attributes
    ----------
    loop, mode, scope : float
        Calibrated log-odds under equal priors toward knowledge, interactive, and being a task.
    contributions : list of (str, float, float)
        Name, contribution to loop, contribution to mode of every distinct feature that counts, in the
        order of the text; with the intercepts they sum to `loop` and `mode`.
    n_words, n_known, n_english, n_foreign : int
        Number of words, of those the model was shown, and of those that mark a language.
    """

    loop: float
    mode: float
    scope: float
    contributions: list[tuple[str, float, float]]
    n_words: int
    n_known: int
    n_english: int
    n_foreign: int


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
        self._cues = [tuple(values[i * WIDTH : (i + 1) * WIDTH]) for i in range(len(CUES))]
        self.intercepts: Final = (
            float(model.fields["axes"]["loop"]["intercept"]),
            float(model.fields["axes"]["mode"]["intercept"]),
            float(model.fields["scope"]["intercept"]),
        )
        self._tokens: dict[str, Token] = {}
        self._pairs: dict[int, Pair | None] = {}

    def token(self, word: str) -> Token:
        """Return everything the model knows of a folded word, looked up once and remembered."""
        number = self.words.find(word.encode("utf-8", "replace"))
        if number >= 0:
            loop, mode, scope, norm = self._word_values[number * WIDTH : (number + 1) * WIDTH]
            entry = (loop, mode, scope, norm, self._word_flags[number], number + 1)
        else:
            loop = mode = scope = norm = 0.0
            for bucket in subword_buckets(word):
                start = bucket * WIDTH
                loop += self._bucket_values[start]
                mode += self._bucket_values[start + 1]
                scope += self._bucket_values[start + 2]
                norm += self._bucket_values[start + 3]
            entry = (loop, mode, scope, norm, 0, 0)
        if len(self._tokens) >= _CACHE_LIMIT:
            self._tokens = {}
        self._tokens[word] = entry
        return entry

    def pair(self, key: int, first: str, second: str) -> Pair | None:
        """Return what the model knows of the pair of two words by its key, or None."""
        i = bisect_left(self._pair_keys, key)
        entry: Pair | None = None
        if i < len(self._pair_keys) and self._pair_keys[i] == key:
            loop, mode, scope, norm = self._pair_values[i * WIDTH : (i + 1) * WIDTH]
            entry = (loop, mode, scope, norm, pair_name(first, second))
        if len(self._pairs) >= _CACHE_LIMIT:
            self._pairs = {}
        self._pairs[key] = entry
        return entry

    def score(self, text: str) -> Score:
        """Score `text`; any string will do, the empty one included."""
        words = tokenize(text)
        tokens, known_pairs = self._tokens, self._pairs
        parts: dict[str, tuple[float, float]] = {}
        scope, squared = 0.0, 0.0
        n_known = n_english = n_foreign = 0
        previous_word, previous = EDGE, 0
        for word in (*words, EDGE):
            if word is EDGE:
                number = 0
            else:
                entry = tokens.get(word) or self.token(word)
                t_loop, t_mode, t_scope, t_norm, flags, number = entry
                squared += t_norm
                scope += t_scope
                n_known += flags & KNOWN
                n_english += (flags & ENGLISH) >> 1
                n_foreign += (flags & FOREIGN) >> 2
                before = parts.get(word)
                parts[word] = (before[0] + t_loop, before[1] + t_mode) if before else (t_loop, t_mode)
            if (number or word is EDGE) and (previous or previous_word is EDGE):
                key = previous << 32 | number
                pair = known_pairs[key] if key in known_pairs else self.pair(key, previous_word, word)
                if pair:
                    p_loop, p_mode, p_scope, p_norm, name = pair
                    squared += p_norm
                    scope += p_scope
                    before = parts.get(name)
                    parts[name] = (before[0] + p_loop, before[1] + p_mode) if before else (p_loop, p_mode)
            previous_word, previous = word, number
        for cue in cues(text, len(words)):
            c_loop, c_mode, c_scope, c_norm = self._cues[cue]
            squared += c_norm
            scope += c_scope
            parts[CUES[cue]] = (c_loop, c_mode)
        scale = 1.0 / sqrt(squared) if squared > 0 else 0.0
        contributions = [(name, a * scale, b * scale) for name, (a, b) in parts.items()]
        return Score(
            loop=self.intercepts[0] + sum(c[1] for c in contributions),
            mode=self.intercepts[1] + sum(c[2] for c in contributions),
            scope=self.intercepts[2] + scope * scale,
            contributions=contributions,
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
