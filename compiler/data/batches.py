"""Batches for training from the clip cache: drawn frames, or whole clips step by step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NotRequired, TypedDict

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from compiler.data.cache import ClipCache
from runtimes.spec import View


def mirrored(frames: Tensor, view: View) -> Tensor:
    """Steps (..., S, S, C) of a view left to right; sound has no sides, and flow points the other way."""
    if view.modality == "audio":
        return frames
    frames = frames.flip(-2)
    if view.modality == "flow":
        frames[..., 0::2] = 255 - frames[..., 0::2]
    return frames


def availability(cache: ClipCache, clip: int, groups: Sequence[Sequence[str]]) -> Tensor:
    """At which steps of a clip each group has a view that is there: bool (T, groups).

    ``groups``: the views of each.
    """
    there = [~np.all([cache.absent(clip, view) for view in views], axis=0) for views in groups]
    return torch.from_numpy(np.stack(there, axis=1))


Positions = np.ndarray[tuple[int], np.dtype[np.int64]]


class _Drawing:
    """Which steps of a clip are drawn: one from each of ``count`` equal segments (TSN, arXiv 1608.00859).

    Training draws at random, evaluation takes each segment's middle. ``count`` 0 takes every step and repeats
    the last of a clip that is short. No item has more steps than the longest clip: an image is drawn once.
    """

    def __init__(
        self, cache: ClipCache, clips: Sequence[int], count: int, *, train: bool, flip: bool
    ) -> None:
        longest = max((cache.steps(clip) for clip in clips), default=1)
        self.cache, self.clips = cache, list(clips)
        self.count, self.every_step = min(count or longest, longest), count == 0
        self.train, self.flip = train, flip

    def __len__(self) -> int:
        return len(self.clips)

    def positions(self, clip: int) -> Positions:
        """The drawn steps of a clip (count,), in order of time."""
        count, steps = self.count, self.cache.steps(clip)
        if self.every_step:
            return np.minimum(np.arange(count), steps - 1)
        within = torch.rand(count).numpy() if self.train else np.full(count, 0.5)
        return np.minimum((np.arange(count) + within) * steps / count, steps - 1).astype(np.int64)

    def is_mirrored(self) -> bool:
        """Whether the next item is mirrored: half of those of training, if any may be."""
        return self.train and self.flip and bool(torch.rand(()) < 0.5)

    def steps(self, clip: int, view: View, positions: Positions, *, flipped: bool) -> Tensor:
        """The steps at ``positions`` of a clip at a view: uint8 (count, S, S, 3) or (count, F, S, S, C)."""
        frames = torch.from_numpy(np.ascontiguousarray(self.cache.frames(clip, view.name)[positions]))
        return mirrored(frames, view) if flipped else frames


class DrawnFrames(_Drawing, Dataset[tuple[Tensor, int]]):
    """Drawn steps of clips at one view, uint8 (count, S, S, 3) or (count, F, S, S, C), with the label."""

    def __init__(
        self, cache: ClipCache, clips: Sequence[int], view: View, count: int, *, train: bool, flip: bool
    ) -> None:
        super().__init__(cache, clips, count, train=train, flip=flip)
        self.view = view

    def __getitem__(self, item: int) -> tuple[Tensor, int]:
        clip = self.clips[item]
        positions = self.positions(clip)
        steps = self.steps(clip, self.view, positions, flipped=self.is_mirrored())
        return steps, self.cache.target(clip)


class ViewsBatch(TypedDict):
    """Drawn steps at several views: ``views`` (B, K, ...), ``available`` (B, K, groups), ``label`` (B,)."""

    views: tuple[Tensor, ...]
    available: Tensor
    label: Tensor


class DrawnViews(_Drawing, Dataset[ViewsBatch]):
    """The same drawn steps of clips at several views, with what is there of each group."""

    def __init__(
        self,
        cache: ClipCache,
        clips: Sequence[int],
        views: Sequence[View],
        groups: Sequence[Sequence[str]],
        count: int,
        *,
        train: bool,
        flip: bool,
    ) -> None:
        super().__init__(cache, clips, count, train=train, flip=flip)
        self.views, self.groups = tuple(views), groups

    def __getitem__(self, item: int) -> ViewsBatch:
        clip = self.clips[item]
        positions, flipped = self.positions(clip), self.is_mirrored()
        available = availability(self.cache, clip, self.groups)[torch.from_numpy(positions)]
        return {
            "views": tuple(self.steps(clip, view, positions, flipped=flipped) for view in self.views),
            "available": available,
            "label": torch.tensor(self.cache.target(clip)),
        }


class ClipBatch(TypedDict):
    """Clips step by step: ``views`` by name uint8 (B, T, S, S, 3) or (B, T, F, S, S, C), ``present`` (B, T).

    ``label`` (B,). ``available`` bool (B, T, groups): which groups' views are there, where any may not be.
    """

    views: dict[str, Tensor]
    present: Tensor
    label: Tensor
    available: NotRequired[Tensor]


class ClipSteps(Dataset[ClipBatch]):
    """Whole clips at some views, padded with zeros to the cache's number of steps; one item is unbatched.

    ``groups``: the views of each group, to tell which are there; none where all always are.
    """

    def __init__(
        self,
        cache: ClipCache,
        clips: Sequence[int],
        views: Mapping[str, View],
        *,
        flip: bool,
        groups: Sequence[Sequence[str]] = (),
    ) -> None:
        self.cache, self.clips, self.views, self.flip = cache, list(clips), dict(views), flip
        self.groups = groups

    def __len__(self) -> int:
        return len(self.clips)

    def __getitem__(self, item: int) -> ClipBatch:
        clip = self.clips[item]
        flipped = self.flip and bool(torch.rand(()) < 0.5)
        views = {}
        for name, view in self.views.items():
            frames = torch.from_numpy(np.array(self.cache.frames(clip, name)))
            views[name] = self._padded(mirrored(frames, view) if flipped else frames)
        present = torch.arange(self.cache.clip_steps) < self.cache.steps(clip)
        target = torch.tensor(self.cache.target(clip))
        batch: ClipBatch = {"views": views, "present": present, "label": target}
        if self.groups:
            batch["available"] = self._padded(availability(self.cache, clip, self.groups))
        return batch

    def _padded(self, steps: Tensor) -> Tensor:
        padded = torch.zeros((self.cache.clip_steps, *steps.shape[1:]), dtype=steps.dtype)
        padded[: len(steps)] = steps
        return padded


class OutputBatch(TypedDict):
    """What frozen networks say of clips: ``features`` (B, T, F), and by name ``branches`` (B, T, C).

    ``target``: class probabilities (B, C) to aim at instead of the label. ``available`` as in ``ClipBatch``.
    """

    features: Tensor
    branches: dict[str, Tensor]
    present: Tensor
    label: Tensor
    target: NotRequired[Tensor]
    available: NotRequired[Tensor]


class ClipOutputs(Dataset[OutputBatch]):
    """Features and branch logits computed once; an item is drawn from one of several renditions of a clip."""

    def __init__(self, renditions: Sequence[OutputBatch]) -> None:
        self.renditions = list(renditions)

    def __len__(self) -> int:
        return len(self.renditions[0]["label"])

    def __getitem__(self, item: int) -> OutputBatch:
        source = self.renditions[int(torch.randint(len(self.renditions), ()))]
        branches: Mapping[str, Tensor] = source["branches"]
        outputs: OutputBatch = {
            "features": source["features"][item],
            "branches": {name: logits[item] for name, logits in branches.items()},
            "present": source["present"][item],
            "label": source["label"][item],
        }
        if "target" in source:
            outputs["target"] = source["target"][item]
        if "available" in source:
            outputs["available"] = source["available"][item]
        return outputs
