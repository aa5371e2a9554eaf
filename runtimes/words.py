"""Words that messages are made of."""

from __future__ import annotations


def counted(count: int, noun: str) -> str:
    """``count`` and ``noun``, in the plural where there is not just one: ``1 step``, ``2 steps``."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def install(*extras: str) -> str:
    """The command that brings these extras of the package, which is installed from a clone."""
    return f"pip install '.[{','.join(extras)}]' in a clone of adaptive-video"
