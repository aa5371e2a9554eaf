"""The public names of the SDK, under a name that no other package has.

    from adaptive_video import StreamRecognizer

It is the same SDK as ``sdk``, imported from where it is installed: also in a program whose own folder has a
``sdk/`` or ``runtimes/``, as long as that program has not imported its own before.
"""

from __future__ import annotations

import sys
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sdk import *  # noqa: F403

_ROOT = Path(__file__).resolve().parents[1]
_PARTS = ("runtimes", "sdk")


def _import_parts() -> Any:
    """Import this installation's ``sdk`` and what it stands on, wherever else such names are found."""
    before = list(sys.path)
    sys.path.insert(0, str(_ROOT))
    try:
        parts = [import_module(name) for name in _PARTS]
    finally:
        sys.path[:] = before
    for part in parts:
        found = Path(part.__file__ or ".").resolve().parents[1]
        if found != _ROOT:
            raise ImportError(
                f"{part.__name__}: the one imported is {found / part.__name__}, not adaptive-video's; "
                f"import adaptive_video before your own {part.__name__}, or rename that"
            )
    if not hasattr(parts[-1], "__version__"):
        raise ImportError(
            f"{_ROOT / 'sdk'}: another package's sdk was installed over adaptive-video's; "
            "uninstall that package and reinstall adaptive-video, each in an environment of its own"
        )
    return parts[-1]


_sdk = _import_parts()
__all__ = list(_sdk.__all__)
__version__: str = _sdk.__version__


def __getattr__(name: str) -> Any:
    return getattr(_sdk, name)


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
