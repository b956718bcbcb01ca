"""What the tests of retraining share: a small corpus, a quick recipe, an unseen trade, wrong labels."""

from __future__ import annotations

import csv
import io
import json
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import loopwise.training.build
from loopwise.model.modelfile import FIELDS_NAME, FORMAT_VERSION, WEIGHTS_NAME, ModelFile, signed
from loopwise.model.store import Home
from loopwise.service.cli import main
from loopwise.training import TrainReport, train
from loopwise.training.corpus import Corpus
from loopwise.training.fit import Recipe
from loopwise.training.metrics import axis_figures

ROOT = Path(__file__).resolve().parent.parent
HARBOUR = ROOT / "data" / "examples" / "harbour.csv"
#: Quick to fit: a strong penalty.
RECIPE = Recipe(C={"loop": 0.2, "mode": 0.2, "scope": 0.2}, natural_weight={"loop": 1.0, "mode": 1.0})
#: Next to a corpus of 800 rows a label weighs what it should; 8 is for sixty times as many.
WEIGHT = 1.0


def small_corpus(n_rows: int = 800, n_words: int = 500) -> Corpus:
    """A part of the shipped corpus to train on, and all of its test rows."""
    whole = Corpus.shipped()
    is_test = whole.rows["split"] == "test"
    rows = pd.concat([whole.rows[~is_test].sample(n_rows, random_state=1), whole.rows[is_test]])
    lexicon = whole.lexicon.sample(n_words, random_state=1)
    noise = whole.out_of_scope.sample(60, random_state=1, replace=True)
    return Corpus(*(frame.reset_index(drop=True) for frame in (rows, lexicon, noise)))


def harbour() -> pd.DataFrame:
    """The tasks of an unseen trade with their answers: text, loop, mode."""
    frame = pd.read_csv(HARBOUR)
    return frame.rename(columns={"title": "text", "right_loop": "loop", "right_mode": "mode"})


def flipped_labels() -> pd.DataFrame:
    """Sixty everyday tasks with the loop turned round."""
    lines = (ROOT / "tests" / "data" / "everyday_tasks.txt").read_text("utf-8").splitlines()
    wrong = {"c": "knowledge", "k": "code"}
    return pd.DataFrame({"text": [line[2:] for line in lines], "loop": [wrong[line[0]] for line in lines]})


def as_csv(frame: pd.DataFrame) -> str:
    return str(frame.to_csv(index=False))


@dataclass(frozen=True)
class Done:
    """What a command left: exit code and output."""

    returncode: int
    stdout: str
    stderr: str

    @property
    def rows(self) -> list[dict[str, str]]:
        return list(csv.DictReader(io.StringIO(self.stdout, newline="")))


Command = Callable[..., Done]


@pytest.fixture
def command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes]
) -> Command:
    """Run the command line in this process, in a folder of its own."""

    def run(*arguments: str | Path, stdin: str = "", terminal: bool = False) -> Done:
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(sys, "argv", ["loopwise", *map(str, arguments)])
        typed = io.TextIOWrapper(io.BytesIO(stdin.encode()), "utf-8", newline="")
        monkeypatch.setattr(typed, "isatty", lambda: terminal, raising=False)
        monkeypatch.setattr(sys, "stdin", typed)
        capfdbinary.readouterr()
        with pytest.raises(SystemExit) as left:
            main()
        sys.stdout.flush()
        out, err = (part.decode("utf-8") for part in capfdbinary.readouterr())
        return Done(int(left.value.code or 0), out, err)

    return run


def signed_copy(folder: Path, change: Callable[[dict[str, Any]], None] = lambda fields: None) -> Path:
    """Copy the shipped model, change its fields, and sign the result as `write_model` would."""
    shipped = ModelFile.shipped()
    folder.mkdir(parents=True, exist_ok=True)
    weights = (shipped.folder / WEIGHTS_NAME).read_bytes()
    (folder / WEIGHTS_NAME).write_bytes(weights)
    fields = json.loads(json.dumps(shipped.fields))
    change(fields)
    parts = fields.pop("parts", {WEIGHTS_NAME: weights})
    version = fields.pop("format_version", None)
    text = signed(fields, parts)
    if version != FORMAT_VERSION:
        text = text.replace(b'"format_version": 1', f'"format_version": {json.dumps(version)}'.encode(), 1)
    (folder / FIELDS_NAME).write_bytes(text)
    return folder


@pytest.fixture(scope="session")
def corpus() -> Corpus:
    return small_corpus()


@pytest.fixture(scope="session")
def quick() -> Iterator[None]:
    """Spare most of the folds and resamples behind figures that these tests do not look at."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loopwise.training.build, "N_FOLDS", 2)
        patch.setattr(loopwise.training.build, "axis_figures", partial(axis_figures, n_samples=20))
        yield


@pytest.fixture(scope="session")
def base_home(corpus: Corpus, quick: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home whose active model was trained on the small corpus alone."""
    home = tmp_path_factory.mktemp("base")
    assert run_training(home, corpus, promote=True).promoted
    return home


def run_training(home: Home | Path, corpus: Corpus, labels: Any = None, **options: Any) -> TrainReport:
    """Train the small way."""
    folder = home.folder if isinstance(home, Home) else home
    settings = {"home": folder, "corpus": corpus, "recipe": RECIPE, "weight": WEIGHT, "n_jobs": 1}
    return train(labels, **{**settings, **options})


@pytest.fixture
def home(base_home: Path, own_home: Path) -> Home:
    """A copy of `base_home` to work in."""
    shutil.copytree(base_home, own_home)
    return Home(own_home)
