"""The noise of a camera's sensor: how much of it a picture has, and more of the same."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_FIELDS = 8
"""Different pictures of noise that a pause takes turns with."""
_BLOCKS = 4
"""Along each side, of which the quietest quarter counts."""
_MASK_NORM = 6.0
"""Square root of the sum of the mask's squared weights."""


def noise_of(picture: NDArray[np.uint8]) -> float:
    """Standard deviation of a picture's noise, in levels: Immerkaer, "Fast noise variance estimation" (1996).

    The mask (1 -2 1; -2 4 -2; 1 -2 1) is blind to edges and slopes; what is left of it is noise, and texture:
    of the picture's rows of blocks the quietest quarter counts.
    """
    luma = picture.astype(np.float32).mean(axis=2)
    if min(luma.shape) < 3:
        return 0.0
    second = luma[:, :-2] - 2 * luma[:, 1:-1] + luma[:, 2:]
    both = np.abs(second[:-2] - 2 * second[1:-1] + second[2:])
    side = max(1, min(both.shape) // _BLOCKS)
    height, width = (length - length % side for length in both.shape)
    blocks = both[:height, :width].reshape(height // side, side, width // side, side).mean(axis=(1, 3))
    return float(np.quantile(blocks, 0.25) * np.sqrt(np.pi / 2) / _MASK_NORM)


def noise_fields(
    size: tuple[int, int], sigma: float, random: np.random.Generator
) -> list[NDArray[np.float32]]:
    """A few pictures (height, width) of normal noise."""
    return [random.normal(0, sigma, size).astype(np.float32) for _ in range(_FIELDS)]
