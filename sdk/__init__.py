"""Adaptive video recognition on the device.

    with StreamRecognizer("actions.bundle") as recognizer:
        for result in recognizer.stream("rtsp://camera/stream"):
            print(result.label, result.score)

Every error that a user is to handle is an ``AdaptiveVideoError``; its kinds are names of this package, too.
Names are imported when first used, so that ``import sdk`` costs a program nothing it does not need.
"""

from __future__ import annotations

from importlib import import_module
from importlib.metadata import packages_distributions, version
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from runtimes.errors import (
        AdaptiveVideoError,
        ArgumentError,
        BundleError,
        EngineError,
        MissingPackageError,
        NotABundleError,
        OutputError,
    )
    from sdk.budget.budget import Budget, BudgetError
    from sdk.decisions.watch import Watch
    from sdk.errors import (
        BusyError,
        ModalityError,
        OptionError,
        RecordingError,
        SourceError,
        SourceErrorCode,
        SourceOptionError,
        ViewError,
    )
    from sdk.power.meter import MeterError
    from sdk.recognizer import StreamRecognizer
    from sdk.results import ClipRecognition, Recognition

__all__ = [
    "AdaptiveVideoError",
    "ArgumentError",
    "Budget",
    "BudgetError",
    "BundleError",
    "BusyError",
    "ClipRecognition",
    "EngineError",
    "MeterError",
    "MissingPackageError",
    "ModalityError",
    "NotABundleError",
    "OptionError",
    "OutputError",
    "Recognition",
    "RecordingError",
    "SourceError",
    "SourceErrorCode",
    "SourceOptionError",
    "StreamRecognizer",
    "ViewError",
    "Watch",
]

_HOMES = {
    "AdaptiveVideoError": "runtimes.errors",
    "ArgumentError": "runtimes.errors",
    "Budget": "sdk.budget.budget",
    "BudgetError": "sdk.budget.budget",
    "BundleError": "runtimes.errors",
    "BusyError": "sdk.errors",
    "ClipRecognition": "sdk.results",
    "EngineError": "runtimes.errors",
    "MeterError": "sdk.power.meter",
    "MissingPackageError": "runtimes.errors",
    "ModalityError": "sdk.errors",
    "NotABundleError": "runtimes.errors",
    "OptionError": "sdk.errors",
    "OutputError": "runtimes.errors",
    "Recognition": "sdk.results",
    "RecordingError": "sdk.errors",
    "SourceError": "sdk.errors",
    "SourceErrorCode": "sdk.errors",
    "SourceOptionError": "sdk.errors",
    "StreamRecognizer": "sdk.recognizer",
    "ViewError": "sdk.errors",
    "Watch": "sdk.decisions.watch",
}


def __getattr__(name: str) -> Any:
    if name == "__version__":
        return version("adaptive-video")
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        return getattr(import_module(_HOMES[name]), name)
    except ImportError as error:
        conflict = _conflict()
        if conflict is None:
            raise
        raise ImportError(conflict) from error


def __dir__() -> list[str]:
    return [*__all__, "__version__"]


def _conflict() -> str | None:
    """What stands in this package's way, if it is a folder or a package of the same name."""
    root = Path(__file__).resolve().parents[1]
    for name in ("runtimes", "sdk"):
        found = find_spec(name)
        place = None if found is None or found.origin is None else Path(found.origin).resolve().parents[1]
        if place != root:
            where = "is missing" if place is None else f"is {place / name}, not adaptive-video's"
            return f"{name}: {where}; rename that folder, or import adaptive_video in place of sdk"
        owners = set(packages_distributions().get(name, ())) - {"adaptive-video"}
        if owners:
            others = ", ".join(sorted(owners))
            return f"{name}: {others} has a package of that name too; install it in another environment"
    return None
