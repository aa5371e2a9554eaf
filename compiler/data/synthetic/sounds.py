"""Makes the sound of synthetic clips: a chirp, clicks, or the tone of what is seen, in quiet noise."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

SAMPLE_RATE_HZ = 24_000

TONES_HZ = {"disc": 440.0, "cross": 660.0, "horizontal": 880.0, "rising": 1320.0}
"""Visible classes that can be heard too, while they are seen."""

Samples = NDArray[np.float32]

_NOISE = 0.01


def make_sound(rng: np.random.Generator, label: str, visible: NDArray[np.bool_], rate_hz: float) -> Samples:
    """The sound of one clip: float32 mono in [-1, 1] at 24 kHz, as long as its frames.

    ``visible``: per frame, whether the object is there; ``rate_hz``: frames per second.
    """
    count = round(len(visible) / rate_hz * SAMPLE_RATE_HZ)
    sound = _NOISE * rng.standard_normal(count)
    times = np.arange(count) / SAMPLE_RATE_HZ
    if label == "chirp":
        sound += _chirps(rng, times)
    elif label == "clicks":
        sound += _clicks(rng, count)
    elif label in TONES_HZ:
        frame = np.minimum((times * rate_hz).astype(int), len(visible) - 1)
        sound += 0.2 * visible[frame] * np.sin(2 * np.pi * TONES_HZ[label] * times)
    return np.asarray(np.clip(sound, -1, 1), np.float32)


def _chirps(rng: np.random.Generator, times: NDArray[np.float64]) -> NDArray[np.float64]:
    """A tone that rises from about 300 Hz to 2400 Hz, once a second."""
    low, period_s = rng.uniform(250, 350), rng.uniform(0.8, 1.2)
    within = (times + rng.uniform(0, period_s)) % period_s
    octaves = 3 * within / period_s
    phase = 2 * np.pi * low * period_s / (3 * np.log(2)) * (2**octaves - 1)
    return np.asarray(0.3 * np.sin(phase))


def _clicks(rng: np.random.Generator, count: int) -> NDArray[np.float64]:
    """Short decaying clicks, six to ten a second."""
    sound = np.zeros(count)
    decay = np.exp(-np.arange(240) / 40) * np.where(np.arange(240) % 8 < 4, 0.6, -0.6)
    period = SAMPLE_RATE_HZ / rng.uniform(6, 10)
    for start in np.arange(rng.uniform(0, period), count - decay.size, period).astype(int):
        sound[start : start + decay.size] += decay
    return sound
