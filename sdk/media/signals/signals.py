"""All signals of a stream, step by step."""

from __future__ import annotations

from typing import NamedTuple

from sdk.media.frames import Frame
from sdk.media.signals.block_luma import block_luma
from sdk.media.signals.change import PictureChange
from sdk.media.signals.sound_level import SoundLevel


class Signals(NamedTuple):
    """What a step's signals say, in standard deviations of what is usual; None: absent.

    ``change``: of the picture since the last look; ``sound``: how much louder it has been since then.
    """

    change: float | None = None
    sound: float | None = None


NO_SIGNALS = Signals()


class StreamSignals:
    """Measures the signals of one stream; needs no more than each step's decoded frame."""

    def __init__(self, step_s: float) -> None:
        """``step_s``: seconds from step to step."""
        self._step_s = step_s
        self._change, self._sound = PictureChange(), SoundLevel()

    def measure(self, frame: Frame) -> Signals:
        """Take in one step."""
        sound = None if frame.sound is None else self._sound.measure(frame.sound, self._step_s)
        return Signals(self._change.measure(block_luma(frame.image)), sound)

    def mark_look(self) -> None:
        """The last step measured is being looked at: changes are counted from here on."""
        self._change.mark_look()
        self._sound.mark_look()

    def reset(self) -> None:
        """Begin a new stream."""
        self._change.reset()
        self._sound.reset()
