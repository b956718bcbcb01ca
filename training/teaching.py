"""What the notebooks share: the corpus or a small part of it, tables of its card, an unseen trade.

``LOOPWISE_SMALL=1`` makes every notebook run in seconds: the code is the same, the figures mean nothing.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from importlib.resources import files
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pandas as pd

from loopwise.errors import InputError
from loopwise.model.labels import AXES
from loopwise.training.corpus import Corpus
from loopwise.training.evaluate import LabelledTexts
from loopwise.training.fit import Recipe

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from pandas.io.formats.style import Styler

SMALL_VARIABLE: Final = "LOOPWISE_SMALL"
#: Rows to train on, test rows, words and texts out of scope in small mode.
_SMALL_SIZES: Final = (300, 200, 200, 40)
#: Deciles of the length in characters of 468 real tasks from 12 public sources (see the README).
REAL_LENGTHS: Final = (38, 47, 56, 66, 74, 85, 112, 156, 262)


def is_small() -> bool:
    """Return whether ``LOOPWISE_SMALL=1`` asks for a quick run on little data."""
    return os.environ.get(SMALL_VARIABLE) == "1"


def teaching_corpus() -> Corpus:
    """Return the shipped corpus, or a small part of it in small mode."""
    whole = Corpus.shipped()
    if not is_small():
        return whole
    n_rows, n_test, n_words, n_noise = _SMALL_SIZES
    is_test = whole.rows["split"] == "test"
    rows = [
        whole.rows[~is_test].sample(n_rows, random_state=1),
        whole.rows[is_test].sample(n_test, random_state=1),
    ]
    words = whole.lexicon.sample(n_words, random_state=1)
    noise = whole.out_of_scope.sample(n_noise, random_state=1)
    return Corpus(*(frame.reset_index(drop=True) for frame in (pd.concat(rows), words, noise)))


def teaching_options() -> dict[str, Any]:
    """Return what `train` and `learning_curve` take besides the labels: corpus, recipe, weight."""
    options: dict[str, Any] = {"corpus": teaching_corpus()}
    if is_small():
        # With a strong penalty; next to few rows a label need not weigh much.
        options["recipe"] = Recipe(
            C=dict.fromkeys(("loop", "mode", "scope"), 0.2),
            natural_weight=dict.fromkeys(("loop", "mode"), 1.0),
        )
        options |= {"weight": 1.0, "n_jobs": 1}
    return options


def labelled(corpus: Corpus) -> LabelledTexts:
    """Return the rows of a corpus as texts with labels, for `loopwise.training.evaluate.evaluate`."""
    second = {axis: corpus.is_second(axis) for axis in AXES}
    sure = {axis: corpus.is_sure(axis) for axis in AXES}
    return LabelledTexts(corpus.texts, second, sure, None)


def example(name: str) -> pd.DataFrame:
    """Return a sample backlog of ``data/examples`` with every cell as text; empty cells stay empty."""
    with (files("loopwise.data") / "examples" / name).open("rb") as file:
        return pd.read_csv(file, dtype=str, keep_default_na=False)


def harbour() -> pd.DataFrame:
    """Return the tasks of a trade that the corpus does not know, with the answers: text, loop, mode."""
    frame = example("harbour.csv")
    names = {"title": "text", "right_loop": "loop", "right_mode": "mode"}
    return frame.rename(columns=names)[list(names.values())]


def card_table(*columns: str) -> pd.DataFrame:
    """Return the table of the dataset card whose header holds `columns`.

    Parameters
    ----------
    *columns : str
        Names that stand in its header.

    Returns
    -------
    DataFrame
        Cells as text.

    Raises
    ------
    InputError
        If there is no such table.
    """
    card = (files("loopwise.data") / "README.md").read_text("utf-8")
    for block in card.split("\n\n"):
        lines = [_cells(line) for line in block.splitlines() if line.startswith("|")]
        if len(lines) > 2 and set(columns) <= set(lines[0]):
            return pd.DataFrame(lines[2:], columns=lines[0])
    raise InputError(f"data/README.md has no table with the columns {', '.join(columns)}")


def _cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip().strip("|").split("|")]


def as_table(
    rows: pd.DataFrame | Sequence[Any], columns: Sequence[str] | None = None, decimals: int = 2
) -> Styler:
    """Return rows as a notebook should show them: texts whole, to the left, and never read as HTML.

    Parameters
    ----------
    rows : DataFrame or sequence of tuple
    columns : sequence of str, optional
        Names of the columns; those of the frame unless given.
    decimals : int
    """
    frame = pd.DataFrame(rows, columns=columns)
    left = {"selector": "th, td", "props": "text-align: left"}
    return frame.style.hide(axis="index").format(precision=decimals, escape="html").set_table_styles([left])


def quadrant(rows: pd.DataFrame) -> pd.Series:
    """Return for each row both answers in one name, such as ``code, autonomous``."""
    return rows["loop"] + ", " + rows["mode"]


def contrast_pairs(rows: pd.DataFrame, n: int, seed: int = 0) -> pd.DataFrame:
    """Return `n` pairs of rows that share most words and differ in a label, drawn at random.

    Returns
    -------
    DataFrame
        ``text, label`` of one row, and ``other_text, other_label`` of the other.
    """
    grouped = rows.loc[rows["group"] != "", ["group", "text"]].assign(label=quadrant(rows))
    first = grouped.drop_duplicates("group")
    both = first.merge(grouped, on="group", suffixes=("", "_of_other"))
    pairs = both[both["label"] != both["label_of_other"]].drop_duplicates("group")
    names = {"text_of_other": "other_text", "label_of_other": "other_label"}
    pairs = pairs.rename(columns=names).drop(columns="group")
    return pairs.sample(min(n, len(pairs)), random_state=seed).reset_index(drop=True)


def accuracy(frame: pd.DataFrame, said: dict[Any, NDArray[np.float64]]) -> dict[str, float]:
    """Return the share of right answers by axis, from log-odds toward the second class.

    Parameters
    ----------
    frame : DataFrame
        With the right answers in the columns loop and mode.
    said : dict of axis to ndarray
        As `loopwise.training.gate.log_odds` returns them.
    """
    right = {axis: (frame[axis] == names[1]).to_numpy() == (said[axis] > 0) for axis, names in AXES.items()}
    return {axis: float(hits.mean()) for axis, hits in right.items()}
