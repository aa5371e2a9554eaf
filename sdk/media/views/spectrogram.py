"""Renders sound: the log-power spectrogram of a segment, with numpy alone."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from runtimes.spec import View
from sdk.media.absence import NOT_DECODED, Absence
from sdk.media.frames import Frame

LOG_POWER = (-14.0, 10.0)
"""Natural log of power that becomes 0 and 255.

The floor of 1e-6 has -13.8, and silence with it; a sine of full scale has 8.2 in a window of 240 samples,
and nothing in [-1, 1] more than 9.6. A level is 0.094, or 0.41 dB: finer than 16-bit sound is steady.
"""
_FLOOR = np.float32(1e-6)
_ONE_THREAD = 2**18
"""Multiplications of a product up to which OpenBLAS keeps it in the caller's thread."""
_COLUMNS = 64
"""Of a block: nearly square ones are copied least."""

Floats = NDArray[np.float32]


class SpectrogramRenderer:
    """``log(|S|^2 + 1e-6)`` of ``size`` Hann windows, the last one ending with the segment.

    Windows begin every ``n / size`` samples (n: the segment's) and are two such steps long, ``2 * size - 1``
    samples at most: the length of the transform, which gives ``size`` bins. Before the segment is silence.
    At 24 kHz, 1.28 s and size 256: every 5 ms a window of 10 ms, bins 47 Hz apart.
    """

    def __init__(self, view: View) -> None:
        self.view = view

    def absent(self, frame: Frame) -> Absence | None:
        """Why ``frame`` has no sound."""
        return NOT_DECODED if frame.sound is None else frame.sound.absent

    def render(self, frame: Frame) -> NDArray[np.uint8]:
        """uint8 (1, size, size, 1): rows are bins, low frequencies first, columns windows."""
        if frame.sound is None or frame.sound.absent is not None:
            return np.zeros(self.view.shape, np.uint8)
        codes = log_power(frame.sound.samples, self.view.size)
        low, high = LOG_POWER
        codes -= np.float32(low)
        codes *= np.float32(255 / (high - low))
        codes += np.float32(0.5)
        np.clip(codes, 0, 255, out=codes)
        return np.ascontiguousarray(codes.astype(np.uint8).T[None, :, :, None])


def log_power(samples: NDArray[np.float32], size: int) -> Floats:
    """``log(|S|^2 + 1e-6)``, float32 (windows, bins), ``size`` of each; samples: float32 (n,), n >= size."""
    ends = np.round(np.arange(1, size + 1) * (samples.size / size)).astype(np.int64)
    window = max(2, min(2 * samples.size // size, 2 * size - 1))
    half, cosines, sines = _transform(window, size)
    padded = np.concatenate([np.zeros(window, np.float32), samples])
    framed = np.lib.stride_tricks.sliding_window_view(padded, window)[ends]
    front, back = framed[:, :half], framed[:, : -half - 1 : -1]
    even, odd = _product(front + back, cosines), _product(front - back, sines)
    even *= even
    odd *= odd
    even += odd
    even += _FLOOR
    return np.log(even, out=even)


def _product(rows: Floats, weights: Floats) -> Floats:
    """``rows @ weights`` in the caller's thread, block by block.

    Threads of a larger product wait for each other by spinning: on a busy machine a fifth of a millisecond
    became 32, the scheduler's time slices.
    """
    product = np.empty((len(rows), weights.shape[1]), np.float32)
    height = max(1, _ONE_THREAD // (len(weights) * _COLUMNS))
    for top in range(0, len(rows), height):
        for left in range(0, weights.shape[1], _COLUMNS):
            block = slice(top, top + height), slice(left, left + _COLUMNS)
            np.matmul(rows[block[0]], weights[:, block[1]], out=product[block])
    return product


@lru_cache(maxsize=8)
def _transform(window: int, size: int) -> tuple[int, Floats, Floats]:
    """Half the window's length, and the (half, size) cosines and sines that the folded halves are weighed by.

    Power does not depend on where time is counted from. Counted from the window's middle, a transform is
    one of cosines over the sum of the mirrored halves and one of sines over their difference: two small
    matrix products, in a third of the time of numpy's transform of 511 values, a length it is slow at.
    """
    half = (window + 1) // 2
    hann = 0.5 - 0.5 * np.cos(2 * np.pi * (np.arange(half) + 0.5) / window)
    if window % 2:
        hann[-1] /= 2  # the middle is in both halves
    place = np.arange(half) - (window - 1) / 2
    angles = 2 * np.pi / (2 * size - 1) * place[:, None] * np.arange(size)
    weighed = hann[:, None] * np.stack([np.cos(angles), np.sin(angles)])
    return half, weighed[0].astype(np.float32), weighed[1].astype(np.float32)
