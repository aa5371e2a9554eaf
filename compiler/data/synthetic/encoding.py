"""Writes a clip: H.264 video and AAC sound in mp4."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray


def write_clip(
    path: Path,
    frames: Iterable[NDArray[np.uint8]],
    rate_hz: int,
    sound: NDArray[np.float32],
    sample_rate_hz: int,
) -> None:
    """Encode ``frames`` (uint8 (H, W, 3) RGB each) and mono ``sound`` (float32 in [-1, 1]) to ``path``.

    One encoder thread: the same pixels give the same bytes.
    """
    with av.open(str(path), "w", format="mp4") as container:
        video = container.add_stream("libx264", rate=rate_hz)
        video.pix_fmt = "yuv420p"
        video.options = {"crf": "18", "preset": "ultrafast", "threads": "1"}
        audio = container.add_stream("aac", rate=sample_rate_hz, layout="mono")
        for index, pixels in enumerate(frames):
            if index == 0:
                video.height, video.width = pixels.shape[:2]
            container.mux(video.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(video.encode(None))
        samples = av.AudioFrame.from_ndarray(sound[None], format="fltp", layout="mono")
        samples.sample_rate = sample_rate_hz
        container.mux(audio.encode(samples))
        container.mux(audio.encode(None))
