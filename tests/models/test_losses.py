"""AR-Net's losses and temperature on cases computed by hand."""

from __future__ import annotations

import math

import pytest
import torch

from models.losses import cost_loss, exponential_temperature, uniform_loss
from models.methods import arnet
from models.rollout.rollout import Rollout
from tests.models.small_arnet import COSTS, small_preset


def one_hot(*chosen: int | None, options: int = 3) -> torch.Tensor:
    """One clip's choices (1, T, options); None is a held step."""
    rows = [[float(i == choice) for i in range(options)] for choice in chosen]
    return torch.tensor(rows)[None]


def test_cost_is_the_mean_over_real_steps() -> None:
    choices = one_hot(0, None, 1, 2, None)
    costs, present = torch.tensor([4.0, 1.0, 0.0]), torch.tensor([[True, True, True, True, False]])
    assert cost_loss(choices, costs, present, torch.ones(1)).item() == pytest.approx((4 + 1 + 0) / 4)


def test_cost_counts_each_clip_at_its_price() -> None:
    choices = torch.cat([one_hot(0, 1), one_hot(1, 1), one_hot(0, 0)])
    costs, present = torch.tensor([4.0, 1.0, 0.0]), torch.ones(3, 2, dtype=torch.bool)
    got = cost_loss(choices, costs, present, torch.tensor([2.0, 10.0, 0.0]))
    assert got.item() == pytest.approx((2 * 5 + 10 * 2 + 0 * 8) / 6)


def test_cost_of_nothing_is_zero() -> None:
    nothing = torch.zeros(1, 2, 3), torch.ones(3), torch.zeros(1, 2, dtype=torch.bool), torch.ones(1)
    assert cost_loss(*nothing).item() == 0


def test_uniform_loss_by_hand() -> None:
    assert uniform_loss(one_hot(0, 1, 2)).item() == pytest.approx(0, abs=1e-7)
    assert uniform_loss(one_hot(0, 0, 0)).item() == pytest.approx(math.sqrt(4 / 9 + 1 / 9 + 1 / 9))
    # Held steps have no say: usage is (2/3, 1/3, 0).
    wanted = math.sqrt((1 / 3) ** 2 + 0 + (1 / 3) ** 2)
    assert uniform_loss(one_hot(0, None, 0, 1)).item() == pytest.approx(wanted)


def test_uniform_loss_has_a_finite_gradient_where_usage_is_uniform() -> None:
    choices = one_hot(0, 1, 2).requires_grad_()
    uniform_loss(choices).backward()
    assert choices.grad is not None and torch.isfinite(choices.grad).all()


@pytest.mark.parametrize("epoch", [0, 1, 46, 99.5])
def test_temperature_is_the_papers(epoch: float) -> None:
    assert exponential_temperature(epoch) == pytest.approx(5 * math.exp(-0.045 * epoch), rel=1e-5)


def test_temperature_of_the_released_recipe() -> None:
    assert exponential_temperature(46) == pytest.approx(0.6309, abs=1e-4)


def test_arnets_loss_by_hand() -> None:
    preset = small_preset()
    choices, logits = one_hot(0, 3, options=7), torch.tensor([[1.0, 0.0, 0.0]])
    rollout = Rollout(choices, torch.zeros_like(choices), logits, logits, None, choices, None, torch.ones(1))
    present = torch.ones(1, 2, dtype=torch.bool)
    accuracy = math.log(math.e + 2) - 1
    efficiency = (4.12 + 0) / 2  # the most expensive option counts the paper's GMACs, the head nothing
    u = 1 / 7
    uniform = math.sqrt(2 * (1 / 2 - u) ** 2 + 5 * u**2)
    got = arnet.loss(rollout, torch.tensor([0]), present, COSTS, preset)
    assert got.item() == pytest.approx(0.95 * accuracy + 0.05 * (efficiency + 3 * uniform))
