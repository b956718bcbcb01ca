from __future__ import annotations

import re
import shutil

import pytest

from loopwise.service.readers import sources
from loopwise.service.writers import WRITERS
from tests.conftest import ROOT, Run
from tests.tutorial import TUTORIAL, UPDATE, run_commands

BACKLOGS = (ROOT / "docs" / "backlogs.md").read_text("utf-8")


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("bash") is None, reason="the tutorial's commands are for bash")
def test_the_tutorial_shows_what_its_commands_print() -> None:
    shown = TUTORIAL.read_text("utf-8")
    assert "Traceback" not in shown
    assert run_commands(shown) == shown, f"after a new model or a changed message: {UPDATE}"


@pytest.mark.parametrize("name", [*sources(), *WRITERS, "review"])
def test_every_source_and_format_is_documented(name: str) -> None:
    assert f"`{name}`" in BACKLOGS or f"{name}|" in BACKLOGS


def test_every_option_of_classify_is_documented(loopwise: Run) -> None:
    page = (
        BACKLOGS + (ROOT / "README.md").read_text("utf-8") + (ROOT / "docs" / "retrain.md").read_text("utf-8")
    )
    options = set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", loopwise("classify", "--help").stdout)) - {"--help"}
    assert {"--only", "--split", "--sheet"} <= options
    assert sorted(option for option in options if option not in page) == [
        "--delimiter",
        "--jobs",
        "--model",
        "--output",
    ]
