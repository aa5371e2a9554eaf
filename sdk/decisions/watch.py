"""The watch: whether anything is to run in a stream, by signals that cost next to nothing."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray

from runtimes.errors import ArgumentError
from sdk.media.signals.signals import Signals

Floats = NDArray[np.floating]

_RAISED, _MOST_RAISED = 1.5, 8.0
"""What a useless waking does to the threshold, and how far it goes up."""
_RELAXED = 0.99
"""What each quiet step leaves of how far it was raised."""
_CUT, _MOTION_RATE = 4.0, 0.25
"""Times the usual motion that make a cut, and how fast that follows the motion there is."""


@dataclass(frozen=True)
class Watch:
    """When a stream falls asleep, and when it is looked at again.

    ``threshold``: the change of the picture, or of the sound, that wakes it, in standard deviations of what
    is usual there. ``linger_s``: it stays awake for so many seconds after the last step at which anything
    moved. ``longest_s``: after so many seconds without a look it wakes whatever the signals say: a guard
    against what comes without one.

    Raises: ArgumentError for one that is not positive.
    """

    threshold: float = 6.0
    linger_s: float = 1.0
    longest_s: float = 30.0

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            number = isinstance(value, int | float) and not isinstance(value, bool)
            if not number or not 0 < value < math.inf:
                raise ArgumentError(
                    f"watch {name} {value}", "is not a positive number", "use 6, 1 and 30, say"
                )


class StreamWatch:
    """A watch over one stream: awake while something moves and a little longer, then asleep.

    Awake, its point looks as often as it does in a stream without a watch. It wakes when the picture has
    changed since the last look, or it has become loud: an event begins, or one is over. A cut, a change by
    far more than there was of late, begins an event too.

    A waking that leaves the best label as it was multiplies the threshold by 1.5, up to 8 times: what moves
    now and then and means nothing (a fan, a tree) is let be. One that brings another label, and quiet, bring
    it back.
    """

    asleep: bool
    """Whether nothing is to run."""
    _raised: float
    _woken_at: int | None
    """The best label when it woke, until what that was worth is known."""
    _quiet_steps: int
    _usual_motion: float | None
    """Of the steps that moved lately; None after it was quiet for long enough."""
    _is_cut: bool
    """Whether there was one since the last look."""
    _age: int
    """Steps since the last look; 0 as long as there is none since it began, or woke."""
    _looked_s: float | None

    def __init__(self, settings: Watch, rate_hz: float) -> None:
        """``rate_hz``: of steps."""
        self.settings, self._rate_hz = settings, rate_hz
        self._linger = max(1, math.ceil(settings.linger_s * rate_hz))
        self.reset()

    def observe(self, signals: Signals) -> None:
        """Take in the signals of a step, of each, whether it is asleep or not."""
        motion, sound = signals.motion or 0.0, signals.sound or 0.0
        self._age += self._age > 0
        self._is_cut = self._is_cut or self._cuts(motion)
        if max(motion, sound) < self.settings.threshold:
            self._quiet_steps += 1
            self._raised = max(1.0, self._raised * _RELAXED)
            if self._quiet_steps >= self._linger:
                self._usual_motion = None
            return
        self._quiet_steps = 0
        usual = motion if self._usual_motion is None else self._usual_motion
        self._usual_motion = usual + _MOTION_RATE * (motion - usual)

    def begins(self, signals: Signals, answer: Floats | None) -> bool:
        """Whether an event begins at the step that was observed: the stream is awake, and looked at anew.

        ``answer`` (classes,): the stream's scores.
        """
        if self._age == 0:
            return False  # the first look is still to come
        if not self._is_settled:
            return self._is_cut
        changed = max(signals.change or 0.0, signals.sound or 0.0) >= self.settings.threshold * self._raised
        due = self._since_look_s(signals) >= self.settings.longest_s
        if not (changed or due or (self.asleep and not _is_known(signals))):
            return False
        self._learn(answer)
        self.asleep, self._quiet_steps, self._age = False, 0, 0
        self._woken_at = int(answer.argmax()) if changed and answer is not None else None
        return True

    def rest(self, signals: Signals, answer: Floats | None) -> None:
        """Fall asleep if it has been quiet for long enough, and there is a signal that would wake it."""
        if _is_known(signals) and self._age > 0 and self._is_settled and not self.asleep:
            self.asleep, self._is_cut = True, False
            self._learn(answer)

    def mark_look(self, signals: Signals) -> None:
        """The step that was observed is looked at, and something ran."""
        self._age, self._looked_s, self._is_cut = 1, signals.time_s, False

    def stay_awake(self) -> None:
        """What runs now decides at every step."""
        self.asleep = self._is_cut = False

    def reset(self) -> None:
        """Begin a new stream, awake."""
        self._raised, self._usual_motion = 1.0, None
        self.asleep = self._is_cut = False
        self._quiet_steps = self._age = 0
        self._woken_at = self._looked_s = None

    def _cuts(self, motion: float) -> bool:
        """Whether so much motion is far more than there was of late; of what moves first, than wakes."""
        least = self.settings.threshold * self._raised
        if self._usual_motion is None:
            return self._quiet_steps > 0 and motion >= _CUT * least
        return motion >= max(_CUT * self._usual_motion, least)

    @property
    def _is_settled(self) -> bool:
        """Whether it sleeps, or has been quiet for long enough to."""
        return self.asleep or self._quiet_steps >= self._linger

    def _since_look_s(self, signals: Signals) -> float:
        """By steps where no times are known."""
        if signals.time_s is None or self._looked_s is None:
            return (self._age - 1) / self._rate_hz
        return signals.time_s - self._looked_s

    def _learn(self, answer: Floats | None) -> None:
        """What the change that it woke by was worth."""
        if self._woken_at is not None and answer is not None:
            useless = int(answer.argmax()) == self._woken_at
            raised = self._raised * (_RAISED if useless else 1 / _RAISED)
            self._raised = min(max(raised, 1.0), _MOST_RAISED)
        self._woken_at = None


def _is_known(signals: Signals) -> bool:
    """Whether there is a signal that could wake it."""
    return signals.change is not None or signals.sound is not None
