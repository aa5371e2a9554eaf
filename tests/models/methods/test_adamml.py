"""AdaMML: the published costs, the rollout over groups, what is absent, the fusion, and the loss."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from compiler.training.tasks.rollout import drop_groups
from models.augmentation import Augmentation
from models.macs import count_macs
from models.methods import adamml
from models.rollout.adaptive_model import AdaptiveModel
from models.rollout.late_fusion import LateFusion
from models.rollout.rollout import Rollout
from models.rollout.sampling import argmax_sampler, dense_sampler, gumbel_sampler
from runtimes import spec
from runtimes.spec import View
from sdk.decisions.choosers import LearnedChoice
from sdk.decisions.decision import Observation, Plan
from sdk.decisions.decision_loop import DecisionLoop
from sdk.decisions.fusion import Fusion, StepFusion
from tests.models.small_adamml import (
    COSTS,
    LABELS,
    MODALITIES,
    Script,
    random_frames,
    random_script,
    small_model,
    small_preset,
)

MODEL = small_model()
DECIDE = argmax_sampler(COSTS)

PUBLISHED = adamml.METHOD.published_macs


def test_macs_of_a_segment_are_the_published_ones() -> None:
    """Convolutions alone: the published numbers leave out the classifier, and the policy's joint layers."""
    model = adamml.METHOD.build(adamml.of_modalities(adamml.PRESETS["paper"], MODALITIES), LABELS)
    assert set(PUBLISHED) == set(model.backbones())
    for name, network in model.backbones().items():
        assert embedding_macs(network, model.view_of(name)) == PUBLISHED[name]
    # Its own input of the last scores apart, the LSTM's are published too.
    lstm = model.policy.get_submodule("lstm")
    layers = [lstm.get_submodule("from_input").weight, lstm.get_submodule("from_state").weight]
    assert sum(layer.numel() for layer in layers) - 6 * 4 * 256 == 2_359_296  # type: ignore[operator]


def embedding_macs(network: object, view: View) -> int:
    images = torch.zeros(view.frames, view.channels, view.size, view.size)
    return count_macs(network, lambda: network.embed(images))  # type: ignore[arg-type, attr-defined]


def naive(script: Script, clip: int, price: float) -> tuple[list[list[str]], np.ndarray | None]:
    """One clip step by step through the policy, the SDK's decision loop and its fusion."""
    model = MODEL
    features, logits, _, available = script
    fusion_spec = model.fusion_of(features.shape[1])
    loop = DecisionLoop(LearnedChoice(model.space, COSTS.numpy(), price))
    step_fusion, fusion = StepFusion(fusion_spec, model.space), Fusion(features.shape[1])
    state, chosen, scores = model.policy.initial_state(1), [], None
    for t in range(features.shape[1]):

        def observe(plan: Plan, t: int = t) -> Observation:
            nonlocal state
            there = available[clip, t]
            joined = model.policy.join(features[clip : clip + 1, t], there[None])
            conditions = model.policy.encode_conditions(torch.tensor([[plan.price]]), None)
            output = model.policy.advance(joined, conditions, state)
            state = output.state
            views = model.branch_views
            absent = {view for group, own in enumerate(views) if not there[group] for view in own}
            return Observation(output.scores[0].numpy(), absent)

        options = loop.step(observe).options
        chosen.append([option.name for option in options])
        answers = [(o, logits[o.graph][clip, t].numpy()) for o in options if o.graph]
        scores = fusion.update(step_fusion.fuse(answers))
    return chosen, scores


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**16), st.sampled_from([0.0, 0.8, 4.8]))
def test_rollout_is_the_sdks_step_by_step(seed: int, price: float) -> None:
    """Same options, same fused scores, with groups absent here and there."""
    script = random_script(MODEL, seed)
    with torch.no_grad():
        rollout = MODEL.rollout(
            script.features, script.logits, script.present, DECIDE, script.available, price
        )
        for clip in range(len(script.present)):
            chosen, scores = naive(script, clip, price)
            assert names(rollout.choices[clip]) == chosen
            if scores is not None:
                wanted = rollout.logits[clip].softmax(0).numpy()
                np.testing.assert_allclose(scores, wanted, atol=1e-5)


def names(choices: Tensor) -> list[list[str]]:
    options = [option.name for option in MODEL.space.options]
    return [[options[i] for i in row.nonzero()[:, 0].tolist()] for row in choices]


