"""The mean luma of a picture's blocks, from a sample of its decoded plane: nothing is resized."""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import av
import numpy as np
from numpy.typing import NDArray

ROWS, COLUMNS = 6, 8
_SAMPLES = 4
"""Of each block in each direction: sixteen pixels stand for it."""


class _Layout(NamedTuple):
    """Where luma, or green in its place, lies in a first plane: every ``pixel``-th value from ``luma`` on.

    ``scale``: what a value is to be divided by; ``deep``: values have two bytes, the lower first.
    """

    pixel: int = 1
    luma: int = 0
    scale: int = 1
    deep: bool = False


_PLANAR = ("yuv420p", "yuvj420p", "yuv422p", "yuvj422p", "yuv444p", "yuvj444p", "yuva420p", "nv12", "nv21")
_LAYOUTS = {
    **dict.fromkeys((*_PLANAR, "gray"), _Layout()),
    **dict.fromkeys(("rgb24", "bgr24"), _Layout(3, 1)),
    **dict.fromkeys(("rgba", "bgra", "rgb0", "bgr0"), _Layout(4, 1)),
    "yuyv422": _Layout(2, 0),
    "uyvy422": _Layout(2, 1),
    **dict.fromkeys(("yuv420p10le", "yuv422p10le", "yuv444p10le"), _Layout(scale=4, deep=True)),
    **dict.fromkeys(("yuv420p12le", "yuv422p12le", "yuv444p12le"), _Layout(scale=16, deep=True)),
    **dict.fromkeys(("p010le", "gray16le"), _Layout(scale=256, deep=True)),
}


def block_luma(image: av.VideoFrame) -> NDArray[np.float32]:
    """Mean luma (``ROWS`` * ``COLUMNS``,), 0 to 255, of blocks, as the picture lies in memory (not upright).

    Of a picture with fewer pixels than samples, pixels count more than once. Formats that are not known here
    are converted whole, which takes milliseconds where it takes hundredths else.
    """
    layout = _LAYOUTS.get(image.format.name)
    if layout is None:
        image, layout = image.reformat(COLUMNS * _SAMPLES, ROWS * _SAMPLES, "gray"), _Layout()
    plane = image.planes[0]
    values = np.frombuffer(memoryview(plane), "<u2" if layout.deep else np.uint8)
    line = plane.line_size // values.itemsize
    samples = values.take(_places(image.height, image.width, line, layout.pixel, layout.luma))
    total = np.add.reduce(samples, axis=0, dtype=np.float32)
    return np.asarray(total / np.float32(layout.scale * _SAMPLES**2))


@lru_cache(maxsize=16)
def _places(height: int, width: int, line: int, pixel: int, luma: int) -> NDArray[np.int64]:
    """Where the samples of each block lie in the plane's memory (samples, blocks)."""
    rows = _middles(height, ROWS * _SAMPLES) * line
    columns = _middles(width, COLUMNS * _SAMPLES) * pixel + luma
    places = (rows[:, None] + columns).reshape(ROWS, _SAMPLES, COLUMNS, _SAMPLES)
    return np.ascontiguousarray(places.transpose(1, 3, 0, 2).reshape(_SAMPLES**2, ROWS * COLUMNS))


def _middles(size: int, count: int) -> NDArray[np.int64]:
    """The middles of ``count`` equal parts of ``size`` pixels."""
    return (2 * np.arange(count) + 1) * size // (2 * count)
