"""Loopwise: which loop does a task live in, and should a person stay at the wheel?

>>> from loopwise import predict
>>> predict("Fix the flaky login test").loop.label
'code'

Names are loaded when they are first used, so that importing the package costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from loopwise.errors import InputError, LoopwiseError, ModelError, UsageError
    from loopwise.service.predictor import AxisPrediction, Prediction, Predictor, predict
    from loopwise.service.routes import Route

_HOMES = {
    "AxisPrediction": "loopwise.service.predictor",
    "InputError": "loopwise.errors",
    "LoopwiseError": "loopwise.errors",
    "ModelError": "loopwise.errors",
    "Prediction": "loopwise.service.predictor",
    "Predictor": "loopwise.service.predictor",
    "Route": "loopwise.service.routes",
    "UsageError": "loopwise.errors",
    "predict": "loopwise.service.predictor",
}

__all__ = [
    "AxisPrediction",
    "InputError",
    "LoopwiseError",
    "ModelError",
    "Prediction",
    "Predictor",
    "Route",
    "UsageError",
    "__version__",
    "predict",
]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        return version("loopwise")
    if name in _HOMES:
        value = getattr(import_module(_HOMES[name]), name)
        globals()[name] = value
        return value
    raise AttributeError(f"module 'loopwise' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
