"""Load what we know: the labelled rows, the lexicon, and the texts that are no tasks."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from importlib.resources import as_file, files
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Final

import datasets
import numpy as np
import pandas as pd

from loopwise.model.labels import AXES, Axis

if TYPE_CHECKING:
    from numpy.typing import NDArray

CORPUS_NAME: Final = "corpus.csv"
LEXICON_NAME: Final = "lexicon.csv"
OUT_OF_SCOPE_NAME: Final = "out_of_scope.csv"
SPLITS: Final = ("train", "validation", "test")
UNSURE: Final = ("", "loop", "mode", "both")

FEATURES: Final = datasets.Features(
    {
        "id": datasets.Value("string"),
        "text": datasets.Value("string"),
        "loop": datasets.ClassLabel(names=list(AXES["loop"])),
        "mode": datasets.ClassLabel(names=list(AXES["mode"])),
        "unsure": datasets.Value("string"),
        "mode_grade": datasets.Value("float32"),
        "trade": datasets.Value("string"),
        "form": datasets.Value("string"),
        "hand": datasets.Value("string"),
        "group": datasets.Value("string"),
        "split": datasets.Value("string"),
        "source": datasets.Value("string"),
    }
)


def load_dataset(path: Path | str | None = None) -> datasets.Dataset:
    """Load the corpus with `ClassLabel` features for loop and mode.

    Parameters
    ----------
    path : path, optional
        A corpus file; the shipped one unless given.
    """
    if path is None:
        with as_file(files("loopwise.data") / CORPUS_NAME) as shipped:
            return load_dataset(shipped)
    # In memory, with a cache that goes away: loading leaves nothing behind in a home.
    datasets.disable_progress_bars()
    with TemporaryDirectory(prefix="loopwise-") as cache:
        return datasets.Dataset.from_csv(
            str(path),
            features=FEATURES,
            cache_dir=cache,
            keep_in_memory=True,
            keep_default_na=False,
            na_values={"mode_grade": [""]},
        )


#: The hands that wrote without thought of labels.
NATURAL_HANDS: Final = r"(?:t-)?n\d+"


@dataclass(frozen=True)
class Corpus:
    """Everything that a model is trained from.

    Attributes
    ----------
    rows : DataFrame
        The columns of `FEATURES`, labels as words.
    lexicon : DataFrame
        ``phrase, loop, mode, trade, hand`` with grades from -2 (surely knowledge, surely autonomous)
        to 2 (surely code, surely interactive).
    out_of_scope : DataFrame
        ``text, kind``: greetings, verse, noise and other texts that are no tasks.
    """

    rows: pd.DataFrame
    lexicon: pd.DataFrame
    out_of_scope: pd.DataFrame

    @classmethod
    def shipped(cls) -> Corpus:
        """Load the corpus that ships with the package."""
        dataset = load_dataset()
        rows = dataset.to_pandas()
        for axis in AXES:
            rows[axis] = dataset.features[axis].int2str(rows[axis].to_numpy())
        rows = rows.astype({name: "string" for name in rows.columns if name != "mode_grade"})
        return cls(rows, _read(LEXICON_NAME), _read(OUT_OF_SCOPE_NAME))

    def part(self, splits: Iterable[str]) -> Corpus:
        """Return the corpus with only the rows of `splits`; words and noise stay."""
        kept = self.rows[self.rows["split"].isin(list(splits))].reset_index(drop=True)
        return Corpus(kept, self.lexicon, self.out_of_scope)

    @cached_property
    def texts(self) -> list[str]:
        """The texts of all rows."""
        return list(self.rows["text"])

    @cached_property
    def groups(self) -> NDArray[np.int64]:
        """A number for each row: rows of one contrast pair or near-duplicate cluster share it."""
        names = self.rows["group"].where(self.rows["group"] != "", self.rows["id"])
        return np.asarray(pd.factorize(names)[0], dtype=np.int64)

    def is_second(self, axis: Axis) -> NDArray[np.bool_]:
        """Return for each row whether its label is the second class of `axis`."""
        return np.asarray(self.rows[axis] == AXES[axis][1], dtype=bool)

    def is_sure(self, axis: Axis) -> NDArray[np.bool_]:
        """Return for each row whether its label on `axis` is sure."""
        return np.asarray(~self.rows["unsure"].isin([axis, "both"]), dtype=bool)

    @cached_property
    def mode_grade(self) -> NDArray[np.float64]:
        """How many of ten careful readers would want to see each step of a row's task, from 0 to 9.

        A reader's estimate, or the mean of two; 9 stands for nine or ten, NaN where nobody was asked.
        """
        return np.asarray(self.rows["mode_grade"], dtype=np.float64)

    @cached_property
    def is_natural(self) -> NDArray[np.bool_]:
        """Return for each row whether it was written without thought of labels, as backlogs are.

        Others labelled it afterwards. Such rows are the nearest that the corpus has to strangers' texts.
        """
        return np.asarray(self.rows["hand"].str.fullmatch(NATURAL_HANDS), dtype=bool)

    @property
    def fingerprint(self) -> str:
        """A SHA-256 over all rows, words and noise: what a model was trained from."""
        digest = hashlib.sha256()
        for frame in (self.rows, self.lexicon, self.out_of_scope):
            digest.update(frame.to_csv(index=False).encode("utf-8"))
        return digest.hexdigest()


def _read(name: str) -> pd.DataFrame:
    with (files("loopwise.data") / name).open("rb") as file:
        return pd.read_csv(file, keep_default_na=False)