def test_random_scripts_choose_all_kinds() -> None:
    """The property above would be empty otherwise."""
    script = random_script(MODEL, 0, batch=64)
    with torch.no_grad():
        used = MODEL.rollout(script.features, script.logits, script.present, DECIDE, script.available).used
    kinds = {tuple(row.int().tolist()) for row in used.flatten(0, 1)}
    assert len(kinds) >= 7


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**16), st.integers(0, 5))
def test_causal(seed: int, cut: int) -> None:
    one, other = random_script(MODEL, seed), random_script(MODEL, seed + 1)

    def spliced(before: Tensor, after: Tensor) -> Tensor:
        return torch.cat((before[:, : cut + 1], after[:, cut + 1 :]), 1)

    with torch.no_grad():
        first = MODEL.rollout(one.features, one.logits, one.present, DECIDE, one.available)
        second = MODEL.rollout(
            spliced(one.features, other.features),
            {name: spliced(one.logits[name], other.logits[name]) for name in one.logits},
            one.present,
            DECIDE,
            spliced(one.available, other.available),
        )
    assert torch.equal(first.choices[:, : cut + 1], second.choices[:, : cut + 1])
    assert torch.equal(first.scores[:, : cut + 1], second.scores[:, : cut + 1])


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**16))
def test_what_is_absent_is_never_chosen_and_changes_nothing(seed: int) -> None:
    script = random_script(MODEL, seed)
    width = MODEL.policy.view_backbones[0].num_features
    features = script.features.clone()
    for group in range(3):  # each view speaks for one group here
        own = features[..., group * width : (group + 1) * width]
        own[~script.available[..., group]] = torch.rand(()) * 100
    for sample in (DECIDE, gumbel_sampler(5.0, COSTS), dense_sampler(COSTS)):
        rollouts = []
        for seen in (script.features, features):
            torch.manual_seed(seed)
            with torch.no_grad():
                rollouts.append(MODEL.rollout(seen, script.logits, script.present, sample, script.available))
        first, second = rollouts
        assert not (first.used * ~script.available).any()
        assert torch.equal(first.choices, second.choices) and torch.equal(first.logits, second.logits)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**16))
def test_the_first_step_with_anything_answers(seed: int) -> None:
    script = random_script(MODEL, seed, batch=6)
    for sample in (DECIDE, gumbel_sampler(5.0, COSTS)):
        with torch.no_grad():
            used = MODEL.rollout(
                script.features, script.logits, script.present, sample, script.available
            ).used
        for clip in range(6):
            first = int(script.available[clip].any(1).float().argmax())
            if script.available[clip].any():
                assert used[clip, first].sum() >= 1


def test_state_and_last_scores_are_held_while_all_skip() -> None:
    """Of a group that skips two steps, beside one that skips two: the step between changes nothing."""
    model = small_model(modalities=("rgb", "audio"))
    longer = [
        group.model_copy(update={"options": (group.options[0], spec.Option(name=f"{group.name}-2", skip=2))})
        for group in model.space.groups
    ]
    space, branches = spec.ActionSpace(groups=tuple(longer)), dict(model.branches.items())
    parts = (model.views, model.policy_views, model.labels, model.late_fusion)
    model = AdaptiveModel(model.policy, branches, space, *parts).eval()  # type: ignore[arg-type]
    script = random_script(model, 2, batch=16, steps=8)
    with torch.no_grad():
        rollout = model.rollout(
            script.features, script.logits, script.present, argmax_sampler(torch.zeros(4))
        )
        held = ~rollout.choices.any(-1)
        assert held.any()
        for clip in range(16):
            state = model.policy.initial_state(1)
            for t in range(8):
                if held[clip, t]:
                    continue
                joined = model.policy.join(script.features[clip : clip + 1, t], None)
                output = model.policy.advance(joined, model.policy.no_conditions(1), state)
                state = output.state
                torch.testing.assert_close(output.scores[0], rollout.scores[clip, t])
                assert torch.equal(state.last_scores, output.scores)


@given(st.lists(st.booleans(), min_size=3, max_size=3), st.booleans(), st.integers(0, 2**16))
@settings(max_examples=40, deadline=None)
def test_fusion_in_numpy_and_in_torch(ran: list[bool], renormalised: bool, seed: int) -> None:
    model = small_model(renormalised=renormalised)
    logits = torch.randn(3, len(LABELS), generator=torch.Generator().manual_seed(seed))
    device = StepFusion(model.fusion_of(5), model.space)
    branches = [group.options[0] for group in model.space.groups]
    answers = [(o, row.numpy()) for o, row, used in zip(branches, logits, ran, strict=True) if used]
    got = device.fuse(answers)
    assert model.late_fusion is not None
    used = torch.tensor(ran, dtype=torch.float32)[None]
    wanted = model.late_fusion(logits[None] * used[..., None], used)
    if got is None:
        assert not wanted.any()
    else:
        np.testing.assert_allclose(got, wanted[0].detach().numpy(), atol=1e-5)


