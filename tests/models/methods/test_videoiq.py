"""VideoIQ: its action space at several precisions, and the terms of its loss."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch.nn import functional

from models.methods import videoiq
from models.rollout.adaptive_model import AdaptiveModel
from models.rollout.rollout import Rollout
from models.rollout.sampling import argmax_sampler, gumbel_sampler

LABELS = ("a", "b", "c")
PRESET = replace(videoiq.PRESETS["tiny"], size=64, policy_size=32, hidden=16, policy="resnet10")


def mixed() -> AdaptiveModel:
    torch.manual_seed(0)
    model = videoiq.METHOD.build(PRESET, LABELS)
    branch = model.backbones()["rgb64"]
    networks = {"rgb64": {"fp32": branch, "int8": branch, "int4": branch}}
    return model.choosing_precisions(networks, teacher="rgb64-fp32").eval()


def test_a_bit_width_or_a_skip_at_every_step() -> None:
    model = mixed()
    assert [(o.name, o.precision, o.skip) for o in model.space.options] == [
        ("rgb64-fp32", "fp32", 0),
        ("rgb64-int8", "int8", 0),
        ("rgb64-int4", "int4", 0),
        ("skip1", None, 1),
        ("skip2", None, 2),
        ("skip4", None, 4),
    ]
    assert model.policy.score.out_features == 6
    assert model.view_of("rgb64-int4").size == 64


def test_the_model_before_is_as_it_was() -> None:
    torch.manual_seed(0)
    model = videoiq.METHOD.build(PRESET, LABELS)
    branch = model.backbones()["rgb64"]
    model.choosing_precisions({"rgb64": {"fp32": branch, "int8": branch}})
    assert list(model.branches) == ["rgb64"] and len(model.space.options) == 4
    assert model.policy.score.out_features == 4 and len(model.choice.skips) == 4


def rolled(scores: list[list[float]], sample: object = None) -> tuple[AdaptiveModel, Rollout, torch.Tensor]:
    model = mixed()
    model.policy.score.bias.data = torch.tensor(scores[0])
    features = torch.randn(2, 6, model.policy.backbone.num_features)
    logits = {name: torch.randn(2, 6, 3) for name in model.branches}
    present = torch.ones(2, 6, dtype=torch.bool)
    costs = torch.tensor([2.0, 1.0, 1.0, 0, 0, 0])
    decide = sample or argmax_sampler(costs)
    rollout = model.rollout(features, logits, present, decide, price=1.0)  # type: ignore[arg-type]
    torch.testing.assert_close(rollout.teacher, logits["rgb64-fp32"].mean(1))
    return model, rollout, costs


def test_the_loss_counts_cost_balance_and_entropy() -> None:
    always = [[9.0, 0, 0, -9, -9, -9]]
    _, rollout, costs = rolled(always)
    targets, present = torch.tensor([0, 1]), torch.ones(2, 6, dtype=torch.bool)
    plain = replace(PRESET, efficiency_weight=0.0, balance_weight=0.0, entropy_weight=0.0)
    base = videoiq.loss(rollout, targets, present, costs, plain)
    assert rollout.teacher is not None
    wanted = functional.cross_entropy(rollout.logits, targets) + functional.cross_entropy(
        rollout.head, targets
    )
    wanted = wanted + functional.cross_entropy(rollout.logits, rollout.teacher.softmax(1))
    torch.testing.assert_close(base, wanted)
    weighted = videoiq.loss(rollout, targets, present, costs, replace(plain, efficiency_weight=1.0))
    assert float(weighted - base) == pytest.approx(1.0, abs=1e-5)  # every frame at the most expensive
    unbalanced = videoiq.loss(rollout, targets, present, costs, replace(plain, balance_weight=1.0))
    assert float(unbalanced - base) == pytest.approx(5 / 6, abs=1e-5)  # all on one of six


def test_entropy_is_low_where_the_policy_is_decided() -> None:
    choices = torch.zeros(1, 2, 3)
    choices[:, 0, 0] = 1.0
    decided, torn = torch.tensor([[[9.0, 0, 0], [0, 0, 0]]]), torch.zeros(1, 2, 3)
    assert float(videoiq.entropy_loss(decided, choices)) < 0.01  # the held step does not count
    assert float(videoiq.entropy_loss(torn, choices)) == pytest.approx(1.0986, abs=1e-3)


def test_a_random_choice_passes_gradients_to_the_policy() -> None:
    torch.manual_seed(0)
    model, rollout, costs = rolled([[0.0] * 6], gumbel_sampler(1.0, torch.zeros(6)))
    targets, present = torch.tensor([0, 1]), torch.ones(2, 6, dtype=torch.bool)
    videoiq.loss(rollout, targets, present, costs, PRESET).backward()  # type: ignore[no-untyped-call]
    gradient = model.policy.score.weight.grad
    assert gradient is not None and gradient.abs().sum() > 0
