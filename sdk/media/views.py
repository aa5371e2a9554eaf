"""Renders the views of a frame: one swscale pass straight from the decoded picture to the view's size."""

from __future__ import annotations

import av
import numpy as np
from av.video.reformatter import Interpolation, VideoReformatter
from numpy.typing import NDArray

from runtimes.spec import View
from sdk.media.frames import Frame

_INTERPOLATION = {
    "area": Interpolation.AREA,
    "bilinear": Interpolation.BILINEAR,
    "fast_bilinear": Interpolation.FAST_BILINEAR,
}
_LONGEST_ASPECT = 8


class ViewRenderer:
    """Renders one view; keeps its scaler between frames, so use one per view, from one thread at a time."""

    def __init__(self, view: View) -> None:
        self.view = view
        self._interpolation = _INTERPOLATION[view.resize]
        self._scaler = VideoReformatter()

    def render(self, frame: Frame) -> NDArray[np.uint8]:
        """Upright RGB of ``frame``: short side resized to ``view.size``, centre cropped.

        Returns: uint8 (1, size, size, 3), C-contiguous, the caller's own. The matrix and range that the
        source declares are honoured; one that declares none is read as swscale does: BT.601, limited.
        """
        image = _without_far_ends(frame.image)
        short = min(image.width, image.height)
        size = self.view.size
        small = self._scaler.reformat(
            image,
            width=max(size, round(image.width * size / short)),
            height=max(size, round(image.height * size / short)),
            format="rgb24",
            interpolation=self._interpolation,
            threads=1,
        )
        square = _centre(_rgb(small), size, size)
        if frame.rotation:
            square = np.rot90(square, -frame.rotation // 90)
        return np.array(square[None], order="C", dtype=np.uint8)


def _rgb(image: av.VideoFrame) -> NDArray[np.generic]:
    """The picture's own pixels, (H, W, 3), not a copy; a tenth of what ``to_ndarray`` takes."""
    plane = image.planes[0]
    if plane.line_size < 0:  # stored bottom up
        return image.to_ndarray()
    rows = np.frombuffer(memoryview(plane), np.uint8).reshape(image.height, plane.line_size)
    return rows[:, : 3 * image.width].reshape(image.height, image.width, 3)


def _centre(pixels: NDArray[np.generic], height: int, width: int) -> NDArray[np.generic]:
    top = (pixels.shape[0] - height) // 2
    left = (pixels.shape[1] - width) // 2
    return pixels[top : top + height, left : left + width]


def _without_far_ends(image: av.VideoFrame) -> av.VideoFrame:
    """A very long picture is cut before it is resized, or 1 x 4096 px would become 224 x 917504."""
    short = min(image.width, image.height)
    longest = short * _LONGEST_ASPECT
    if max(image.width, image.height) <= longest:
        return image
    pixels = image.to_ndarray(format="rgb24")
    middle = _centre(pixels, min(image.height, longest), min(image.width, longest))
    return av.VideoFrame.from_ndarray(np.ascontiguousarray(middle, dtype=np.uint8), format="rgb24")
