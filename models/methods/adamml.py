"""AdaMML: adaptive multi-modal learning (Panda et al., ICCV 2021, arXiv 2105.05165).

At every segment of pictures and their sound a small recurrent policy chooses, for each modality, whether to
use it. Logits of those that are used are fused by learnt weights.

What differs from the released code, on purpose: what is not chosen is not run (there: all runs, and the rest
is masked); decisions are argmax outside training; logits of a segment are divided by the weights of what
was used (``renormalised``; there: not, so that dropping a modality shrinks them); wrong videos push
towards using more (``penalty``; there: a constant without gradient); modalities are dropped at random in
training, and the policy is told which are there, so that a stream without sound is still recognised.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from models.augmentation import Augmentation
from models.backbones.blocks import Backbone, Boundary
from models.backbones.registry import BACKBONES
from models.policies.policy import LSTMStep, PolicyOutput, StepPolicy, make_indifferent
from models.recipe import MOBILENET_FEW_CLIPS, MOBILENET_SCRATCH, Recipe, Stage
from models.rollout.adaptive import AdaptiveModel, LateFusion, Rollout
from runtimes.spec import ActionSpace, Group, Modality, Option, View

MODALITIES: tuple[Modality, ...] = ("rgb", "audio", "flow", "rgbdiff")

Penalty = Literal["paper", "released"]


@dataclass(frozen=True)
class Sight:
    """A network on a view of one modality: ``size`` px or spectrogram bins, ``frames`` to a segment."""

    backbone: str
    size: int
    frames: int = 1


@dataclass(frozen=True)
class Preset:
    """Networks by modality and the policy's, the loss's weights, and the recipe.

    ``policy``: what the policy sees of each modality; flow has no entry, as it is dear to compute: the
    policy judges it by ``rgbdiff`` (section 3.1). ``width``: of the policy's joint layers. ``gamma``: what a
    wrong video costs. ``segment_s``, ``rate_hz``: length of a segment, and segments a second.
    """

    branches: Mapping[str, Sight]
    policy: Mapping[str, Sight]
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
    branches=Stage(epochs=8, lr=3e-3, batch=8, frames=3, adam=True, weight_decay=0.01),
    joint=Stage(epochs=100, lr=2e-3, batch=16, frozen_branches=True, adam=True, weight_decay=0.01),
    qat=Stage(epochs=1, lr=1e-4, batch=8, frames=2, adam=True),
    holdout=0.25,
    dropped_modalities=0.15,
)

_MOBILE = Recipe(
    branches=MOBILENET_FEW_CLIPS,
    scratch=MOBILENET_SCRATCH,
    joint=Stage(epochs=40, lr=5e-4, batch=16, frozen_branches=True, adam=True, weight_decay=0.05),
    qat=Stage(epochs=1, lr=1e-5, batch=8, frames=2, adam=True),
    holdout=0.2,
    flip=True,
    augmentation=Augmentation(smallest_crop=0.6, lighting=0.3, share=0.5),
    dropped_modalities=0.15,
)

# Alternating: 20 epochs of each part, both with Adam here (there the main networks with SGD at 0.001).
_PAPER = Recipe(
    branches=Stage(epochs=60, lr=0.01, batch=72, frames=1, milestones=(0.33, 0.67, 0.83)),
    warmup=Stage(epochs=5, lr=0.001, batch=72),
    joint=Stage(
        epochs=40,
        lr=1e-4,
        batch=72,
        adam=True,
        alternating=True,
        policy_lr_factor=100.0,
        milestones=(0.5, 0.75),
        temperature_decay=0.01425,  # from 5 to 2.45, as 0.965 an epoch over 20
    ),
    finetune=Stage(epochs=10, lr=0.001, batch=72),
    qat=Stage(epochs=5, lr=2e-4, batch=48, frames=1),
    flip=True,
    augmentation=Augmentation(smallest_crop=0.7),
    dropped_modalities=0.1,
)

PRESETS = {
    "tiny": Preset(
        branches={
            "rgb": Sight("resnet10", 168, 4),
            "rgbdiff": Sight("resnet10", 168, 4),
            "flow": Sight("resnet10", 168, 4),
            "audio": Sight("resnet10", 96),
        },
        policy={
            "rgb": Sight("resnet10-narrow", 56, 2),
            "rgbdiff": Sight("resnet10-narrow", 56, 2),
            "audio": Sight("resnet10-narrow", 48),
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
            "rgb": Sight("mobilenetv2", 224, 4),
            "rgbdiff": Sight("mobilenetv2", 224, 4),
            "flow": Sight("mobilenetv2", 224, 4),
            "audio": Sight("mobilenetv2", 256),
        },
        policy={
            "rgb": Sight("mobilenetv2", 96, 2),
            "rgbdiff": Sight("mobilenetv2", 96, 2),
            "audio": Sight("resnet10-narrow", 64),
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
            "rgb": Sight("resnet50", 224, 8),
            "rgbdiff": Sight("resnet50", 224, 8),
            "flow": Sight("resnet50", 224, 8),
            "audio": Sight("mobilenetv2", 256),
        },
        policy={
            "rgb": Sight("mobilenetv2", 160, 4),
            "rgbdiff": Sight("mobilenetv2", 224, 4),
            "audio": Sight("mobilenetv2", 256),
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


class RecalledState(NamedTuple):
    """Hidden and cell state of the LSTM, each (B, hidden), and the scores of the step before (B, options)."""

    h: Tensor
    c: Tensor
    last_scores: Tensor


class ModalityPolicy(StepPolicy):
    """A backbone for each view, two joint layers, an LSTM that recalls its last scores (section 3.2).

    ``groups_of_views``: for each view, the places of the groups that it speaks for: its features are zeros
    where none of them is there. The joint layers are also told which groups are there.
    """

    def __init__(
        self,
        backbones: Sequence[Backbone],
        groups_of_views: Sequence[Sequence[int]],
        num_options: int,
        width: int,
        hidden: int,
    ) -> None:
        super().__init__()
        for backbone in backbones:
            backbone.remove_classifier()
        self.backbones = nn.ModuleList(backbones)
        self.groups_of_views = tuple(tuple(groups) for groups in groups_of_views)
        self.num_views = len(backbones)
        self.num_groups = len({group for groups in groups_of_views for group in groups})
        self.width, self.hidden = width, hidden
        self.joint_in = Boundary()
        told = self.num_groups if self.num_groups > 1 else 0
        self.joint = nn.Sequential(
            nn.Linear(self.num_features + told, width),
            nn.ReLU(),
            nn.Linear(width, width),
            nn.ReLU(),
        )
        self.dropout = nn.Dropout(0.2)
        self.lstm_in = Boundary()
        self.h_out = Boundary()
        self.score_options(num_options)

    @property
    def view_backbones(self) -> Sequence[Backbone]:
        """The backbone of each view."""
        return [backbone for backbone in self.backbones if isinstance(backbone, Backbone)]

    @property
    def deciding_parts(self) -> list[nn.Module]:
        """All but the backbones."""
        return [self.joint, self.dropout, self.lstm, self.score]

    def classifier(self, view: int) -> nn.Linear:
        """Raises: LookupError, as it has no head of its own."""
        raise LookupError(f"view {view} has no class head")

    def score_options(self, count: int) -> None:
        """Start anew with the scores of ``count`` options, all alike at first."""
        self.num_options = count
        self.lstm = LSTMStep(self.width + count, self.num_told, self.hidden)
        self.score = nn.Linear(self.hidden, count)
        make_indifferent(self.score)

    def initial_state(self, batch: int) -> RecalledState:
        """Zeros, for ``batch`` streams that start."""
        zeros = self.lstm.from_state.weight.new_zeros
        state = zeros(batch, self.hidden)
        return RecalledState(state, state, zeros(batch, self.num_options))

    def embed(self, *pixels: Tensor) -> Tensor:
        """Features (N, F) of each view's images (N * frames, C, H, W), side by side."""
        views = zip(self.view_backbones, pixels, strict=True)
        return torch.cat([backbone.embed(images) for backbone, images in views], dim=-1)

    def join(self, features: Tensor, present: Tensor | None) -> Tensor:
        """Joint features (..., width) of features (..., F) of what is there, and of which groups are."""
        if self.num_groups == 1:
            return self.joint(self.joint_in(features))
        if present is None:
            present = features.new_ones(*features.shape[:-1], self.num_groups)
        present = present.to(features)
        seen = []
        for own, groups in zip(self.of_views(features), self.groups_of_views, strict=True):
            there = present[..., groups[0] : groups[0] + 1]
            for group in groups[1:]:
                there = torch.maximum(there, present[..., group : group + 1])
            seen.append(own * there)
        return self.joint(self.joint_in(torch.cat([*seen, present], dim=-1)))

    def advance(self, joined: Tensor, told: Tensor, state: RecalledState) -> PolicyOutput:
        """One step from joined features (B, width), what it is told, and the state before it."""
        recalled = torch.cat([self.dropout(joined), state.last_scores], dim=-1)
        h, c = self.lstm(self.lstm_in(recalled), told, state)
        scores = self.score(self.h_out(h))
        return PolicyOutput(scores, RecalledState(h, c, scores))


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


