"""The joint model: its options, its policy's conditions, its rollout, and the loss."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from models.methods import joint
from models.policies.agreement_policy import AgreementPolicy
from models.rollout.branch_model import POLICY
from models.rollout.rollout import Rollout
from models.rollout.sampling import argmax_sampler
from runtimes.spec import Group
from sdk.decisions.choosers import LearnedChoice
from sdk.decisions.decision import Observation, Plan
from sdk.decisions.decision_loop import DecisionLoop
from sdk.decisions.fusion import Fusion, StepFusion
from tests.models.small_adamml import Script, random_script
from tests.models.small_joint import COSTS, LABELS, MODALITIES, OPTIONS, small_model, small_preset

MODEL = small_model()
POLICY_NET = MODEL.policy
DECIDE = argmax_sampler(COSTS)


def group(name: str) -> Group:
    return next(group for group in MODEL.space.groups if group.name == name)


def test_a_group_for_each_modality_with_resolutions_head_and_skips() -> None:
    assert [g.name for g in MODEL.space.groups] == list(MODALITIES)
    assert tuple(option.name for option in MODEL.space.options) == OPTIONS
    assert MODEL.heads == {"rgb": "logits_rgb", "audio": "logits_audio"}
    heads = [option.name for option in MODEL.space.options if option.graph == POLICY]
    assert heads == ["rgb16x2", "audio16"] == list(MODEL.policy_views)


@pytest.mark.parametrize("name", ["tiny", "mobile", "paper"])
def test_of_pictures_alone_a_step_is_a_frame(name: str) -> None:
    preset = joint.of_modalities(joint.PRESETS[name], ("rgb",))
    model = joint.METHOD.build(preset, LABELS)
    assert preset.segment_s == 0 and preset.rate_hz is None
    assert len(model.space.groups) == 1 and model.late_fusion is None
    assert all(view.frames == 1 and view.modality == "rgb" for view in model.views.values())
    assert [option.name for option in model.space.options][-3:] == ["skip1", "skip2", "skip4"]


@pytest.mark.parametrize("name", ["tiny", "mobile", "paper"])
@pytest.mark.parametrize("modalities", [("rgb", "audio"), ("audio",), ("rgb", "rgbdiff", "audio")])
def test_every_set_of_modalities(name: str, modalities: tuple[str, ...]) -> None:
    model = joint.METHOD.build(joint.of_modalities(joint.PRESETS[name], modalities), LABELS)
    assert {view.modality for view in model.views.values()} == set(modalities)


@pytest.mark.parametrize("modalities", [(), ("rgb", "rgb"), ("rgb", "smell")])
def test_modalities_that_make_no_sense(modalities: tuple[str, ...]) -> None:
    with pytest.raises(ValueError, match="give some of rgb, audio, rgbdiff, each once"):
        joint.METHOD.build(joint.of_modalities(joint.PRESETS["tiny"], modalities), LABELS)


def test_the_policy_is_told_how_far_its_heads_agree_with_the_answer() -> None:
    """Seen by its LSTM as the inner product of class probabilities: 1 where both are sure of one class."""
    assert isinstance(POLICY_NET, AgreementPolicy) and POLICY_NET.num_conditions == 5 + 6 + 2
    conditions: list[torch.Tensor] = []
    handle = POLICY_NET.lstm.register_forward_pre_hook(lambda _, inputs: conditions.append(inputs[1]))
    features = torch.zeros(1, POLICY_NET.num_features)
    for view in (0, 1):
        POLICY_NET.classifier(view).bias.data = torch.tensor([0.0, 50.0, 0.0])
    answer = torch.tensor([[0.0, 0.75, 0.25]])
    joined = POLICY_NET.join(features, torch.tensor([[1.0, 0.0]]))
    POLICY_NET.advance(
        joined, POLICY_NET.encode_conditions(torch.zeros(1, 1), answer), POLICY_NET.initial_state(1)
    )
    handle.remove()
    assert conditions[0][0, -2:].tolist() == pytest.approx([0.75, 0.0]), (
        "what is not there agrees with nothing"
    )
    assert conditions[0].shape[-1] == POLICY_NET.num_conditions


def naive(script: Script, clip: int, price: float) -> tuple[list[str], np.ndarray | None]:
    """One clip step by step through the policy, the SDK's decision loop and its fusion."""
    steps = script.features.shape[1]
    loop = DecisionLoop(LearnedChoice(MODEL.space, COSTS.numpy(), price))
    step_fusion, fusion = StepFusion(MODEL.fusion_of(steps), MODEL.space), Fusion(steps)
    state, chosen, scores = POLICY_NET.initial_state(1), [], None
    for t in range(steps):
        features = script.features[clip : clip + 1, t]
        answer = torch.zeros(1, len(LABELS)) if scores is None else torch.tensor(scores[None]).float()

        def observe(
            plan: Plan, t: int = t, features: torch.Tensor = features, answer: torch.Tensor = answer
        ) -> Observation:
            nonlocal state
            there = script.available[clip, t]
            joined = POLICY_NET.join(features, there[None])
            conditions = POLICY_NET.encode_conditions(torch.tensor([[plan.price]]), answer)
            output = POLICY_NET.advance(joined, conditions, state)
            state = output.state
            views = MODEL.branch_views
            absent = {view for place, own in enumerate(views) if not there[place] for view in own}
            return Observation(output.scores[0].numpy(), absent)

        decision = loop.step(observe)
        options = decision.options
        chosen.append(decision.name)
        heads = dict(zip(MODALITIES, POLICY_NET.head_logits(features), strict=True))
        answers = []
        for option in options:
            if option.graph == POLICY:
                answers.append(
                    (option, heads["rgb" if option.name.startswith("rgb") else "audio"][0].numpy())
                )
            elif option.graph:
                answers.append((option, script.logits[option.graph][clip, t].numpy()))
        scores = fusion.update(step_fusion.fuse(answers))
    return chosen, scores


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**16), st.sampled_from([0.0, 0.8, 4.8]))
def test_rollout_is_the_sdks_step_by_step(seed: int, price: float) -> None:
    """Same options, same fused scores, with heads, long skips and groups absent here and there."""
    script = random_script(MODEL, seed)
    with torch.no_grad():
        rollout = MODEL.rollout(*script[:3], DECIDE, script.available, price)
        for clip in range(len(script.present)):
            chosen, scores = naive(script, clip, price)
            assert names(rollout, clip) == chosen
            if scores is not None:
                wanted = rollout.logits[clip].softmax(0).numpy()
                np.testing.assert_allclose(scores, wanted, atol=1e-5)


