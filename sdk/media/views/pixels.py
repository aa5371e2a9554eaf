"""Renders pictures: one swscale pass straight from the decoded picture to the view's size."""

from __future__ import annotations

from collections.abc import Sequence

import av
import numpy as np
from av.video.reformatter import Interpolation, VideoReformatter
from numpy.typing import NDArray

from runtimes.spec import View
from sdk.media.absence import Absence
from sdk.media.frames import Frame, upright_rotation
from sdk.media.segments import evenly_spaced

_INTERPOLATION = {
    "area": Interpolation.AREA,
    "bilinear": Interpolation.BILINEAR,
    "fast_bilinear": Interpolation.FAST_BILINEAR,
}
_LONGEST_ASPECT = 8


class PictureScaler:
    """Brings pictures to one view's size; keeps its scaler between them."""

    def __init__(self, view: View) -> None:
        self._size = view.size
        self._interpolation = _INTERPOLATION[view.resize]
        self._scaler = VideoReformatter()

    def square(self, image: av.VideoFrame, rotation: int | None = None) -> NDArray[np.uint8]:
        """Upright RGB of ``image``, uint8 (size, size, 3): short side resized, center cropped.

        ``rotation``: degrees clockwise that bring it upright; None: those it declares. The matrix and range
        that the source declares are honored; one that declares none is read as swscale does: BT.601,
        limited. The pixels may be those of a buffer: copy what is kept.
        """
        rotation = upright_rotation(image) if rotation is None else rotation
        image = _without_far_ends(image)
        short = min(image.width, image.height)
        size = self._size
        small = self._scaler.reformat(
            image,
            width=max(size, round(image.width * size / short)),
            height=max(size, round(image.height * size / short)),
            format="rgb24",
            interpolation=self._interpolation,
            threads=1,
        )
        square = _center(_rgb(small), size, size)
        if rotation:
            square = np.rot90(square, -rotation // 90)
        return square  # type: ignore[return-value]


class ViewRenderer:
    """Renders one rgb view; keeps its scaler between frames: one per view, from one thread at a time.

    Raises: ValueError for a view of another modality; ``sdk.media.renderer`` makes the renderer of any.
    """

    def __init__(self, view: View) -> None:
        if view.modality != "rgb":
            raise ValueError(f"view {view.name} is {view.modality}, not rgb")
        self.view = view
        self._scaler = PictureScaler(view)

    def absent(self, frame: Frame) -> Absence | None:
        """None: pictures are always there."""
        return None

    def render(self, frame: Frame) -> NDArray[np.uint8]:
        """Upright RGB, the short side resized to ``view.size``, center cropped: the step's own picture, or
        ``view.frames`` pictures evenly spaced over the segment that ends with it.

        Returns: uint8 (frames, size, size, 3), C-contiguous, the caller's own.
        """
        if self.view.frames == 1:
            return np.array(self._scaler.square(frame.image, frame.rotation)[None], order="C", dtype=np.uint8)
        images, times = segment_pictures(frame)
        rendered = np.empty(self.view.shape, np.uint8)
        before = -1
        for row, place in enumerate(spaced_pictures(self.view, times, frame.segment_s)):
            rendered[row] = rendered[row - 1] if place == before else self._scaler.square(images[place])
            before = place
        return rendered


def segment_pictures(frame: Frame) -> tuple[list[av.VideoFrame], NDArray[np.float64]]:
    """The pictures kept of the segment, oldest first, the step's own last; and their times in seconds."""
    images = [picture.image for picture in frame.earlier]
    times = [picture.time_s for picture in frame.earlier]
    return [*images, frame.image], np.array([*times, frame.time_s])


def spaced_pictures(view: View, times: NDArray[np.float64], segment_s: float) -> Sequence[int]:
    """Places in ``times`` of the view's evenly spaced pictures."""
    return evenly_spaced(times, view.frames, segment_s)


def _rgb(image: av.VideoFrame) -> NDArray[np.generic]:
    """The picture's own pixels, (H, W, 3), not a copy; a tenth of what ``to_ndarray`` takes."""
    plane = image.planes[0]
    if plane.line_size < 0:  # stored bottom up
        return image.to_ndarray()
    rows = np.frombuffer(memoryview(plane), np.uint8).reshape(image.height, plane.line_size)
    return rows[:, : 3 * image.width].reshape(image.height, image.width, 3)


def _center(pixels: NDArray[np.generic], height: int, width: int) -> NDArray[np.generic]:
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
    middle = _center(pixels, min(image.height, longest), min(image.width, longest))
    return av.VideoFrame.from_ndarray(np.ascontiguousarray(middle, dtype=np.uint8), format="rgb24")
