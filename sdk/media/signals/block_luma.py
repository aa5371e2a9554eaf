"""The mean luma of a picture's blocks, from a sample of its decoded plane: nothing is resized."""

from __future__ import annotations

from functools import lru_cache

import av
import numpy as np
from numpy.typing import NDArray

ROWS, COLUMNS = 6, 8
_SAMPLES = 4
"""Of each block in each direction: sixteen pixels stand for it."""
_ONE_BYTE_OF_LUMA = (1, 0)
_PLANAR = ("yuv420p", "yuvj420p", "yuv422p", "yuvj422p", "yuv444p", "yuvj444p", "yuva420p", "nv12", "nv21")
_LAYOUTS = {
    **dict.fromkeys((*_PLANAR, "gray"), _ONE_BYTE_OF_LUMA),
    **dict.fromkeys(("rgb24", "bgr24"), (3, 1)),
    **dict.fromkeys(("rgba", "bgra"), (4, 1)),
}
"""Of pixel formats: bytes a pixel of the first plane, and which of them is luma, or stands for it (green)."""


def block_luma(image: av.VideoFrame) -> NDArray[np.float32]:
    """Mean luma (``ROWS`` * ``COLUMNS``,), 0 to 255, of blocks, as the picture lies in memory (not upright).

    Of a picture with fewer pixels than samples, pixels count more than once.
    """
    layout = _LAYOUTS.get(image.format.name)
    if layout is None:  # deeper or rarer formats are converted, at the size of the samples alone
        image, layout = image.reformat(COLUMNS * _SAMPLES, ROWS * _SAMPLES, "gray"), _ONE_BYTE_OF_LUMA
    plane = image.planes[0]
    places = _places(image.height, image.width, plane.line_size, *layout)
    samples = np.frombuffer(memoryview(plane), np.uint8).take(places)
    return np.asarray(np.add.reduce(samples, axis=0, dtype=np.float32) / _SAMPLES**2)


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
