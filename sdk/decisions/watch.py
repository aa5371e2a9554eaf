"""The watch: whether anything is to run while a stream is at rest, by signals that cost next to nothing."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from runtimes.errors import ArgumentError
from sdk.media.signals.signals import Signals

Floats = NDArray[np.floating]

_RAISED, _MOST_RAISED = 1.5, 8.0
"""What a useless look does to the threshold, and how far it goes up."""
_RELAXED = 0.99
"""What each quiet step leaves of how far it was raised."""


@dataclass(frozen=True)
class Watch:
    """When a stream at rest is looked at again.

    ``threshold``: the change of the picture, or of the sound, that wakes it, in standard deviations of what
    is usual there. ``longest_s``: after so many seconds it is looked at whatever the signals say: a guard
    against what comes without one.

    Raises: ArgumentError for one that is not positive.
    """

    threshold: float = 6.0
    longest_s: float = 30.0

    def __post_init__(self) -> None:
        for name in ("threshold", "longest_s"):
            value = getattr(self, name)
            number = isinstance(value, int | float) and not isinstance(value, bool)
            if not number or not 0 < value < float("inf"):
                raise ArgumentError(f"watch {name} {value}", "is not a positive number", "use 6 and 30, say")


class StreamWatch:
    """A watch over one stream: wakes on a change, and raises its threshold where looks turn out useless.

    A look that leaves the best label as it was, though a change called for it, multiplies the threshold by
    1.5, up to 8 times: what moves all the time and means nothing (a fan, a tree) is let be. One that brings
    another label, and time, bring it back.
    """

    _raised: float
    _called_at: int | None

    def __init__(self, settings: Watch, rate_hz: float, without_signals: int) -> None:
        """``without_signals``: steps from rest to the next look where no signal is there at all."""
        self.settings = settings
        self._longest = max(1, round(settings.longest_s * rate_hz))
        self._without_signals = without_signals
        self.reset()

    def wakes(self, signals: Signals, since: int | None, answer: Floats | None) -> bool:
        """Whether the stream, at rest, is to be looked at now.

        ``since``: steps since something was run last; ``answer`` (classes,): the stream's scores.
        """
        self._learn(answer)
        strongest = max((value for value in signals if value is not None), default=None)
        called = strongest is not None and strongest >= self.settings.threshold * self._raised
        longest = self._without_signals if strongest is None else self._longest
        if called or since is None or since >= longest:
            self._called_at = None if answer is None or not called else int(answer.argmax())
            return True
        self._raised = max(1.0, self._raised * _RELAXED)
        return False

    def reset(self) -> None:
        """Begin a new stream."""
        self._raised = 1.0
        self._called_at = None

    def _learn(self, answer: Floats | None) -> None:
        """At the first step of a rest: what the change that called for the looks before it was worth."""
        if self._called_at is None or answer is None:
            return
        useless = int(answer.argmax()) == self._called_at
        raised = self._raised * (_RAISED if useless else 1 / _RAISED)
        self._raised = min(max(raised, 1.0), _MOST_RAISED)
        self._called_at = None