def _view(preset: Preset, modality: str, sight: Sight) -> View:
    stack = preset.stack if modality in ("rgbdiff", "flow") else 1
    frames = f"x{sight.frames}" if sight.frames > 1 else ""
    name = f"{modality}{sight.size}{frames}"
    return View.model_validate(
        {"name": name, "modality": modality, "size": sight.size, "frames": sight.frames, "stack": stack}
    )


def of_modalities(preset: Preset, modalities: tuple[str, ...]) -> Preset:
    """The preset for just these modalities."""
    return replace(preset, modalities=modalities)


def build(preset: Preset, labels: tuple[str, ...]) -> AdaptiveModel:
    """AdaMML of a preset for the given labels, randomly initialised.

    Raises: ValueError if a modality is unknown or named twice.
    """
    names, classes = preset.modalities, len(labels)
    if not names or len(set(names)) != len(names) or not set(names) <= set(MODALITIES):
        raise ValueError(f"modalities {', '.join(names)}: give some of {', '.join(MODALITIES)}, each once")
    space = action_space(preset)
    seen: dict[str, list[int]] = {}
    views: dict[str, View] = {}
    for place, name in enumerate(names):
        view = policy_view(preset, name)
        seen.setdefault(view.name, []).append(place)
        views |= {view.name: view, branch_view(preset, name).name: branch_view(preset, name)}
    policy_networks = [
        _network(preset.policy[views[view].modality].backbone, views[view], classes) for view in seen
    ]
    policy = ModalityPolicy(
        policy_networks, list(seen.values()), len(space.options), preset.width, preset.hidden
    )
    branches = {
        name: _network(preset.branches[name].backbone, branch_view(preset, name), classes) for name in names
    }
    fusion = LateFusion(len(names), renormalised=preset.renormalised)
    return AdaptiveModel(policy, branches, space, views, tuple(seen), labels, fusion)


def _network(name: str, view: View, classes: int) -> Backbone:
    return BACKBONES[name](classes, in_channels=view.channels, frames=view.frames)


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
