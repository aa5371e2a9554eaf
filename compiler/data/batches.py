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


class DrawnFrames(Dataset[tuple[Tensor, int]]):
    """Per clip, one frame from each of ``count`` equal segments (TSN sampling, arXiv 1608.00859).

    Items: uint8 (count, S, S, 3) in order of time, and the label. Training draws at random, evaluation
    takes each segment's middle. ``count`` 0 takes every step and repeats the last of a clip that is short.
    No item has more frames than the longest clip: an image is drawn once.
    """

    def __init__(
        self, cache: ClipCache, clips: Sequence[int], view: View, count: int, *, train: bool, flip: bool
    ) -> None:
        self.cache, self.clips, self.view = cache, list(clips), view
        longest = max((cache.steps(clip) for clip in clips), default=1)
        self.count = min(count or longest, longest)
        self.every_step = count == 0
        self.train, self.flip = train, flip

    def __len__(self) -> int:
        return len(self.clips)

    def __getitem__(self, item: int) -> tuple[Tensor, int]:
        clip = self.clips[item]
        frames = self.cache.frames(clip, self.view.name)
        chosen = np.ascontiguousarray(frames[self._positions(len(frames))])
        if self.train and self.flip and torch.rand(()) < 0.5:
            chosen = np.ascontiguousarray(chosen[:, :, ::-1])
        return torch.from_numpy(chosen), self.cache.target(clip)

    def _positions(self, steps: int) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
        if self.every_step:
            return np.minimum(np.arange(self.count), steps - 1)
        within = torch.rand(self.count).numpy() if self.train else np.full(self.count, 0.5)
        return np.minimum((np.arange(self.count) + within) * steps / self.count, steps - 1).astype(np.int64)


class ClipBatch(TypedDict):
    """Clips step by step: ``views`` by name uint8 (B, T, S, S, 3), ``present`` (B, T), ``label`` (B,)."""

    views: dict[str, Tensor]
    present: Tensor
    label: Tensor


class ClipSteps(Dataset[ClipBatch]):
    """Whole clips at some views, padded with zeros to the cache's number of steps; one item is unbatched."""

    def __init__(self, cache: ClipCache, clips: Sequence[int], views: Sequence[str], *, flip: bool) -> None:
        self.cache, self.clips, self.views, self.flip = cache, list(clips), tuple(views), flip

    def __len__(self) -> int:
        return len(self.clips)

    def __getitem__(self, item: int) -> ClipBatch:
        clip = self.clips[item]
        mirrored = self.flip and bool(torch.rand(()) < 0.5)
        views = {name: self._padded(self.cache.frames(clip, name), mirrored) for name in self.views}
        present = torch.arange(self.cache.clip_steps) < self.cache.steps(clip)
        return {"views": views, "present": present, "label": torch.tensor(self.cache.target(clip))}

    def _padded(self, frames: np.ndarray[tuple[int, ...], np.dtype[np.uint8]], mirrored: bool) -> Tensor:
        padded = torch.zeros((self.cache.clip_steps, *frames.shape[1:]), dtype=torch.uint8)
        padded[: len(frames)] = torch.from_numpy(np.array(frames[:, :, ::-1] if mirrored else frames))
        return padded


class OutputBatch(TypedDict):
    """What frozen networks say of clips: ``features`` (B, T, F), and by name ``branches`` (B, T, C).

    ``target``: class probabilities (B, C) to aim at instead of the label.
    """

    features: Tensor
    branches: dict[str, Tensor]
    present: Tensor
    label: Tensor
    target: NotRequired[Tensor]


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
        return outputs