def names(rollout: Rollout, clip: int) -> list[str]:
    rows = rollout.choices[clip]
    return ["+".join(OPTIONS[i] for i in row.nonzero()[:, 0].tolist()) or "held" for row in rows]


def test_random_scripts_choose_every_option_and_hold_steps() -> None:
    """The property above would be empty otherwise."""
    script, chosen = random_script(MODEL, 0, batch=64), set[str]()
    for seed in range(4):
        with torch.no_grad():
            rollout = small_model(seed).rollout(*script[:3], DECIDE, script.available)
        chosen |= {name for clip in range(64) for name in names(rollout, clip)}
    assert {name for joined in chosen for name in joined.split("+")} == {*OPTIONS, "held"}


def test_choices_depend_on_the_answer_so_far() -> None:
    """The same features, but branches that are sure of one class or say nothing."""
    script = random_script(MODEL, 3, batch=32)
    sure = {name: torch.zeros_like(logits) for name, logits in script.logits.items()}
    for logits in sure.values():
        logits[..., 0] = 40.0
    silent = {name: torch.zeros_like(logits) for name, logits in script.logits.items()}
    with torch.no_grad():
        rollouts = [
            MODEL.rollout(script.features, logits, script.present, DECIDE, script.available)
            for logits in (sure, silent)
        ]
    choices = [rollout.choices for rollout in rollouts]
    assert torch.equal(choices[0][:, 0], choices[1][:, 0]), "at the first step there is no answer yet"
    assert not torch.equal(choices[0], choices[1])


def test_the_past_alone_decides() -> None:
    script = random_script(MODEL, 5)
    changed = script.features.clone()
    changed[:, 4:] = 7.0
    with torch.no_grad():
        rollouts = [
            MODEL.rollout(features, script.logits, script.present, DECIDE, script.available)
            for features in (script.features, changed)
        ]
    assert torch.equal(rollouts[0].choices[:, :4], rollouts[1].choices[:, :4])


def test_loss_is_the_cross_entropy_and_the_priced_cost() -> None:
    script = random_script(MODEL, 1)
    rollout = MODEL.rollout(*script[:3], DECIDE, script.available, torch.tensor([0.0, 1.0, 2.0]))
    targets = torch.tensor([0, 1, 2])
    total = joint.loss(rollout, targets, script.present, COSTS, small_preset())
    costs = (rollout.choices * COSTS).sum(dim=(1, 2))
    wanted = 0.2 * (costs * torch.tensor([0.0, 1.0, 2.0])).sum() / script.present.sum()
    entropy = torch.nn.functional.cross_entropy(rollout.logits, targets)
    assert float(total - entropy) == pytest.approx(float(wanted), abs=1e-6)
