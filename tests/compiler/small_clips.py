"""Clips of several modalities that were never files: random arrays that lean with their label."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from compiler.data.clips import Clip
from compiler.training.run import Hardware, TrainingRun
from compiler.training.training import Training
from models.methods import adamml
from models.rollout.adaptive_model import AdaptiveModel
from tests.models.small_adamml import LABELS, small_preset


class ArrayCache:
    """What a clip cache offers, from arrays; of every third clip the sound is absent at every second step."""

    def __init__(self, model: AdaptiveModel, train: int = 6, val: int = 3, steps: int = 5) -> None:
        self.labels = LABELS
        self.clip_steps, self.rate_hz, self.segment_s = steps, 1 / 0.64, 1.28
        self.fingerprint = "arrays"
        self.clips = tuple(
            Clip(Path(f"{label}{i}.mp4"), label, None, "train" if i < train else "val")
            for label in LABELS
            for i in range(train + val)
        )
        self._views = model.views

    def split(self, name: str) -> list[int]:
        return [i for i, clip in enumerate(self.clips) if clip.split == name]

    def steps(self, clip: int) -> int:
        return self.clip_steps - clip % 2

    def target(self, clip: int) -> int:
        return self.labels.index(self.clips[clip].label)

    def frames(self, clip: int, view: str) -> NDArray[np.uint8]:
        shown = self._views[view]
        random = np.random.default_rng((clip, shown.size, shown.frames, shown.channels))
        shape = (self.steps(clip), *shown.shape)
        frames = random.integers(0, 120, shape) + 60 * self.target(clip)
        frames = frames * ~self.absent(clip, view)[:, None, None, None, None]
        single = shown.modality == "rgb" and shown.frames == 1
        return (frames[:, 0] if single else frames).astype(np.uint8)

    def absent(self, clip: int, view: str) -> NDArray[np.bool_]:
        steps = np.arange(self.steps(clip))
        lacks = self._views[view].modality == "audio" and clip % 3 == 0
        return steps % 2 == 1 if lacks else steps < 0


def small_training(folder: Path, preset: Any = None, paper: ModuleType = adamml) -> Training:
    """A small model of a ``paper``'s file, of random weights, to be trained on arrays.

    Its results are kept in ``folder``; a ``preset`` of None is AdaMML's.
    """
    preset = preset or small_preset()
    torch.manual_seed(0)
    model = paper.METHOD.build(preset, LABELS)
    cache = ArrayCache(model)
    run = TrainingRun(folder, seed=0, hardware=Hardware(accelerator="cpu", devices="1"), progress=False)
    return Training(model, paper.plan(preset), cache, run, name=paper.METHOD.name)  # type: ignore[arg-type]
