"""Branches that run on demand answer as those computed before, and run no more than was chosen."""

from __future__ import annotations

from collections import Counter

import pytest
import torch
from torch import Tensor

from models.rollout.adaptive_model import AdaptiveModel
from models.rollout.outputs import ComputedOutputs, OutputsOnDemand
from models.rollout.sampling import argmax_sampler
from tests.models import small_arnet, small_joint

CLIPS, STEPS = 3, 5


def frames(model: AdaptiveModel) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    views = {}
    for name, view in model.views.items():
        shape = view.shape[1:] if view.modality == "rgb" and view.frames == 1 else view.shape
        views[name] = torch.randint(0, 256, (CLIPS, STEPS, *shape), dtype=torch.uint8, generator=generator)
    return views


@pytest.mark.parametrize(
    ("model", "costs"),
    [(small_arnet.small_model(), small_arnet.COSTS), (small_joint.small_model(3), small_joint.COSTS)],
    ids=["one group", "several groups, choices by the answer so far"],
)
def test_on_demand_is_what_was_computed_before(model: AdaptiveModel, costs: Tensor) -> None:
    views, present = frames(model), torch.ones(CLIPS, STEPS, dtype=torch.bool)
    ran: Counter[str] = Counter()
    with torch.no_grad():
        seen = {name: views[name].flatten(0, 1) for name in model.policy_views}
        features = model.embed(seen).view(CLIPS, STEPS, -1)
        computed = ComputedOutputs(
            {
                name: model.branch_logits(name, views[model.view_of(name).name].flatten(0, 1)).view(
                    CLIPS, STEPS, -1
                )
                for name in model.branches
            }
        )
        hooks = [
            branch.register_forward_pre_hook(
                lambda _, inputs, name=name: ran.update({name: len(inputs[0]) // model.view_of(name).frames})
            )
            for name, branch in model.branches.items()
        ]
        decide = argmax_sampler(costs)
        lazily = model.rollout(features, OutputsOnDemand(model, views), present, decide)
        for hook in hooks:
            hook.remove()
        before = model.rollout(features, computed, present, decide)
    assert torch.equal(lazily.choices, before.choices)
    torch.testing.assert_close(lazily.logits, before.logits, atol=1e-4, rtol=1e-4)
    for place, option in enumerate(model.space.options):
        if option.graph in model.branches:
            assert ran[str(option.graph)] == int(before.choices[:, :, place].sum())
