"""Chooses the step rate at which the clips of a data set fit a model's steps."""

from __future__ import annotations

import numpy as np

from compiler.data.clips import ClipSet
from compiler.data.probes import probe_clips
from compiler.errors import DataError

_FITTING_SHARE = 0.9


def choose_rate_hz(clips: ClipSet, clip_steps: int) -> float:
    """The steps per second at which nine clips of ten fit in ``clip_steps`` steps.

    Never more than the clips have frames per second: a step needs a frame of its own. Lengths are those
    that the files state, of at most 500 clips spread evenly over the set.

    Raises: DataError if no clip states its length.
    """
    probes = probe_clips(clips)
    lengths = [entry.duration_s for entry in probes if entry.duration_s]
    if not lengths:
        raise DataError(
            clips.origin, "no clip states its length", "give the rate in steps per second yourself"
        )
    length_s = float(np.quantile(lengths, _FITTING_SHARE, method="higher"))
    rate_hz = round(clip_steps / length_s, 3)
    rates = [entry.rate_hz for entry in probes if entry.rate_hz]
    return min(rate_hz, max(rates)) if rates else rate_hz
