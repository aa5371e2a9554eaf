"""Views: the renditions of a stream that graphs take."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from runtimes.spec.base import Name, Spec

Modality = Literal["rgb", "rgbdiff", "flow", "audio"]
"""What a view is made from: pictures, their differences, their optical flow, or sound."""

_CHANNELS = {"rgb": 3, "rgbdiff": 3, "flow": 2, "audio": 1}


class View(Spec):
    """One rendition of the stream at a step, as uint8 of ``shape``.

    * ``rgb``: upright pictures, their short side resized to ``size`` by swscale, the center cropped to
      ``size`` x ``size``; ``frames`` of them, evenly spaced over the step's segment, the last one the step's.
    * ``rgbdiff``: at each of ``frames`` pictures the ``stack`` differences of consecutive pictures that end
      there, ``(later - earlier + 255) / 2``, their channels side by side.
    * ``flow``: likewise ``stack`` optical flows of consecutive pictures, horizontal and vertical, at ``size``
      px: 20 px and more either way are 0 and 255.
    * ``audio``: the log-power spectrogram of the segment's sound, mono at ``sample_rate``: ``size`` bins
      (rows, low frequencies first) of ``size`` windows.

    Graphs take a view as it is and compute ``(value - zero_point) * scale`` themselves.
    """

    name: Name
    modality: Modality = "rgb"
    size: Annotated[int, Field(ge=8, le=1024)]
    frames: Annotated[int, Field(ge=1, le=64)] = 1
    stack: Annotated[int, Field(ge=1, le=16)] = 1
    sample_rate: Annotated[int, Field(ge=4000, le=192_000)] = 24_000
    resize: Literal["area", "bilinear", "fast_bilinear"] = "area"
    zero_point: Annotated[int, Field(ge=0, le=255)] = 128
    scale: Annotated[float, Field(gt=0)] = 1 / 64

    @property
    def channels(self) -> int:
        """Values of one pixel."""
        return _CHANNELS[self.modality] * self.stack

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """What one step renders to: (frames, size, size, channels)."""
        return (self.frames, self.size, self.size, self.channels)
