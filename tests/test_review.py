from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest

from loopwise import Predictor
from loopwise.model.review import REASONS, reason_code, reason_text

DATA = Path(__file__).parent / "data"
NOISE = ("no known words", "not English", "not a task", "too short to tell")


def test_texts_that_are_no_tasks_go_to_review(predictor: Predictor) -> None:
    with (DATA / "out_of_scope.csv").open(encoding="utf-8", newline="") as file:
        texts = [row["text"] for row in csv.DictReader(file)]
    passed = [text for text in texts if not predictor.predict(text).review]
    assert len(texts) == 100
    assert len(passed) <= 5, passed


def test_terse_tickets_are_not_taken_for_noise(predictor: Predictor) -> None:
    texts = (DATA / "terse_tasks.txt").read_text("utf-8").splitlines()
    taken = [t for t in texts if any(reason in predictor.predict(t).review for reason in NOISE)]
    assert len(texts) == 100
    assert len(taken) <= 5, taken


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "no known words"),
        ("部署新的支付服务并检查日志", "no known words"),
        ("Bitte die Rechnungen bis Freitag prüfen und nicht an die Kunden schicken", "not English"),
        ("login", "too short to tell"),
    ],
)
def test_the_reason_says_what_is_the_matter(predictor: Predictor, text: str, reason: str) -> None:
    assert reason in predictor.predict(text).review


def test_reasons_are_the_same_for_numbers_and_for_columns() -> None:
    rng = np.random.default_rng(0)
    n_words = rng.integers(0, 8, 200)
    n_known = np.minimum(rng.integers(0, 8, 200), n_words)
    n_english, n_foreign = rng.integers(0, 3, (2, 200))
    is_task, low_loop, low_mode = rng.random((3, 200)) < 0.5
    codes = reason_code(n_words, n_known, n_english, n_foreign, is_task, low_loop, low_mode)
    columns = (n_words, n_known, n_english, n_foreign, is_task, low_loop, low_mode)
    for row, code in zip(zip(*columns, strict=True), codes, strict=True):
        plain = [value.item() for value in row]
        assert reason_code(*plain) == code


def test_two_low_confidences_read_as_one_reason() -> None:
    assert reason_text(0) == ""
    assert reason_text(1 << REASONS.index("not a task")) == "not a task"
    assert reason_text(0b110000) == "low confidence: loop, mode"
