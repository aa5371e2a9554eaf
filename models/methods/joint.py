"""One model with a choice over modality, resolution and precision, and over when to look at all.

Each modality is a group; each of its options a resolution (where precisions are chosen: at each of them), the
policy's own head on its inexpensive view, or a skip. It is the choice of AR-Net (2007.15796), VideoIQ and
AdaMML (2105.05165) in one, with a policy of AdaMML's kind that is also conditioned on how confident the
stream's answer is so far, and on how far its own heads agree with it: a confident answer need not be
improved, and one that no longer agrees with the picture needs another look.

Of pictures alone a step is a frame, as AR-Net's are; with sound it is a segment of both, as AdaMML's are.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial

from torch import Tensor
from torch.nn import functional

from models.architecture import Architecture, NetworkSpec, PolicySpec
from models.augmentation import Augmentation
from models.contract import Method, ModalityChoice, StepTiming
from models.losses import cost_loss
from models.methods.adamml import MODALITIES, ViewConfig
from models.policies.agreement_policy import AgreementPolicy
from models.recipe import MOBILENET_FEW_CLIPS, MOBILENET_SCRATCH, MOBILENET_SIZES, Optimization, Recipe
from models.rollout.branch_model import POLICY
from models.rollout.late_fusion import LateFusion
from models.rollout.rollout import Rollout
from models.rollout.sampling import relative_costs
from models.training_plan import (
    MatchSizes,
    RefitBranches,
    TrainBackbones,
    TrainingPlan,
    TrainIntegers,
    plan_of,
    policy_stage,
)
from runtimes.spec import ActionSpace, Group, Option, View


@dataclass(frozen=True)
class Preset:
    """Networks by modality, the most expensive first, and the policy's; the loss's weight and the recipe.

    ``policy``: what the policy sees of each modality. ``width``: of its joint layers. ``efficiency_weight``:
    what a step on the most expensive option counts at price 1. ``skips``: by how many steps a modality may
    be left out. ``segment_s``, ``rate_hz``: length of a segment (0: a step is a frame), and steps a second
    (None: such that most clips fit). ``alone``: takes this preset's place where pictures are all there is.
    """

    branches: Mapping[str, tuple[ViewConfig, ...]]
    policy: Mapping[str, ViewConfig]
    width: int
    hidden: int
    recipe: Recipe
    modalities: tuple[str, ...] = ("rgb", "audio")
    skips: tuple[int, ...] = (1, 2, 4)
    efficiency_weight: float = 0.2
    segment_s: float = 1.28
    rate_hz: float | None = 1 / 0.64
    steps: int = 10
    alone: Preset | None = None


_TINY_ALONE = Preset(
    branches={"rgb": (ViewConfig("resnet10", 224), ViewConfig("resnet10", 168), ViewConfig("resnet10", 112))},
    policy={"rgb": ViewConfig("resnet10", 84)},
    width=64,
    hidden=64,
    recipe=Recipe(
        branches=Optimization(epochs=6, lr=3e-3, batch=8, frames=4, adam=True, weight_decay=0.01),
        joint=Optimization(epochs=100, lr=2e-3, batch=16, frozen_branches=True, adam=True, weight_decay=0.01),
        qat=Optimization(epochs=1, lr=1e-4, batch=8, frames=2, adam=True),
        holdout=0.25,
    ),
    modalities=("rgb",),
    segment_s=0.0,
    rate_hz=None,
    steps=16,
)

_MOBILE_ALONE = Preset(
    branches={
        "rgb": (
            ViewConfig("mobilenetv2", 224),
            ViewConfig("mobilenetv2", 168),
            ViewConfig("mobilenetv2", 112),
        )
    },
    policy={"rgb": ViewConfig("mobilenetv2", 84)},
    width=256,
    hidden=128,
    recipe=Recipe(
        scratch=MOBILENET_SCRATCH,
        matched=MOBILENET_SIZES,
        branches=Optimization(epochs=0, lr=3e-5, batch=8, frames=2, frozen_norms=True, probe_decay=0.05),
        refit=MOBILENET_FEW_CLIPS,
        joint=Optimization(epochs=40, lr=1e-4, batch=16, frozen_branches=True, adam=True, weight_decay=0.05),
        qat=Optimization(epochs=1, lr=1e-5, batch=8, frames=2, adam=True),
        holdout=0.2,
        flip=True,
        augmentation=Augmentation(smallest_crop=0.6, lighting=0.3, share=0.5),
        dense_targets=1.0,
        calibrated=True,
    ),
    modalities=("rgb",),
    efficiency_weight=0.1,
    segment_s=0.0,
    rate_hz=None,
    steps=16,
)

PRESETS = {
    "tiny": Preset(
        branches={
            "rgb": (ViewConfig("resnet10", 168, 4), ViewConfig("resnet10", 112, 4)),
            "rgbdiff": (ViewConfig("resnet10", 168, 4), ViewConfig("resnet10", 112, 4)),
            "audio": (ViewConfig("resnet10", 96),),
        },
        policy={
            "rgb": ViewConfig("resnet10-narrow", 56, 2),
            "rgbdiff": ViewConfig("resnet10-narrow", 56, 2),
            "audio": ViewConfig("resnet10-narrow", 48),
        },
        width=64,
        hidden=32,
        recipe=Recipe(
            branches=Optimization(epochs=8, lr=3e-3, batch=8, frames=3, adam=True, weight_decay=0.01),
            joint=Optimization(
                epochs=100, lr=2e-3, batch=16, frozen_branches=True, adam=True, weight_decay=0.01
            ),
            qat=Optimization(epochs=1, lr=1e-4, batch=8, frames=2, adam=True),
            holdout=0.25,
            dropped_modalities=0.15,
        ),
        skips=(1, 2),
        steps=8,
        alone=_TINY_ALONE,
    ),
    "mobile": Preset(
        branches={
            "rgb": (ViewConfig("mobilenetv2", 224, 4), ViewConfig("mobilenetv2", 128, 4)),
            "rgbdiff": (ViewConfig("mobilenetv2", 224, 4), ViewConfig("mobilenetv2", 128, 4)),
            "audio": (ViewConfig("mobilenetv2", 256), ViewConfig("mobilenetv2", 128)),
        },
        policy={
            "rgb": ViewConfig("mobilenetv2", 96, 2),
            "rgbdiff": ViewConfig("mobilenetv2", 96, 2),
            "audio": ViewConfig("resnet10-narrow", 64),
        },
        width=256,
        hidden=64,
        recipe=Recipe(
            branches=MOBILENET_FEW_CLIPS,
            scratch=MOBILENET_SCRATCH,
            joint=Optimization(
                epochs=40, lr=5e-4, batch=16, frozen_branches=True, adam=True, weight_decay=0.05
            ),
            qat=Optimization(epochs=1, lr=1e-5, batch=8, frames=2, adam=True),
            holdout=0.2,
            flip=True,
            augmentation=Augmentation(smallest_crop=0.6, lighting=0.3, share=0.5),
            dropped_modalities=0.15,
        ),
        skips=(1, 2),
        alone=_MOBILE_ALONE,
    ),
    # The papers' networks and schedules: AdaMML's with sound, AR-Net's of pictures alone.
    "paper": Preset(
        branches={
            "rgb": (
                ViewConfig("resnet50", 224, 8),
                ViewConfig("resnet50", 160, 8),
                ViewConfig("resnet50", 112, 8),
            ),
            "rgbdiff": (ViewConfig("resnet50", 224, 8), ViewConfig("resnet50", 112, 8)),
            "audio": (ViewConfig("mobilenetv2", 256),),
        },
        policy={
            "rgb": ViewConfig("mobilenetv2", 96, 4),
            "rgbdiff": ViewConfig("mobilenetv2", 96, 4),
            "audio": ViewConfig("mobilenetv2", 128),
        },
        width=2048,
        hidden=256,
        recipe=Recipe(
            folds=1,
            branches=Optimization(epochs=60, lr=0.01, batch=72, frames=1, milestones=(0.33, 0.67, 0.83)),
            joint=Optimization(epochs=40, lr=1e-3, batch=72, frozen_branches=True, adam=True),
            qat=Optimization(epochs=5, lr=2e-4, batch=48, frames=1),
            holdout=0.2,
            flip=True,
            augmentation=Augmentation(smallest_crop=0.7),
            dropped_modalities=0.1,
        ),
        skips=(1, 2),
        alone=Preset(
            branches={
                "rgb": (ViewConfig("resnet50", 224), ViewConfig("resnet34", 168), ViewConfig("resnet18", 112))
            },
            policy={"rgb": ViewConfig("mobilenetv2", 84)},
            width=512,
            hidden=512,
            recipe=Recipe(
                folds=1,
                branches=Optimization(
                    epochs=60,
                    lr=0.02,
                    batch=48,
                    frames=16,
                    milestones=(0.4, 0.8),
                    classifier_lr_factor=5.0,
                ),
                joint=Optimization(epochs=50, lr=1e-3, batch=48, frozen_branches=True, adam=True),
                qat=Optimization(epochs=5, lr=2e-4, batch=48, frames=8),
                holdout=0.2,
                flip=True,
            ),
            modalities=("rgb",),
            segment_s=0.0,
            rate_hz=None,
            steps=16,
        ),
    ),
}


def of_modalities(preset: Preset, modalities: tuple[str, ...]) -> Preset:
    """The preset for just these modalities: of pictures alone, what it has for them."""
    if modalities == ("rgb",) and preset.alone is not None:
        return preset.alone
    return replace(preset, modalities=modalities)


def action_space(preset: Preset) -> ActionSpace:
    """A group for each modality: its branches, the policy's head on it, and the skips."""
    optional = preset.recipe.dropped_modalities > 0
    groups = []
    for name in preset.modalities:
        options = [
            Option(name=view.name, graph=view.name, view=view.name, precision="fp32")
            for view in (view_of(name, config) for config in preset.branches[name])
        ]
        head = view_of(name, preset.policy[name]).name
        options.append(Option(name=head, graph=POLICY, view=head, precision="fp32"))
        prefix = f"{name}-" if len(preset.modalities) > 1 else ""
        options += [Option(name=f"{prefix}skip{k}", skip=k) for k in preset.skips]
        groups.append(Group(name=name, options=tuple(options), optional=optional))
    return ActionSpace(groups=tuple(groups))


