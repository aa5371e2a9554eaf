"""The fixed schedules that a policy starts from."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from torch import Tensor

from compiler.data.batches import OutputBatch
from compiler.training.policy.fixed_schedules import best_schedules
from models.methods import arnet
from tests.models.small_arnet import BRANCHES, COSTS, LABELS, small_model, small_preset

LOSS = partial(arnet.loss, preset=small_preset())
RGB64, HEAD = 0, 3


def samples(
    sureness: dict[str, float], noise: float = 0.3, clips: int = 60, steps: int = 8
) -> list[OutputBatch]:
    """Every branch says the label, the surer the higher its logit, with noise of its own at every step."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(clips) % len(LABELS)
    hot = torch.nn.functional.one_hot(labels, len(LABELS)).float()[:, None, :]

    def logits(sure: float) -> Tensor:
        return sure * hot + noise * torch.randn(clips, steps, len(LABELS), generator=generator)

    outputs: OutputBatch = {
        "features": torch.zeros(clips, steps, small_model().policy.num_features),
        "branches": {name: logits(sureness[name]) for name in BRANCHES},
        "present": torch.ones(clips, steps, dtype=torch.bool),
        "label": labels,
    }
    return [outputs]


def test_from_the_best_answer_to_the_cheapest() -> None:
    model = small_model()
    found = best_schedules(model, samples({"rgb64": 4.0, "rgb48": 2.0, "rgb40": 1.0}), COSTS, LOSS)
    assert len(found) == len(model.policy.price_code.prices)
    assert found[0].first == RGB64
    spent = [float(COSTS[one.first]) / (1 + model.space.options[one.second].skip) for one in found]
    assert spent == sorted(spent, reverse=True) and spent[-1] < spent[0]


def test_at_no_price_the_surest_on_every_step() -> None:
    found = best_schedules(small_model(), samples(dict.fromkeys(BRANCHES, 2.0), noise=4.0), COSTS, LOSS)
    assert found[0].first == found[0].second, "noise that is averaged over more steps is less"


@pytest.mark.parametrize("best", BRANCHES)
def test_the_branch_that_answers_best(best: str) -> None:
    sureness = dict.fromkeys(BRANCHES, 0.5) | {best: 3.0}
    found = best_schedules(small_model(), samples(sureness), COSTS, LOSS)
    assert found[0].first == BRANCHES.index(best)


def test_where_nobody_knows_anything_nothing_is_spent_on_it() -> None:
    (nothing,) = samples(dict.fromkeys(BRANCHES, 0.0))
    nothing["branches"] = {name: torch.zeros_like(out) for name, out in nothing["branches"].items()}
    found = best_schedules(small_model(), [nothing], COSTS, LOSS)
    assert {one.first for one in found[1:]} == {HEAD}
