"""What frozen networks answer on every step of some clips, computed once."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from compiler.data.batches import OutputBatch, availability, mirrored
from compiler.training.training import Training


def clip_outputs(training: Training, clips: Sequence[int], flip: bool) -> OutputBatch:
    """Features and logits of every step of some clips, computed once, mirrored or not."""
    model, cache = training.adaptive, training.cache
    model.eval()
    steps, classes = cache.clip_steps, len(model.labels)
    outputs: OutputBatch = {
        "features": torch.zeros(len(clips), steps, model.policy.num_features),
        "branches": {name: torch.zeros(len(clips), steps, classes) for name in model.branches},
        "present": torch.zeros(len(clips), steps, dtype=torch.bool),
        "label": torch.tensor([cache.target(clip) for clip in clips]),
    }
    if model.may_lack:
        outputs["available"] = torch.zeros(len(clips), steps, len(model.may_lack), dtype=torch.bool)

    def frames(clip: int, view: str) -> Tensor:
        stored = torch.from_numpy(cache.frames(clip, view).copy())
        return mirrored(stored, model.views[view]) if flip else stored

    with torch.no_grad():
        for row, clip in enumerate(clips):
            count = cache.steps(clip)
            outputs["present"][row, :count] = True
            if model.may_lack:
                outputs["available"][row, :count] = availability(cache, clip, model.may_lack)
            seen = {view: frames(clip, view) for view in model.policy_views}
            outputs["features"][row, :count] = model.embed(seen)
            for name, logits in outputs["branches"].items():
                logits[row, :count] = model.branch_logits(name, frames(clip, model.view_of(name).name))
    return outputs
