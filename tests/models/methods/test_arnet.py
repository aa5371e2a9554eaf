"""AR-Net as its file states it: seven options, buildable presets, and a policy that learns to be cheap."""

from __future__ import annotations

import pytest
import torch

from models.backbones.registry import BACKBONES
from models.macs import network_macs
from models.methods import arnet
from models.rollout.branch_model import POLICY
from models.rollout.sampling import argmax_sampler, gumbel_sampler
from tests.models.small_arnet import COSTS, random_script, small_model, small_preset


@pytest.mark.parametrize("name", ["tiny", "mobile", "paper"])
def test_seven_options(name: str) -> None:
    preset = arnet.PRESETS[name]
    space = arnet.action_space(preset)
    wanted = ["rgb224", "rgb168", "rgb112", "rgb84", "skip1", "skip2", "skip4"]
    assert [option.name for option in space.options] == wanted
    assert [option.skip for option in space.options] == [0, 0, 0, 0, 1, 2, 4]
    assert space.options[3].graph == POLICY
    assert set(preset.branches.values()) | {preset.policy} <= set(BACKBONES)


def test_the_paper_preset_is_the_papers() -> None:
    preset = arnet.PRESETS["paper"]
    assert preset.branches == {224: "resnet50", 168: "resnet34", 112: "resnet18"}
    assert (preset.policy, preset.policy_size, preset.hidden, preset.steps) == ("mobilenetv2", 84, 512, 16)
    assert (preset.accuracy_weight, preset.efficiency_weight, preset.uniform_weight) == (0.95, 0.05, 3.0)


def test_networks_cost_what_is_published() -> None:
    architecture = arnet.architecture(arnet.PRESETS["paper"])
    assert architecture.policy is not None
    networks = {**architecture.branches, POLICY: architecture.policy.networks[0]}
    assert set(networks) == set(arnet.METHOD.published_macs)
    for name, published in arnet.METHOD.published_macs.items():
        network = networks[name]
        assert network_macs(network.build(200), [network.view]) == pytest.approx(published, rel=0.01)


@pytest.mark.parametrize("name", ["tiny", "mobile"])
def test_presets_build(name: str) -> None:
    model = arnet.METHOD.build(arnet.PRESETS[name], ("a", "b"))
    assert set(model.branches) == {"rgb224", "rgb168", "rgb112"}
    assert {view.size for view in model.views.values()} == {224, 168, 112, 84}
    assert model.view_of("rgb168").size == 168
    assert set(model.backbones()) == {POLICY, *model.branches}


def test_from_scratch_nothing_is_frozen() -> None:
    recipe = arnet.PRESETS["mobile"].recipe.from_scratch()
    stages = [s for s in (recipe.branches, recipe.joint, recipe.finetune, recipe.qat) if s is not None]
    assert len(stages) == 3
    for stage in stages:
        assert stage.frozen_layers == 0 and not stage.frozen_norms
    assert recipe.joint.frozen_branches


def test_the_cost_loss_makes_the_policy_cheaper() -> None:
    """With useless branches and nothing but cost to learn, the mean cost falls."""
    torch.manual_seed(0)
    model = small_model()
    script = random_script(model, seed=1, batch=16)
    alike = {name: torch.zeros_like(logits) for name, logits in script.logits.items()}
    targets = torch.zeros(16, dtype=torch.long)
    preset = small_preset()

    def spent() -> float:
        with torch.no_grad():
            rollout = model.rollout(
                script.features, alike, script.present, argmax_sampler(torch.zeros(7)), price=1.0
            )
        return float((rollout.choices * COSTS).sum() / script.present.sum())

    before = spent()
    policy = [*model.policy.lstm.parameters(), *model.policy.score.parameters()]
    optimizer = torch.optim.Adam(policy, 0.02)
    for _ in range(25):
        sample = gumbel_sampler(1.0, torch.zeros(7))
        rollout = model.rollout(script.features, alike, script.present, sample, price=1.0)
        loss = arnet.loss(rollout, targets, script.present, COSTS, preset)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert spent() < 0.6 * before
