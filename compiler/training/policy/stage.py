"""The stage that trains the policy, and what it finds: the price to compile for, and the branches' scales."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from torch import Tensor

from compiler.data.batches import ClipOutputs, OutputBatch
from compiler.training.branches import fusion_of
from compiler.training.policy.clip_outputs import clip_outputs
from compiler.training.policy.fusion_calibration import calibrate_fusion
from compiler.training.policy.price_selection import PricePoint, best_price, price_curve
from compiler.training.policy.soft_targets import most_expensive_option, soft_targets
from compiler.training.run import fit
from compiler.training.tasks.rollout import RolloutTask
from compiler.training.training import Training
from models.training_plan import TrainPolicy

_PRICED_CLIPS = 96


@dataclass(frozen=True)
class PolicyFindings:
    """What the policy's stage finds beside its weights.

    ``curve``: what each price gives on clips that the branches have not seen. ``scales``: of the logits of
    each branch and head, if the stage calibrates the fusion.
    """

    curve: tuple[PricePoint, ...]
    scales: dict[str, float] | None = None

    @property
    def price(self) -> float:
        """The price to compile for: what the most expensive option must score more than a zero-cost one."""
        return best_price(self.curve)

    def to_json(self) -> dict[str, Any]:
        """For the stage's saved result."""
        return {"price_curve": [asdict(point) for point in self.curve], "scales": self.scales}

    @classmethod
    def of_json(cls, kept: Mapping[str, Any]) -> PolicyFindings:
        """From a stage's saved result."""
        return cls(tuple(PricePoint(**point) for point in kept["price_curve"]), kept["scales"])


def train_policy(
    training: Training,
    stage: TrainPolicy,
    costs: Tensor,
    name: str | None = None,
    *,
    frozen: bool = False,
) -> PolicyFindings:
    """The policy, and the branches unless they are ``frozen`` or the stage freezes them.

    ``costs`` (A,) of the options. ``name``: of the stage's result, where it is not the stage's own.
    """
    training.announce("policy")
    name = name or stage.name
    kept = training.run.findings(name)
    found = PolicyFindings.of_json(kept) if kept is not None else None
    if frozen or stage.frozen_branches:
        computed = _over_outputs(training, stage, costs, name, found)
    else:
        computed = _with_branches(training, stage, costs, name, found)
    training.model.requires_grad_(True)
    if found is None:
        training.run.keep_findings(name, computed.to_json())
    return computed


def _over_outputs(
    training: Training, stage: TrainPolicy, costs: Tensor, name: str, found: PolicyFindings | None
) -> PolicyFindings:
    """The policy alone, over outputs of the branches that are computed once."""
    model = training.adaptive
    parts = [*model.policy.deciding_parts, *fusion_of(model)]
    task = _task(training, stage, costs, parts)
    if found is not None:
        # Computing every branch on every step takes minutes: not for a stage that is done.
        fit(training.run, name, task, ClipOutputs([]), ClipOutputs([]))
        return found
    samples, scales = _training_samples(training, stage, costs)
    watched = clip_outputs(training, training.watched_clips(), False)
    fit(training.run, name, task, ClipOutputs(samples), ClipOutputs([watched]))
    # Before the branches see the clips held out: later their answers there are too good to be true.
    return PolicyFindings(tuple(price_curve(model, samples[0], costs)), scales)


def _with_branches(
    training: Training, stage: TrainPolicy, costs: Tensor, name: str, found: PolicyFindings | None
) -> PolicyFindings:
    """The policy and the branches, which run on every step."""
    model, clips = training.adaptive, training.clips(stage.clips)
    task = _task(training, stage, costs, [model.policy, model.branches, *fusion_of(model)])
    val = training.clip_steps(training.cache.split("val"), train=False)
    fit(training.run, name, task, training.clip_steps(clips, train=True), val)
    if found is not None:
        return found
    model.requires_grad_(True)
    priced = clip_outputs(training, clips[:: max(1, len(clips) // _PRICED_CLIPS)], False)
    return PolicyFindings(tuple(price_curve(model, priced, costs)))


def _task(training: Training, stage: TrainPolicy, costs: Tensor, parts: list[Any]) -> RolloutTask:
    dropped = training.plan.dropped_modalities
    return RolloutTask(training.adaptive, stage.loss, costs, stage.optimization, parts, dropped=dropped)


def _training_samples(
    training: Training, stage: TrainPolicy, costs: Tensor
) -> tuple[list[OutputBatch], dict[str, float] | None]:
    """Clips' outputs, mirrored ones too, that the policy learns from, and the scales that they were given."""
    model, clips = training.adaptive, training.clips(stage.clips)
    flips = (False, True) if training.plan.flip else (False,)
    samples = [clip_outputs(training, clips, flip) for flip in flips]
    scales = calibrate_fusion(model, samples) if stage.calibrates_fusion else None
    if stage.soft_targets:
        branch = str(model.space.options[most_expensive_option(model, costs)].graph)
        for outputs in samples:
            outputs["target"] = soft_targets(outputs, branch, stage.soft_targets)
    return samples, scales
