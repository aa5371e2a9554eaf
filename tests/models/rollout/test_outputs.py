"""Branches that run on demand answer as those computed before, and run no more than was chosen."""

from __future__ import annotations

from collections import Counter

import pytest
import torch
from torch import Tensor

from models.backbones.blocks import Backbone, BranchOutput, BranchState, Gates
from models.rollout.adaptive_model import AdaptiveModel
from models.rollout.branch_model import BranchModel
from models.rollout.outputs import ComputedOutputs, OutputsOnDemand
from models.rollout.sampling import argmax_sampler
from runtimes.spec import ActionSpace, Group, Option, View
from tests.models import small_arnet, small_joint

CLIPS, STEPS = 3, 5


class Doubling(Backbone):
    """Two gated segments, each of which doubles what it is given, an exit after the first, and a run count.

    The second segment's own head asks to run where the value is above 2.
    """

    num_features, frames = 1, 1

    def embed(self, x: Tensor) -> Tensor:
        return x.mean(dim=(1, 2, 3))[:, None]

    def classify(self, features: Tensor) -> Tensor:
        return features.repeat(1, 3)

    def remove_classifier(self) -> None:
        raise AssertionError("it has no parameters")

    def initial_state(self, batch: int) -> BranchState:
        return (torch.zeros(batch, 1),)

    def run(self, x: Tensor, gates: Gates | None = None, state: BranchState = ()) -> BranchOutput:
        value, ran, exits = self.embed(x), [], []
        for segment in range(2):
            score = value[:, 0] - 2 if segment else None
            gate = torch.ones(len(x)) if gates is None else gates.at(segment, score)
            value = value * (1 + gate[:, None])
            exits.append(self.classify(value))
            ran.append(gate)
        runs = state[0] + 1
        return BranchOutput(exits[-1] + runs, tuple(exits[:-1]), (runs,), torch.stack(ran, dim=1))


class FirstThenByScore:
    """The first segment is decided before the branch runs, the second within it."""

    def at(self, segment: int, score: Tensor | None) -> Tensor:
        if score is None:
            return torch.tensor([1.0, 0.0])
        return (score > 0).float()


VIEW = View(name="tiny", modality="rgb", size=8, scale=1.0, zero_point=0)
DOUBLING = Option(name="doubling", graph="doubling", view="tiny", precision="fp32")


def doubling_model() -> BranchModel:
    space = ActionSpace(groups=(Group(name="rgb", options=(DOUBLING,)),))
    return BranchModel({"doubling": Doubling()}, space, {"tiny": VIEW}, ("a", "b", "c"))


def test_a_branch_is_gated_before_it_runs_and_within() -> None:
    frames = torch.full((2, 8, 8, 3), 2, dtype=torch.uint8)
    model = doubling_model()
    output = model.run_branch("doubling", frames, gates=FirstThenByScore(), state=(torch.zeros(2, 1),))
    assert output.ran is not None and output.ran.tolist() == [[1, 1], [0, 0]], (
        "2 doubled is above 2, 2 is not"
    )
    assert output.exits[0][:, 0].tolist() == [4, 2], "the exit after the first segment"
    assert output.logits[:, 0].tolist() == [8 + 1, 2 + 1]
    whole = model.run_branch("doubling", frames, state=(torch.zeros(2, 1),))
    assert whole.logits[:, 0].tolist() == [9, 9], "without gates all run"


def test_a_branch_carries_its_state_from_run_to_run_of_each_clip() -> None:
    """Through steps at which others run and it does not, and through those at which nothing does."""
    views = {"tiny": torch.zeros(2, 4, 8, 8, 3, dtype=torch.uint8)}
    outputs = OutputsOnDemand(doubling_model(), views)
    runs = [[1, 1], [0, 1], [0, 0], [1, 1]]
    counted = [
        outputs.at(step, DOUBLING, torch.tensor(chosen).float())[:, 0] for step, chosen in enumerate(runs)
    ]
    assert [row.tolist() for row in counted] == [[1, 1], [0, 2], [0, 0], [2, 3]]
    again = OutputsOnDemand(doubling_model(), views)
    assert again.at(0, DOUBLING, torch.ones(2))[:, 0].tolist() == [1, 1], "each rollout starts anew"


def frames(model: AdaptiveModel) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    views = {}
    for name, view in model.views.items():
        shape = view.shape[1:] if view.modality == "rgb" and view.frames == 1 else view.shape
        views[name] = torch.randint(0, 256, (CLIPS, STEPS, *shape), dtype=torch.uint8, generator=generator)
    return views


@pytest.mark.parametrize(
    ("model", "costs"),
    [(small_arnet.small_model(), small_arnet.COSTS), (small_joint.small_model(3), small_joint.COSTS)],
    ids=["one group", "several groups, choices by the answer so far"],
)
def test_on_demand_is_what_was_computed_before(model: AdaptiveModel, costs: Tensor) -> None:
    views, present = frames(model), torch.ones(CLIPS, STEPS, dtype=torch.bool)
    ran: Counter[str] = Counter()
    with torch.no_grad():
        seen = {name: views[name].flatten(0, 1) for name in model.policy_views}
        features = model.embed(seen).view(CLIPS, STEPS, -1)
        computed = ComputedOutputs(
            {
                name: model.branch_logits(name, views[model.view_of(name).name].flatten(0, 1)).view(
                    CLIPS, STEPS, -1
                )
                for name in model.branches
            }
        )
        hooks = [
            branch.register_forward_pre_hook(
                lambda _, inputs, name=name: ran.update({name: len(inputs[0]) // model.view_of(name).frames})
            )
            for name, branch in model.branches.items()
        ]
        decide = argmax_sampler(costs)
        lazily = model.rollout(features, OutputsOnDemand(model, views), present, decide)
        for hook in hooks:
            hook.remove()
        before = model.rollout(features, computed, present, decide)
    assert torch.equal(lazily.choices, before.choices)
    torch.testing.assert_close(lazily.logits, before.logits, atol=1e-4, rtol=1e-4)
    for place, option in enumerate(model.space.options):
        if option.graph in model.branches:
            assert ran[str(option.graph)] == int(before.choices[:, :, place].sum())
