"""AR-Net: adaptive frame resolution (Meng et al., ECCV 2020, arXiv 2007.15796).

At every frame a MobileNetV2 on 84 px with an LSTM chooses one of seven options: a branch at 224, 168 or
112 px, its own head (84 px, already paid for), or a skip of 1, 2 or 4 frames.

What differs from the released code, on purpose: decisions are argmax outside training (there: a random
draw, always); a skip runs nothing and holds both h and c (there: everything runs, c drifts); only the
chosen branch runs outside training (there: all run, 6.87 GMACs a frame, and the rest is masked).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

from torch import Tensor
from torch.nn import functional

from models.architecture import Architecture, NetworkSpec, recurrent_policy
from models.augmentation import Augmentation
from models.contract import Method, StepTiming
from models.losses import cost_loss, uniform_loss
from models.recipe import MOBILENET_FEW_CLIPS, MOBILENET_SCRATCH, MOBILENET_SIZES, Optimization, Recipe
from models.rollout.branch_model import POLICY
from models.rollout.rollout import Rollout
from models.rollout.sampling import relative_costs
from models.training_plan import (
    FinetuneBranches,
    MatchSizes,
    RefitBranches,
    TrainBackbones,
    TrainingPlan,
    TrainIntegers,
    plan_of,
    policy_stage,
)
from runtimes.spec import ActionSpace, Group, Option, View

SKIPS = (1, 2, 4)


@dataclass(frozen=True)
class Preset:
    """Backbones by resolution (px) and the recipe that trains them."""

    branches: Mapping[int, str]
    policy: str
    policy_size: int
    hidden: int
    recipe: Recipe
    uniform_weight: float = 3.0
    accuracy_weight: float = 0.95
    efficiency_weight: float = 0.05
    dense_cost: float = 4.12
    """What the most expensive branch counts in the cost loss: the paper's GMACs, whatever the real size."""
    steps: int = 16


_TINY = Recipe(
    branches=Optimization(epochs=6, lr=3e-3, batch=8, frames=4, adam=True, weight_decay=0.01),
    joint=Optimization(epochs=100, lr=2e-3, batch=16, frozen_branches=True, adam=True, weight_decay=0.01),
    finetune=Optimization(epochs=1, lr=3e-4, batch=8, adam=True, weight_decay=0.01),
    qat=Optimization(epochs=1, lr=1e-4, batch=8, frames=2, adam=True),
    holdout=0.25,
    flip=False,
)

_MOBILE = Recipe(
    scratch=MOBILENET_SCRATCH,
    matched=MOBILENET_SIZES,
    # On few clips what is left out for the policy costs the branches much accuracy: it learns from probes.
    branches=Optimization(epochs=0, lr=3e-5, batch=8, frames=2, frozen_norms=True, probe_decay=0.05),
    refit=MOBILENET_FEW_CLIPS,
    joint=Optimization(epochs=40, lr=1e-4, batch=16, frozen_branches=True, adam=True, weight_decay=0.05),
    # On 281 clips a second round on the chosen frames took 224 px from 74 to 54 % (one seed): it is left out.
    qat=Optimization(epochs=1, lr=1e-5, batch=8, frames=2, adam=True),
    holdout=0.2,
    flip=True,
    augmentation=Augmentation(smallest_crop=0.6, lighting=0.3, share=0.5),
    dense_targets=1.0,
    calibrated=True,
)

_PAPER = Recipe(
    folds=1,
    branches=Optimization(
        epochs=10, lr=0.02, batch=48, frames=16, milestones=(0.4, 0.8), classifier_lr_factor=5.0
    ),
    joint=Optimization(epochs=50, lr=0.001, batch=48),
    finetune=Optimization(epochs=50, lr=0.0005, batch=48),
    qat=Optimization(epochs=5, lr=0.0002, batch=48, frames=8),
    holdout=0.0,
    flip=True,
)

PRESETS = {
    "tiny": Preset(
        branches={224: "resnet10", 168: "resnet10", 112: "resnet10"},
        policy="resnet10",
        policy_size=84,
        hidden=64,
        recipe=_TINY,
    ),
    "mobile": Preset(
        branches={224: "mobilenetv2", 168: "mobilenetv2", 112: "mobilenetv2"},
        policy="mobilenetv2",
        policy_size=84,
        hidden=128,
        recipe=_MOBILE,
        efficiency_weight=0.025,
    ),
    "paper": Preset(
        branches={224: "resnet50", 168: "resnet34", 112: "resnet18"},
        policy="mobilenetv2",
        policy_size=84,
        hidden=512,
        recipe=_PAPER,
    ),
}


def action_space(preset: Preset) -> ActionSpace:
    """The seven options: a branch per resolution, the policy's own head, and the skips."""
    sizes = sorted(preset.branches, reverse=True)
    options = [Option(name=f"rgb{s}", graph=f"rgb{s}", view=f"rgb{s}", precision="fp32") for s in sizes]
    head = f"rgb{preset.policy_size}"
    options.append(Option(name=head, graph=POLICY, view=head, precision="fp32"))
    options += [Option(name=f"skip{k}", skip=k) for k in SKIPS]
    return ActionSpace(groups=(Group(name="resolution", options=tuple(options)),))


def architecture(preset: Preset) -> Architecture:
    """A branch per resolution, and a recurrent policy with a class head on the smallest."""
    sizes = [*preset.branches, preset.policy_size]
    views = {f"rgb{size}": View(name=f"rgb{size}", size=size) for size in sizes}
    cheap = views[f"rgb{preset.policy_size}"]
    return Architecture(
        space=action_space(preset),
        views=views,
        branches={
            f"rgb{size}": NetworkSpec(name, views[f"rgb{size}"]) for size, name in preset.branches.items()
        },
        policy=recurrent_policy(NetworkSpec(preset.policy, cheap), preset.hidden),
    )


def plan(preset: Preset) -> TrainingPlan:
    """The branches alone; the policy; the branches anew, or on the frames that choose them; int8."""
    recipe, rollout_loss = preset.recipe, partial(loss, preset=preset)
    return plan_of(
        recipe,
        MatchSizes(recipe.matched) if recipe.matched else None,
        TrainBackbones(recipe.branches),
        policy_stage(recipe, rollout_loss),
        RefitBranches(recipe.refit) if recipe.refit else None,
        FinetuneBranches(recipe.finetune, rollout_loss) if recipe.finetune else None,
        TrainIntegers(recipe.qat) if recipe.qat else None,
    )


def loss(rollout: Rollout, targets: Tensor, present: Tensor, costs: Tensor, preset: Preset) -> Tensor:
    """Equation 6 of the paper: accuracy, cost and uniform usage.

    ``targets`` (B,) class indices or (B, C) probabilities, ``present`` (B, T), ``costs`` (A,) in MACs. The
    cost counts as published at price 1.
    """
    accuracy = functional.cross_entropy(rollout.logits, targets)
    relative = relative_costs(costs) * preset.dense_cost
    efficiency = cost_loss(rollout.choices, relative, present, rollout.price)
    efficiency = efficiency + preset.uniform_weight * uniform_loss(rollout.choices)
    return preset.accuracy_weight * accuracy + preset.efficiency_weight * efficiency


METHOD = Method(
    name="arnet",
    presets=PRESETS,
    architecture=architecture,
    plan=plan,
    timing=lambda preset: StepTiming(preset.steps),
    published_macs={
        "rgb224": 4_120_000_000,
        "rgb168": 2_240_000_000,
        "rgb112": 485_000_000,
        "policy": 51_000_000,
    },
)
"""Published: of the backbones with 200 classes, rounded."""
