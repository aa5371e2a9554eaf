"""AdaMML: adaptive multi-modal learning (Panda et al., ICCV 2021, arXiv 2105.05165).

At every segment of pictures and their sound a small recurrent policy chooses, for each modality, whether to
use it. Logits of those that are used are fused by learned weights.

What differs from the released code, on purpose: what is not chosen is not run (there: all runs, and the rest
is masked); decisions are argmax outside training; logits of a segment are divided by the weights of what
was used (``renormalised``; there: not, so that dropping a modality shrinks them); wrong videos push
towards using more (``penalty``; there: a constant without gradient); modalities are dropped at random in
training, and the policy's inputs say which are there, so that a stream without sound is still recognized.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal

from torch import Tensor
from torch.nn import functional

from models.architecture import Architecture, NetworkSpec, PolicySpec
from models.augmentation import Augmentation
from models.contract import Method, ModalityChoice, StepTiming
from models.policies.modality_policy import ModalityPolicy
from models.recipe import MOBILENET_FEW_CLIPS, MOBILENET_SCRATCH, Optimization, Recipe
from models.rollout.late_fusion import LateFusion
from models.rollout.rollout import Rollout
from models.training_plan import (
    FinetuneBranches,
    TrainBackbones,
    TrainingPlan,
    TrainIntegers,
    WarmUp,
    plan_of,
    policy_stage,
)
from runtimes.spec import ActionSpace, Group, Modality, Option, View

MODALITIES: tuple[Modality, ...] = ("rgb", "audio", "flow", "rgbdiff")

Penalty = Literal["paper", "released"]


@dataclass(frozen=True)
class ViewConfig:
    """A network on a view of one modality: ``size`` px or spectrogram bins, ``frames`` to a segment."""

    backbone: str
    size: int
    frames: int = 1


@dataclass(frozen=True)
class Preset:
    """Networks by modality and the policy's, the loss's weights, and the recipe.

    ``policy``: what the policy sees of each modality; flow has no entry, as it is expensive to compute: the
    policy judges it by ``rgbdiff`` (section 3.1). ``width``: of the policy's joint layers. ``gamma``: what a
    wrong video costs. ``segment_s``, ``rate_hz``: length of a segment, and segments a second.
    """

    branches: Mapping[str, ViewConfig]
    policy: Mapping[str, ViewConfig]
    width: int
    hidden: int
    recipe: Recipe
    modalities: tuple[str, ...] = ("rgb", "audio")
    stack: int = 5
    penalty: Penalty = "paper"
    gamma: float = 10.0
    renormalised: bool = True
    usage_weights: Mapping[str, float] | None = None
    segment_s: float = 1.28
    rate_hz: float = 1 / 0.64
    steps: int = 10


_TINY = Recipe(
    branches=Optimization(epochs=8, lr=3e-3, batch=8, frames=3, adam=True, weight_decay=0.01),
    joint=Optimization(epochs=100, lr=2e-3, batch=16, frozen_branches=True, adam=True, weight_decay=0.01),
    qat=Optimization(epochs=1, lr=1e-4, batch=8, frames=2, adam=True),
    holdout=0.25,
    dropped_modalities=0.15,
)

_MOBILE = Recipe(
    branches=MOBILENET_FEW_CLIPS,
    scratch=MOBILENET_SCRATCH,
    joint=Optimization(epochs=40, lr=5e-4, batch=16, frozen_branches=True, adam=True, weight_decay=0.05),
    qat=Optimization(epochs=1, lr=1e-5, batch=8, frames=2, adam=True),
    holdout=0.2,
    flip=True,
    augmentation=Augmentation(smallest_crop=0.6, lighting=0.3, share=0.5),
    dropped_modalities=0.15,
)

# Alternating: 20 epochs of each part, both with Adam here (there the main networks with SGD at 0.001).
_PAPER = Recipe(
    folds=1,
    branches=Optimization(epochs=60, lr=0.01, batch=72, frames=1, milestones=(0.33, 0.67, 0.83)),
    warmup=Optimization(epochs=5, lr=0.001, batch=72),
    joint=Optimization(
        epochs=40,
        lr=1e-4,
        batch=72,
        adam=True,
        alternating=True,
        policy_lr_factor=100.0,
        milestones=(0.5, 0.75),
        temperature_decay=0.01425,  # from 5 to 2.45, as 0.965 an epoch over 20
    ),
    finetune=Optimization(epochs=10, lr=0.001, batch=72),
    qat=Optimization(epochs=5, lr=2e-4, batch=48, frames=1),
    flip=True,
    augmentation=Augmentation(smallest_crop=0.7),
    dropped_modalities=0.1,
)

PRESETS = {
    "tiny": Preset(
        branches={
            "rgb": ViewConfig("resnet10", 168, 4),
            "rgbdiff": ViewConfig("resnet10", 168, 4),
            "flow": ViewConfig("resnet10", 168, 4),
            "audio": ViewConfig("resnet10", 96),
        },
        policy={
            "rgb": ViewConfig("resnet10-narrow", 56, 2),
            "rgbdiff": ViewConfig("resnet10-narrow", 56, 2),
            "audio": ViewConfig("resnet10-narrow", 48),
        },
        width=64,
        hidden=32,
        stack=2,
        gamma=1.0,
        recipe=_TINY,
        usage_weights={"rgb": 0.15, "audio": 0.05, "flow": 0.15, "rgbdiff": 0.15},
        steps=8,
    ),
    "mobile": Preset(
        branches={
            "rgb": ViewConfig("mobilenetv2", 224, 4),
            "rgbdiff": ViewConfig("mobilenetv2", 224, 4),
            "flow": ViewConfig("mobilenetv2", 224, 4),
            "audio": ViewConfig("mobilenetv2", 256),
        },
        policy={
            "rgb": ViewConfig("mobilenetv2", 96, 2),
            "rgbdiff": ViewConfig("mobilenetv2", 96, 2),
            "audio": ViewConfig("resnet10-narrow", 64),
        },
        width=256,
        hidden=64,
        gamma=1.0,
        recipe=_MOBILE,
        usage_weights={"rgb": 0.15, "audio": 0.05, "flow": 0.15, "rgbdiff": 0.15},
    ),
    # The sound's policy sees the branch's own spectrogram, the others every second of the 8 frames: rgb at
    # 160 px, rgbdiff at the 224 px that its published cost is of (the code's default is 160).
    "paper": Preset(
        branches={
            "rgb": ViewConfig("resnet50", 224, 8),
            "rgbdiff": ViewConfig("resnet50", 224, 8),
            "flow": ViewConfig("resnet50", 224, 8),
            "audio": ViewConfig("mobilenetv2", 256),
        },
        policy={
            "rgb": ViewConfig("mobilenetv2", 160, 4),
            "rgbdiff": ViewConfig("mobilenetv2", 224, 4),
            "audio": ViewConfig("mobilenetv2", 256),
        },
        width=2048,
        hidden=256,
        recipe=_PAPER,
    ),
}

_PUBLISHED_WEIGHTS: Mapping[frozenset[str], Mapping[str, float]] = {
    frozenset(("rgb", "audio")): {"rgb": 1.0, "audio": 0.05},
    frozenset(("rgb", "flow")): {"rgb": 1.0, "flow": 1.0},
    frozenset(("rgb", "audio", "flow")): {"rgb": 0.5, "audio": 0.05, "flow": 0.8},
}
_OTHER_WEIGHTS = {"rgb": 1.0, "audio": 0.05, "flow": 1.0, "rgbdiff": 1.0}


def action_space(preset: Preset) -> ActionSpace:
    """A group for each modality: its branch, or to leave it out."""
    optional = preset.recipe.dropped_modalities > 0
    groups = []
    for name in preset.modalities:
        branch = Option(name=name, graph=name, view=branch_view(preset, name).name, precision="fp32")
        groups.append(
            Group(name=name, options=(branch, Option(name=f"{name}-off", skip=1)), optional=optional)
        )
    return ActionSpace(groups=tuple(groups))


def branch_view(preset: Preset, modality: str) -> View:
    """What the branch of a modality sees."""
    return _view(preset, modality, preset.branches[modality])


def policy_view(preset: Preset, modality: str) -> View:
    """What the policy sees to judge a modality by: of flow, the differences of pictures."""
    proxy = "rgbdiff" if modality == "flow" else modality
    return _view(preset, proxy, preset.policy[proxy])


def _view(preset: Preset, modality: str, config: ViewConfig) -> View:
    stack = preset.stack if modality in ("rgbdiff", "flow") else 1
    frames = f"x{config.frames}" if config.frames > 1 else ""
    name = f"{modality}{config.size}{frames}"
    return View.model_validate(
        {"name": name, "modality": modality, "size": config.size, "frames": config.frames, "stack": stack}
    )


def of_modalities(preset: Preset, modalities: tuple[str, ...]) -> Preset:
    """The preset for just these modalities."""
    return replace(preset, modalities=modalities)


def architecture(preset: Preset) -> Architecture:
    """A branch per modality, and a policy that judges each modality by an inexpensive view.

    Raises: ValueError if a modality is unknown or named twice.
    """
    names = preset.modalities
    if not names or len(set(names)) != len(names) or not set(names) <= set(MODALITIES):
        raise ValueError(f"modalities {', '.join(names)}: give some of {', '.join(MODALITIES)}, each once")
    seen: dict[str, list[int]] = {}
    views: dict[str, View] = {}
    for place, name in enumerate(names):
        view = policy_view(preset, name)
        seen.setdefault(view.name, []).append(place)
        views |= {view.name: view, branch_view(preset, name).name: branch_view(preset, name)}
    networks = (NetworkSpec(preset.policy[views[view].modality].backbone, views[view]) for view in seen)
    groups = list(seen.values())
    return Architecture(
        space=action_space(preset),
        views=views,
        branches={
            name: NetworkSpec(preset.branches[name].backbone, branch_view(preset, name)) for name in names
        },
        policy=PolicySpec(
            tuple(networks),
            lambda backbones, options, classes: ModalityPolicy(
                backbones, groups, options, preset.width, preset.hidden
            ),
        ),
        fusion=lambda: LateFusion(len(names), renormalised=preset.renormalised),
    )


def plan(preset: Preset) -> TrainingPlan:
    """The branches alone, then with their fusion; the policy, in turns with them; the branches on; int8."""
    recipe, rollout_loss = preset.recipe, partial(loss, preset=preset)
    return plan_of(
        recipe,
        TrainBackbones(recipe.branches),
        WarmUp(recipe.warmup, rollout_loss) if recipe.warmup else None,
        policy_stage(recipe, rollout_loss),
        FinetuneBranches(recipe.finetune, rollout_loss) if recipe.finetune else None,
        TrainIntegers(recipe.qat) if recipe.qat else None,
    )


def usage_weights(preset: Preset) -> list[float]:
    """What using each modality of a preset costs in the loss (lambda), as published unless it says."""
    names = preset.modalities
    weights = preset.usage_weights or _PUBLISHED_WEIGHTS.get(frozenset(names), _OTHER_WEIGHTS)
    return [weights[name] for name in names]


def loss(rollout: Rollout, targets: Tensor, present: Tensor, costs: Tensor, preset: Preset) -> Tensor:
    """Equation 5 of the paper: cross-entropy, usage where the video is right, a penalty where it is wrong.

    ``targets`` (B,) class indices or (B, C) probabilities, ``present`` (B, T); ``costs`` do not count: the
    published weights of usage do, as they are at price 1.
    """
    labels = targets if targets.dim() == 1 else targets.argmax(dim=1)
    right = (rollout.logits.detach().argmax(dim=1) == labels).to(rollout.logits)
    share, there = usage(rollout, present)
    weights = share.new_tensor(usage_weights(preset))
    total = functional.cross_entropy(rollout.logits, targets)
    paying = (right * rollout.price)[:, None]
    total = total + (weights * (paying * share**2).mean(dim=0)).sum()
    if preset.penalty == "released":
        # As in BlockDrop, where it is a reward; here it has no gradient.
        return total + preset.gamma * (1 - right).mean()
    # The paper's constant is what a wrong video costs that used nothing; what it used is let off, by the
    # same square that right videos pay by. So wrong videos push up what they left out, the more the less
    # they used, and one that used all it had, where nothing more can help, pushes nothing.
    left_out = (there * (1 - share) ** 2).sum(dim=1) / there.sum(dim=1).clamp(min=1)
    return total + preset.gamma * ((1 - right) * left_out).mean()


def usage(rollout: Rollout, present: Tensor) -> tuple[Tensor, Tensor]:
    """Share (B, groups) of the steps at which each modality was there and used, and whether it ever was."""
    available = present[..., None].expand_as(rollout.used)
    if rollout.available is not None:
        available = available & rollout.available
    steps = available.sum(dim=1).to(rollout.used)
    return rollout.used.sum(dim=1) / steps.clamp(min=1), (steps > 0).to(rollout.used)


METHOD = Method(
    name="adamml",
    presets=PRESETS,
    architecture=architecture,
    plan=plan,
    timing=lambda preset: StepTiming(preset.steps, preset.rate_hz, preset.segment_s),
    modalities=ModalityChoice(
        known=lambda preset: tuple(preset.branches),
        default=lambda preset: preset.modalities,
        restrict=of_modalities,
    ),
    published_macs={
        "rgb": 14_135_984_128,
        "flow": 16_338_911_232,
        "audio": 381_739_008,
        "policy-rgb160x4": 375_446_400,
        "policy-rgbdiff224x4": 909_283_200,
        "policy-audio256": 381_739_008,
    },
)
"""Published: of the convolutions alone, without the classifiers and the policy's fully connected layers."""