def view_of(modality: str, config: ViewConfig) -> View:
    """The view of a modality that a network sees."""
    frames = f"x{config.frames}" if config.frames > 1 else ""
    return View.model_validate(
        {
            "name": f"{modality}{config.size}{frames}",
            "modality": modality,
            "size": config.size,
            "frames": config.frames,
            "stack": _DIFFERENCES if modality == "rgbdiff" else 1,
        }
    )


_DIFFERENCES = 5
"""Pictures' differences to a frame, as in AdaMML."""


def architecture(preset: Preset) -> Architecture:
    """A branch per modality and resolution, and a policy with a class head on an inexpensive view of each.

    Raises: ValueError if a modality is unknown or named twice.
    """
    names = preset.modalities
    if not names or len(set(names)) != len(names) or not set(names) <= set(preset.branches):
        known = ", ".join(name for name in MODALITIES if name in preset.branches)
        raise ValueError(f"modalities {', '.join(names)}: give some of {known}, each once")
    seen = [view_of(name, preset.policy[name]) for name in names]
    configs = [(view_of(name, config), config) for name in names for config in preset.branches[name]]
    views = {view.name: view for view in (*seen, *(view for view, _ in configs))}
    networks = (
        NetworkSpec(preset.policy[name].backbone, view) for name, view in zip(names, seen, strict=True)
    )
    groups = [[place] for place in range(len(names))]
    return Architecture(
        space=action_space(preset),
        views=views,
        branches={view.name: NetworkSpec(config.backbone, view) for view, config in configs},
        policy=PolicySpec(
            tuple(networks),
            lambda backbones, options, classes: AgreementPolicy(
                backbones, groups, options, preset.width, preset.hidden, classes
            ),
        ),
        fusion=(lambda: LateFusion(len(names))) if len(names) > 1 else None,
    )


