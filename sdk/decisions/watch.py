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
        for name, value in (("threshold", self.threshold), ("longest_s", self.longest_s)):
            number = isinstance(value, int | float) and not isinstance(value, bool)
            if not number or not 0 < value < math.inf:
                raise ArgumentError(f"watch {name} {value}", "is not a positive number", "use 6 and 30, say")


class StreamWatch:
    """A watch over one stream.

    It wakes when something changes after it was quiet: when an event begins, and when one is over. While an
    event goes on, with something moving at every step, the stream is looked at as often as its point's
    schedule does, or at once where the picture changes by far more than it has of late: a cut.

    An event that leaves the best label as it was multiplies the threshold by 1.5, up to 8 times: what moves
    now and then and means nothing (a fan, a tree) is let be. One that brings another label, and quiet, bring
    it back.
    """

    _raised: float
    _called_at: int | None
    _quiet: bool
    _was_quiet: bool
    _usual_motion: float
    _is_cut: bool
    _woken_s: float | None

    def __init__(self, settings: Watch, rate_hz: float, period: int) -> None:
        """``rate_hz``: of steps; ``period``: steps in which the looks of a point are spread."""
        self.settings, self._rate_hz, self._period = settings, rate_hz, period
        self.reset()

    def observe(self, signals: Signals) -> None:
        """Take in the signals of a step, of each, whether it is asleep or not."""
        motion, sound = signals.motion or 0.0, signals.sound or 0.0
        self._is_cut = motion >= max(_CUT * self._usual_motion, self.settings.threshold * self._raised)
        self._quiet = max(motion, sound) < self.settings.threshold
        if self._quiet:
            self._was_quiet, self._usual_motion = True, math.inf
            self._raised = max(1.0, self._raised * _RELAXED)
        elif self._usual_motion == math.inf:
            self._usual_motion = motion
        else:
            self._usual_motion += _MOTION_RATE * (motion - self._usual_motion)

    def mark_look(self) -> None:
        """The step that was observed is looked at: what changes is a change from it."""
        self._was_quiet, self._usual_motion = self._quiet, math.inf

    def wakes(self, signals: Signals, age: int, answer: Floats | None) -> bool:
        """Whether the stream, at rest, is to be looked at at the step that was observed.

        ``age``: steps since the first look of its last period; ``answer`` (classes,): the stream's scores.
        """
        self._learn(answer)
        age_s = self._age_s(signals, age)
        changed = max(signals.change or 0.0, signals.sound or 0.0) >= self.settings.threshold * self._raised
        begins = changed and (self._was_quiet or self._is_cut)
        known = signals.change is not None or signals.sound is not None
        due = age >= self._period if changed or not known else age_s >= self.settings.longest_s
        if not (begins or due):
            return False
        self._called_at = int(answer.argmax()) if begins and answer is not None else None
        self._woken_s = signals.time_s
        return True

    def reset(self) -> None:
        """Begin a new stream."""
        self._raised, self._usual_motion = 1.0, math.inf
        self._quiet = self._was_quiet = self._is_cut = False
        self._called_at = self._woken_s = None

    def _age_s(self, signals: Signals, age: int) -> float:
        """Seconds since the first look of the last period; by steps where no times are known."""
        if signals.time_s is None:
            return age / self._rate_hz
        if self._woken_s is None:
            self._woken_s = signals.time_s - age / self._rate_hz
        return signals.time_s - self._woken_s

    def _learn(self, answer: Floats | None) -> None:
        """At the first step of a rest: what the change that called for the looks before it was worth."""
        if self._called_at is None or answer is None:
            return
        useless = int(answer.argmax()) == self._called_at
        raised = self._raised * (_RAISED if useless else 1 / _RAISED)
        self._raised = min(max(raised, 1.0), _MOST_RAISED)
        self._called_at = None
