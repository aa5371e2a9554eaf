"""Decoding, resizing and the step clock, written once for training and for the device.

* ``StreamRequirements(rate_hz, segment_s, ...)``, ``StreamRequirements.of(steps, views)``: what each step is
to bring.
* ``open_source(source, requirements, ...) -> Source``: a file, camera, network stream, test pattern or
  iterable; ``with open_source("clip.mp4", rate_hz=4) as source: for frame in source: ...``. ``source.drops``
  counts what was lost, by ``Drop`` cause.
* ``decode_steps(path, requirements, limit=None) -> Iterator[Frame]``: the same frames of a file, without a
thread.
* ``Frame``: time, picture as decoded, rotation, decode time, ``restarted`` after a gap; the ``earlier``
  pictures of its segment, and its ``sound``.
* ``renderer(view).render(frame) -> uint8``: of any modality; ``absent(frame)`` says why it cannot.
* ``StepClock(rate_hz).tick(time_s) -> Tick``: which frames are steps.
* ``Reconnect``: how a lost network stream is opened again.

What cannot be opened or read is a ``sdk.errors.SourceError`` with a ``code``.
"""

from sdk.media.clock import StepClock, Tick
from sdk.media.frames import Frame, Picture, Sound
from sdk.media.requirements import StreamRequirements
from sdk.media.sources.frame_queue import Drop
from sdk.media.sources.live import Reconnect
from sdk.media.sources.source import Source, open_source
from sdk.media.steps import decode_steps
from sdk.media.views.pixels import ViewRenderer
from sdk.media.views.renderers import Renderer, renderer

__all__ = [
    "Drop",
    "Frame",
    "Picture",
    "Reconnect",
    "Renderer",
    "Sound",
    "Source",
    "StepClock",
    "StreamRequirements",
    "Tick",
    "ViewRenderer",
    "decode_steps",
    "open_source",
    "renderer",
]
