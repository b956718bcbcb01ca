from __future__ import annotations

import pandas as pd
import pytest

from loopwise.model.modelfile import ModelFile
from loopwise.training import queue
from loopwise.training.labels import text_key
from loopwise.training.queue import task_queue, word_queue
from tests.retraining import harbour

#: Near-duplicates that the model is unsure of, and a few other tasks.
ALIKE = [f"Sort out the glimper for crew {letter}" for letter in "abcdefghijklmnopqrstuvwxyz"]
OTHERS = [
    "Fix the flaky login test",
    "Write the press release for the merger",
    "What do we do about the horns",
    "Look at the numbers with Ann",
    "Handle the thing with the switch",
]


def test_uncertainty_alone_would_ask_about_near_duplicates_and_the_queue_does_not(model: ModelFile) -> None:
    texts = ALIKE + OTHERS
    doubt = queue._uncertainty(model, texts)
    surest_last = sorted(range(len(texts)), key=lambda i: -doubt[i])
    assert sum(i < len(ALIKE) for i in surest_last[:5]) >= 3
    assert sum(i < len(ALIKE) for i in task_queue(texts, model, 5)) <= 2


def test_a_queue_of_a_trade_asks_about_all_of_its_jargon_first(model: ModelFile) -> None:
    texts = harbour()["text"].tolist()
    titles = pd.Series(texts).str.lower().str.extractall(r"(\w{4,})")[0].value_counts()
    jargon = titles.index[:16].tolist()
    assert "glimper" in jargon
    asked = " ".join(texts[i] for i in task_queue(texts, model, 24)).lower()
    assert sum(word in asked for word in jargon) >= 12


def test_what_is_answered_and_its_likes_are_not_asked_again(model: ModelFile) -> None:
    texts = ALIKE + OTHERS
    first = task_queue(texts, model, 1)
    done = {text_key(texts[i]) for i in [*first, 3]}
    again = task_queue(texts, model, 4, done=done)
    assert not {text_key(texts[i]) for i in again} & done
    assert all(i >= len(ALIKE) for i in again)


def test_repeats_and_texts_without_words_are_asked_once_or_never(model: ModelFile) -> None:
    asked = task_queue(["Fix it", "", "  ", "fix  it", "!!!"], model, 10)
    assert asked == [0]
    assert task_queue([], model, 3) == []


def test_a_large_backlog_is_cut_to_a_part_of_it(model: ModelFile, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queue, "POOL", 8)
    asked = task_queue(ALIKE + OTHERS, model, 30)
    assert len(asked) == len(set(asked)) == 8


def test_unknown_words_and_words_on_which_answers_hang_are_asked(model: ModelFile) -> None:
    asked = word_queue(harbour()["text"].tolist(), model, 40)
    unknown = [question for question in asked if not question.known]
    hanging = [question for question in asked if question.known]
    assert {"glimper", "tidebook", "berthmoot"} <= {question.word for question in unknown}
    assert hanging
    assert all(question.n_hanging >= 2 for question in hanging)
    assert all(question.n_rows >= 2 for question in unknown)
    assert "glimper" in next(q for q in asked if q.word == "glimper").examples[0].lower()


def test_function_words_numbers_and_answered_words_are_not_asked(model: ModelFile) -> None:
    texts = ["the 4711 glimper v12 of and", "the 4711 glimper v12 of and zz"]
    assert [question.word for question in word_queue(texts, model, 10)] == ["glimper"]
    assert word_queue(texts, model, 10, done={text_key("Glimper")}) == []
