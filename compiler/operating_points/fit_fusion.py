"""Fitting how looks are fused: a scale and a weight per look, and one exponent.

Temperature scaling (arXiv 1706.04599) with one more parameter: frames of a clip are neither independent (then
their logits would add up) nor the same (then their mean would do), and where between the two they lie makes
the answer's margin comparable over any number of looks.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from compiler.operating_points.answers import Answers, Floats
from compiler.operating_points.plans import COUNTS
from runtimes.spec import LookFusion
from sdk.decisions.points.look_positions import evenly_spaced

_STEPS, _RATE = 300, 0.05
_PRIOR = 0.01
"""Pulls scales and weights to those of the mean, where clips are few."""
_TEMPERATURES = np.geomspace(0.25, 8.0, 61)
_LEAST = 1e-12
_HELD_TO_ONE = 10.0
"""What a temperature of e costs, in cross-entropy of all clips together."""
_MIXED = 0.3
"""The share of drawn plans that look at another thing each time."""


def fit_fusion(answers: Answers, seed: int = 0) -> LookFusion:
    """The fusion of least cross-entropy over random plans on clips that the networks were not trained on."""
    looks = len(answers.looks)
    scales = torch.zeros(looks, requires_grad=True)
    weights = torch.zeros(looks, requires_grad=True)
    exponent = torch.zeros((), requires_grad=True)
    logits, targets = torch.from_numpy(answers.logits), torch.from_numpy(answers.targets)
    ran = torch.from_numpy(answers.ran.astype(np.int64))
    masks = _masks(answers)
    draw = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.Adam([scales, weights, exponent], _RATE)
    for _ in range(_STEPS):
        picked, taken = _drawn_plans(ran, masks, draw)
        rows, steps = torch.arange(len(answers))[:, None], torch.arange(answers.clip_steps)
        seen = logits[rows, picked, steps]
        total = (scales.exp()[picked] * taken)[..., None] * seen
        weight = (weights.exp()[picked] * taken).sum(dim=1).clamp(min=1e-6)
        fused = total.sum(dim=1) / weight[:, None] ** exponent.sigmoid()
        loss = functional.cross_entropy(fused, targets)
        loss = loss + _PRIOR * (scales.square().mean() + weights.square().mean())
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    names = answers.looks
    return LookFusion(
        scales=dict(zip(names, scales.detach().exp().tolist(), strict=True)),
        weights=dict(zip(names, weights.detach().exp().tolist(), strict=True)),
        exponent=float(exponent.detach().sigmoid()),
    )


def fit_temperature(scores: Floats, targets: NDArray[np.int64]) -> float:
    """The temperature of least cross-entropy for probabilities (clips, classes) of ``targets`` (clips,).

    It is held to 1, or few clips that are all right would make their answers certain.
    """
    rows = np.arange(len(targets))

    def loss(temperature: float) -> float:
        entropy = -np.log(tempered(scores, temperature)[rows, targets]).sum()
        return float(entropy + _HELD_TO_ONE * np.log(temperature) ** 2)

    return min(_TEMPERATURES.tolist(), key=loss)


def tempered(scores: Floats, temperature: float) -> Floats:
    """Probabilities (clips, classes) made less sure by a temperature above 1, surer by one below."""
    powers = np.maximum(scores, _LEAST) ** (1 / temperature)
    return np.asarray(powers / powers.sum(axis=1, keepdims=True))


def _masks(answers: Answers) -> Tensor:
    """(counts, clips, steps): where the looks of each count lie."""
    masks = torch.zeros(len(COUNTS), len(answers), answers.clip_steps)
    for place, count in enumerate(COUNTS):
        for clip, steps in enumerate(answers.steps.tolist()):
            masks[place, clip, evenly_spaced(count, steps)] = 1.0
    return masks


def _drawn_plans(ran: Tensor, masks: Tensor, draw: torch.Generator) -> tuple[Tensor, Tensor]:
    """For each clip a random plan: the look (clips, steps) that runs at each step, and where one does."""
    clips, looks, steps = ran.shape
    alike = torch.randint(looks, (clips, 1), generator=draw).expand(clips, steps)
    mixed = torch.randint(looks, (clips, steps), generator=draw)
    wanted = torch.where(torch.rand(clips, 1, generator=draw) < _MIXED, mixed, alike)
    picked = ran.gather(1, wanted[:, None]).squeeze(1)
    counts = torch.randint(len(masks), (clips,), generator=draw)
    taken = masks[counts, torch.arange(clips)] * (picked >= 0)
    return picked.clamp(min=0), taken
