"""VideoIQ: dynamic network quantization (Sun et al., ICCV 2021, arXiv 2108.10394).

At every frame a MobileNetV2 on 84 px with an LSTM chooses the bit-width at which one network, with one set
of weights, looks at the frame, or skips it.

What differs from the released code, on purpose: the first convolution and the classifier have 8 bits instead
of float, and activations 8 bits at every width, so that every layer runs in integers; decisions are argmax
outside training; a skip holds h and c; what an option costs is measured (there: bits squared over 64, here
kept as an option and called modeled BitOps). Features of the chosen width are fused by the mean of their
logits: the classifier is linear and shared, so that is the classifier of their mean.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from math import inf

import torch
from torch import Tensor
from torch.nn import functional

from models.architecture import Architecture, NetworkSpec, recurrent_policy
from models.augmentation import Augmentation
from models.contract import Method, StepTiming
from models.layers.nested_layers import FOUR_BITS, WIDTHS, Rule
from models.losses import cost_loss
from models.methods.coquant import Transfer, widths_stage
from models.recipe import MOBILENET_FEW_CLIPS, MOBILENET_SCRATCH, Optimization, Recipe
from models.rollout.rollout import Rollout
from models.rollout.sampling import relative_costs
from models.training_plan import TrainBackbones, TrainingPlan, TrainIntegers, plan_of, policy_stage
from runtimes.spec import ActionSpace, Group, Option, View

SKIPS = (1, 2, 4)
HIGHEST_TEACHER = Transfer(teacher="highest", swap_blocks=False)


@dataclass(frozen=True)
class Preset:
    """Backbone and its view in px, the policy and its, bit-widths, loss weights and recipe."""

    backbone: str
    size: int
    policy: str
    policy_size: int
    hidden: int
    recipe: Recipe
    widths: tuple[int, ...] = WIDTHS
    transfer: Transfer = HIGHEST_TEACHER
    rule: Rule = "centered"
    low_activations: bool = False
    deviations: float = FOUR_BITS
    efficiency_weight: float = 0.16
    balance_weight: float = 0.5
    entropy_weight: float = 0.1
    steps: int = 16


PRESETS = {
    "tiny": Preset(
        backbone="resnet10",
        size=168,
        policy="resnet10",
        policy_size=84,
        hidden=64,
        recipe=Recipe(
            branches=Optimization(epochs=8, lr=3e-3, batch=8, frames=4, adam=True, weight_decay=0.01),
            multibit=Optimization(epochs=4, lr=1e-3, batch=8, frames=2, adam=True, weight_decay=0.01),
            joint=Optimization(
                epochs=60, lr=5e-4, batch=16, frozen_branches=True, adam=True, weight_decay=0.01
            ),
            qat=Optimization(epochs=1, lr=1e-4, batch=8, frames=2, adam=True),
            holdout=0.2,
            dense_targets=0.5,
        ),
        # Empty and still frames are half of the built-in clips: a balance of options would be waste.
        efficiency_weight=0.3,
    ),
    "mobile": Preset(
        backbone="mobilenetv2",
        size=224,
        policy="mobilenetv2",
        policy_size=84,
        hidden=128,
        recipe=Recipe(
            branches=MOBILENET_FEW_CLIPS,
            scratch=MOBILENET_SCRATCH,
            multibit=Optimization(
                epochs=2, lr=5e-5, batch=8, frames=2, frozen_norms=True, adam=True, weight_decay=0.05
            ),
            joint=Optimization(
                epochs=40, lr=1e-4, batch=16, frozen_branches=True, adam=True, weight_decay=0.05
            ),
            qat=Optimization(epochs=1, lr=1e-5, batch=8, frames=2, adam=True),
            holdout=0.2,
            flip=True,
            augmentation=Augmentation(smallest_crop=0.6, lighting=0.3, share=0.5),
            dense_targets=1.0,
            calibrated=True,
        ),
        deviations=inf,
        efficiency_weight=0.1,
    ),
    "paper": Preset(
        backbone="resnet50",
        size=224,
        policy="mobilenetv2",
        policy_size=84,
        hidden=512,
        recipe=Recipe(
            folds=1,
            branches=Optimization(epochs=100, lr=0.01, batch=72, frames=16, milestones=(0.4, 0.8)),
            multibit=Optimization(epochs=100, lr=0.01, batch=72, frames=16, milestones=(0.4, 0.8)),
            joint=Optimization(epochs=50, lr=0.01, batch=72, frozen_branches=True),
            qat=Optimization(epochs=5, lr=2e-4, batch=48, frames=8),
            holdout=0.2,
            flip=True,
        ),
    ),
}


def architecture(preset: Preset) -> Architecture:
    """One branch, whose options become one a bit-width, skips, and a recurrent policy on the smaller view."""
    views = {f"rgb{size}": View(name=f"rgb{size}", size=size) for size in (preset.size, preset.policy_size)}
    view, cheap = f"rgb{preset.size}", views[f"rgb{preset.policy_size}"]
    options = [Option(name=view, graph=view, view=view, precision="fp32")]
    options += [Option(name=f"skip{k}", skip=k) for k in SKIPS]
    return Architecture(
        space=ActionSpace(groups=(Group(name="precision", options=tuple(options)),)),
        views=views,
        branches={view: NetworkSpec(preset.backbone, views[view])},
        policy=recurrent_policy(NetworkSpec(preset.policy, cheap), preset.hidden),
    )


def plan(preset: Preset) -> TrainingPlan:
    """The branch in float, then at all bit-widths together; the policy over these; the policy in int8."""
    recipe = preset.recipe
    return plan_of(
        recipe,
        TrainBackbones(recipe.branches),
        widths_stage(preset),
        policy_stage(recipe, partial(loss, preset=preset)),
        TrainIntegers(recipe.qat) if recipe.qat else None,
    )


def loss(rollout: Rollout, targets: Tensor, present: Tensor, costs: Tensor, preset: Preset) -> Tensor:
    """The policy stage's loss (section 3.3): labels, the teacher, cost, balance and entropy.

    ``targets`` (B,) class indices or (B, C) probabilities, ``present`` (B, T), ``costs`` (A,) in any unit:
    the most expensive counts as 1. The cost counts as published at price 1.
    """
    assert rollout.head is not None, "VideoIQ's policy has a head"
    total = functional.cross_entropy(rollout.logits, targets) + functional.cross_entropy(
        rollout.head, targets
    )
    if rollout.teacher is not None:
        total = total + functional.cross_entropy(rollout.logits, rollout.teacher.softmax(1))
    cost = cost_loss(rollout.choices, relative_costs(costs), present, rollout.price)
    total = total + preset.efficiency_weight * cost
    total = total + preset.balance_weight * balance_loss(rollout.choices)
    return total + preset.entropy_weight * entropy_loss(rollout.scores, rollout.choices)


def balance_loss(choices: Tensor) -> Tensor:
    """Squared distance of the usage of options from uniform; ``choices`` (B, T, A), zero where held."""
    usage = choices.sum(dim=(0, 1))
    usage = usage / usage.sum().clamp(min=1)
    return ((usage - 1 / len(usage)) ** 2).sum()


def entropy_loss(scores: Tensor, choices: Tensor) -> Tensor:
    """Mean entropy of the policy's distribution (B, T, A) where it ran; with little, argmax is the policy."""
    logs = scores.log_softmax(dim=-1)
    ran = choices.detach().sum(dim=-1)
    return torch.sum(-(logs.exp() * logs).sum(-1) * ran) / ran.sum().clamp(min=1)


METHOD = Method(
    name="videoiq",
    presets=PRESETS,
    architecture=architecture,
    plan=plan,
    timing=lambda preset: StepTiming(preset.steps),
    chooses_precisions=True,
)
