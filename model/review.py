"""When a person should look: the reasons for review, one definition for single texts and for columns."""

from __future__ import annotations

from typing import Any, Final

#: The reasons in the order in which they are given; their index is the bit in a row's code.
REASONS: Final = (
    "no known words",
    "not English",
    "not a task",
    "too short to tell",
    "low confidence: loop",
    "low confidence: mode",
)


def reason_code(
    n_words: Any,
    n_known: Any,
    n_english: Any,
    n_foreign: Any,
    is_task: Any,
    low_loop: Any,
    low_mode: Any,
) -> Any:
    """Return the reasons for review as a sum of ``1 << index`` into `REASONS`; 0 for none.

    Parameters
    ----------
    n_words, n_known, n_english, n_foreign : int or ndarray of int
        Counts as in `loopwise.model.scorer.Score`.
    is_task : bool or ndarray of bool
        Whether the text reads as a task at all.
    low_loop, low_mode : bool or ndarray of bool
        Whether the confidence is below the threshold of the predicted class.

    Returns
    -------
    int or ndarray of int
        Of the same shape as the arguments.
    """
    some_known = n_known > 0
    foreign = (n_foreign > n_english + 1) | ((n_words > 3) & (2 * n_known < n_words))
    return (
        (n_known == 0) * 1
        + (some_known & foreign) * 2
        + (some_known & (is_task == False)) * 4  # noqa: E712 - also for arrays
        + (some_known & (n_words < 2)) * 8
        + low_loop * 16
        + low_mode * 32
    )


def reason_text(code: int) -> str:
    """Return the reasons of a code as text: ``""``, or reasons joined by ``"; "``.

    Low confidence on both axes reads ``low confidence: loop, mode``.
    """
    named = [reason for index, reason in enumerate(REASONS) if code >> index & 1]
    if code >> 4 == 3:
        named[-2:] = ["low confidence: loop, mode"]
    return "; ".join(named)


#: The text of every possible code.
REASON_TEXTS: Final = tuple(reason_text(code) for code in range(1 << len(REASONS)))
