"""Borrowed meaning: one vector for each word of a large vocabulary, read from a compact table.

The table is made by `training/make_vectors.py` from a small sentence encoder (see `NOTICE`
beside the table). Only recipes that use it open it: what is served is one folded weight a word.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from importlib.resources import as_file, files
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from safetensors.numpy import load_file, save_file

if TYPE_CHECKING:
    from numpy.typing import NDArray

TABLE_NAME = "vectors.safetensors"


@dataclass(frozen=True)
class WordVectors:
    """Words and their vectors.

    Attributes
    ----------
    words : tuple of str
        Folded words (see `loopwise.model.features.fold`), without repeats.
    matrix : ndarray of shape (n_words, n_dims), float32
        One row a word; rows have a mean norm of 1.
    """

    words: tuple[str, ...]
    matrix: NDArray[np.float32] = field(repr=False)

    @cached_property
    def index(self) -> dict[str, int]:
        """The row of each word."""
        return {word: row for row, word in enumerate(self.words)}

    @cached_property
    def squared_norms(self) -> NDArray[np.float64]:
        """Squared length of each row, shape (n_words,)."""
        return np.asarray(np.einsum("ij,ij->i", self.matrix, self.matrix, dtype=np.float64))

    def head(self, n_words: int | None = None, n_dims: int | None = None) -> WordVectors:
        """The table cut to its first `n_words` words and `n_dims` dimensions; all of them unless given."""
        if n_words is None and n_dims is None:
            return self
        cut = self.matrix[:n_words, :n_dims]
        scale = float(np.linalg.norm(cut, axis=1).mean()) or 1.0
        return WordVectors(self.words[:n_words], cut / np.float32(scale))

    def save(self, path: Path) -> None:
        """Write the table as int8 with one scale a dimension, rows in the order of `words`."""
        scale = np.maximum(np.abs(self.matrix).max(axis=0), 1e-12) / 127
        quantised = np.round(self.matrix / scale).astype(np.int8)
        spelling = np.frombuffer("\n".join(self.words).encode(), dtype=np.uint8)
        tensors = {"words": spelling, "vectors": quantised, "scale": scale.astype(np.float32)}
        save_file(tensors, path)

    @classmethod
    def load(cls, path: Path) -> WordVectors:
        """Read a table written by `save`."""
        tensors = load_file(path)
        words = tuple(tensors["words"].tobytes().decode().split("\n"))
        return cls(words, tensors["vectors"] * tensors["scale"])

    @classmethod
    def shipped(cls) -> WordVectors:
        """Read the table that ships with the package."""
        with as_file(files("loopwise.model") / "vectors" / TABLE_NAME) as path:
            return cls.load(path)
