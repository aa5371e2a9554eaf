"""Running the float stages that a method declares, in its order: a runner for each kind of such stage.

``TrainIntegers`` and ``TrainWidths`` have none: compiler/quantization/ looks them up by class, where networks
at other precisions are made.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import singledispatch

from torch import Tensor

from compiler.training.branches import (
    branch_states,
    finetune_branches,
    fold_fusion_scales,
    refit_branches,
    train_backbones,
    warm_up,
)
from compiler.training.policy.option_macs import option_macs
from compiler.training.policy.stage import PolicyFindings, train_policy
from compiler.training.size_matching import match_sizes
from compiler.training.training import States, Training
from models.training_plan import (
    FinetuneBranches,
    MatchSizes,
    RefitBranches,
    TrainBackbones,
    TrainPolicy,
    TrainStage,
    WarmUp,
)


@dataclass(frozen=True)
class StageContext:
    """What stages take over from those before them.

    ``costs`` (A,): of the options. ``untrained``: the branches' states before any training with labels.
    ``policy``: what the policy's stage found, once it is done.
    """

    costs: Tensor
    untrained: States
    policy: PolicyFindings | None = None


@singledispatch
def run_stage(stage: TrainStage, training: Training, context: StageContext) -> StageContext:
    """Run one stage, or load what it left; its kind has a runner here.

    Raises: NotImplementedError for a kind of stage without one.
    """
    raise NotImplementedError(f"no runner for stages of kind {type(stage).__name__}")


@run_stage.register
def _(stage: MatchSizes, training: Training, context: StageContext) -> StageContext:
    match_sizes(training, stage)
    return replace(context, untrained=branch_states(training.model))


@run_stage.register
def _(stage: TrainBackbones, training: Training, context: StageContext) -> StageContext:
    train_backbones(training, stage)
    return context


@run_stage.register
def _(stage: WarmUp, training: Training, context: StageContext) -> StageContext:
    warm_up(training, stage, context.costs)
    return context


@run_stage.register
def _(stage: TrainPolicy, training: Training, context: StageContext) -> StageContext:
    return replace(context, policy=train_policy(training, stage, context.costs))


@run_stage.register
def _(stage: RefitBranches, training: Training, context: StageContext) -> StageContext:
    refit_branches(training, stage, context.untrained)
    if context.policy is not None:
        fold_fusion_scales(training.adaptive, context.policy.scales)
    return context


@run_stage.register
def _(stage: FinetuneBranches, training: Training, context: StageContext) -> StageContext:
    finetune_branches(training, stage, context.costs)
    return context


def train_float(training: Training) -> PolicyFindings:
    """All float stages of a model with a policy, in their order, each skipped if its result is there."""
    context = StageContext(option_macs(training.adaptive), branch_states(training.model))
    for stage in float_stages(training):
        context = run_stage(stage, training, context)
    training.model.eval()
    assert context.policy is not None, "a model with a policy declares a stage for it"
    return context.policy


def float_stages(training: Training) -> Sequence[TrainStage]:
    """Those that leave float networks; other precisions are made of these, for a target."""
    return [stage for stage in training.plan.stages if stage.precision == "float"]