def test_weights_stay_positive_and_can_come_back() -> None:
    fusion = LateFusion(3)
    torch.testing.assert_close(fusion.weights(), torch.full((3,), 1 / 3))
    with torch.no_grad():
        fusion.free[:] = torch.tensor([-0.5, 1.2])
    weights = fusion.weights()
    torch.testing.assert_close(weights, torch.tensor([0.01, 1.2, 0.3]))
    weights[0].backward()
    assert fusion.free.grad is not None and float(fusion.free.grad[0]) == 1.0
    spec.Fusion(weights=dict(zip("abc", weights.tolist(), strict=True)))


def scored_rollout(wrong: bool) -> tuple[Rollout, Tensor, Tensor]:
    """Two steps of one clip in which audio was used once and rgb never; and the usage to differentiate."""
    used = torch.tensor([[[0.0, 1.0], [0.0, 0.0]]], requires_grad=True)
    logits = torch.tensor([[0.0, 5.0, 0.0] if wrong else [5.0, 0.0, 0.0]])
    nothing = torch.zeros(1, 2, 4)
    rollout = Rollout(nothing, nothing, logits, None, None, used, None, torch.ones(1))
    return rollout, used, torch.tensor([0])


@pytest.mark.parametrize("penalty", ["paper", "released"])
def test_gradients_of_the_loss(penalty: adamml.Penalty) -> None:
    """Right videos are pushed to use less, wrong ones to use more, or not at all as released."""
    preset = replace(small_preset(("rgb", "audio")), penalty=penalty)
    present, costs = torch.ones(1, 2, dtype=torch.bool), torch.zeros(4)
    rollout, used, target = scored_rollout(wrong=False)
    adamml.loss(rollout, target, present, costs, preset).backward()
    assert used.grad is not None and (used.grad[..., 1] > 0).all() and not used.grad[..., 0].any()
    rollout, used, target = scored_rollout(wrong=True)
    total = adamml.loss(rollout, target, present, costs, preset)
    error = torch.nn.functional.cross_entropy(rollout.logits, target)
    if penalty == "released":
        total.backward()
        assert used.grad is not None and not used.grad.any()
        torch.testing.assert_close(total, error + preset.gamma)
    else:
        total.backward()
        assert used.grad is not None and (used.grad < 0).all()
        assert used.grad[0, 0, 0] < used.grad[0, 0, 1]  # what was used less is pushed more
        torch.testing.assert_close(total.detach(), error + preset.gamma * (1 + 0.25) / 2)


def test_absent_modalities_cost_a_wrong_video_nothing() -> None:
    preset = small_preset(("rgb", "audio"))
    rollout, used, target = scored_rollout(wrong=True)
    available = torch.tensor([[[False, True], [False, True]]])
    rollout = rollout._replace(available=available)
    total = adamml.loss(rollout, target, torch.ones(1, 2, dtype=torch.bool), torch.zeros(4), preset)
    total.backward()
    assert used.grad is not None and not used.grad[..., 0].any() and (used.grad[..., 1] < 0).all()


@given(st.integers(0, 2**16), st.floats(0.05, 1.0))
@settings(max_examples=30, deadline=None)
def test_dropping_never_takes_all(seed: int, probability: float) -> None:
    torch.manual_seed(seed)
    available = torch.rand(8, 5, 3) > 0.3
    kept = drop_groups(available, probability)
    assert not (kept & ~available).any()
    assert torch.equal(kept.any(-1), available.any(-1))


def test_gradients_reach_the_policy_and_the_fusion() -> None:
    model = small_model().train()
    script = random_script(model, 3, batch=8)
    rollout = model.rollout(
        script.features, script.logits, script.present, gumbel_sampler(5.0, COSTS), script.available
    )
    targets = torch.zeros(8, dtype=torch.long)
    adamml.loss(rollout, targets, script.present, COSTS, small_preset()).backward()
    for name in (
        "policy.score.weight",
        "policy.lstm.from_input.weight",
        "policy.joint.0.weight",
        "late_fusion.free",
    ):
        gradient = model.get_parameter(name).grad
        assert gradient is not None and torch.isfinite(gradient).all() and gradient.abs().sum() > 0, name


