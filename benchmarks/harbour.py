"""What sixty labels, or ten words, of an unseen trade are worth: the figures of ``docs/retrain.md``.

``python -m benchmarks.harbour`` trains on the whole corpus and prints them, in some minutes.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pandas as pd

from loopwise.model.labels import AXES, Axis
from loopwise.model.modelfile import ModelFile
from loopwise.model.store import Home
from loopwise.training import train
from loopwise.training.build import CrossValidation
from loopwise.training.corpus import Corpus
from loopwise.training.fit import Recipe, fit
from loopwise.training.gate import log_odds
from loopwise.training.labels import LabelStore, Record
from loopwise.training.print_training import print_train_report
from loopwise.training.queue import task_queue, word_queue
from loopwise.training.userlabels import DEFAULT_WEIGHT, UserLabels, records_from

HARBOUR = Path(__file__).resolve().parent.parent / "data" / "examples" / "harbour.csv"
N_LABELS, N_ROWS, N_WORDS = 60, 50, 10


def tasks() -> pd.DataFrame:
    """Return the harbour's tasks with their right answers: text, loop, mode."""
    frame = pd.read_csv(HARBOUR)
    return frame.rename(columns={"title": "text", "right_loop": "loop", "right_mode": "mode"})


def right(scores: Mapping[Axis, Any], rows: pd.DataFrame) -> str:
    """Return the accuracy of log-odds on rows, an axis after the other."""
    return " ".join(
        f"{axis} {np.mean((scores[axis] > 0) == (rows[axis] == AXES[axis][1])):.3f}" for axis in AXES
    )


def graded(word: str, harbour: pd.DataFrame) -> Record:
    """Grade a word as somebody who knows the trade would: by the tasks that hold it."""
    holding = harbour[harbour["text"].str.lower().str.contains(word, regex=False)]
    loop, mode = ((holding[a] == pro).mean() > 0.5 for a, pro in (("loop", "code"), ("mode", "interactive")))
    return Record(word, "word", 2 if loop else -2, 2 if mode else -2)


def sixty_labels(harbour: pd.DataFrame, shipped: ModelFile) -> None:
    """Label what the queue asks first, train, and measure on the tasks that nobody labelled."""
    queue = task_queue(harbour["text"].tolist(), shipped, N_LABELS)
    rest = harbour.drop(harbour.index[queue])
    with TemporaryDirectory() as folder:
        report = train(harbour.iloc[queue], home=folder)
        print_train_report(report)
        active = Home(Path(folder)).active_model()
        for name, model in (("before", shipped), ("after", active)):
            print(
                f"the {len(rest)} other tasks, {name}: {right(log_odds(model, rest['text'].tolist()), rest)}"
            )


def words_or_tasks(harbour: pd.DataFrame, shipped: ModelFile) -> None:
    """Compare ten words with fifty tasks, on tasks that neither holds."""
    texts = harbour["text"].tolist()
    drawn = np.random.default_rng(3).permutation(len(harbour))[:N_ROWS].tolist()
    asked = task_queue(texts, shipped, N_ROWS)
    words = [graded(question.word, harbour) for question in word_queue(texts, shipped, N_WORDS)]
    rest = harbour.drop(harbour.index[sorted({*drawn, *asked})])
    fifty, first = records_from(harbour.iloc[drawn]), records_from(harbour.iloc[asked])
    corpus = Corpus.shipped().part(("train", "validation"))
    with TemporaryDirectory() as folder:
        nobody = LabelStore.of(Home(Path(folder))).read()
    lines = CrossValidation.of(shipped.fields).calibrations
    print(f"on {len(rest)} tasks that none of them holds")
    for name, records in {
        "nothing": [],
        "ten words": words,
        "fifty tasks drawn at random": fifty,
        "the fifty tasks that label asks first": first,
        "the ten words and those fifty": words + first,
    }.items():
        own = UserLabels.of(nobody, records)
        extra = own.extra(DEFAULT_WEIGHT) if records else None
        fitted = fit(corpus, Recipe(), heads=tuple(AXES), extra=extra)
        raw = fitted.decision_function(rest["text"].tolist())
        print(f"{name}: {right({axis: lines[axis].apply(raw[axis]) for axis in AXES}, rest)}")


def main() -> None:
    """Print everything."""
    harbour, shipped = tasks(), ModelFile.shipped()
    sixty_labels(harbour, shipped)
    words_or_tasks(harbour, shipped)


if __name__ == "__main__":
    main()
