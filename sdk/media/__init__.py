"""Decoding, resizing and the step clock, written once for training and for the device.

* ``open_source(source, *, rate_hz, ...) -> Source``: a file, camera, network stream, test pattern or
  iterable; ``with open_source("clip.mp4", rate_hz=4) as source: for frame in source: ...``. ``source.drops``
  counts what was lost, by ``Drop`` cause.
* ``decode_steps(path, rate_hz, limit=None) -> Iterator[Frame]``: the same frames of a file, without a thread.
* ``Frame``: time, picture as decoded, rotation, decode time, ``restarted`` after a gap.
* ``ViewRenderer(view).render(frame) -> uint8 (1, size, size, 3)``.
* ``StepClock(rate_hz).tick(time_s) -> Tick``: which frames are steps.
* ``Reconnect``: how a lost network stream is opened again.

What cannot be opened or read is a ``sdk.errors.SourceError`` with a ``code``.
"""

from sdk.media.clock import StepClock, Tick
from sdk.media.frame_queue import Drop
from sdk.media.frames import Frame
from sdk.media.live import Reconnect
from sdk.media.sources import Source, open_source
from sdk.media.steps import decode_steps
from sdk.media.views import ViewRenderer

__all__ = [
    "Drop",
    "Frame",
    "Reconnect",
    "Source",
    "StepClock",
    "Tick",
    "ViewRenderer",
    "decode_steps",
    "open_source",
]
