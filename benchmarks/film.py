"""The film that the benchmarks decode: 720p H.264, GOP 30, x264 veryfast, a texture that moves."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray

from runtimes.cache import cache_folder

WIDTH, HEIGHT, RATE_HZ, GOP = 1280, 720, 30, 30
_MARGIN = 256
"""How far (px) the camera sweeps over the texture."""


def benchmark_film(seconds: int) -> Path:
    """The film of that length, encoded once."""
    folder = cache_folder("benchmarks")
    path = folder / f"texture-{seconds}s.mp4"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        growing = path.with_suffix(".part.mp4")
        _encode(growing, seconds * RATE_HZ)
        growing.replace(path)
    return path


def _encode(path: Path, frames: int) -> None:
    texture = _texture(np.random.default_rng(0))
    with av.open(str(path), "w") as container:
        options = {"preset": "veryfast", "g": str(GOP), "threads": "1"}
        stream = container.add_stream("libx264", rate=RATE_HZ, options=options)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        for number in range(frames):
            picture = av.VideoFrame.from_ndarray(_picture(texture, number), format="rgb24")
            container.mux(stream.encode(picture))
        container.mux(stream.encode())


def _texture(random: np.random.Generator) -> NDArray[np.uint8]:
    """Noise of several octaves, (HEIGHT + margin, WIDTH + margin, 3), as natural pictures have."""
    height, width = HEIGHT + _MARGIN, WIDTH + _MARGIN
    total = np.zeros((height, width, 3))
    for octave in (64, 32, 16, 8, 4, 2):
        coarse = random.normal(0, octave**0.6, (-(-height // octave), -(-width // octave), 3))
        total += coarse.repeat(octave, 0).repeat(octave, 1)[:height, :width]
    return np.clip(128 + 3 * total, 0, 255).astype(np.uint8)


def _picture(texture: NDArray[np.uint8], number: int) -> NDArray[np.uint8]:
    """The texture as a sweeping camera sees it, with a bright square crossing, (HEIGHT, WIDTH, 3)."""
    phase = number / RATE_HZ
    top = round(_MARGIN / 2 * (1 + np.sin(0.9 * phase)))
    left = round(_MARGIN / 2 * (1 + np.cos(0.7 * phase)))
    picture = texture[top : top + HEIGHT, left : left + WIDTH].copy()
    x = 12 * number % (WIDTH - 200)
    picture[260:460, x : x + 200] = picture[260:460, x : x + 200] // 2 + 120
    return picture
