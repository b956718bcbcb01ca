"""How a model comes to be: load the corpus, fit, calibrate, evaluate, promote; labels and their queue.

>>> from loopwise.training import train
>>> report = train(labels=frame, home="my-home")  # doctest: +SKIP
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from loopwise.training.candidate import TrainReport, train

__all__ = ["TrainReport", "train"]


def __getattr__(name: str) -> Any:
    # Loaded when first used: adding a label should not wait for scikit-learn.
    if name in __all__:
        from loopwise.training import candidate

        return getattr(candidate, name)
    raise AttributeError(f"module 'loopwise.training' has no attribute {name!r}")
