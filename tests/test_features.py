from __future__ import annotations

import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from loopwise.model import features
from loopwise.model.batch import subword_sums, tokenize_block
from loopwise.model.modelfile import COLUMNS
from tests.strategies import texts


def test_words_are_folded_and_digits_read_as_shapes() -> None:
    assert features.tokenize("Fix PROJ-1234: Résumé of İstanbul in `x_y`") == [
        "fix", "proj", "####", "resume", "of", "istanbul", "in", "x", "y",
    ]  # fmt: skip


def test_a_hash_of_the_text_is_punctuation() -> None:
    assert features.tokenize("C# is #4") == ["c", "is", "#"]


def test_pairs_know_the_edges_of_the_text() -> None:
    assert features.pairs(["book", "vet"]) == ["^ book", "book vet", "vet ^"]
    assert features.pairs([]) == []


def test_cues_name_the_shape_of_a_text() -> None:
    named = [features.CUES[i] for i in features.cues("Why does `a/b` fail?", 4)]
    assert named == ["(question mark)", "(backtick)", "(path or URL)", "(4-7 words)"]


def test_sub_words_of_a_long_word_are_bounded() -> None:
    assert features.subword_buckets("x" * 50) == features.subword_buckets("x" * 5000)


@settings(max_examples=300, deadline=None)
@given(st.lists(texts, max_size=12))
def test_columns_hold_the_same_words_as_single_texts(batch: list[str]) -> None:
    block = tokenize_block(pa.array(batch, pa.string()))
    words = block.words.to_pylist()
    expected = [features.tokenize(text) for text in batch]
    # In a column a digit of a folded text stands as "#", as in the single one.
    assert words == [word for text in expected for word in text]
    assert block.n_words.tolist() == [len(text) for text in expected]
    for text, marks in zip(batch, block.marks, strict=True):
        assert [mark in text for mark in features.CUE_MARKS] == marks.tolist()


@settings(max_examples=200, deadline=None)
@given(st.lists(st.text(min_size=1, max_size=50), max_size=8))
def test_columns_find_the_same_sub_words_as_single_words(words: list[str]) -> None:
    import numpy as np

    words = [word.encode("utf-8", "replace").decode() for word in words]
    rng = np.random.default_rng(0)
    values = rng.normal(size=(features.N_BUCKETS, len(COLUMNS))).astype(np.float32)
    sums = subword_sums(words, values)
    for word, row in zip(words, sums, strict=True):
        expected = values[features.subword_buckets(word)].sum(axis=0, dtype=np.float64)
        np.testing.assert_allclose(row, expected, atol=1e-9)
