"""Keep the corpus in order: ``make corpus-check`` fails on what must not be, and prints the coverage."""

from __future__ import annotations

import re
import sys
import unicodedata
from collections.abc import Iterator
from typing import Final

import numpy as np
import pandas as pd
from rapidfuzz import fuzz
from rich.console import Console
from rich.table import Table
from rich.text import Text
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.neighbors import NearestNeighbors

from loopwise.model.features import tokenize
from loopwise.model.labels import AXES
from loopwise.training.corpus import FEATURES, SPLITS, UNSURE, Corpus

MAX_LENGTH: Final = 1500
#: Each quadrant holds at least this share of the rows. Natural rows, three in five, come as unevenly
#: as backlogs hold them.
MIN_QUADRANT: Final = 0.12
#: Rows of different groups that are this alike are near-duplicates (rapidfuzz, words in any order).
NEAR_DUPLICATE: Final = 90.0
_CANDIDATES: Final = 0.35
FORMS: Final = (
    "title", "body", "bug", "wish", "changelog", "checklist", "commit", "story", "chat", "email",
    "prompt", "automation", "question", "exam", "catalogue", "note",
)  # fmt: skip
_MAIL: Final = re.compile(r"[\w.+-]+@[\w-]+\.\w+")
_PHONE: Final = re.compile(r"(?<![\w#.-])(?:\+|00?)[1-9](?:[ ()/-]?\d){7,}(?![\w-])")


def problems(corpus: Corpus) -> Iterator[str]:
    """Yield everything that must not be in the corpus, one message each, naming the row."""
    rows = corpus.rows
    yield from _field_problems(rows)
    yield from _text_problems(rows)
    yield from _balance_problems(rows)
    yield from _group_problems(rows)
    yield from near_duplicates(rows)
    yield from _lexicon_problems(corpus.lexicon)


def _field_problems(rows: pd.DataFrame) -> Iterator[str]:
    if list(rows.columns) != list(FEATURES):
        yield f"the columns are {list(rows.columns)}, and should be {list(FEATURES)}"
        return
    for name in ("id", "text", "trade", "form", "hand", "split", "source"):
        for row_id in rows.loc[rows[name].str.strip() == "", "id"]:
            yield f"{row_id}: the field {name} is empty"
    valid = {"unsure": UNSURE, "split": SPLITS, "form": FORMS}
    for name, values in valid.items():
        for row in rows[~rows[name].isin(values)].itertuples():
            yield f"{row.id}: unknown {name} {getattr(row, name)!r}; valid are {', '.join(map(repr, values))}"
    for row in rows[~rows["mode_grade"].between(0, 9)].itertuples():
        yield f"{row.id}: the mode_grade {row.mode_grade} is not a number from 0 to 9"
    for row_id in rows.loc[rows["id"].duplicated(), "id"]:
        yield f"{row_id}: the id occurs twice"


def _text_problems(rows: pd.DataFrame) -> Iterator[str]:
    words = [" ".join(tokenize(text)) for text in rows["text"]]
    for row_id, same in zip(rows["id"], pd.Series(words).duplicated(), strict=True):
        if same:
            yield f"{row_id}: the text occurs twice"
    for row_id, text, found in zip(rows["id"], rows["text"], words, strict=True):
        if not found:
            yield f"{row_id}: the text has no words"
        if len(text) > MAX_LENGTH:
            yield f"{row_id}: the text has {len(text)} characters; at most {MAX_LENGTH}"
        if text != unicodedata.normalize("NFC", text):
            yield f"{row_id}: the text is not in Unicode normal form C"
        for what, pattern in (("a mail address", _MAIL), ("a phone number", _PHONE)):
            if match := pattern.search(text):
                yield f"{row_id}: {match[0]!r} looks like {what}"


def _balance_problems(rows: pd.DataFrame) -> Iterator[str]:
    for loop in AXES["loop"]:
        for mode in AXES["mode"]:
            share = float(((rows["loop"] == loop) & (rows["mode"] == mode)).mean())
            if share < MIN_QUADRANT:
                yield f"{loop}, {mode}: only {share:.1%} of the rows; at least {MIN_QUADRANT:.0%} are needed"


def _group_problems(rows: pd.DataFrame) -> Iterator[str]:
    grouped = rows[rows["group"] != ""]
    for group, n_splits in grouped.groupby("group")["split"].nunique().items():
        if n_splits > 1:
            yield f"group {group}: its rows are in {n_splits} splits; they belong together"


