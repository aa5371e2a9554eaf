"""Decodes a data set once, through the SDK's own code, and keeps the pixels for training."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

from compiler.data.cache_index import CachedClip, CacheIndex, cache_key
from compiler.data.clips import ClipSet, Rejected, Split, require_usable
from compiler.data.publishing import published
from compiler.data.rendering import render_clips
from runtimes.spec import View

Progress = Callable[[int, int], None]
"""Called with (clips done, clips in all)."""

_INDEX = "index.json"


class ClipCache:
    """Rendered steps of every clip, memory-mapped. Clips are numbered as in ``clips``.

    ``rejected``: (path, reason) of the clips left out. ``cut_clips``: how many had more than ``clip_steps``
    steps and lost the rest.
    """

    def __init__(self, folder: Path, index: CacheIndex) -> None:
        self.folder = folder
        self.labels = index.labels
        self.rate_hz = index.rate_hz
        self.clip_steps = index.clip_steps
        self.fingerprint = index.fingerprint
        self.cut_clips = index.cut_clips
        self.clips = tuple(entry.clip() for entry in index.clips)
        self.rejected = [Rejected(Path(path), reason) for path, reason in index.rejected]
        self._entries = index.clips
        self._pixels = {view.name: _mapped(folder, view, index.total_steps) for view in index.views}

    @classmethod
    def build(
        cls,
        clips: ClipSet,
        views: Sequence[View],
        rate_hz: float,
        clip_steps: int,
        root: str | os.PathLike[str],
        progress: Progress = lambda done, total: None,
    ) -> Self:
        """The cache of these clips and views below ``root``: the one that is there, or a new one.

        Any change of a file's name, size or date, of views, rate or steps, or of the decoding libraries
        makes a new one. It appears whole or not at all.

        Raises: DataError if too many clips cannot be decoded, or the disk is full.
        """
        folder = Path(root) / cache_key(clips, views, rate_hz, clip_steps)
        if not (folder / _INDEX).is_file():
            with published(folder, _INDEX) as draft:
                _write(draft, clips, views, rate_hz, clip_steps, progress)
        return cls(folder, CacheIndex.model_validate_json((folder / _INDEX).read_text("utf-8")))

    def frames(self, clip: int, view: str) -> NDArray[np.uint8]:
        """The steps of one clip: uint8 (T, size, size, 3), read-only, not copied. Raises: KeyError."""
        entry = self._entries[clip]
        return self._pixels[view][entry.start : entry.start + entry.steps]

    def steps(self, clip: int) -> int:
        """How many steps a clip has: 1 to ``clip_steps``."""
        return self._entries[clip].steps

    def times(self, clip: int) -> tuple[float, ...]:
        """Source time of each step, in seconds."""
        return self._entries[clip].times

    def target(self, clip: int) -> int:
        """The place of the clip's label in ``labels``."""
        return self.labels.index(self.clips[clip].label)

    def split(self, name: Split) -> list[int]:
        """The numbers of the clips of one split."""
        return [number for number, clip in enumerate(self.clips) if clip.split == name]


def _mapped(folder: Path, view: View, steps: int) -> NDArray[np.uint8]:
    shape = (steps, view.size, view.size, 3)
    return np.memmap(_pixel_file(folder, view), dtype=np.uint8, mode="r", shape=shape)


def _pixel_file(folder: Path, view: View) -> Path:
    return folder / f"{view.name}.rgb"


def _write(
    draft: Path,
    clips: ClipSet,
    views: Sequence[View],
    rate_hz: float,
    clip_steps: int,
    progress: Progress,
) -> None:
    entries: list[CachedClip] = []
    rejected = list(clips.rejected)
    cut = start = 0
    with ExitStack() as files:
        writers = [files.enter_context(_pixel_file(draft, view).open("wb")) for view in views]
        rendered = render_clips(clips.clips, views, rate_hz, clip_steps)
        for done, (clip, result) in enumerate(rendered, start=1):
            if isinstance(result, Rejected):
                rejected.append(result)
            else:
                for writer, pixels in zip(writers, result.pixels, strict=True):
                    writer.write(pixels.data)
                entries.append(CachedClip.of(clip, start, result.times))
                start += len(result.times)
                cut += result.was_cut
            progress(done, len(clips.clips))
    usable = replace(clips, clips=tuple(entry.clip() for entry in entries), rejected=tuple(rejected))
    require_usable(usable, clips.labels)
    index = CacheIndex(
        labels=clips.labels,
        views=tuple(views),
        rate_hz=rate_hz,
        clip_steps=clip_steps,
        fingerprint=usable.fingerprint,
        cut_clips=cut,
        clips=tuple(entries),
        rejected=tuple((str(path), reason) for path, reason in rejected),
    )
    (draft / _INDEX).write_text(index.model_dump_json(indent=1), "utf-8")
