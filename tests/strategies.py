"""Texts of every kind, for property tests."""

from __future__ import annotations

from hypothesis import strategies as st

WORDS = (  # noqa: SIM905 - a list of forty quoted words would be worse to read
    "fix the flaky test in ci bump eslint book vet write blog post about kubernetes deploy invoice "
    "Review PR #12 `main.py` /var/log/x.log v1.2.3 2026-11-21 résumé İstanbul ΑΣ naïve 日本語 👍🏽 x_y_z "
    "don't C# C++ PROJ-1234 https://example.org/a?b=c ＡＢＣ ﬁne Straße"
).split()

#: Any string that UTF-8 can hold, often with words that the model knows, and odd characters between.
texts = st.one_of(
    st.text(st.characters(exclude_categories=["Cs"]), max_size=60),
    st.lists(
        st.one_of(st.sampled_from(WORDS), st.text(st.characters(exclude_categories=["Cs"]), max_size=8)),
        max_size=25,
    ).map(" ".join),
    st.lists(st.sampled_from(WORDS), max_size=60).map("\n".join),
)
