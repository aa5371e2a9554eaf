"""Small real videos for the tests, encoded as they are asked for."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray


def gradient(height: int, width: int, shift: int = 0) -> NDArray[np.uint8]:
    """A smooth color picture, uint8 (H, W, 3): red grows rightwards, green downwards."""
    pixels = np.zeros((height, width, 3), np.uint8)
    pixels[..., 0] = np.linspace(20, 230, width)[None]
    pixels[..., 1] = np.linspace(20, 230, height)[:, None]
    pixels[..., 2] = (40 + 8 * shift) % 200
    return pixels


def write_video(
    path: Path,
    *,
    frames: int = 24,
    size: tuple[int, int] = (96, 64),
    rate: int = 8,
    times: list[int] | None = None,
    rotation: int = 0,
    pix_fmt: str = "yuv420p",
    pixels: NDArray[np.uint8] | None = None,
    gop: int = 12,
) -> Path:
    """Write H.264; ``times``: pts in ms where the frames are not evenly spaced."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=rate)
        stream.width, stream.height, stream.pix_fmt = *size, pix_fmt
        stream.options = {"crf": "12", "preset": "ultrafast", "bf": "0", "g": str(gop)}
        stream.codec_context.time_base = Fraction(1, 1000)
        if rotation:
            stream.set_display_rotation(rotation)
        for index in range(frames):
            picture = gradient(size[1], size[0], index) if pixels is None else pixels
            image = av.VideoFrame.from_ndarray(picture, format="rgb24")
            image.pts = times[index] if times else round(index * 1000 / rate)
            image.time_base = Fraction(1, 1000)
            container.mux(stream.encode(image))
        container.mux(stream.encode(None))
    return path
