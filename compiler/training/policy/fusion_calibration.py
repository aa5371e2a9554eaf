"""Scaling each branch's logits so that their mean over branches is as sure as it is right.

Temperature scaling (arXiv 1706.04599), fitted for the fusion: branches that are sure and often wrong, as
small views make them, would otherwise outweigh better ones in the mean. The scales go into the classifiers'
weights, so that the device has nothing new to compute.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from compiler.data.batches import OutputBatch
from compiler.training.linear_probe import classifier_of
from models.rollout.adaptive_model import AdaptiveModel

_FITTING_STEPS = 200
_FITTING_RATE = 0.05


def calibrate_fusion(model: AdaptiveModel, renditions: Sequence[OutputBatch]) -> dict[str, float]:
    """Fit the scales on clips' outputs; fold them into the model's classifiers and into these outputs.

    Returns: the scale by branch name, of the policy's own heads by what their backbones are called.
    """
    scales = fit_scales(model, renditions)
    fold_scales(model, scales)
    for outputs in renditions:
        for name, logits in outputs["branches"].items():
            logits.mul_(scales[name])
    return scales


def fit_scales(model: AdaptiveModel, renditions: Sequence[OutputBatch]) -> dict[str, float]:
    """Positive scales by branch name that minimize the cross-entropy of random rollouts' fused logits."""
    names = [*_head_parts(model), *model.branches]
    with torch.no_grad():
        answers = [_answers(model.eval(), outputs) for outputs in renditions]
    draw = torch.Generator().manual_seed(0)
    exponents = torch.zeros(len(names), requires_grad=True)
    optimizer = torch.optim.Adam([exponents], _FITTING_RATE)
    for _ in range(_FITTING_STEPS):
        loss = torch.zeros(())
        for logits, outputs in zip(answers, renditions, strict=True):
            picked = _random_picks(len(names), outputs["present"], draw)
            fused = torch.einsum("n,nbtc,nbt->bc", exponents.exp(), logits, picked)
            fused = fused / picked.sum(dim=(0, 2))[:, None].clamp(min=1)
            loss = loss + functional.cross_entropy(fused, outputs["label"])
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    return dict(zip(names, exponents.exp().tolist(), strict=True))


def fold_scales(model: AdaptiveModel, scales: dict[str, float]) -> None:
    """Multiply the last layer of every branch, and of the policy's own heads, by its scale."""
    heads = _head_parts(model)
    with torch.no_grad():
        for name, scale in scales.items():
            own = name in heads
            classifier = model.policy.classifier(heads[name]) if own else classifier_of(model.branches[name])
            for parameter in classifier.parameters():
                parameter.mul_(scale)
            if "scales" in dict(classifier.named_buffers()):  # of codes that stay as they are
                classifier.get_buffer("scales").mul_(scale)


def _head_parts(model: AdaptiveModel) -> dict[str, int]:
    """What the backbones behind the policy's own heads are called, and the places of their views."""
    return {model.policy_parts[view]: view for _, view in model.policy.heads}


def _answers(model: AdaptiveModel, outputs: OutputBatch) -> Tensor:
    """Logits (N, B, T, C) of the policy's own heads, then of every branch."""
    heads = model.policy.head_logits(outputs["features"])
    return torch.stack([*heads, *(outputs["branches"][name] for name in model.branches)])


def _random_picks(count: int, present: Tensor, draw: torch.Generator) -> Tensor:
    """One of ``count`` branches at a random share of the steps (B, T), always at the first: (count, B, T)."""
    batch, steps = present.shape
    picks = functional.one_hot(torch.randint(count, (batch, steps), generator=draw), count)
    kept = torch.rand(batch, steps, generator=draw) < torch.rand(batch, 1, generator=draw)
    kept[:, 0] = True
    return picks.permute(2, 0, 1) * (kept & present).float()
