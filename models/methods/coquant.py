"""CoQuant: training one network at all bit-widths together (Sun et al., WACV 2024, arXiv 2103.01435).

Two ideas on top of joint training: each width below the highest learns from a teacher among the higher
ones, chosen anew at every batch; and blocks of the student are swapped at random for the teacher's, ever
fewer of them, so that each block learns beside good ones first.

The authors have published no code. Read from their paper's abstract and their VideoIQ release: the teacher
is the higher width with the least cross-entropy on the batch; a block stays the student's with a
probability that rises from 0.1 to 1 over epochs 20 to 90 of 100, here over the same shares of the steps.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from math import inf
from typing import Literal, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional

from models.architecture import Architecture, NetworkSpec
from models.augmentation import Augmentation
from models.backbones.mobilenetv2 import InvertedResidual
from models.backbones.resnet import BasicBlock, Bottleneck
from models.contract import Method, StepTiming
from models.layers.nested_layers import FOUR_BITS, WIDTHS, Rule, set_width
from models.recipe import MOBILENET_FEW_CLIPS, MOBILENET_SCRATCH, Optimization, Recipe
from models.training_plan import TrainBackbones, TrainingPlan, TrainWidths, plan_of
from runtimes.spec import ActionSpace, Group, Option, View

Teacher = Literal["adaptive", "highest", "next", "none"]
"""adaptive: CoQuant's. highest: VideoIQ's. next: Any-Precision's. none: labels alone."""

_BLOCKS = (BasicBlock, Bottleneck, InvertedResidual)
_KEEP_FIRST = 0.1
_WINDOW = (0.2, 0.9)


@dataclass(frozen=True)
class Transfer:
    """How widths learn from each other."""

    teacher: Teacher = "adaptive"
    swap_blocks: bool = True


@dataclass(frozen=True)
class Preset:
    """A backbone, its view in px, its bit-widths and how they are trained."""

    backbone: str
    size: int
    recipe: Recipe
    widths: tuple[int, ...] = WIDTHS
    transfer: Transfer = Transfer()
    rule: Rule = "centered"
    low_activations: bool = False
    deviations: float = FOUR_BITS
    steps: int = 8


PRESETS = {
    "tiny": Preset(
        backbone="resnet10",
        size=168,
        recipe=Recipe(
            branches=Optimization(epochs=10, lr=3e-3, batch=8, frames=4, adam=True, weight_decay=0.01),
            multibit=Optimization(epochs=4, lr=1e-3, batch=8, frames=2, adam=True, weight_decay=0.01),
            holdout=0.1,
        ),
        deviations=inf,
    ),
    "mobile": Preset(
        backbone="mobilenetv2",
        size=224,
        recipe=Recipe(
            branches=MOBILENET_FEW_CLIPS,
            scratch=MOBILENET_SCRATCH,
            multibit=Optimization(
                epochs=2, lr=5e-5, batch=8, frames=2, frozen_norms=True, adam=True, weight_decay=0.05
            ),
            holdout=0.1,
            flip=True,
            augmentation=Augmentation(smallest_crop=0.6, lighting=0.3, share=0.5),
        ),
        deviations=inf,
    ),
    "paper": Preset(
        backbone="resnet50",
        size=224,
        recipe=Recipe(
            folds=1,
            branches=Optimization(epochs=100, lr=0.01, batch=72, frames=8, milestones=(0.4, 0.8)),
            multibit=Optimization(epochs=100, lr=0.01, batch=72, frames=8, milestones=(0.4, 0.8)),
            holdout=0.1,
            flip=True,
        ),
    ),
}


def keep_probability(progress: float) -> float:
    """How likely a block stays the student's when a share ``progress`` of training is done."""
    start, end = _WINDOW
    along = min(max((progress - start) / (end - start), 0.0), 1.0)
    return _KEEP_FIRST + (1 - _KEEP_FIRST) * along


def choose_teacher(losses: Mapping[int, float], rule: Teacher) -> int | None:
    """The teacher among the higher widths, whose ``losses`` on this batch are known; None for none."""
    if rule == "none" or not losses:
        return None
    if rule == "adaptive":
        return min(losses, key=lambda width: (losses[width], -width))
    return max(losses) if rule == "highest" else min(losses)


def blocks(network: nn.Module) -> list[nn.Module]:
    """The residual blocks, which are swapped whole."""
    return [module for module in network.modules() if isinstance(module, _BLOCKS)]


def loss(
    network: nn.Module,
    answer: Callable[[], Tensor],
    targets: Tensor,
    widths: Sequence[int],
    *,
    transfer: Transfer,
    progress: float,
) -> tuple[Tensor, Tensor]:
    """The sum of all widths' losses on one batch, and the logits (B, C) of the highest width.

    ``answer()`` gives the network's logits (B, C) at the width it is switched to; ``widths`` fall;
    ``progress`` is the share of training that is done.
    """
    total = targets.new_zeros((), dtype=torch.float32)
    logits: dict[int, Tensor] = {}
    losses: dict[int, float] = {}
    for width in widths:
        teacher = choose_teacher(losses, transfer.teacher)
        set_width(network, width)
        if teacher is not None and transfer.swap_blocks:
            _swap(network, teacher, keep_probability(progress))
        student = answer()
        entropy = functional.cross_entropy(student, targets)
        total = total + entropy
        if teacher is not None:
            total = total + functional.cross_entropy(student, logits[teacher].softmax(1))
        logits[width], losses[width] = student.detach(), float(entropy.detach())
    return total, logits[widths[0]]


def _swap(network: nn.Module, teacher: int, keep: float) -> None:
    for block in blocks(network):
        if torch.rand(()) >= keep:
            set_width(block, teacher)


def architecture(preset: Preset) -> Architecture:
    """The one network, as a branch that the app runs at a precision of its choice."""
    view = View(name=f"rgb{preset.size}", size=preset.size)
    option = Option(name=view.name, graph=view.name, view=view.name, precision="fp32")
    return Architecture(
        space=ActionSpace(groups=(Group(name="precision", options=(option,)),)),
        views={view.name: view},
        branches={view.name: NetworkSpec(preset.backbone, view)},
    )


def plan(preset: Preset) -> TrainingPlan:
    """The network in float, then at all its bit-widths together."""
    recipe = preset.recipe
    return plan_of(recipe, TrainBackbones(recipe.branches), widths_stage(preset))


class NestedPreset(Protocol):
    """What a preset says of the bit-widths of one weight set."""

    @property
    def recipe(self) -> Recipe: ...
    @property
    def widths(self) -> tuple[int, ...]: ...
    @property
    def transfer(self) -> Transfer: ...
    @property
    def rule(self) -> Rule: ...
    @property
    def low_activations(self) -> bool: ...
    @property
    def deviations(self) -> float: ...


def widths_stage(preset: NestedPreset) -> TrainWidths:
    """The stage that trains all widths of a preset, which learn from each other by its transfer."""
    assert preset.recipe.multibit is not None, "a preset of several bit-widths has a stage for them"
    return TrainWidths(
        preset.recipe.multibit,
        partial(loss, transfer=preset.transfer),
        preset.widths,
        preset.rule,
        preset.low_activations,
        preset.deviations,
    )


METHOD = Method(
    name="coquant",
    presets=PRESETS,
    architecture=architecture,
    plan=plan,
    timing=lambda preset: StepTiming(preset.steps),
    chooses_precisions=True,
)
