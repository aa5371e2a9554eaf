"""A small AR-Net whose decisions vary from clip to clip, and what it is rolled out over."""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor, nn

from models.methods import arnet
from models.policies.policy import PolicyOutput, State
from models.recipe import Optimization, Recipe
from models.rollout.adaptive_model import AdaptiveModel
from models.rollout.branch_model import pixels

LABELS = ("disc", "square", "cross")
SMALLEST = arnet.PRESETS["tiny"].policy
"""The name of the backbone that runs fastest."""
BRANCHES = ("rgb64", "rgb48", "rgb40")
SIZES = {**{name: int(name[3:]) for name in BRANCHES}, "rgb32": 32}
COSTS = torch.tensor([1.0, 0.5, 0.25, 0.0, 0.0, 0.0, 0.0])
"""Powers of two, most expensive first: exact in every float format."""

_STAGE = Optimization(epochs=1, lr=1e-3, batch=4, frames=2, adam=True)
_RECIPE = Recipe(
    branches=_STAGE,
    joint=replace(_STAGE, frozen_branches=True),
    finetune=_STAGE,
    qat=_STAGE,
    holdout=0.25,
    flip=False,
)


def small_preset(**recipe: object) -> arnet.Preset:
    """One epoch a stage; ``recipe`` replaces its fields."""
    return arnet.Preset(
        branches={SIZES[name]: SMALLEST for name in BRANCHES},
        policy=SMALLEST,
        policy_size=SIZES["rgb32"],
        hidden=16,
        recipe=replace(_RECIPE, **recipe),  # type: ignore[arg-type]
        steps=8,
    )


def small_model(seed: int = 1) -> AdaptiveModel:
    """In evaluation mode, with a policy that is not indifferent as untrained ones are."""
    torch.manual_seed(seed)
    model = arnet.METHOD.build(small_preset(), LABELS).eval()
    nn.init.normal_(model.policy.score.weight, std=3.0)
    return model


class ScriptedPolicy(nn.Module):
    """Says what stands in its features: scores, then class logits. Its state h counts its runs."""

    heads = ((0, 0),)

    def __init__(self, options: int) -> None:
        super().__init__()
        self.options = options

    def initial_state(self, batch: int) -> State:
        return State(torch.zeros(batch, 1), torch.zeros(batch, 1))

    def join(self, features: Tensor, present: Tensor | None) -> Tensor:
        return features

    def encode_conditions(self, price: Tensor, answer: Tensor) -> Tensor:
        return price

    def head_logits(self, features: Tensor) -> tuple[Tensor, ...]:
        return (features[..., self.options :],)

    def advance(self, features: Tensor, conditions: Tensor, state: State) -> PolicyOutput:
        return PolicyOutput(features[:, : self.options], State(state.h + 1, state.c - 1))


def scripted_model() -> AdaptiveModel:
    """AR-Net's action space and rollout under a policy whose scores the test writes."""
    space, views = small_model().space, small_model().views
    policy = ScriptedPolicy(len(space.options))
    return AdaptiveModel(policy, {}, space, views, ("rgb32",), LABELS)  # type: ignore[arg-type]


class Script(NamedTuple):
    """Rollout inputs: features (B, T, F), branch logits by name (B, T, C), present (B, T)."""

    features: Tensor
    logits: dict[str, Tensor]
    present: Tensor


def random_script(model: AdaptiveModel, seed: int, batch: int = 3, steps: int = 8) -> Script:
    """Random policy features and branch logits for every step of some clips."""
    generator = torch.Generator().manual_seed(seed)
    width = model.policy.backbone.num_features
    features = torch.randn(batch, steps, width, generator=generator)
    logits = {name: torch.randn(batch, steps, len(LABELS), generator=generator) for name in BRANCHES}
    return Script(features, logits, torch.ones(batch, steps, dtype=torch.bool))


def random_pixels(model: AdaptiveModel, view: str, count: int, seed: int = 0) -> Tensor:
    """What a network sees of random frames at a view: float (count, 3, S, S)."""
    size = model.views[view].size
    generator = torch.Generator().manual_seed(seed)
    frames = torch.randint(0, 256, (count, size, size, 3), dtype=torch.uint8, generator=generator)
    return pixels(frames, model.views[view])


def names(model: AdaptiveModel, choices: Tensor) -> list[str]:
    """Names of the options chosen along one clip (T, A), ``held`` where none was."""
    options = [option.name for option in model.space.options]
    return [options[int(row.argmax())] if row.any() else "held" for row in choices]
