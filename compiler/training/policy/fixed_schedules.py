"""Fixed schedules for a policy to start from: the best at each of several prices, on clips held out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor
from torch.nn import functional

from compiler.data.batches import OutputBatch
from models.policies.policy import Schedule
from models.rollout.adaptive_model import AdaptiveModel
from models.rollout.branch_model import POLICY
from models.rollout.rollout import Rollout
from models.training_plan import RolloutLoss


def best_schedules(
    model: AdaptiveModel, samples: Sequence[OutputBatch], costs: Tensor, loss: RolloutLoss
) -> list[Schedule]:
    """The schedule of least loss at each knot of the price code; ``costs`` (A,) of the options.

    Each branch, and the policy's own head, runs at every step, or at one of two, three or more, as the skips
    let it. The model has one group.
    """
    schedules = list(_schedules(model))
    judged = [_judged(model, samples, costs, loss, schedule) for schedule in schedules]
    return [
        schedules[min(range(len(schedules)), key=lambda i: judged[i][0] + price * judged[i][1])]
        for price in model.policy.price_code.prices
    ]


def _schedules(model: AdaptiveModel) -> Iterator[Schedule]:
    (group,) = model.space.groups
    skips = [place for place, option in enumerate(group.options) if option.skip]
    for place, option in enumerate(group.options):
        if option.graph is not None:
            yield Schedule(place, place)
            yield from (Schedule(place, skip) for skip in skips)


def _judged(
    model: AdaptiveModel,
    samples: Sequence[OutputBatch],
    costs: Tensor,
    loss: RolloutLoss,
    schedule: Schedule,
) -> tuple[float, float]:
    """Cross-entropy of a schedule's answers, and what its choices add to the loss at price 1."""
    entropies, spent = [], []
    for outputs in samples:
        rollout = _followed(model, outputs, schedule)
        target = outputs.get("target", outputs["label"])
        entropies.append(functional.cross_entropy(rollout.logits, target))
        priced = rollout._replace(price=torch.ones_like(rollout.price))
        # All but the cost is the same at any price.
        at_one, at_zero = (loss(one, target, outputs["present"], costs) for one in (priced, rollout))
        spent.append(at_one - at_zero)
    return float(torch.stack(entropies).mean()), float(torch.stack(spent).mean())


def _followed(model: AdaptiveModel, outputs: OutputBatch, schedule: Schedule) -> Rollout:
    """What a schedule chooses and answers on every clip, at price 0."""
    options, present = model.space.options, outputs["present"]
    clips, steps = present.shape
    choices = torch.zeros(clips, steps, len(options))
    ran = torch.zeros(steps)
    for step, place in _choices(schedule, options[schedule.second].skip, steps):
        choices[:, step, place] = 1.0
        ran[step] = float(options[place].skip == 0)
    weights = ran * present
    logits = _logits(model, outputs, str(options[schedule.first].graph))
    fused = (logits * weights[..., None]).sum(dim=1) / weights.sum(dim=1, keepdim=True)
    return Rollout(
        choices=choices * present[..., None],
        scores=torch.zeros_like(choices),
        logits=fused,
        head=fused,
        teacher=None,
        used=weights[..., None],
        available=None,
        price=torch.zeros(clips),
    )


def _choices(schedule: Schedule, skip: int, steps: int) -> Iterator[tuple[int, int]]:
    """The steps at which something is chosen, and what."""
    step = 0
    while step < steps:
        yield step, schedule.first
        if step + 1 < steps:
            yield step + 1, schedule.second
        step += 1 + max(skip, 1)


def _logits(model: AdaptiveModel, outputs: OutputBatch, graph: str) -> Tensor:
    """A graph's answers (B, T, C) at every step."""
    if graph != POLICY:
        return outputs["branches"][graph]
    with torch.no_grad():
        return model.policy.head_logits(outputs["features"])[0]
