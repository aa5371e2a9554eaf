"""At which steps of a clip, or of a stream, the looks of a schedule are taken."""

from __future__ import annotations


def evenly_spaced(count: int, steps: int) -> list[int]:
    """The middles of ``count`` equal segments of ``steps`` steps; every step where there are no more."""
    count = min(count, steps)
    return [int((i + 0.5) * steps / count) for i in range(count)]


def from_first_step(count: int, steps: int) -> list[int]:
    """The same, moved so that the first is step 0: a stream has an answer from its first step on."""
    positions = evenly_spaced(count, steps)
    return [position - positions[0] for position in positions]
