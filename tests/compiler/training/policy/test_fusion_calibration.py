"""Scales of the branches' logits: what they do to the fused answer, and what they leave alone."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from compiler.data.batches import OutputBatch
from compiler.training.policy.fusion_calibration import calibrate_fusion, fit_scales, fold_scales
from models.rollout.adaptive_model import AdaptiveModel
from models.rollout.branch_model import POLICY
from tests.models.small_arnet import BRANCHES, LABELS, random_pixels, small_model

CLIPS, STEPS = 48, 8
GOOD, SURE = BRANCHES[0], BRANCHES[1]


@pytest.fixture
def model() -> AdaptiveModel:
    return small_model()


@pytest.fixture
def outputs(model: AdaptiveModel) -> OutputBatch:
    """One branch is right and unsure, one sure and often wrong, the others say nothing of the label."""
    torch.manual_seed(0)
    labels = torch.arange(CLIPS) % len(LABELS)

    def logits(right: float, size: float) -> Tensor:
        named = torch.where(torch.rand(CLIPS) < right, labels, torch.randint(len(LABELS), (CLIPS,)))
        steps = functional.one_hot(named, len(LABELS))[:, None].expand(-1, STEPS, -1)
        return size * (steps + 0.1 * torch.randn(CLIPS, STEPS, len(LABELS)))

    branches = {name: logits(0.0, 1.0) for name in BRANCHES}
    branches[GOOD], branches[SURE] = logits(0.9, 0.5), logits(0.2, 6.0)
    features = torch.randn(CLIPS, STEPS, model.policy.backbone.num_features)
    present = torch.ones(CLIPS, STEPS, dtype=torch.bool)
    return {"features": features, "branches": branches, "present": present, "label": labels}


def loss_of_the_mean(outputs: OutputBatch) -> float:
    fused = torch.stack(list(outputs["branches"].values())).mean(dim=(0, 2))
    return float(functional.cross_entropy(fused, outputs["label"]))


def test_what_is_sure_and_wrong_counts_less(model: AdaptiveModel, outputs: OutputBatch) -> None:
    scales = fit_scales(model, [outputs])
    assert set(scales) == {POLICY, *BRANCHES}
    assert min(scales.values()) > 0
    assert scales[SURE] < 0.5 < 1.5 < scales[GOOD]


def test_the_fused_answer_is_better(model: AdaptiveModel, outputs: OutputBatch) -> None:
    before = loss_of_the_mean(outputs)
    calibrate_fusion(model, [outputs])
    assert loss_of_the_mean(outputs) < before


def test_single_branches_answer_as_before(model: AdaptiveModel) -> None:
    scales = {POLICY: 0.5, **{name: 2.0 + i for i, name in enumerate(BRANCHES)}}
    pictures = {name: random_pixels(model, name, count=4) for name in BRANCHES}
    features = torch.randn(4, model.policy.backbone.num_features)
    with torch.no_grad():
        before = {name: model.branches[name](pictures[name]) for name in BRANCHES}
        (head,) = model.policy.head_logits(features)
        fold_scales(model, scales)
        for name in BRANCHES:
            after = model.branches[name](pictures[name])
            assert torch.allclose(after, scales[name] * before[name], rtol=1e-4, atol=1e-5)
            assert torch.equal(after.argmax(1), before[name].argmax(1))
        assert torch.allclose(model.policy.head_logits(features)[0], 0.5 * head, rtol=1e-4, atol=1e-5)


def test_outputs_are_scaled_with_the_model(model: AdaptiveModel, outputs: OutputBatch) -> None:
    before = {name: logits.clone() for name, logits in outputs["branches"].items()}
    scales = calibrate_fusion(model, [outputs])
    for name, logits in outputs["branches"].items():
        assert torch.allclose(logits, scales[name] * before[name])
