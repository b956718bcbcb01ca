"""Searching for a recipe: what is tried, what is kept, and when a recipe is chosen over the base."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from loopwise.training.evaluate import LabelledTexts
from loopwise.training.experiments import Search, Trial, beats, search, search_report, search_space
from loopwise.training.fit import Recipe
from tests.retraining import RECIPE, small_corpus


def trial(name: str, *, wrong: int, n: int = 400) -> Trial:
    """A trial that was wrong on the first rows of each class."""
    truth = np.arange(n) % 2 == 1
    right = np.arange(n) >= wrong
    keys = [("natural", axis) for axis in ("loop", "mode")]
    return Trial(name, Recipe(), n, 0, dict.fromkeys(keys, right), dict.fromkeys(keys, truth))  # type: ignore[arg-type]


def test_a_clearly_better_recipe_is_chosen() -> None:
    base, better = trial("base", wrong=60), trial("better", wrong=20)
    found = Search.of([base, better])
    assert (found.chosen.name, found.runner_up.name) == ("better", "base")
    assert "- loop, natural: +0.1000 [" in search_report(found)


def test_a_recipe_that_is_better_by_chance_is_not_chosen() -> None:
    base, lucky = trial("base", wrong=60), trial("lucky", wrong=59)
    found = Search.of([base, lucky])
    assert not beats(lucky, base)
    assert found.chosen is base
    assert "No other recipe is better somewhere and worse nowhere for certain." in search_report(found)


def test_a_recipe_that_wins_on_one_axis_and_loses_on_the_other_is_not_chosen() -> None:
    base, other = trial("base", wrong=40), trial("other", wrong=10)
    mixed = replace(
        other, right=other.right | {("natural", "mode"): trial("worse", wrong=80).right["natural", "mode"]}
    )
    assert not beats(mixed, base)


def test_the_space_begins_with_the_base_and_varies_every_lever() -> None:
    names = [name for name, _ in search_space(Recipe())]
    assert names[0] == "base"
    assert len(set(names)) == len(names)
    for lever in (
        "C_mode",
        "pair_scale",
        "subword_scale",
        "lexicon_weight_loop",
        "natural_weight",
        "grade_weight",
        "neutral_weight",
        "vectors for",
    ):
        assert any(name.startswith(lever) for name in names), lever


@pytest.mark.slow
def test_every_trial_is_written_down_with_its_figures(tmp_path: Path) -> None:
    corpus = small_corpus(200, 100)
    labelled = LabelledTexts(
        ["fix the null check", "write the newsletter"] * 10,
        {"loop": np.array([False, True] * 10), "mode": np.array([False, True] * 10)},
        {"loop": np.ones(20, dtype=bool), "mode": np.ones(20, dtype=bool)},
        [""] * 20,
    )
    space = [("base", RECIPE), ("no words", replace(RECIPE, use_lexicon=False))]
    log = tmp_path / "search.jsonl"
    found = search(corpus, labelled, log, space=space, n_jobs=1)
    lines = [json.loads(line) for line in log.read_text("utf-8").splitlines()]
    assert [line["name"] for line in lines] == ["base", "no words"]
    assert set(lines[0]["figures"]) == {"natural_loop", "natural_mode", "file_loop", "file_mode"}
    assert lines[1]["recipe"]["use_lexicon"] is False
    assert {t.name for t in found.trials} == {"base", "no words"}
