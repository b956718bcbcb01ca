"""The two questions and their answers, in one place."""

from __future__ import annotations

from typing import Final, Literal

Axis = Literal["loop", "mode"]

#: Each axis with its two classes in scikit-learn's order; scores point toward the second.
AXES: Final[dict[Axis, tuple[str, str]]] = {
    "loop": ("code", "knowledge"),
    "mode": ("autonomous", "interactive"),
}
