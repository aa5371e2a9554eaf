"""The networks of a method, what they see, and what there is to choose from; and the model built of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from models.backbones.blocks import Backbone
from models.backbones.registry import BACKBONES
from models.policies.policy import RecurrentPolicy, StepPolicy
from models.rollout.adaptive_model import AdaptiveModel
from models.rollout.branch_model import BranchModel
from models.rollout.late_fusion import LateFusion
from runtimes.spec import ActionSpace, View


@dataclass(frozen=True)
class NetworkSpec:
    """A backbone by its name, and the view that it sees."""

    backbone: str
    view: View

    def build(self, classes: int) -> Backbone:
        """The network with random weights."""
        view = self.view
        return BACKBONES[self.backbone](classes, in_channels=view.channels, frames=view.frames)


class MakePolicy(Protocol):
    """Makes a policy of its backbones."""

    def __call__(self, backbones: Sequence[Backbone], *, options: int, classes: int) -> StepPolicy:
        """A policy with random weights that scores so many ``options``."""
        ...


@dataclass(frozen=True)
class PolicySpec:
    """The policy: a network for each inexpensive view that it sees, and how it is made of these."""

    networks: tuple[NetworkSpec, ...]
    make: MakePolicy


def recurrent_policy(network: NetworkSpec, hidden: int) -> PolicySpec:
    """An LSTM of ``hidden`` units over one backbone, with a class head on its features."""

    def make(backbones: Sequence[Backbone], *, options: int, classes: int) -> StepPolicy:
        (backbone,) = backbones
        return RecurrentPolicy(backbone, hidden, options, classes)

    return PolicySpec((network,), make)


@dataclass(frozen=True)
class Architecture:
    """The networks of a preset and their choice.

    ``space``: groups of options, which name branches by their graph. ``views``: all there are, by name.
    ``branches``: the networks to choose from, by name. ``policy``: None where the app chooses. ``fusion``:
    makes the late fusion of several groups; None for one group.
    """

    space: ActionSpace
    views: Mapping[str, View]
    branches: Mapping[str, NetworkSpec]
    policy: PolicySpec | None = None
    fusion: Callable[[], LateFusion] | None = None

    def build(self, labels: tuple[str, ...]) -> BranchModel:
        """The model in float, randomly initialized: an ``AdaptiveModel`` if there is a policy."""
        classes = len(labels)
        if self.policy is None:
            return BranchModel(self._build_branches(classes), self.space, self.views, labels)
        backbones = [network.build(classes) for network in self.policy.networks]
        policy = self.policy.make(backbones, options=len(self.space.options), classes=classes)
        seen = tuple(network.view.name for network in self.policy.networks)
        branches = self._build_branches(classes)
        fusion = self.fusion() if self.fusion is not None else None
        return AdaptiveModel(policy, branches, self.space, self.views, seen, labels, fusion)

    def _build_branches(self, classes: int) -> dict[str, Backbone]:
        return {name: network.build(classes) for name, network in self.branches.items()}