def near_duplicates(rows: pd.DataFrame) -> Iterator[str]:
    """Yield pairs of rows of different groups whose texts say nearly the same."""
    groups, ids = rows["group"].tolist(), rows["id"].tolist()
    for a, b, alike in near_duplicate_pairs(rows["text"].tolist()):
        if not (groups[a] and groups[a] == groups[b]):
            yield f"{ids[a]} and {ids[b]} are {alike:.0f} % alike: {rows['text'].iloc[b][:70]!r}"


def near_duplicate_pairs(texts: list[str]) -> Iterator[tuple[int, int, float]]:
    """Yield the indices of texts that are at least `NEAR_DUPLICATE` percent alike, and how much they are."""
    folded = [" ".join(tokenize(text)) for text in texts]
    vectors = TfidfVectorizer(token_pattern=r"\S+").fit_transform(folded)
    neighbours = NearestNeighbors(radius=_CANDIDATES, metric="cosine").fit(vectors)
    near = neighbours.radius_neighbors_graph(vectors, mode="distance").tocoo()
    for a, b in zip(near.row.tolist(), near.col.tolist(), strict=True):
        if a < b:
            alike = fuzz.token_sort_ratio(folded[a], folded[b])
            if alike >= NEAR_DUPLICATE:
                yield a, b, alike


def _lexicon_problems(lexicon: pd.DataFrame) -> Iterator[str]:
    for line, row in enumerate(lexicon.itertuples(), start=2):
        phrase = str(row.phrase)
        if not 1 <= len(phrase.split()) <= 3 or not tokenize(phrase):
            yield f"lexicon line {line}: {phrase!r} should have one to three words"
        for axis in AXES:
            if getattr(row, axis) not in (-2, -1, 0, 1, 2):
                yield f"lexicon line {line}: the grade of {axis} is {getattr(row, axis)!r}; valid are -2 to 2"


def print_coverage(corpus: Corpus, console: Console) -> None:
    """Print what the corpus covers, counted from its rows."""
    rows = corpus.rows
    lengths = rows["text"].str.len().to_numpy(dtype=float)
    console.print(
        f"{len(rows)} rows, {rows['trade'].nunique()} trades, {rows['form'].nunique()} forms, "
        f"{rows['hand'].nunique()} hands; {(rows['unsure'] != '').sum()} unsure"
    )
    console.print(
        f"median length {np.median(lengths):.0f} characters, {np.mean(lengths < 80):.0%} under 80; "
        f"{rows['text'].str.split().str.len().between(2, 6).mean():.0%} of 2 to 6 words"
    )
    n_contrast = int((_contrast_pairs(rows)).sum())
    seeds = rows["source"].str.startswith("seed:").sum()
    console.print(
        f"{n_contrast} rows in contrast groups; {seeds} seed examples; "
        f"{corpus.lexicon['phrase'].nunique()} phrases in the lexicon"
    )
    for by in ("split", "form", "hand", "trade"):
        table = Table(by, "rows", *(f"{a[0]}{b[0]}" for a in AXES["loop"] for b in AXES["mode"]), box=None)
        quadrant = rows["loop"].str[0] + rows["mode"].str[0]
        counts = pd.crosstab(rows[by], quadrant)
        for name, counted in counts.loc[counts.sum(axis=1).sort_values(ascending=False).index].iterrows():
            table.add_row(
                Text(str(name)),
                str(counted.sum()),
                *(str(counted.get(q, 0)) for q in ("ca", "ci", "ka", "ki")),
            )
        console.print(table)


def _contrast_pairs(rows: pd.DataFrame) -> pd.Series:
    """Return for each row whether its group holds more than one label."""
    labels = rows["loop"] + rows["mode"]
    first = labels.groupby(rows["group"]).transform("first")
    differing = (labels != first).groupby(rows["group"]).any()
    return (rows["group"] != "") & rows["group"].map(differing).fillna(False).astype(bool)


def main() -> int:
    """Check the shipped corpus; return the exit code."""
    corpus = Corpus.shipped()
    console = Console(highlight=False, soft_wrap=True)
    print_coverage(corpus, console)
    found = list(problems(corpus))
    for message in found:
        print(message, file=sys.stderr)
    console.print("no problems" if not found else f"{len(found)} problems")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
