"""Fixtures that many tests share."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from loopwise import Predictor
from loopwise.model.modelfile import ModelFile

ROOT = Path(__file__).resolve().parent.parent
#: True in `make soak`, which runs the full counts.
SOAK = os.environ.get("LOOPWISE_SOAK") == "1"

Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(autouse=True)
def own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Every test has a home of its own."""
    home = tmp_path / "home"
    monkeypatch.setenv("LOOPWISE_HOME", str(home))
    return home


@pytest.fixture(scope="session")
def model() -> ModelFile:
    return ModelFile.shipped()


@pytest.fixture(scope="session")
def predictor(model: ModelFile) -> Predictor:
    return Predictor(model)


@pytest.fixture
def loopwise(tmp_path: Path) -> Run:
    """Run the command in a folder of its own; returns the finished process with its output as text."""

    def run(*arguments: str | Path, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "loopwise", *map(str, arguments)],
            cwd=tmp_path,
            input=stdin,
            capture_output=True,
            text=True,
            encoding="utf-8",
            timeout=120,
            check=False,
        )

    return run
