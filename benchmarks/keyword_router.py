"""A router of keyword rules, the way a careful team would write one in a day, as a peer to measure against.

The rules were written from the labelling guide and then read against rows of the training split; no file
that anything is evaluated on was looked at. They stand in ``keyword_rules.toml``, in four priorities:

4. the text says it outright ("a script that", "step by step", "let me review"),
3. what is handed over, or the reason to stay at the wheel, stands in the text,
2. the usual verbs and objects of such work,
1. words of the trade.

The highest priority at which one class has more matches than the other decides, whatever the lower ones
say. A rule counts each of its matches, three at most.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np

from loopwise.model.labels import AXES, Axis

if TYPE_CHECKING:
    from numpy.typing import NDArray

RULES_FILE: Final = Path(__file__).with_name("keyword_rules.toml")
#: A rule counts at most this many matches in one text, and a margin is not told apart beyond it.
MOST_MATCHES: Final = 3
PRIORITIES: Final = (4, 3, 2, 1)


@dataclass(frozen=True)
class Rule:
    """A pattern that speaks for one label.

    Attributes
    ----------
    label : str
        One of the two labels of its axis.
    priority : int
        From 1 to 4; a higher one overrules all lower ones.
    pattern : Pattern
        Matches whole words; upper and lower case are the same.
    """

    label: str
    priority: int
    pattern: re.Pattern[str]

    def count(self, text: str) -> int:
        """Return how often the rule matches in `text`, up to `MOST_MATCHES`."""
        n = 0
        for _ in self.pattern.finditer(text):
            n += 1
            if n == MOST_MATCHES:
                break
        return n


@dataclass(frozen=True)
class Verdict:
    """What the rules of one axis say about a text.

    Attributes
    ----------
    label : str
        The label, or the axis' default where no rule decides.
    priority : int
        The priority that decided; 0 where none did.
    margin : int
        How many more matches the label had there than the other one.
    """

    label: str
    priority: int
    margin: int


def read_rules(path: Path = RULES_FILE) -> dict[Axis, tuple[Rule, ...]]:
    """Read the rules of both axes."""
    table = tomllib.loads(path.read_text(encoding="utf-8"))
    words = table["words"]

    def compiled(pattern: str) -> re.Pattern[str]:
        for name, alternatives in words.items():
            pattern = pattern.replace(f"<{name}>", alternatives)
        return re.compile(rf"(?<!\w)(?:{pattern})(?!\w)", re.IGNORECASE)

    return {
        axis: tuple(
            Rule(label, int(priority), compiled(pattern))
            for label, by_priority in table[axis].items()
            for priority, patterns in by_priority.items()
            for pattern in patterns
        )
        for axis in AXES
    }


RULES: Final = read_rules()
#: The label where no rule decides: a person's errand, and a narrow task.
DEFAULT: Final[dict[Axis, str]] = {"loop": "knowledge", "mode": "autonomous"}


def route(text: str, axis: Axis) -> Verdict:
    """Return what the rules say about one text.

    Parameters
    ----------
    text : str
    axis : str
        ``"loop"`` or ``"mode"``.
    """
    first, second = AXES[axis]
    for priority in PRIORITIES:
        votes = {first: 0, second: 0}
        for rule in RULES[axis]:
            if rule.priority == priority:
                votes[rule.label] += rule.count(text)
        if votes[first] != votes[second]:
            label = max(votes, key=votes.__getitem__)
            return Verdict(label, priority, abs(votes[first] - votes[second]))
    return Verdict(DEFAULT[axis], 0, 0)


def score(text: str, axis: Axis) -> float:
    """Return how strongly the rules point to the second class of `axis`: -5 to 5, 0 if none decides."""
    verdict = route(text, axis)
    if not verdict.priority:
        return 0.0
    strength = verdict.priority + (min(verdict.margin, MOST_MATCHES) - 1) / 2
    return strength if verdict.label == AXES[axis][1] else -strength


def scores(texts: Sequence[str], axis: Axis) -> NDArray[np.float64]:
    """Return `score` of each text."""
    return np.array([score(text, axis) for text in texts], dtype=np.float64)
