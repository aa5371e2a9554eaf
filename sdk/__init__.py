"""Adaptive video recognition on the device.

    with StreamRecognizer("actions.bundle") as recognizer:
        for result in recognizer.stream("rtsp://camera/stream"):
            print(result.label, result.score)

Names are imported when first used, so that ``import sdk`` costs a program nothing it does not need.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from runtimes.errors import AdaptiveVideoError, BundleError, EngineError
    from sdk.budget.budget import Budget, BudgetError
    from sdk.errors import SourceError
    from sdk.recognizer import StreamRecognizer
    from sdk.results import ClipRecognition, Recognition

__all__ = [
    "AdaptiveVideoError",
    "Budget",
    "BudgetError",
    "BundleError",
    "ClipRecognition",
    "EngineError",
    "Recognition",
    "SourceError",
    "StreamRecognizer",
]

_HOMES = {
    "AdaptiveVideoError": "runtimes.errors",
    "Budget": "sdk.budget.budget",
    "BudgetError": "sdk.budget.budget",
    "BundleError": "runtimes.errors",
    "ClipRecognition": "sdk.results",
    "EngineError": "runtimes.errors",
    "Recognition": "sdk.results",
    "SourceError": "sdk.errors",
    "StreamRecognizer": "sdk.recognizer",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return __all__
