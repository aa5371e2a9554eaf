"""The rollout: causal, holding its state through skips, deterministic outside training, and the SDK's own."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from models.policies.policy import State
from models.rollout.adaptive_model import AdaptiveModel
from models.rollout.branch_model import pixels
from models.rollout.sampling import argmax_sampler, gumbel_sampler
from runtimes.spec import View
from sdk.decisions.choosers import LearnedChoice
from sdk.decisions.decision import Observation
from sdk.decisions.decision_loop import DecisionLoop
from sdk.decisions.fusion import Fusion
from tests.models.small_arnet import (
    BRANCHES,
    COSTS,
    LABELS,
    names,
    random_script,
    scripted_model,
    small_model,
)

MODEL = small_model()
SCRIPTED = scripted_model()
OPTIONS = [option.name for option in MODEL.space.options]
DECIDE = argmax_sampler(COSTS)


def scores_of(*steps: dict[str, float]) -> Tensor:
    """Scripted features (1, T, A + C) from the scores of some options by name; the others score -1."""
    rows = [[scores.get(name, -1.0) for name in OPTIONS] + [0.0] * len(LABELS) for scores in steps]
    return torch.tensor(rows)[None]


def scripted(features: Tensor, price: float = 0.0, model: AdaptiveModel = SCRIPTED) -> list[str]:
    """What is chosen at each step of one clip under written scores."""
    present = torch.ones(features.shape[:2], dtype=torch.bool)
    logits = {name: torch.zeros(1, features.shape[1], len(LABELS)) for name in BRANCHES}
    return names(
        model, model.rollout(features, logits, present, argmax_sampler(COSTS), price=price).choices[0]
    )


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**16), cut=st.integers(0, 7))
def test_causal(seed: int, cut: int) -> None:
    """Whatever comes after step ``cut`` changes nothing up to it."""
    one, other = random_script(MODEL, seed), random_script(MODEL, seed + 1)
    features = torch.cat((one.features[:, : cut + 1], other.features[:, cut + 1 :]), 1)
    logits = {
        k: torch.cat((v[:, : cut + 1], other.logits[k][:, cut + 1 :]), 1) for k, v in one.logits.items()
    }
    with torch.no_grad():
        before = MODEL.rollout(one.features, one.logits, one.present, DECIDE)
        after = MODEL.rollout(features, logits, one.present, DECIDE)
    assert torch.equal(before.choices[:, : cut + 1], after.choices[:, : cut + 1])
    assert torch.equal(before.scores[:, : cut + 1], after.scores[:, : cut + 1])


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**16))
def test_state_is_held_through_skips(seed: int) -> None:
    """The same decisions come from a policy that is run on the active steps only."""
    script = random_script(MODEL, seed, batch=1, steps=16)
    with torch.no_grad():
        rollout = MODEL.rollout(script.features, script.logits, script.present, DECIDE)
        state = MODEL.policy.initial_state(1)
        for t in range(16):
            if rollout.choices[0, t].any():
                output = MODEL.policy.advance(script.features[:, t], MODEL.policy.no_conditions(1), state)
                state = output.state
                torch.testing.assert_close(output.scores[0], rollout.scores[0, t])


def test_random_clips_hold_and_skip() -> None:
    """The property above would be empty if the model never skipped."""
    script = random_script(MODEL, 0, batch=32, steps=16)
    with torch.no_grad():
        choices = MODEL.rollout(script.features, script.logits, script.present, DECIDE).choices
    chosen = {name for clip in choices for name in names(MODEL, clip)}
    assert {"held", "skip2", "skip4", *BRANCHES} <= chosen


def test_a_skip_holds_the_steps_after_it() -> None:
    skip4, small = {"skip4": 1.0}, {"rgb40": 1.0}
    chosen = scripted(scores_of(small, skip4, small, small, small, small, {"skip2": 1.0}, small, small))
    assert chosen == ["rgb40", "skip4", "held", "held", "held", "rgb40", "skip2", "held", "rgb40"]


def test_skip_1_gives_no_output_and_holds_nothing() -> None:
    assert scripted(scores_of({"rgb32": 1}, {"skip1": 1}, {"skip1": 1}, {"rgb32": 1})) == [
        "rgb32",
        "skip1",
        "skip1",
        "rgb32",
    ]


@given(st.integers(0, 2**16))
@settings(max_examples=25, deadline=None)
def test_no_skip_before_the_first_output(seed: int) -> None:
    script = random_script(MODEL, seed)
    for sample in (DECIDE, gumbel_sampler(5.0, COSTS)):
        with torch.no_grad():
            choices = MODEL.rollout(script.features, script.logits, script.present, sample).choices
        assert all(not name.startswith(("skip", "held")) for name in (names(MODEL, c)[0] for c in choices))


def test_no_skip_on_offer_at_the_first_step_even_if_it_scores_best() -> None:
    assert scripted(scores_of({"skip4": 9.0, "rgb48": 1.0}, {"skip4": 9.0})) == ["rgb48", "skip4"]


def test_ties_go_to_the_cheaper() -> None:
    assert scripted(scores_of({"rgb64": 1.0, "rgb40": 1.0, "rgb48": 1.0})) == ["rgb40"]
    assert scripted(scores_of({"rgb64": 1.0, "rgb32": 1.0})) == ["rgb32"]


def test_price_changes_the_choice() -> None:
    features = scores_of({"rgb64": 3.0, "rgb40": 1.0})
    assert scripted(features, price=2.0) == ["rgb64"]
    assert scripted(features, price=4.0) == ["rgb40"]
    assert scripted(features, price=32.0) == ["rgb32"]


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**16), st.lists(st.integers(1, 8), min_size=3, max_size=3))
def test_padding_is_ignored(seed: int, lengths: list[int]) -> None:
    """A padded clip answers as the same clip alone, whatever stands in the padding."""
    script = random_script(MODEL, seed)
    present = torch.arange(8)[None] < torch.tensor(lengths)[:, None]
    with torch.no_grad():
        padded = MODEL.rollout(script.features, script.logits, present, DECIDE)
        for i, length in enumerate(lengths):
            logits = {name: value[i : i + 1, :length] for name, value in script.logits.items()}
            features = script.features[i : i + 1, :length]
            alone = MODEL.rollout(features, logits, present[i : i + 1, :length], DECIDE)
            torch.testing.assert_close(padded.logits[i], alone.logits[0])
            assert torch.equal(padded.choices[i, :length], alone.choices[0])
            assert not padded.choices[i, length:].any()


SCORE = st.integers(-2, 2).map(float)
STEP = st.tuples(
    st.lists(SCORE, min_size=len(OPTIONS), max_size=len(OPTIONS)),
    st.lists(SCORE, min_size=4 * len(LABELS), max_size=4 * len(LABELS)),
)


@settings(max_examples=200, deadline=None)
@given(st.lists(STEP, min_size=1, max_size=12), st.sampled_from([0.0, 1.0, 4.0, 16.0]))
def test_decides_and_answers_as_the_sdk(steps: list[tuple[list[float], list[float]]], price: float) -> None:
    """Torch's rollout and the SDK's decision loop and fusion: same options, same scores, ties too."""
    outputs = torch.tensor([logits for _, logits in steps]).view(len(steps), 4, len(LABELS))
    features = torch.cat((torch.tensor([scores for scores, _ in steps]), outputs[:, 3]), 1)[None]
    branch_logits = {name: outputs[None, :, i] for i, name in enumerate(BRANCHES)}
    present = torch.ones(1, len(steps), dtype=torch.bool)
    rollout = SCRIPTED.rollout(features, branch_logits, present, argmax_sampler(COSTS), price=price)

    loop = DecisionLoop(LearnedChoice(SCRIPTED.space, COSTS.numpy(), price))
    fusion, chosen, fused = Fusion(len(steps)), [], None
    for t, (scores, _) in enumerate(steps):
        decision = loop.decide(Observation(np.array(scores)))
        chosen.append(decision.name)
        answers = dict(zip((*BRANCHES, "rgb32"), outputs[t].numpy(), strict=True))
        fused = fusion.update(answers.get(decision.name))
    assert names(SCRIPTED, rollout.choices[0]) == chosen
    np.testing.assert_allclose(rollout.logits.softmax(1)[0].numpy(), fused, atol=1e-5)


def test_gradients_reach_the_policy() -> None:
    model = small_model().train()
    script = random_script(model, 3, batch=8)
    rollout = model.rollout(script.features, script.logits, script.present, gumbel_sampler(5.0, COSTS))
    assert torch.equal(rollout.choices.detach().round(), rollout.choices.detach().round().clamp(0, 1))
    torch.nn.functional.cross_entropy(rollout.logits, torch.zeros(8, dtype=torch.long)).backward()
    for part in (model.policy.score, model.policy.lstm.from_input, model.policy.lstm.from_state):
        assert part.weight.grad is not None
        assert torch.isfinite(part.weight.grad).all() and part.weight.grad.abs().sum() > 0


def test_sampling_is_hard_and_follows_the_scores() -> None:
    torch.manual_seed(0)
    scores = torch.tensor([[2.0, 0.0, -torch.inf]]).repeat(4000, 1)
    choices = gumbel_sampler(1.0, torch.zeros(3))(scores, torch.zeros(4000))
    assert (
        torch.allclose(choices.sum(1), torch.ones(4000)) and ((choices < 1e-6) | (choices > 1 - 1e-6)).all()
    )
    wanted = torch.tensor([2.0, 0.0, -torch.inf]).softmax(0)
    torch.testing.assert_close(choices.mean(0), wanted, atol=0.03, rtol=0)


def test_outside_training_nothing_is_random() -> None:
    script = random_script(MODEL, 5, batch=8)
    with torch.no_grad():
        rollouts = [MODEL.rollout(script.features, script.logits, script.present, DECIDE) for _ in range(3)]
    for one, other in itertools.pairwise(rollouts):
        assert torch.equal(one.choices, other.choices) and torch.equal(one.logits, other.logits)


def test_logits_are_the_mean_of_what_answered() -> None:
    features = scores_of({"rgb64": 1}, {"skip2": 1}, {"rgb64": 1}, {"rgb40": 1})
    logits = {name: torch.zeros(1, 4, 3) for name in BRANCHES}
    logits["rgb64"][0, :, 0], logits["rgb40"][0, :, 1] = 6.0, 2.0
    rollout = SCRIPTED.rollout(features, logits, torch.ones(1, 4, dtype=torch.bool), DECIDE)
    torch.testing.assert_close(rollout.logits, torch.tensor([[3.0, 1.0, 0.0]]))


@pytest.mark.parametrize(("zero_point", "scale"), [(128, 1 / 64), (0, 1 / 255)])
def test_pixels(zero_point: int, scale: float) -> None:
    frames = torch.tensor([[[[0, 128, 255]]]], dtype=torch.uint8)
    got = pixels(frames, View(name="v", size=8, zero_point=zero_point, scale=scale))
    assert got.shape == (1, 3, 1, 1)
    wanted = (torch.tensor([0.0, 128, 255]) - zero_point) * scale
    torch.testing.assert_close(got.flatten(), wanted)


def test_state_before_a_stream_is_zero() -> None:
    state = MODEL.policy.initial_state(2)
    assert isinstance(state, State) and not state.h.any() and not state.c.any()
