"""Small films for the tests: flat pictures of given brightness, pushed or encoded."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray

BRIGHT, MIDDLE, DARK = 255, 100, 0


def flat(level: int, height: int = 96, width: int = 128) -> NDArray[np.uint8]:
    """One flat picture, (height, width, 3)."""
    return np.full((height, width, 3), level, np.uint8)


def film(levels: Iterable[int], rate_hz: float = 10.0) -> list[tuple[NDArray[np.uint8], float]]:
    """Flat pictures with their times."""
    return [(flat(level), index / rate_hz) for index, level in enumerate(levels)]


def encode(path: Path, levels: Iterable[int], rate_hz: int = 30) -> Path:
    """Write an H.264 file of noisy pictures around the given levels."""
    random = np.random.default_rng(0)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=rate_hz)
        stream.width, stream.height, stream.pix_fmt = 128, 96, "yuv420p"
        for level in levels:
            pixels = np.clip(random.normal(level, 30, (96, 128, 3)), 0, 255).astype(np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode())
    return path
