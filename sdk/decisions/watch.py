"""The watch: whether anything is to run while a stream is at rest, by signals that cost next to nothing."""

from __future__ import annotations

import math
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
_CUT, _MOTION_RATE = 4.0, 0.25
"""Times the usual motion that make a cut, and how fast that follows the motion there is."""


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
    """A watch over one stream.

    It wakes when something changes after it was quiet: when an event begins, and when one is over. While an
    event goes on, with something moving at every step, the stream is looked at as often as its point's
    schedule does, or at once where the picture changes by far more than it has of late: a cut.

    A call that leaves the best label as it was multiplies the threshold by 1.5, up to 8 times: what moves
    all the time and means nothing (a fan, a tree) is let be. One that brings another label, and quiet, bring
    it back.
    """

    _raised: float
    _called_at: int | None
    _was_quiet: bool
    _usual_motion: float

    def __init__(self, settings: Watch, rate_hz: float, period: int) -> None:
        """``period``: steps in which the looks of a point are spread, where nothing lets it sleep."""
        self.settings, self._period = settings, period
        self._longest = max(1, round(settings.longest_s * rate_hz))
        self.reset()

    def wakes(self, signals: Signals, since: int | None, answer: Floats | None) -> bool:
        """Whether the stream, at rest, is to be looked at now.

        ``since``: steps since something was run last; ``answer`` (classes,): the stream's scores.
        """
        self._learn(answer)
        called = self._is_called(signals, since)
        known = any(value is not None for value in signals)
        if called or since is None or since >= (self._longest if known else self._period):
            self._called_at = None if answer is None or not called else int(answer.argmax())
            self._was_quiet = False
            return True
        return False

    def reset(self) -> None:
        """Begin a new stream."""
        self._raised, self._usual_motion = 1.0, math.inf
        self._called_at, self._was_quiet = None, False

    def _is_called(self, signals: Signals, since: int | None) -> bool:
        threshold = self.settings.threshold * self._raised
        motion, sound = signals.motion or 0.0, signals.sound or 0.0
        is_cut = motion >= max(_CUT * self._usual_motion, threshold)
        if max(motion, sound) < self.settings.threshold:
            self._was_quiet, self._usual_motion = True, math.inf
            self._raised = max(1.0, self._raised * _RELAXED)
        elif self._usual_motion == math.inf:
            self._usual_motion = motion
        else:
            self._usual_motion += _MOTION_RATE * (motion - self._usual_motion)
        if max(signals.change or 0.0, sound) < threshold:
            return False
        return self._was_quiet or is_cut or (since is not None and since >= self._period)

    def _learn(self, answer: Floats | None) -> None:
        """At the first step of a rest: what the change that called for the looks before it was worth."""
        if self._called_at is None or answer is None:
            return
        useless = int(answer.argmax()) == self._called_at
        raised = self._raised * (_RAISED if useless else 1 / _RAISED)
        self._raised = min(max(raised, 1.0), _MOST_RAISED)
        self._called_at = None
