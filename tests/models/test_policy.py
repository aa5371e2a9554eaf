"""Where a policy starts from."""

from __future__ import annotations

import pytest
import torch

from models import arnet
from models.adaptive import argmax_sampler
from models.quantization import calibrate, freeze, quantise
from tests.models.small_arnet import COSTS, names, random_script, small_model


@pytest.mark.parametrize(
    ("skip", "wanted"),
    [
        ("skip1", ["rgb64", "skip1"] * 4),
        ("skip2", ["rgb64", "skip2", "held"] * 2 + ["rgb64", "skip2"]),
        ("skip4", ["rgb64", "skip4", "held", "held", "held", "rgb64", "skip4", "held"]),
    ],
)
@pytest.mark.parametrize("seed", range(3))
def test_a_schedule_to_start_from(skip: str, wanted: list[str], seed: int) -> None:
    """Whatever the frames show."""
    model = small_model(seed)
    torch.nn.init.normal_(model.policy.score.weight, std=1e-3)
    options = [option.name for option in model.space.options]
    model.policy.start_from_schedule(0, options.index(skip))
    script = random_script(model, seed, batch=4)
    with torch.no_grad():
        rollout = model.rollout(script.features, script.logits, script.present, argmax_sampler(COSTS))
    for clip in rollout.choices:
        assert names(model, clip) == wanted


def test_the_schedule_goes_on(steps: int = 200) -> None:
    model = arnet.build(arnet.PRESETS["mobile"], ("a", "b")).eval()
    model.policy.start_from_schedule(0, 5)
    state = model.policy.initial_state(1)
    best = []
    with torch.no_grad():
        for _ in range(steps):
            output = model.policy.advance(torch.rand(1, 1280), model.policy.told_nothing(1), state)
            state = output.state
            best.append(int(output.scores.argmax()))
    assert best == [0, 5] * (steps // 2)


def test_the_schedule_survives_int8() -> None:
    model = small_model()
    torch.nn.init.normal_(model.policy.score.weight, std=1e-3)
    model.policy.start_from_schedule(0, 5)
    pictures = torch.rand(2, 3, 32, 32)
    quantised = quantise(model.policy, "uint8")

    def advanced(policy: torch.nn.Module, steps: int) -> list[int]:
        state, best = policy.initial_state(2), []  # type: ignore[operator]
        with torch.no_grad():
            for _ in range(steps):
                told = policy.told_nothing(2)  # type: ignore[operator]
                output = policy.advance(policy.embed(pictures), told, state)  # type: ignore[operator]
                state = output.state
                best += output.scores.argmax(1).tolist()
        return best

    calibrate(quantised, (None for _ in range(2) if advanced(quantised, 8)))
    assert advanced(freeze(quantised), 16) == [0, 0, 5, 5] * 8
