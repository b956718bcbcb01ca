"""The programs that `benchmarks/speed.py` times, each a process of its own."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

TYPICAL_FEATURES = (
    "loop: checkout +1.31, flaky +0.84, test -0.42 | mode: nightly +0.90, rename +0.61, the -0.12"
)
CONSTANTS = {
    "loop": "knowledge",
    "loop_confidence": "0.912345",
    "mode": "autonomous",
    "mode_confidence": "0.951234",
    "review": "",
    "route": "Claude Code in the background",
    "top_features": TYPICAL_FEATURES,
}


def floor(source: Path, target: Path, models: Path) -> None:
    """Read and write with pyarrow, the seven columns filled with constants of typical length."""
    import pyarrow as pa
    import pyarrow.csv as pc

    with source.open("rb") as file:
        names = file.readline().decode().strip().split(",")
    types = dict.fromkeys(names, pa.string())
    table = pc.read_csv(
        source, convert_options=pc.ConvertOptions(column_types=types, strings_can_be_null=False)
    )
    for name, value in CONSTANTS.items():
        table = table.append_column(name, pa.array([value]).take(pa.array([0]).take(_zeros(table.num_rows))))
    pc.write_csv(table, target)


def _zeros(n: int) -> Any:
    import numpy as np
    import pyarrow as pa

    return pa.array(np.zeros(n, dtype=np.int32))


def _sklearn(name: str, source: Path, target: Path, models: Path) -> None:
    import joblib
    import numpy as np
    import pandas as pd

    vectorizer, loop, mode = joblib.load(models / f"{name}.joblib")
    frame = pd.read_csv(source, dtype=str, keep_default_na=False)
    X = vectorizer.transform((frame["title"] + "\n\n" + frame["description"]).str.strip())
    for axis, classifier in (("loop", loop), ("mode", mode)):
        p = classifier.predict_proba(X)
        frame[axis] = classifier.classes_[np.argmax(p, axis=1)]
        frame[f"{axis}_confidence"] = p.max(axis=1).round(6)
    for column in ("review", "route", "top_features"):
        frame[column] = CONSTANTS[column]
    frame.to_csv(target, index=False)


def sklearn_full(source: Path, target: Path, models: Path) -> None:
    """Words, pairs and character n-grams with scikit-learn, pandas reading and writing."""
    _sklearn("sklearn_full", source, target, models)


def sklearn_words(source: Path, target: Path, models: Path) -> None:
    """Words alone with scikit-learn, pandas reading and writing."""
    _sklearn("sklearn_words", source, target, models)


def fasttext(source: Path, target: Path, models: Path) -> None:
    """FastText with words, pairs and character n-grams, one model an axis, pandas reading and writing."""
    import fasttext as ft
    import pandas as pd

    frame = pd.read_csv(source, dtype=str, keep_default_na=False)
    texts = (frame["title"] + " " + frame["description"]).str.lower().str.replace("\n", " ").tolist()
    for axis in ("loop", "mode"):
        labels, confidences = ft.load_model(str(models / f"fasttext_{axis}.bin")).predict(texts)
        frame[axis] = [label[0].removeprefix("__label__") for label in labels]
        frame[f"{axis}_confidence"] = [round(float(c[0]), 6) for c in confidences]
    for column in ("review", "route", "top_features"):
        frame[column] = CONSTANTS[column]
    frame.to_csv(target, index=False)


def import_sklearn(source: Path, target: Path, models: Path) -> None:
    """Only import scikit-learn's text and linear modules and joblib: the yardstick of a cold start."""
    import joblib  # noqa: F401
    import sklearn.feature_extraction.text
    import sklearn.linear_model  # noqa: F401


def fit_all(models: Path) -> None:
    """Fit the peers on the shipped corpus."""
    import fasttext as ft
    import joblib
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import FeatureUnion

    from loopwise.training.corpus import Corpus

    rows = Corpus.shipped().rows
    models.mkdir(parents=True, exist_ok=True)
    words = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True)
    characters = TfidfVectorizer(analyzer="char_wb", ngram_range=(2, 5), sublinear_tf=True)
    for name, vectorizer in (
        ("sklearn_full", FeatureUnion([("words", words), ("characters", characters)])),
        ("sklearn_words", TfidfVectorizer(sublinear_tf=True)),
    ):
        X = vectorizer.fit_transform(rows["text"])
        heads = [LogisticRegression(max_iter=300).fit(X, rows[axis].astype(str)) for axis in ("loop", "mode")]
        joblib.dump((vectorizer, *heads), models / f"{name}.joblib")
    for axis in ("loop", "mode"):
        lines = models / f"{axis}.txt"
        texts = rows["text"].str.lower().str.replace("\n", " ")
        lines.write_text("".join(f"__label__{a} {t}\n" for a, t in zip(rows[axis], texts, strict=True)))
        model = ft.train_supervised(
            str(lines), wordNgrams=2, minn=2, maxn=5, epoch=25, lr=0.5, thread=2, verbose=0
        )
        model.save_model(str(models / f"fasttext_{axis}.bin"))


def time_single(models: Path, n: int = 2000) -> None:
    """Print the median microseconds of one warm call: Loopwise, then scikit-learn."""
    import statistics

    import joblib

    from loopwise import Predictor
    from loopwise.training.corpus import Corpus

    texts = list(Corpus.shipped().rows["text"])[:n]
    predictor = Predictor.load()
    vectorizer, loop, mode = joblib.load(models / "sklearn_full.joblib")

    def peer(text: str) -> None:
        X = vectorizer.transform([text])
        loop.predict_proba(X)
        mode.predict_proba(X)

    for call, some in ((predictor.predict, texts), (peer, texts[: n // 10])):
        for text in some:
            call(text)
        times = []
        for text in some:
            start = time.perf_counter()
            call(text)
            times.append(time.perf_counter() - start)
        print(statistics.median(times) * 1e6)


if __name__ == "__main__":
    name, source, target, models = sys.argv[1], *map(Path, sys.argv[2:5])
    if name == "fit":
        fit_all(models)
    elif name == "single":
        time_single(models)
    else:
        globals()[name](source, target, models)
