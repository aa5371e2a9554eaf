"""A small joint model of pictures and sound whose decisions vary."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import nn

from models.methods import joint
from models.methods.adamml import ViewConfig
from models.recipe import Optimization, Recipe
from models.rollout.adaptive_model import AdaptiveModel

LABELS = ("disc", "square", "cross")
MODALITIES = ("rgb", "audio")
OPTIONS = (
    "rgb32x3", "rgb24x3", "rgb16x2", "rgb-skip1", "rgb-skip2",
    "audio32", "audio16", "audio-skip1", "audio-skip2",
)  # fmt: skip
COSTS = torch.tensor([1.0, 0.5, 0.0, 0.0, -0.125, 0.25, 0.0, 0.0, -0.125])
"""Of each option: powers of two, exact in every float format."""

_STAGE = Optimization(epochs=1, lr=1e-3, batch=4, frames=2, adam=True)
_RECIPE = Recipe(
    branches=_STAGE,
    joint=replace(_STAGE, frozen_branches=True),
    qat=_STAGE,
    holdout=0.25,
    dropped_modalities=0.3,
)
_ALONE = joint.Preset(
    branches={"rgb": (ViewConfig("resnet10-narrow", 32), ViewConfig("resnet10-narrow", 24))},
    policy={"rgb": ViewConfig("resnet10-narrow", 16)},
    width=16,
    hidden=8,
    recipe=replace(_RECIPE, dropped_modalities=0.0),
    modalities=("rgb",),
    segment_s=0.0,
    rate_hz=None,
    steps=8,
)


def small_preset(**recipe: object) -> joint.Preset:
    """One epoch a stage; ``recipe`` replaces its fields."""
    return joint.Preset(
        branches={
            "rgb": (ViewConfig("resnet10-narrow", 32, 3), ViewConfig("resnet10-narrow", 24, 3)),
            "audio": (ViewConfig("resnet10-narrow", 32),),
        },
        policy={"rgb": ViewConfig("resnet10-narrow", 16, 2), "audio": ViewConfig("resnet10-narrow", 16)},
        width=16,
        hidden=8,
        recipe=replace(_RECIPE, **recipe),  # type: ignore[arg-type]
        skips=(1, 2),
        steps=5,
        alone=_ALONE,
    )


def small_model(seed: int = 0, modalities: tuple[str, ...] = MODALITIES) -> AdaptiveModel:
    """In evaluation mode, with a policy and heads that are not indifferent as untrained ones are."""
    torch.manual_seed(seed)
    model = joint.METHOD.build(joint.of_modalities(small_preset(), modalities), LABELS).eval()
    nn.init.normal_(model.policy.score.weight, std=3.0)
    nn.init.normal_(model.policy.lstm.from_conditions.weight, std=1.0)
    return model
