"""The most expensive branch's answer as the policy's target."""

from __future__ import annotations

import torch

from compiler.data.batches import ClipOutputs, OutputBatch
from compiler.training.policy.soft_targets import most_expensive_option, soft_targets
from tests.models.small_arnet import BRANCHES, COSTS, LABELS, random_script, small_model


def outputs() -> OutputBatch:
    script = random_script(small_model(), seed=0, batch=4)
    script.present[1, 5:] = False
    label = torch.arange(4) % len(LABELS)
    return {
        "features": script.features,
        "branches": script.logits,
        "present": script.present,
        "label": label,
    }


def test_the_most_expensive_option() -> None:
    model = small_model()
    assert most_expensive_option(model, COSTS) == 0
    model.teacher = BRANCHES[1]
    assert most_expensive_option(model, COSTS) == 0
    alike = COSTS.clone()
    alike[1] = COSTS[0]
    assert most_expensive_option(model, alike) == 1  # of two that cost the same the teacher


def test_all_of_it_is_the_branchs_answer_over_the_steps_there_are() -> None:
    given = outputs()
    got = soft_targets(given, BRANCHES[0], share=1.0)
    for clip, steps in enumerate((8, 5, 8, 8)):
        wanted = given["branches"][BRANCHES[0]][clip, :steps].mean(0).softmax(0)
        assert torch.allclose(got[clip], wanted, atol=1e-6)


def test_none_of_it_is_the_label() -> None:
    given = outputs()
    got = soft_targets(given, BRANCHES[0], share=0.0)
    assert torch.equal(got.argmax(1), given["label"]) and torch.equal(got.max(1).values, torch.ones(4))


def test_probabilities() -> None:
    got = soft_targets(outputs(), BRANCHES[0], share=0.3)
    assert (got >= 0).all() and torch.allclose(got.sum(1), torch.ones(4))


def test_targets_reach_the_batches() -> None:
    given = outputs()
    assert "target" not in ClipOutputs([given])[0]
    given["target"] = soft_targets(given, BRANCHES[0], share=1.0)
    assert torch.equal(ClipOutputs([given])[2]["target"], given["target"][2])
