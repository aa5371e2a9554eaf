"""Words that messages are made of."""

from __future__ import annotations


def counted(count: int, noun: str) -> str:
    """``count`` and ``noun``, in the plural where there is not just one: ``1 step``, ``2 steps``."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"
