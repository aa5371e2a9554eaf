"""The joint model: one policy over modality, resolution and precision, and over when to look at all.

Each modality is a group; each of its options a resolution (later: at a precision, see ``at_precisions``), the
policy's own head on what it sees anyway, or a skip. It is AR-Net's choice (2007.15796), VideoIQ's
(``compiler/variants.py`` offers the branches at every precision) and AdaMML's (2105.05165) in one, with a
policy of AdaMML's kind that is also told how sure the stream's answer is so far, and how far what it sees
agrees with it: what is sure already is not worth more, and what no longer agrees is worth a look.

Of pictures alone a step is a frame, as AR-Net's are; with sound it is a segment of both, as AdaMML's are.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.nn import functional

from models.augmentation import Augmentation
from models.backbones.blocks import Backbone, Boundary
from models.backbones.registry import BACKBONES
from models.losses import cost_loss
from models.methods.adamml import MODALITIES, ModalityPolicy, RecalledState, Sight
from models.policies.conditioning import AnswerCode
from models.policies.policy import PolicyOutput
from models.recipe import MOBILENET_FEW_CLIPS, MOBILENET_SCRATCH, Recipe, Stage
from models.rollout.adaptive import POLICY, AdaptiveModel, LateFusion, Rollout, relative_costs
from runtimes.spec import ActionSpace, Group, Option, View


@dataclass(frozen=True)
class Preset:
    """Networks by modality, dearest first, and the policy's; the loss's weight and the recipe.

    ``policy``: what the policy sees of each modality. ``width``: of its joint layers. ``efficiency_weight``:
    what a step on the dearest option counts at price 1. ``skips``: by how many steps a modality may be left
    out. ``segment_s``, ``rate_hz``: length of a segment (0: a step is a frame), and steps a second (None:
    such that most clips fit). ``alone``: takes this preset's place where pictures are all there is.
    """

    branches: Mapping[str, tuple[Sight, ...]]
    policy: Mapping[str, Sight]
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
    branches={"rgb": (Sight("resnet10", 224), Sight("resnet10", 168), Sight("resnet10", 112))},
    policy={"rgb": Sight("resnet10", 84)},
    width=64,
    hidden=64,
    recipe=Recipe(
        branches=Stage(epochs=6, lr=3e-3, batch=8, frames=4, adam=True, weight_decay=0.01),
        joint=Stage(epochs=100, lr=2e-3, batch=16, frozen_branches=True, adam=True, weight_decay=0.01),
        qat=Stage(epochs=1, lr=1e-4, batch=8, frames=2, adam=True),
        holdout=0.25,
    ),
    modalities=("rgb",),
    segment_s=0.0,
    rate_hz=None,
    steps=16,
)

_MOBILE_ALONE = Preset(
    branches={"rgb": (Sight("mobilenetv2", 224), Sight("mobilenetv2", 168), Sight("mobilenetv2", 112))},
    policy={"rgb": Sight("mobilenetv2", 84)},
    width=256,
    hidden=128,
    recipe=Recipe(
        scratch=MOBILENET_SCRATCH,
        branches=Stage(epochs=0, lr=3e-5, batch=8, frames=2, frozen_norms=True, probe_decay=0.05),
        refit=MOBILENET_FEW_CLIPS,
        joint=Stage(epochs=40, lr=1e-4, batch=16, frozen_branches=True, adam=True, weight_decay=0.05),
        qat=Stage(epochs=1, lr=1e-5, batch=8, frames=2, adam=True),
        holdout=0.2,
        flip=True,
        augmentation=Augmentation(smallest_crop=0.6, lighting=0.3, share=0.5),
        starts_from_schedules=True,
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
            "rgb": (Sight("resnet10", 168, 4), Sight("resnet10", 112, 4)),
            "rgbdiff": (Sight("resnet10", 168, 4), Sight("resnet10", 112, 4)),
            "audio": (Sight("resnet10", 96),),
        },
        policy={
            "rgb": Sight("resnet10-narrow", 56, 2),
            "rgbdiff": Sight("resnet10-narrow", 56, 2),
            "audio": Sight("resnet10-narrow", 48),
        },
        width=64,
        hidden=32,
        recipe=Recipe(
            branches=Stage(epochs=8, lr=3e-3, batch=8, frames=3, adam=True, weight_decay=0.01),
            joint=Stage(epochs=100, lr=2e-3, batch=16, frozen_branches=True, adam=True, weight_decay=0.01),
            qat=Stage(epochs=1, lr=1e-4, batch=8, frames=2, adam=True),
            holdout=0.25,
            dropped_modalities=0.15,
        ),
        skips=(1, 2),
        steps=8,
        alone=_TINY_ALONE,
    ),
    "mobile": Preset(
        branches={
            "rgb": (Sight("mobilenetv2", 224, 4), Sight("mobilenetv2", 128, 4)),
            "rgbdiff": (Sight("mobilenetv2", 224, 4), Sight("mobilenetv2", 128, 4)),
            "audio": (Sight("mobilenetv2", 256), Sight("mobilenetv2", 128)),
        },
        policy={
            "rgb": Sight("mobilenetv2", 96, 2),
            "rgbdiff": Sight("mobilenetv2", 96, 2),
            "audio": Sight("resnet10-narrow", 64),
        },
        width=256,
        hidden=64,
        recipe=Recipe(
            branches=MOBILENET_FEW_CLIPS,
            scratch=MOBILENET_SCRATCH,
            joint=Stage(epochs=40, lr=5e-4, batch=16, frozen_branches=True, adam=True, weight_decay=0.05),
            qat=Stage(epochs=1, lr=1e-5, batch=8, frames=2, adam=True),
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
            "rgb": (Sight("resnet50", 224, 8), Sight("resnet50", 160, 8), Sight("resnet50", 112, 8)),
            "rgbdiff": (Sight("resnet50", 224, 8), Sight("resnet50", 112, 8)),
            "audio": (Sight("mobilenetv2", 256),),
        },
        policy={
            "rgb": Sight("mobilenetv2", 96, 4),
            "rgbdiff": Sight("mobilenetv2", 96, 4),
            "audio": Sight("mobilenetv2", 128),
        },
        width=2048,
        hidden=256,
        recipe=Recipe(
            branches=Stage(epochs=60, lr=0.01, batch=72, frames=1, milestones=(0.33, 0.67, 0.83)),
            joint=Stage(epochs=40, lr=1e-3, batch=72, frozen_branches=True, adam=True),
            qat=Stage(epochs=5, lr=2e-4, batch=48, frames=1),
            holdout=0.2,
            flip=True,
            augmentation=Augmentation(smallest_crop=0.7),
            dropped_modalities=0.1,
        ),
        skips=(1, 2),
        alone=Preset(
            branches={"rgb": (Sight("resnet50", 224), Sight("resnet34", 168), Sight("resnet18", 112))},
            policy={"rgb": Sight("mobilenetv2", 84)},
            width=512,
            hidden=512,
            recipe=Recipe(
                branches=Stage(
                    epochs=60,
                    lr=0.02,
                    batch=48,
                    frames=16,
                    milestones=(0.4, 0.8),
                    classifier_lr_factor=5.0,
                ),
                joint=Stage(epochs=50, lr=1e-3, batch=48, frozen_branches=True, adam=True),
                qat=Stage(epochs=5, lr=2e-4, batch=48, frames=8),
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


class JointPolicy(ModalityPolicy):
    """A modality policy with a class head on each view, told of the stream's answer so far.

    Of the answer (class probabilities) it is told how sure it is, and of each head how far it agrees: the
    inner product of both. Neither depends on which classes there are.
    """

    def __init__(
        self,
        backbones: Sequence[Backbone],
        groups_of_views: Sequence[Sequence[int]],
        num_options: int,
        width: int,
        hidden: int,
        num_classes: int,
    ) -> None:
        super().__init__(backbones, groups_of_views, num_options, width, hidden)
        self.recalls = num_classes
        self.answer_code = AnswerCode()
        self.heads_in = nn.ModuleList(Boundary() for _ in backbones)
        self.classifiers = nn.ModuleList(
            nn.Linear(backbone.num_features, num_classes) for backbone in backbones
        )

    @property
    def heads(self) -> tuple[tuple[int, int], ...]:
        """One for each view, which answers for the first of the groups that the view speaks for."""
        return tuple((groups[0], view) for view, groups in enumerate(self.groups_of_views))

    @property
    def num_told(self) -> int:
        """The price, how sure the answer is, and how far each head agrees."""
        return self.price_code.size + AnswerCode.size + len(self.heads)

    def classifier(self, view: int) -> nn.Linear:
        """The class head of a view."""
        classifier = self.classifiers[view]
        assert isinstance(classifier, nn.Linear)
        return classifier

    def head_logits(self, features: Tensor) -> tuple[Tensor, ...]:
        """Class logits (..., C) of each of its heads, from features (..., F)."""
        views = self.of_views(features)
        return tuple(self.classifier(view)(self.heads_in[view](views[view])) for _, view in self.heads)

    def join(self, features: Tensor, present: Tensor | None) -> Tensor:
        """The joint features, and what each head says (class probabilities), zeros where nothing is there."""
        said = [logits.softmax(dim=-1) for logits in self.head_logits(features)]
        if present is not None and self.num_groups > 1:
            present = present.to(features)
            said = [
                probabilities * present[..., group : group + 1]
                for probabilities, (group, _) in zip(said, self.heads, strict=True)
            ]
        return torch.cat([super().join(features, present), *said], dim=-1)

    def tell(self, price: Tensor, answer: Tensor | None) -> Tensor:
        """The codes of the price and of the answer, and the answer itself."""
        if answer is None:
            answer = price.new_zeros(len(price), self.recalls)
        return torch.cat([super().tell(price, answer), self.answer_code(answer), answer], dim=-1)

    def advance(self, joined: Tensor, told: Tensor, state: RecalledState) -> PolicyOutput:
        """One step; what each head says is held against the answer."""
        features, *said = torch.split(joined, [self.width, *[self.recalls] * len(self.heads)], dim=-1)
        codes, answer = torch.split(told, [told.shape[-1] - self.recalls, self.recalls], dim=-1)
        agreement = [(own * answer).sum(dim=-1, keepdim=True) for own in said]
        return super().advance(features, torch.cat([codes, *agreement], dim=-1), state)


def action_space(preset: Preset) -> ActionSpace:
    """A group for each modality: its branches, the policy's head on it, and the skips."""
    optional = preset.recipe.dropped_modalities > 0
    groups = []
    for name in preset.modalities:
        options = [
            Option(name=view.name, graph=view.name, view=view.name, precision="fp32")
            for view in (view_of(name, sight) for sight in preset.branches[name])
        ]
        head = view_of(name, preset.policy[name]).name
        options.append(Option(name=head, graph=POLICY, view=head, precision="fp32"))
        prefix = f"{name}-" if len(preset.modalities) > 1 else ""
        options += [Option(name=f"{prefix}skip{k}", skip=k) for k in preset.skips]
        groups.append(Group(name=name, options=tuple(options), optional=optional))
    return ActionSpace(groups=tuple(groups))


