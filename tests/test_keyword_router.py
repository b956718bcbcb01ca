from __future__ import annotations

import pytest

from benchmarks.keyword_router import DEFAULT, RULES, route, score, scores
from loopwise.model.labels import AXES, Axis


@pytest.mark.parametrize(
    ("text", "loop", "mode"),
    [
        ("Write a script that renames our scans by date", "code", "autonomous"),
        ("Rename the 900 scans by date", "knowledge", "autonomous"),
        ("Write the blog post about our move to Kubernetes", "knowledge", "interactive"),
        ("fix(parser): escape quotes in `to_csv`", "code", "autonomous"),
        ("Go through my pull request with me, step by step", "code", "interactive"),
    ],
)
def test_rules_route_what_the_guide_spells_out(text: str, loop: str, mode: str) -> None:
    assert (route(text, "loop").label, route(text, "mode").label) == (loop, mode)


def test_a_higher_priority_overrules_any_number_of_lower_matches() -> None:
    text = "python docker json yaml linux api: draft the blog post"
    verdict = route(text, "loop")
    assert (verdict.label, verdict.priority) == ("knowledge", 4)


def test_a_tie_falls_through_to_the_next_priority() -> None:
    tied = route("Write the blog post, fix the flaky tests; then python", "loop")
    assert tied.priority < 4


@pytest.mark.parametrize("axis", AXES)
def test_a_text_without_cues_gets_the_default_and_no_score(axis: Axis) -> None:
    assert route("qqq zzz", axis).label == DEFAULT[axis]
    assert score("qqq zzz", axis) == 0


def test_scores_point_to_the_second_class() -> None:
    knowledge, code = scores(["Draft a letter to the landlord", "fix the flaky tests"], "loop")
    assert knowledge > 0 > code


def test_rules_match_whole_words_in_any_case() -> None:
    assert route("DNS DNS", "loop").label == "code"
    assert route("xdnsx", "loop").priority == 0


@pytest.mark.parametrize("axis", AXES)
def test_each_axis_has_between_60_and_120_rules_on_both_sides(axis: Axis) -> None:
    rules = RULES[axis]
    assert 60 <= len(rules) <= 120
    assert {rule.label for rule in rules} == set(AXES[axis])
    assert {rule.priority for rule in rules} == {1, 2, 3, 4}
