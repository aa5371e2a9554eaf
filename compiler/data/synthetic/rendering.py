"""Renders the steps of many clips, a few at a time, in their order."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from compiler.data.clips import Clip, Rejected
from runtimes.spec import Steps, View
from sdk.errors import SourceError
from sdk.media.requirements import StreamRequirements
from sdk.media.steps import decode_steps
from sdk.media.views.renderers import renderer

_BATCH = 32


@dataclass(frozen=True, slots=True)
class Rendered:
    """The steps of one clip. ``pixels``: per view uint8 (T, *shape of a step); ``times``: T seconds.

    ``absent``: per view, the numbers of the steps that lack what it is made from; their pixels are zeros.
    """

    pixels: tuple[NDArray[np.uint8], ...]
    times: tuple[float, ...]
    absent: tuple[tuple[int, ...], ...]
    was_cut: bool


def render_clips(
    clips: Sequence[Clip], views: Sequence[View], steps: Steps
) -> Iterator[tuple[Clip, Rendered | Rejected]]:
    """Every clip with its first ``steps.clip_steps`` steps, or why it has none.

    Threads suffice: decoding and scaling run without Python's lock. Batches bound what waits in memory.
    """

    def render(clip: Clip) -> Rendered | Rejected:
        try:
            return render_clip(clip, views, steps)
        except SourceError as error:
            return Rejected(clip.path, error.reason)

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for first in range(0, len(clips), _BATCH):
            batch = clips[first : first + _BATCH]
            yield from zip(batch, pool.map(render, batch), strict=True)


def render_clip(clip: Clip, views: Sequence[View], steps: Steps) -> Rendered:
    """The first ``steps.clip_steps`` steps of one clip. Raises: SourceError."""
    renderers = [renderer(view) for view in views]
    pixels: list[list[NDArray[np.uint8]]] = [[] for _ in views]
    absent: list[list[int]] = [[] for _ in views]
    times: list[float] = []
    was_cut = False
    for frame in decode_steps(clip.path, StreamRequirements.of(steps, views), steps.clip_steps + 1):
        if was_cut := len(times) == steps.clip_steps:
            break
        for number, made in enumerate(renderers):
            pixels[number].append(made.render(frame).reshape(step_shape(views[number])))
            if made.absent(frame) is not None:
                absent[number].append(len(times))
        times.append(frame.time_s)
    return Rendered(
        tuple(np.stack(kept) for kept in pixels), tuple(times), tuple(map(tuple, absent)), was_cut
    )


def step_shape(view: View) -> tuple[int, ...]:
    """What a cache keeps of one step: (size, size, 3) of a view of one picture, else the view's own shape."""
    return view.shape[1:] if view.modality == "rgb" and view.frames == 1 else view.shape
