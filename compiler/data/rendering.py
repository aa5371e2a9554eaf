"""Renders the steps of many clips, a few at a time, in their order."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from compiler.data.clips import Clip, Rejected
from runtimes.spec import View
from sdk.errors import SourceError
from sdk.media.steps import decode_steps
from sdk.media.views import ViewRenderer

_BATCH = 32


@dataclass(frozen=True, slots=True)
class Rendered:
    """The steps of one clip. ``pixels``: per view uint8 (T, size, size, 3); ``times``: T seconds."""

    pixels: tuple[NDArray[np.uint8], ...]
    times: tuple[float, ...]
    was_cut: bool


def render_clips(
    clips: Sequence[Clip], views: Sequence[View], rate_hz: float, clip_steps: int
) -> Iterator[tuple[Clip, Rendered | Rejected]]:
    """Every clip with its first ``clip_steps`` steps, or why it has none.

    Threads suffice: decoding and scaling run without Python's lock. Batches bound what waits in memory.
    """

    def render(clip: Clip) -> Rendered | Rejected:
        try:
            return render_clip(clip, views, rate_hz, clip_steps)
        except SourceError as error:
            return Rejected(clip.path, error.reason)

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for first in range(0, len(clips), _BATCH):
            batch = clips[first : first + _BATCH]
            yield from zip(batch, pool.map(render, batch), strict=True)


def render_clip(clip: Clip, views: Sequence[View], rate_hz: float, clip_steps: int) -> Rendered:
    """The first ``clip_steps`` steps of one clip. Raises: SourceError."""
    renderers = [ViewRenderer(view) for view in views]
    steps: list[list[NDArray[np.uint8]]] = [[] for _ in views]
    times: list[float] = []
    for frame in decode_steps(clip.path, rate_hz, clip_steps + 1):
        if len(times) == clip_steps:
            return _rendered(steps, times, was_cut=True)
        times.append(frame.time_s)
        for kept, renderer in zip(steps, renderers, strict=True):
            kept.append(renderer.render(frame))
    return _rendered(steps, times, was_cut=False)


def _rendered(steps: list[list[NDArray[np.uint8]]], times: list[float], was_cut: bool) -> Rendered:
    return Rendered(tuple(np.concatenate(kept) for kept in steps), tuple(times), was_cut)
