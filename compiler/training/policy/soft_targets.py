"""What a policy aims at: the label, or the answer that the most expensive branch gives over all steps."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from compiler.data.batches import OutputBatch
from models.rollout.adaptive_model import AdaptiveModel


def most_expensive_option(model: AdaptiveModel, costs: Tensor) -> int:
    """The place of the branch that costs most, the model's teacher if several do; ``costs`` (A,)."""
    candidates = [i for i, cost in enumerate(costs.tolist()) if cost == float(costs.max())]
    return next((i for i in candidates if model.space.options[i].graph == model.teacher), candidates[0])


def soft_targets(outputs: OutputBatch, branch: str, share: float) -> Tensor:
    """Class probabilities (B, C): ``share`` of a branch's fused answer over all steps, the rest the label.

    A few held-out clips say too little about which branch is right more often, and a policy that trusts
    them ends on a cheap branch. That the most expensive one's answer is worth keeping needs no clips.
    """
    present = outputs["present"][:, :, None]
    fused = (outputs["branches"][branch] * present).sum(dim=1) / present.sum(dim=1).clamp(min=1)
    with torch.no_grad():
        answer = fused.softmax(dim=1)
    label = functional.one_hot(outputs["label"], answer.shape[1]).to(answer)
    return share * answer + (1 - share) * label
