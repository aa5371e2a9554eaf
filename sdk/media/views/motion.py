"""Renders motion: differences and optical flow of consecutive pictures, at the view's size."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from runtimes.errors import ArgumentError, MissingPackageError
from runtimes.spec import View
from runtimes.words import install
from sdk.media.absence import Absence
from sdk.media.frames import Frame
from sdk.media.views.pixels import PictureScaler, segment_pictures, spaced_pictures

Square = NDArray[np.uint8]
FLOW_LIMIT_PX = 20.0


class DifferenceRenderer:
    """``(later - earlier + 255) / 2``, rounded half up, of the ``stack`` pairs that end at each picture.

    Consecutive pictures are neighbors among all that were decoded. Where the segment, or the stream,
    begins less than ``stack`` pictures before, the earliest stands for those that are missing.
    """

    def __init__(self, view: View) -> None:
        self.view = view
        self._scaler = PictureScaler(view)

    def absent(self, frame: Frame) -> Absence | None:
        """None: pictures are always there."""
        return None

    def render(self, frame: Frame) -> NDArray[np.uint8]:
        """uint8 (frames, size, size, 3 * stack), the oldest difference first."""
        rendered = np.empty(self.view.shape, np.uint8)
        for row, square, pair in _pairs(self.view, frame, self._scaler.square):
            _put(rendered[row], 3 * pair, _mean(square[1], ~square[0]))
        return rendered


class FlowRenderer:
    """Optical flow of the ``stack`` pairs that end at each picture: across and down, in px at view size.

    ``floor((flow + 20) / 40 * 255 + 0.5)``, cut to 0 ... 255: no motion, 127.5, is 128. ``method``: ``dis``
    (dense inverse search, OpenCV's fast preset), or ``tvl1``, which OpenCV has in its contrib modules.

    OpenCV is set to one thread, for the whole process: what it finds depends on how many it has.

    Raises: AdaptiveVideoError if OpenCV, or its contrib modules, are not installed.
    """

    def __init__(self, view: View, method: str = "dis") -> None:
        self.view = view
        self._scaler = PictureScaler(view)
        self._cv2 = _opencv()
        self._flow = _flow_method(self._cv2, method)

    def absent(self, frame: Frame) -> Absence | None:
        """None: pictures are always there."""
        return None

    def render(self, frame: Frame) -> NDArray[np.uint8]:
        """uint8 (frames, size, size, 2 * stack), the oldest flow first."""
        rendered = np.empty(self.view.shape, np.uint8)
        for row, gray, pair in _pairs(self.view, frame, self._gray):
            flow = self._flow.calc(gray[0], gray[1], None)
            codes = np.clip((flow + FLOW_LIMIT_PX) * (255 / (2 * FLOW_LIMIT_PX)) + 0.5, 0, 255)
            _put(rendered[row], 2 * pair, codes)
        return rendered

    def _gray(self, image: Any) -> Square:
        return self._cv2.cvtColor(self._scaler.square(image), self._cv2.COLOR_RGB2GRAY)


def _mean(a: Square, b: Square) -> Square:
    """The mean of bytes, rounded half up, without leaving bytes: of ``later`` and ``255 - earlier``."""
    half = a ^ b
    half >>= 1
    return (a | b) - half


def _put(row: Square, channel: int, values: NDArray[Any]) -> None:
    """Write values (S, S, c) to so many channels: one by one, which numpy does in a third of the time."""
    for number in range(values.shape[2]):
        row[:, :, channel + number] = values[:, :, number]


def _pairs(view: View, frame: Frame, scaled: Callable[[Any], Square]) -> Any:
    """For every place (row) and pair of it: the row, both pictures at view size, the pair's number.

    Each picture is scaled once, and forgotten where it is not needed any more.
    """
    images, times = segment_pictures(frame)
    squares: dict[int, Square] = {}
    for row, last in enumerate(spaced_pictures(view, times, frame.segment_s)):
        first = last - view.stack
        squares = {place: square for place, square in squares.items() if place >= first}
        for pair in range(view.stack):
            places = [max(0, first + pair), max(0, first + pair + 1)]
            for place in places:
                if place not in squares:
                    squares[place] = scaled(images[place])
            yield row, (squares[places[0]], squares[places[1]]), pair


def _opencv() -> Any:
    try:
        import cv2
    except ImportError:
        raise MissingPackageError(
            "optical flow", "needs OpenCV, which is not installed", install("flow")
        ) from None
    cv2.setNumThreads(1)
    return cv2


def _flow_method(cv2: Any, method: str) -> Any:
    if method == "dis":
        return cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_FAST)
    if method != "tvl1":
        raise ArgumentError(f"flow method {method}", "is unknown", "use dis or tvl1")
    if not hasattr(cv2, "optflow"):
        raise MissingPackageError(
            "TV-L1 flow",
            "is not in this OpenCV, which lacks the contrib modules",
            "pip install opencv-contrib-python-headless instead, or use dis",
        )
    return cv2.optflow.DualTVL1OpticalFlow_create()
