"""Where a policy starts from."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch

from models.layers.quantization import calibrate, freeze, quantize
from models.methods import arnet
from models.policies.conditioning import PRICE_TOP
from models.policies.policy import Schedule
from models.rollout.sampling import argmax_sampler
from tests.models.small_arnet import COSTS, names, random_script, small_model

RGB64, RGB48, RGB40, HEAD, SKIP1, SKIP2, SKIP4 = range(7)
SCHEDULES = (
    Schedule(RGB64, RGB64),
    Schedule(RGB64, SKIP1),
    Schedule(RGB48, SKIP2),
    Schedule(RGB40, SKIP4),
    Schedule(HEAD, SKIP4),
)
WANTED = (
    ["rgb64"] * 8,
    ["rgb64", "skip1"] * 4,
    ["rgb48", "skip2", "held"] * 2 + ["rgb48", "skip2"],
    ["rgb40", "skip4", "held", "held", "held", "rgb40", "skip4", "held"],
    ["rgb32", "skip4", "held", "held", "held", "rgb32", "skip4", "held"],
)
SAVING = torch.tensor([1.0, 0.5, 0.25, 0.0, 0.0, -0.25, -0.75])
"""Costs of long skips that save runs of the policy."""


@pytest.mark.parametrize("costs", [COSTS, SAVING])
@pytest.mark.parametrize("knot", range(5))
@pytest.mark.parametrize("seed", range(2))
def test_schedules_to_start_from_at_each_price(knot: int, seed: int, costs: torch.Tensor) -> None:
    """Whatever the frames show."""
    model = small_model(seed)
    torch.nn.init.normal_(model.policy.score.weight, std=1e-3)
    model.policy.start_from_schedules(SCHEDULES, costs)
    script = random_script(model, seed, batch=4)
    price = model.policy.price_code.prices[knot]
    with torch.no_grad():
        rollout = model.rollout(
            script.features, script.logits, script.present, argmax_sampler(costs), None, price
        )
    for clip in rollout.choices:
        assert names(model, clip) == WANTED[knot]


def test_prices_of_the_code_go_from_none_to_the_top() -> None:
    prices = small_model().policy.price_code.prices
    assert prices[0] == 0.0 and prices[-1] == pytest.approx(PRICE_TOP)
    assert list(prices) == sorted(prices)


def test_the_schedule_goes_on(steps: int = 200) -> None:
    model = arnet.METHOD.build(arnet.PRESETS["mobile"], ("a", "b")).eval()
    model.policy.start_from_schedules([Schedule(0, 5)] * 5, torch.zeros(7))
    state = model.policy.initial_state(1)
    best = []
    with torch.no_grad():
        for _ in range(steps):
            output = model.policy.advance(torch.rand(1, 1280), model.policy.no_conditions(1), state)
            state = output.state
            best.append(int(output.scores.argmax()))
    assert best == [0, 5] * (steps // 2)


def test_schedules_survive_int8() -> None:
    model = small_model()
    torch.nn.init.normal_(model.policy.score.weight, std=1e-3)
    model.policy.start_from_schedules(SCHEDULES, SAVING)
    pictures = torch.rand(1, 3, 32, 32)
    quantized = quantize(model.policy, "uint8")
    prices = model.policy.price_code.prices

    def advanced(policy: torch.nn.Module, price: float, steps: int) -> list[int]:
        state, best = policy.initial_state(1), []  # type: ignore[operator]
        with torch.no_grad():
            for _ in range(steps):
                conditions = policy.encode_conditions(torch.tensor([[price]]), None)  # type: ignore[operator]
                output = policy.advance(policy.embed(pictures), conditions, state)  # type: ignore[operator]
                state = output.state
                best.append(int((output.scores - price * SAVING).argmax()))
        return best

    def calibrating() -> Sequence[list[int]]:
        return [advanced(quantized, price, 8) for price in prices]

    calibrate(quantized, (None for _ in range(2) if calibrating()))
    frozen = freeze(quantized)
    for price, schedule in zip(prices, SCHEDULES, strict=True):
        assert advanced(frozen, price, 8) == list(schedule) * 4
