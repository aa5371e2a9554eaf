"""What rendering one segment costs, by modality: a real film's 1.28 s of sound and of pictures at 25 Hz.

``python -m benchmarks.spectrogram``: processor time of one render, median and quartiles.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np

from benchmarks.record import shown, spread, write
from compiler.data.synthetic.encoding import write_clip
from runtimes.spec import Steps, View
from sdk.media import Frame, StreamRequirements, decode_steps, renderer

SEGMENT_S, RATE_HZ, SOUND_RATE_HZ = 1.28, 25, 24_000
VIEWS = (
    View(name="audio256", size=256, modality="audio"),
    View(name="audio128", size=128, modality="audio"),
    View(name="rgb224x8", size=224, frames=8),
    View(name="rgb160x4", size=160, frames=4),
    View(name="rgbdiff224x8x5", size=224, modality="rgbdiff", frames=8, stack=5),
    View(name="rgbdiff160x4x5", size=160, modality="rgbdiff", frames=4, stack=5),
    View(name="flow224x8x5", size=224, modality="flow", frames=8, stack=5),
)


def main() -> None:
    frame = _segment()
    measured = {}
    for view in VIEWS:
        render = partial(renderer(view).render, frame)
        repeats = 15 if view.modality == "flow" else 200 if view.modality == "audio" else 50
        measured[view.name] = spread(_times_ms(render, repeats))
        print(f"{view.name:16} {shown(measured[view.name])} ms")
    source = f"noise moving over 320x240 at {RATE_HZ} Hz, H.264; white noise, AAC"
    print(write("spectrogram", {"segment_s": SEGMENT_S, "source": source, "render_processor_ms": measured}))


def _segment() -> Frame:
    """The last step of a film: its segment is whole."""
    rng = np.random.default_rng(0)
    coarse = np.kron(rng.integers(0, 255, (40, 50, 3)), np.ones((8, 8, 1))).astype(np.uint8)
    frames = [np.roll(coarse, (2 * k, 3 * k), (0, 1))[:240, :320] for k in range(64)]
    sound = rng.uniform(-0.5, 0.5, 64 * SOUND_RATE_HZ // RATE_HZ).astype(np.float32)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "film.mp4"
        write_clip(path, frames, RATE_HZ, sound, SOUND_RATE_HZ)
        steps = Steps(rate_hz=1 / SEGMENT_S, clip_steps=2, segment_s=SEGMENT_S)
        *_, last = decode_steps(path, StreamRequirements.of(steps, VIEWS), 2)
    return last


def _times_ms(render: Callable[[], object], repeats: int) -> list[float]:
    for _ in range(3):
        render()
    times = []
    for _ in range(repeats):
        began = time.process_time()
        render()
        times.append((time.process_time() - began) * 1e3)
    return times


if __name__ == "__main__":
    main()
