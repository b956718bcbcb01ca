"""What the model sees of a text: its words, its adjacent pairs, its sub-words, its cues.

This module is the one definition of the features. Training counts them through
`loopwise.model.vectorizer`, single texts are scored from them directly, and the
batch scorer computes the same things on whole columns; tests compare the three.

It needs nothing outside the standard library, so that the command line starts fast.
"""

from __future__ import annotations

import re
import unicodedata
from itertools import pairwise
from typing import Final

#: Sub-words are byte n-grams of `<word>` with these lengths, hashed into `N_BUCKETS` buckets
#: (the hashing trick of Weinberger et al., 2009, as fastText uses it).
SUBWORD_MIN: Final = 3
SUBWORD_MAX: Final = 5
BUCKET_BITS: Final = 17
N_BUCKETS: Final = 1 << BUCKET_BITS
#: Only this many bytes of a word give sub-words: enough for any word, and a bound for base64.
SUBWORD_BYTES: Final = 40

HASH_BASIS: Final = 0x811C9DC5
HASH_PRIME: Final = 0x01000193
MIX_PRIME: Final = 0x9E3779B1
_MASK: Final = 0xFFFFFFFF

# Every digit reads as "#", so that "v12", "404" and "PROJ-1234" are shapes and not thousands of words;
# a "#" of the text itself is punctuation like any other.
_ASCII_FOLD: Final = {ord(d): "#" for d in "0123456789"} | {ord("#"): " ", ord("_"): " "}
_FOLDED_WORD: Final = re.compile(r"(?:[^\W_]|#)+")
# The combining marks that accents decompose into.
_ACCENT: Final = re.compile("[\u0300-\u036f\u1ab0-\u1aff\u1dc0-\u1dff\u20d0-\u20ff\ufe20-\ufe2f]")
_DIGIT: Final = re.compile(r"\d")

#: A text's first and last word are pairs too, with the edges of the text.
EDGE: Final = "^"

#: Cues, in their fixed order. Each is a pseudo-token: there or not there, once per text.
CUES: Final = (
    "(question mark)",
    "(backtick)",
    "(path or URL)",
    "(line break)",
    "(quotes)",
    "(1-3 words)",
    "(4-7 words)",
    "(8-15 words)",
    "(16-40 words)",
    "(over 40 words)",
)
#: The marks behind the first cues, in their order.
CUE_MARKS: Final = ("?", "`", "/", "\n", '"')
#: Length classes: a text of at most this many words falls into the class; the last is open.
LENGTH_EDGES: Final = (3, 7, 15, 40)


def fold(text: str) -> str:
    """Lower-case `text`, strip accents, and read every digit as ``#``.

    The result holds the same words for the plain-Python and the vectorised tokenizer: in it,
    a word is a run of ASCII letters, ``#``, or any non-ASCII character.
    """
    if text.isascii():
        return text.lower().translate(_ASCII_FOLD)
    bare = _ACCENT.sub("", unicodedata.normalize("NFKD", text))
    folded = _DIGIT.sub("#", bare.replace("#", " ").lower())
    return " ".join(_FOLDED_WORD.findall(folded))


def tokenize(text: str) -> list[str]:
    """Return the words of `text` in order, folded. Punctuation and ``_`` separate words."""
    return _FOLDED_WORD.findall(fold(text))


def pairs(words: list[str]) -> list[str]:
    """Return the adjacent pairs of `words`, the edges of the text included, as ``"a b"``."""
    if not words:
        return []
    edged = [EDGE, *words, EDGE]
    return [f"{a} {b}" for a, b in pairwise(edged)]


def cues(text: str, n_words: int) -> list[int]:
    """Return the indices into `CUES` that hold for `text` of `n_words` words."""
    found = [index for index, mark in enumerate(CUE_MARKS) if mark in text]
    found.append(len(CUE_MARKS) + sum(n_words > edge for edge in LENGTH_EDGES))
    return found


def subword_buckets(word: str) -> list[int]:
    """Return the distinct hash buckets of the byte n-grams of ``<word>``, in ascending order.

    Each n-gram is hashed with FNV-1a (Fowler, Noll and Vo) on 32 bits, then mixed by a
    multiplication, of which the upper `BUCKET_BITS` bits are kept.
    """
    data = b"<" + word.encode("utf-8", "replace")[:SUBWORD_BYTES] + b">"
    found = set()
    for start in range(len(data) - SUBWORD_MIN + 1):
        value = HASH_BASIS
        for length, byte in enumerate(data[start : start + SUBWORD_MAX], start=1):
            value = ((value ^ byte) * HASH_PRIME) & _MASK
            if length >= SUBWORD_MIN:
                found.add(((value * MIX_PRIME) & _MASK) >> (32 - BUCKET_BITS))
    return sorted(found)