def plan(preset: Preset) -> TrainingPlan:
    """The branches alone, and at every precision; the policy over these; the branches anew; int8."""
    recipe = preset.recipe
    return plan_of(
        recipe,
        MatchSizes(recipe.matched) if recipe.matched else None,
        TrainBackbones(recipe.branches),
        policy_stage(recipe, partial(loss, preset=preset)),
        RefitBranches(recipe.refit) if recipe.refit else None,
        TrainIntegers(recipe.qat) if recipe.qat else None,
    )


def loss(rollout: Rollout, targets: Tensor, present: Tensor, costs: Tensor, preset: Preset) -> Tensor:
    """Cross-entropy, and the cost in units of the most expensive option, times the price.

    ``targets`` (B,) class indices or (B, C) probabilities, ``present`` (B, T), ``costs`` (A,) in any unit.
    """
    cost = cost_loss(rollout.choices, relative_costs(costs), present, rollout.price)
    return functional.cross_entropy(rollout.logits, targets) + preset.efficiency_weight * cost


METHOD = Method(
    name="joint",
    presets=PRESETS,
    architecture=architecture,
    plan=plan,
    timing=lambda preset: StepTiming(preset.steps, preset.rate_hz, preset.segment_s),
    chooses_precisions=True,
    modalities=ModalityChoice(
        known=lambda preset: tuple(preset.branches),
        default=lambda preset: preset.modalities,
        restrict=of_modalities,
        follows_data=True,
    ),
)