@pytest.mark.parametrize("name", adamml.PRESETS)
def test_presets(name: str) -> None:
    preset = adamml.PRESETS[name]
    for modalities in (("rgb", "audio"), ("rgb", "audio", "flow", "rgbdiff"), ("audio",)):
        model = adamml.METHOD.build(adamml.of_modalities(preset, modalities), LABELS)
        assert [group.name for group in model.space.groups] == list(modalities)
        # Flow and rgbdiff are judged by the same differences; flow itself is never seen by the policy.
        seen = {model.views[view].modality for view in model.policy_views}
        assert "flow" not in seen and len(model.policy_views) == len(seen)
        assert len(adamml.usage_weights(replace(preset, modalities=modalities))) == len(modalities)
    assert model.space.groups[0].optional


def test_published_usage_weights() -> None:
    preset = adamml.PRESETS["paper"]
    assert adamml.usage_weights(preset) == [1.0, 0.05]
    assert adamml.usage_weights(replace(preset, modalities=("flow", "rgb", "audio"))) == [0.8, 0.5, 0.05]


@pytest.mark.parametrize("modalities", [(), ("rgb", "rgb"), ("rgb", "smell")])
def test_modalities_that_are_none(modalities: tuple[str, ...]) -> None:
    with pytest.raises(ValueError, match="each once"):
        adamml.METHOD.build(adamml.of_modalities(adamml.PRESETS["tiny"], modalities), LABELS)


@pytest.mark.parametrize("name", ["tiny", "mobile"])
def test_presets_train_a_few_steps(name: str) -> None:
    """On random arrays, through everything that the joint training of all parts runs."""
    torch.manual_seed(0)
    model = adamml.METHOD.build(adamml.PRESETS[name], LABELS).train()
    optimizer = torch.optim.SGD(model.parameters(), 1e-3)
    before = {key: value.clone() for key, value in model.named_parameters()}
    frames = {view: random_frames(model, view, 4) for view in model.views}
    present = torch.ones(2, 2, dtype=torch.bool)
    for _ in range(2):
        features = model.embed(frames).view(2, 2, -1)
        logits = {
            b: model.branch_logits(b, frames[model.view_of(b).name]).view(2, 2, -1) for b in model.branches
        }
        sample, there = gumbel_sampler(5.0, torch.zeros(4)), present[..., None].expand(2, 2, 2)
        rollout = model.rollout(features, logits, present, sample, there, price=1.0)
        loss = adamml.loss(rollout, torch.tensor([0, 1]), present, torch.ones(4), adamml.PRESETS[name])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert torch.isfinite(loss)
    changed = {
        key.split(".")[0] for key, value in model.named_parameters() if not torch.equal(value, before[key])
    }
    assert changed == {"policy", "branches", "late_fusion"}


def test_a_choice_of_precisions_too() -> None:
    """Each group then has its branch at every precision, and one skip."""
    networks = {name: {"fp32": branch, "int8": branch} for name, branch in MODEL.backbones().items()}
    branches = {name: of for name, of in networks.items() if name in MODEL.branches}
    model = MODEL.choosing_precisions(branches).eval()
    assert [len(group.options) for group in model.space.groups] == [3, 3, 3]
    assert all(group.optional for group in model.space.groups)
    script = random_script(MODEL, 1)
    logits = {f"{name}-{kind}": rows for name, rows in script.logits.items() for kind in ("fp32", "int8")}
    decide = argmax_sampler(torch.zeros(9))
    with torch.no_grad():
        rollout = model.rollout(script.features, logits, script.present, decide, script.available)
    assert rollout.choices.shape[-1] == 9 and not (rollout.used * ~script.available).any()
    assert MODEL.branches_alone().space.options == tuple(g.options[0] for g in MODEL.space.groups)


def test_pictures_of_a_segment_change_alike() -> None:
    torch.manual_seed(0)
    view = View(name="v", size=16, frames=3)
    images = torch.rand(2, 1, 3, 16, 16).expand(2, 3, 3, 16, 16).flatten(0, 1)
    changed = Augmentation(smallest_crop=0.5, lighting=0.3).of_view(images, view).unflatten(0, (2, 3))
    torch.testing.assert_close(changed[:, 0], changed[:, 2])
    assert not torch.equal(changed[:, 0].flatten(0, 1), images[::3].flatten(0, 1))
    sound = View(name="s", modality="audio", size=16)
    noise = torch.rand(2, 1, 16, 16)
    assert Augmentation(smallest_crop=0.5).of_view(noise, sound) is noise


def test_modalities_of_the_small_model() -> None:
    assert MODEL.branch_views == (("rgb24x3",), ("audio32",), ("flow24x3",))
    assert tuple(group.name for group in MODEL.space.groups) == MODALITIES
