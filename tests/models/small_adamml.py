"""A small AdaMML of three modalities whose decisions vary, and what it is rolled out over."""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor, nn

from models.methods import adamml
from models.methods.adamml import ViewConfig
from models.recipe import Optimization, Recipe
from models.rollout.adaptive_model import AdaptiveModel

LABELS = ("disc", "square", "cross")
MODALITIES = ("rgb", "audio", "flow")
COSTS = torch.tensor([0.5, 0.0, 0.125, 0.0, 1.0, 0.0])
"""Of each modality's branch and of leaving it out: powers of two, exact in every float format."""

_STAGE = Optimization(epochs=1, lr=1e-3, batch=4, frames=2, adam=True)
_RECIPE = Recipe(
    branches=_STAGE,
    joint=replace(_STAGE, frozen_branches=True),
    qat=_STAGE,
    holdout=0.25,
    dropped_modalities=0.3,
)
_SIGHT = ViewConfig("resnet10-narrow", 24, 3)
_HEARD = ViewConfig("resnet10-narrow", 32)


def small_preset(modalities: tuple[str, ...] = MODALITIES, **recipe: object) -> adamml.Preset:
    """One epoch a stage; ``recipe`` replaces its fields."""
    cheap = ViewConfig("resnet10-narrow", 16, 2)
    return adamml.Preset(
        branches={"rgb": _SIGHT, "rgbdiff": _SIGHT, "flow": _SIGHT, "audio": _HEARD},
        policy={"rgb": cheap, "rgbdiff": cheap, "audio": ViewConfig("resnet10-narrow", 16)},
        width=16,
        hidden=8,
        stack=2,
        recipe=replace(_RECIPE, **recipe),  # type: ignore[arg-type]
        modalities=modalities,
        steps=5,
    )


def small_model(seed: int = 0, modalities: tuple[str, ...] = MODALITIES, **fields: object) -> AdaptiveModel:
    """In evaluation mode, with a policy and a fusion that are not indifferent as untrained ones are."""
    torch.manual_seed(seed)
    model = adamml.METHOD.build(replace(small_preset(modalities), **fields), LABELS).eval()  # type: ignore[arg-type]
    nn.init.normal_(model.policy.get_submodule("score").weight, std=3.0)  # type: ignore[arg-type]
    assert model.late_fusion is not None
    with torch.no_grad():
        model.late_fusion.free += torch.linspace(-0.15, 0.2, len(modalities) - 1)
    return model


class Script(NamedTuple):
    """Rollout inputs: features, branch logits by name, present steps and which groups are there."""

    features: Tensor
    logits: dict[str, Tensor]
    present: Tensor
    available: Tensor


def random_script(model: AdaptiveModel, seed: int, batch: int = 3, steps: int = 6) -> Script:
    """Random policy features and branch logits for every step; each group is absent at every fourth."""
    generator = torch.Generator().manual_seed(seed)

    def normal(width: int) -> Tensor:
        return torch.randn(batch, steps, width, generator=generator)

    logits = {name: normal(len(LABELS)) for name in model.branches}
    available = torch.rand(batch, steps, len(model.space.groups), generator=generator) > 0.25
    present = torch.ones(batch, steps, dtype=torch.bool)
    return Script(normal(model.policy.num_features), logits, present, available)


def random_frames(model: AdaptiveModel, view: str, count: int, seed: int = 0) -> Tensor:
    """Steps of a view as a cache has them: uint8 (count, F, S, S, C)."""
    generator = torch.Generator().manual_seed(seed)
    shape = (count, *model.views[view].shape)
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)