def view_of(modality: str, sight: Sight) -> View:
    """The view of a modality that a network sees."""
    frames = f"x{sight.frames}" if sight.frames > 1 else ""
    return View.model_validate(
        {
            "name": f"{modality}{sight.size}{frames}",
            "modality": modality,
            "size": sight.size,
            "frames": sight.frames,
            "stack": _DIFFERENCES if modality == "rgbdiff" else 1,
        }
    )


_DIFFERENCES = 5
"""Pictures' differences to a frame, as in AdaMML."""


def build(preset: Preset, labels: tuple[str, ...]) -> AdaptiveModel:
    """The joint model of a preset for the given labels, in float and randomly initialised.

    Raises: ValueError if a modality is unknown or named twice.
    """
    names, classes = preset.modalities, len(labels)
    if not names or len(set(names)) != len(names) or not set(names) <= set(preset.branches):
        known = ", ".join(name for name in MODALITIES if name in preset.branches)
        raise ValueError(f"modalities {', '.join(names)}: give some of {known}, each once")
    space = action_space(preset)
    seen = [view_of(name, preset.policy[name]) for name in names]
    sights = {view_of(name, sight).name: (name, sight) for name in names for sight in preset.branches[name]}
    views = {view.name: view for view in seen}
    views |= {view: view_of(name, sight) for view, (name, sight) in sights.items()}
    backbones = [_network(preset.policy[name], view, classes) for name, view in zip(names, seen, strict=True)]
    groups = [[place] for place in range(len(names))]
    options = len(space.options)
    policy = JointPolicy(backbones, groups, options, preset.width, preset.hidden, classes)
    branches = {name: _network(sight, views[name], classes) for name, (_, sight) in sights.items()}
    fusion = LateFusion(len(names)) if len(names) > 1 else None
    policy_views = tuple(view.name for view in seen)
    return AdaptiveModel(policy, branches, space, views, policy_views, labels, fusion)


def _network(sight: Sight, view: View, classes: int) -> Backbone:
    return BACKBONES[sight.backbone](classes, in_channels=view.channels, frames=view.frames)


def loss(rollout: Rollout, targets: Tensor, present: Tensor, costs: Tensor, preset: Preset) -> Tensor:
    """Cross-entropy, and the cost in units of the dearest option, times the price.

    ``targets`` (B,) class indices or (B, C) probabilities, ``present`` (B, T), ``costs`` (A,) in any unit.
    """
    cost = cost_loss(rollout.choices, relative_costs(costs), present, rollout.price)
    return functional.cross_entropy(rollout.logits, targets) + preset.efficiency_weight * cost
