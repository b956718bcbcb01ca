from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from loopwise.training.corpus import FEATURES, Corpus, load_dataset
from loopwise.training.corpus_check import problems
from tests.conftest import ROOT


@pytest.fixture(scope="module")
def corpus() -> Corpus:
    return Corpus.shipped()


def with_row(corpus: Corpus, **changes: str | float) -> list[str]:
    """Return the problems of a small corpus in which one row was changed."""
    rows = corpus.rows.groupby(["loop", "mode"]).head(20).reset_index(drop=True).copy()
    for name, value in changes.items():
        rows.loc[5, name] = value
    return list(problems(Corpus(rows, corpus.lexicon[:5], corpus.out_of_scope)))


def test_the_shipped_corpus_has_no_problems(corpus: Corpus) -> None:
    assert list(problems(corpus)) == []


def test_it_is_as_large_and_as_wide_as_the_card_says(corpus: Corpus) -> None:
    rows = corpus.rows
    assert len(rows) >= 10_000
    assert rows["trade"].nunique() >= 60
    assert corpus.lexicon["phrase"].nunique() >= 30_000
    card = (ROOT / "data" / "README.md").read_text("utf-8")
    assert f"{len(rows):,} task descriptions" in card
    assert f"{corpus.lexicon['phrase'].nunique():,} words and phrases" in card


def test_every_seed_example_is_there_with_its_article_in_the_card(corpus: Corpus) -> None:
    seeds = corpus.rows[corpus.rows["source"].str.startswith("seed:")]
    assert sorted(seeds["source"]) == [f"seed:s{i:03d}" for i in range(1, 92)]
    card = (ROOT / "data" / "README.md").read_text("utf-8")
    assert "s001" in card
    assert "s091" in card


def test_labels_are_class_labels() -> None:
    dataset = load_dataset()
    assert dataset.features == FEATURES
    assert dataset.features["loop"].names == ["code", "knowledge"]


def test_the_folder_loads_as_a_dataset(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_OFFLINE", True)
    loaded = datasets.load_dataset(str(ROOT / "data"), cache_dir=str(tmp_path), split="train")
    assert loaded.features["loop"].names == ["code", "knowledge"]
    assert len(loaded) == len(load_dataset())


def test_an_empty_grade_is_a_problem_that_the_check_names(corpus: Corpus, tmp_path: Path) -> None:
    path = tmp_path / "corpus.csv"
    corpus.rows.head(3).assign(mode_grade=[1.0, None, 5.5]).to_csv(path, index=False)
    loaded = load_dataset(path).to_pandas()
    assert loaded["mode_grade"].isna().tolist() == [False, True, False]
    assert loaded["unsure"].tolist() == corpus.rows["unsure"].head(3).tolist()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"text": "  "}, "the field text is empty"),
        ({"text": "…!"}, "the text has no words"),
        ({"text": "x " * 1000}, "the text has 2000 characters; at most 1500"),
        ({"text": "Cafe\u0301 menu"}, "not in Unicode normal form C"),
        ({"text": "write to ann@example.org"}, "'ann@example.org' looks like a mail address"),
        ({"text": "call +49 170 1234567 back"}, "looks like a phone number"),
        ({"form": "sonnet"}, "unknown form 'sonnet'"),
        ({"unsure": "maybe"}, "unknown unsure 'maybe'"),
        ({"mode_grade": 10.0}, "the mode_grade 10.0 is not a number from 0 to 9"),
        ({"mode_grade": float("nan")}, "the mode_grade nan is not a number from 0 to 9"),
        ({"trade": ""}, "the field trade is empty"),
    ],
)
def test_the_check_names_what_is_wrong(corpus: Corpus, changes: dict[str, str | float], message: str) -> None:
    assert any(message in found for found in with_row(corpus, **changes))


def test_the_check_finds_near_duplicates_across_groups(corpus: Corpus) -> None:
    rows = corpus.rows.groupby(["loop", "mode"]).head(20).reset_index(drop=True).copy()
    rows.loc[5, "text"] = "Sort the blue parcels by weight before Friday noon"
    rows.loc[6, "text"] = "Before Friday noon sort the blue parcels by weight"
    rows.loc[[5, 6], "group"] = ""
    found = list(problems(Corpus(rows, corpus.lexicon[:5], corpus.out_of_scope)))
    assert any(rows["id"][5] in message and "alike" in message for message in found)
    rows.loc[[5, 6], "group"] = "g-same"
    found = list(problems(Corpus(rows, corpus.lexicon[:5], corpus.out_of_scope)))
    assert not any("alike" in message and rows["id"][5] in message for message in found)


def test_unbalanced_quadrants_are_found(corpus: Corpus) -> None:
    rows = corpus.rows[corpus.rows["loop"] == "code"].head(50).reset_index(drop=True)
    found = list(problems(Corpus(rows, corpus.lexicon[:5], pd.DataFrame({"text": [], "kind": []}))))
    assert any("knowledge, autonomous: only 0.0% of the rows" in message for message in found)
