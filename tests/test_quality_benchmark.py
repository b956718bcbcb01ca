from __future__ import annotations

import numpy as np
import pytest

from benchmarks.peers import balanced, spaced
from benchmarks.quality import coverage, length_class


def test_coverage_is_the_largest_share_that_is_right_often_enough() -> None:
    right = np.array([True] * 19 + [False] + [False] * 20)
    conf = np.linspace(1.0, 0.5, 40)
    assert coverage(right, conf) == 20 / 40


def test_rows_of_equal_confidence_are_covered_together_or_not_at_all() -> None:
    right = np.array([True, True, False, False])
    assert coverage(right, np.array([0.9, 0.8, 0.8, 0.8])) == 1 / 4
    assert coverage(right, np.full(4, 0.8)) == 0


def test_balanced_weights_give_both_classes_the_same_and_keep_the_total() -> None:
    weight = balanced(np.array([1.0, 1.0, 2.0]), np.array([True, False, False]))
    assert weight[0] == pytest.approx(weight[1:].sum())
    assert weight.sum() == pytest.approx(4)


def test_texts_for_fasttext_are_one_line_of_tokens() -> None:
    assert spaced(["Fix it,\nnow!"]) == ["fix it , now !"]


def test_lengths_have_names() -> None:
    assert length_class("book vet") == "up to 4 words"
    assert length_class("word " * 61) == "more than 60 words"
