"""The training stages: which clips each sees, what each option costs, and what they leave."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from compiler.data.cache import ClipCache
from compiler.data.clips import Clip, ClipSet
from compiler.training.policy.option_macs import option_macs
from compiler.training.stages import train_float
from compiler.training.training import Training
from models.macs import count_macs, network_macs
from models.rollout.branch_model import POLICY
from tests.compiler.small_training import small_training
from tests.models.small_arnet import BRANCHES, small_model, small_preset

STAGES = ("branches-policy", *(f"branches-{name}" for name in BRANCHES), "joint", "finetune")


def test_every_stage_leaves_its_result(training: Training, integer: dict[str, nn.Module]) -> None:
    assert all(training.run.done(stage) for stage in STAGES)
    assert all(training.run.done(f"uint8-{name}") for name in (POLICY, *BRANCHES))
    assert set(integer) == {POLICY, *BRANCHES}
    assert not list(training.run.folder.rglob("*.ckpt"))


def prepared_training(cache: ClipCache, folder: Path) -> Training:
    """With all that is meant for few clips: probes, means, calibration, a schedule to start from."""
    recipe = small_preset().recipe
    probed = replace(recipe.branches, epochs=0, probe_decay=0.05)
    refit = replace(recipe.branches, probe_decay=0.05, averaged=1.0)
    preset = small_preset(branches=probed, refit=refit, dense_targets=1.0, calibrated=True)
    return small_training(cache, folder, preset=preset)


def test_a_resumed_policy_is_priced_as_if_it_had_gone_on(cache: ClipCache, tmp_path: Path) -> None:
    first = prepared_training(cache, tmp_path)
    found = train_float(first)
    assert all(first.run.done(f"refit-{name}") for name in BRANCHES)
    assert found.scales is not None and set(found.scales) == {POLICY, *BRANCHES}
    first.run.save("joint", first.run.state("joint"), None)  # interrupted before it was priced
    second = prepared_training(cache, tmp_path)
    assert train_float(second) == found
    states = first.model.state_dict(), second.model.state_dict()
    assert all(torch.equal(value, states[1][name]) for name, value in states[0].items())


def test_what_a_stage_found_is_kept_in_its_result(cache: ClipCache, tmp_path: Path) -> None:
    first = prepared_training(cache, tmp_path)
    found = train_float(first)
    before = first.run.result("joint").stat().st_mtime_ns
    assert train_float(prepared_training(cache, tmp_path)) == found
    assert first.run.result("joint").stat().st_mtime_ns == before
    assert not list(tmp_path.glob("*.json"))


def test_a_probe_leaves_the_backbone_as_it_was(cache: ClipCache, tmp_path: Path) -> None:
    recipe = small_preset().recipe
    probed = replace(recipe.branches, epochs=0, probe_decay=0.05)
    preset = small_preset(branches=probed, finetune=None)
    training = small_training(cache, tmp_path, preset=preset)
    before = copy.deepcopy(training.model.state_dict())
    train_float(training)
    changed = {
        name for name, value in training.model.state_dict().items() if not torch.equal(value, before[name])
    }
    branches = {name for name in changed if name.startswith("branches.")}
    assert branches == {f"branches.{name}.fc.{kind}" for name in BRANCHES for kind in ("weight", "bias")}
    assert not any("backbone" in name for name in changed)


def test_held_out_clips_are_a_share_of_every_class(training: Training) -> None:
    held = training.held_out()
    assert set(held) < set(training.cache.split("train"))
    labels = [training.cache.clips[clip].label for clip in held]
    assert sorted(labels) == ["cross", "disc", "square"]  # a quarter of four
    assert held == training.held_out()


class Listed:
    """A clip cache that holds nothing but the list of its clips."""

    def __init__(self, clips: ClipSet) -> None:
        self.clips, self.labels = clips.clips, clips.labels

    def split(self, name: str) -> list[int]:
        return [i for i, clip in enumerate(self.clips) if clip.split == name]


@pytest.mark.parametrize("per_group", [1, 2, 3, 5])
def test_held_out_groups_are_whole(cache: ClipCache, tmp_path: Path, per_group: int) -> None:
    clips = tuple(
        Clip(Path(f"{label}{i}.mp4"), label, f"person{i // per_group}", "train")
        for label in ("a", "b")
        for i in range(20)
    )
    training = replace(small_training(cache, tmp_path), cache=Listed(ClipSet(Path(), clips)))  # type: ignore[arg-type]
    held = {(clips[i].label, clips[i].group) for i in training.held_out()}
    kept = {(clip.label, clip.group) for i, clip in enumerate(clips) if i not in training.held_out()}
    assert held and kept and not held & kept
    assert 6 <= len(training.held_out()) <= 14  # about a quarter of 40


def test_one_group_is_not_held_out(cache: ClipCache, tmp_path: Path) -> None:
    """Or the branches would have nothing to learn from."""
    clips = tuple(Clip(Path(f"{label}{i}.mp4"), label, "one", "train") for label in "ab" for i in range(3))
    training = replace(small_training(cache, tmp_path), cache=Listed(ClipSet(Path(), clips)))  # type: ignore[arg-type]
    assert training.held_out() == []


def test_options_cost_their_branches() -> None:
    model = small_model()
    macs = option_macs(model)
    for i, name in enumerate(BRANCHES):
        size = model.views[name].size
        image = torch.zeros(1, 3, size, size)
        branch = model.branches[name]
        assert int(macs[i]) == count_macs(branch, lambda branch=branch, image=image: branch(image))
    assert macs[: len(BRANCHES)].tolist() == sorted(macs[: len(BRANCHES)].tolist(), reverse=True)
    policy = network_macs(model.policy, model.views_of(POLICY))
    assert macs[len(BRANCHES) :].tolist() == [0, 0, -policy, -3 * policy], (
        "long skips save runs of the policy"
    )
