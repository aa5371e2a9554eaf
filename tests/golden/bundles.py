"""Bundles of small networks with random weights: the same on every machine, nothing is trained."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from torch import nn

from compiler.bundle_plan import BundlePlan, Network, VariantPlan
from compiler.export.split import split
from compiler.measuring.graph_costs import declared_costs
from compiler.targets import TARGETS, Target
from models.methods import adamml, arnet, joint
from models.rollout.adaptive_model import AdaptiveModel
from models.rollout.branch_model import POLICY
from runtimes.bundle import Bundle, write_bundle
from runtimes.spec import Steps
from tests.models import small_adamml, small_arnet, small_joint

CLIP_STEPS = 8


class Draw(NamedTuple):
    """Of random weights and a price at which a model chooses now this, now that."""

    seed: int
    deviation: float
    price: float


DRAWS = {"arnet": Draw(18, 3.0, 0.5), "adamml": Draw(9, 2.0, 0.2), "joint": Draw(21, 2.0, 0.2)}
SEGMENTS = {"arnet": 0.0, "adamml": 1.28, "joint": 1.28}
SOURCES = {
    "arnet": "test://?size=96x72&rate=12&duration=6&live=0",
    "adamml": "test://?size=96x72&rate=12&duration=8&live=0",
    "joint": "test://?size=96x72&rate=12&duration=8&live=0",
}


def build_golden(name: str, folder: Path, targets: Sequence[Target] = (TARGETS["cpu"],)) -> Bundle:
    """The fp32 bundle of the small model called ``name``, for these targets."""
    model, scratch = _model(name), folder / "graphs"
    scratch.mkdir(parents=True)
    contents = BundlePlan((_plan(name, model),))
    parts = split(contents, targets, scratch)
    variants = tuple(v.model_copy(update={"price": DRAWS[name].price}) for v in parts.variants)
    fields = {
        "model": name,
        "preset": "golden",
        "target": targets[0].name,
        "labels": model.labels,
        "views": tuple(model.views.values()),
        "steps": Steps(rate_hz=2.0, clip_steps=CLIP_STEPS, segment_s=SEGMENTS[name]),
        "fusion": model.fusion_of(CLIP_STEPS),
        "graphs": parts.graphs,
        "variants": variants,
        "default_variant": variants[0].name,
        "cost_tables": (declared_costs(contents, TARGETS["cpu"]),),
    }
    return write_bundle(folder / f"{name}.bundle", scratch, fields)


def _model(name: str) -> AdaptiveModel:
    draw = DRAWS[name]
    torch.manual_seed(draw.seed)
    model = _BUILDS[name]().eval()
    for part in model.policy.deciding_parts:
        for weight in part.parameters():
            if weight.dim() > 1:
                nn.init.normal_(weight, std=draw.deviation)
    nn.init.normal_(model.policy.score.weight, std=3.0)
    return model


_BUILDS: dict[str, Callable[[], AdaptiveModel]] = {
    "arnet": lambda: arnet.METHOD.build(small_arnet.small_preset(), small_arnet.LABELS),
    "adamml": lambda: adamml.METHOD.build(small_adamml.small_preset(), small_adamml.LABELS),
    "joint": lambda: joint.METHOD.build(small_joint.small_preset(), small_arnet.LABELS),
}


def _plan(name: str, model: AdaptiveModel) -> VariantPlan:
    def network(part: str, module: nn.Module) -> Network:
        heads = model.heads if part == POLICY else {}
        return Network(f"{name}-{part}-fp32", part, module, "fp32", model.views_of(part), heads=heads)

    branches = {part: network(part, module) for part, module in model.branches.items()}
    return VariantPlan("fp32", model, network(POLICY, model.policy), branches)
