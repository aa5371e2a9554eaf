"""Pictures that the app already has: arrays or PyAV frames, each with its time."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Iterator

import av
import numpy as np
from numpy.typing import NDArray

from sdk.errors import SourceError, SourceErrorCode
from sdk.media.frames import Picture


def pictures_of(images: Iterable[tuple[NDArray[np.uint8] | av.VideoFrame, float]]) -> Iterator[Picture]:
    """The pictures of (image, time in seconds) pairs. Raises: SourceError BAD_FRAME for anything else."""
    for index, (image, time_s) in enumerate(images):
        if not math.isfinite(time_s):
            raise _bad_frame(index, f"its time is {time_s}", "give seconds")
        yield Picture(_video_frame(image, index), float(time_s), arrived_s=time.monotonic())


def _video_frame(image: NDArray[np.uint8] | av.VideoFrame, index: int) -> av.VideoFrame:
    if isinstance(image, av.VideoFrame):
        return image
    pixels = np.asarray(image)
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3 or not pixels.size:
        raise _bad_frame(index, f"is {pixels.dtype} {pixels.shape}", "give uint8 (H, W, 3) RGB")
    return av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="rgb24")


def _bad_frame(index: int, reason: str, mend: str) -> SourceError:
    return SourceError(f"frame {index}", reason, mend, SourceErrorCode.BAD_FRAME)
