"""Pretrained networks at smaller sizes, matched to the largest."""

from __future__ import annotations

import copy
from pathlib import Path

import torch

from compiler.data.cache import ClipCache
from compiler.training.size_matching import match_sizes
from compiler.training.training import Training
from models.recipe import Optimization
from models.rollout.branch_model import pixels
from models.training_plan import MatchSizes
from tests.compiler.small_training import small_training
from tests.models.small_arnet import BRANCHES, small_preset

STAGE = MatchSizes(Optimization(epochs=12, lr=2e-3, batch=4, frames=2, frozen_norms=True, adam=True))
LARGE, MIDDLE, SMALL = BRANCHES


def pretrained(cache: ClipCache, folder: Path) -> Training:
    """Branches of one architecture that start from the same weights."""
    training = small_training(cache, folder, preset=small_preset())
    for name in (MIDDLE, SMALL):
        training.model.branches[name] = copy.deepcopy(training.model.branches[LARGE])
    return training


def distance(training: Training, name: str) -> float:
    """How far a branch's features are from the largest one's, on the validation clips."""
    model, cache = training.model, training.cache
    errors = []
    with torch.no_grad():
        for clip in cache.split("val"):
            features = []
            for branch in (LARGE, name):
                view = model.view_of(branch)
                frames = torch.from_numpy(cache.frames(clip, view.name).copy())
                features.append(model.backbone(branch).eval().embed(pixels(frames, view)))
            errors.append(float((features[0] - features[1]).square().mean()))
    return sum(errors) / len(errors)


def test_small_sizes_come_nearer_and_others_stay(cache: ClipCache, tmp_path: Path) -> None:
    training = pretrained(cache, tmp_path)
    before = copy.deepcopy(training.model.state_dict())
    apart = distance(training, SMALL)
    match_sizes(training, STAGE)
    assert distance(training, SMALL) < 0.9 * apart
    after = training.model.state_dict()
    kept = [
        name for name in before if name.startswith((f"branches.{LARGE}.", f"branches.{MIDDLE}.", "policy."))
    ]
    assert kept and all(torch.equal(before[name], after[name]) for name in kept)
    assert all(parameter.requires_grad for parameter in training.model.parameters())


def test_a_finished_stage_is_loaded(cache: ClipCache, tmp_path: Path) -> None:
    first = pretrained(cache, tmp_path)
    match_sizes(first, STAGE)
    assert first.run.done(f"sizes-{LARGE}")
    second = pretrained(cache, tmp_path)
    match_sizes(second, STAGE)
    states = first.model.state_dict(), second.model.state_dict()
    assert all(torch.equal(value, states[1][name]) for name, value in states[0].items())


def test_random_weights_have_nothing_to_match(cache: ClipCache, tmp_path: Path) -> None:
    training = small_training(cache, tmp_path)
    before = copy.deepcopy(training.model.state_dict())
    match_sizes(training, STAGE)
    assert not list(tmp_path.glob("*.pt"))
    after = training.model.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)
