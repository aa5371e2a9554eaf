"""Training a model to the variants of a bundle: one per precision, or one that chooses among precisions."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch import Tensor, nn

from compiler.bundle_plan import BundlePlan, Network, VariantPlan
from compiler.measuring.graph_costs import CostMeasurer
from compiler.quantization.candidates import (
    Candidates,
    PrecisionSet,
    by_branch,
    make_candidates,
    measure_candidates,
    stores_of,
    validate,
)
from compiler.quantization.networks import integer_networks
from compiler.quantization.pareto import CandidateCost, drop_worse, modeled_cost
from compiler.targets import Target
from compiler.training.branches import branch_states, fold_fusion_scales
from compiler.training.policy.stage import train_policy
from compiler.training.stages import StageContext, float_stages, run_stage, train_float
from compiler.training.training import Training
from models.macs import network_macs
from models.rollout.adaptive_model import AdaptiveModel
from models.rollout.branch_model import POLICY, BranchModel, branches_of_precisions
from models.training_plan import TrainPolicy, TrainStage

MIXED = "mixed"
"""The variant whose options differ in precision."""


@dataclass(frozen=True)
class TrainedVariants:
    """What training ends in.

    ``plan``: what goes into the bundle. ``price``: the one that its policies are compiled for; None where
    the app chooses. ``measured``: the candidate precisions. ``lines``: a line for each that was dropped.
    """

    plan: BundlePlan
    price: float | None = None
    measured: tuple[CandidateCost, ...] = ()
    lines: tuple[str, ...] = ()


def train_variants(training: Training, target: Target) -> TrainedVariants:
    """A variant per precision of the target, in each of which everything has that precision."""
    found = train_float(training)
    parts = (POLICY, *training.model.branches)
    integer = integer_networks(training, parts, target.activations, training.train_clips)
    return TrainedVariants(variants(training, target, integer), found.price)


def variants(training: Training, target: Target, integer: Mapping[str, nn.Module]) -> BundlePlan:
    """The plan of a trained model and its ``integer`` networks: a variant per precision of the target."""
    model = training.adaptive.eval()
    floating = {POLICY: model.policy, **dict(model.branches.items())}
    plans = []
    for precision in target.precisions:
        networks = dict(integer if precision == "int8" else floating)
        policy = policy_network(training, networks.pop(POLICY), precision)
        branches = {
            part: Network(training.graph(part, precision), part, network, precision, model.views_of(part))
            for part, network in networks.items()
        }
        plans.append(VariantPlan(precision, model, policy, branches))
    return BundlePlan(tuple(plans))


def policy_network(training: Training, module: nn.Module, precision: str) -> Network:
    """The policy's network ready for export, at a precision."""
    model, graph = training.adaptive, training.graph(POLICY, precision)
    return Network(graph, POLICY, module, precision, model.views_of(POLICY), heads=model.heads)


def train_mixed(
    training: Training,
    target: Target,
    precisions: PrecisionSet,
    measure_costs: CostMeasurer,
    like: TrainedVariants | None = None,
) -> TrainedVariants:
    """One variant whose options are the branches at every precision that is kept.

    The float stages before the policy's run first, and the branches get their precisions from what these
    leave. With a policy, it is trained over just those that are kept; then the stages after it run, and the
    branches get their precisions once more. Without, all stages run, and the app chooses. ``like``: the same
    candidates are kept as there, at the costs measured there.
    """
    context = StageContext(torch.empty(0), branch_states(training.model))
    before, after = _around_policy(training)
    for stage in before:
        context = run_stage(stage, training, context)
    candidates = make_candidates(training, target, precisions, training.seen())
    if like is None:
        table = measure_costs(BundlePlan((_variant(training.model, candidates),), stores_of(candidates)))
        measured = measure_candidates(training, candidates, table)
        kept, lines = (measured, []) if precisions.keep_all else drop_worse(measured)
    else:
        measured, lines = list(like.measured), list(like.lines)
        kept = [one for one in measured if one.name in like.plan.variants[0].branches]
    if isinstance(training.model, AdaptiveModel):
        tried = _TrialResult(candidates, kept, measured, lines)
        return _with_policy(training, target, precisions, tried, after, context)
    measured = validate(training, measured, candidates)
    ranked = sorted(kept, key=lambda one: (-one.accuracy, one.ms))
    chosen = {one.name: candidates[one.name] for one in ranked}
    plan = BundlePlan((_variant(training.model, chosen),), stores_of(chosen))
    return TrainedVariants(plan, None, tuple(measured), tuple(lines))


class _TrialResult(NamedTuple):
    """All candidates, what of them is kept, how all measured, and a line for each that was dropped."""

    candidates: Candidates
    kept: Sequence[CandidateCost]
    measured: Sequence[CandidateCost]
    lines: Sequence[str]


def _around_policy(training: Training) -> tuple[list[TrainStage], list[TrainStage]]:
    """The float stages that also run over precisions: those before the policy's, and those after it."""
    stages = [stage for stage in float_stages(training) if stage.over_precisions]
    place = next((at for at, stage in enumerate(stages) if isinstance(stage, TrainPolicy)), len(stages))
    return stages[:place], stages[place + 1 :]


def _with_policy(
    training: Training,
    target: Target,
    precisions: PrecisionSet,
    tried: _TrialResult,
    after: Sequence[TrainStage],
    context: StageContext,
) -> TrainedVariants:
    """The policy over what is kept; then the stages ``after`` it, such as all branches anew on all clips."""
    plan, candidates, names = training.plan, tried.candidates, [one.name for one in tried.kept]
    kept = {name: candidates[name] for name in names}
    teacher = max(tried.kept, key=lambda one: (one.accuracy, one.bits)).name
    model = training.adaptive.choosing_precisions(by_branch(kept), teacher)
    costs = _costs(model, tried.kept, target.precisions[0], modeled=precisions.modeled)
    stage = plan.require(TrainPolicy)
    name = f"{stage.name}-{target.name}-{_digest(model, costs)}"
    found = train_policy(replace(training, model=model), stage, costs, name, frozen=True)
    for later in after:
        context = run_stage(later, training, replace(context, policy=None))
    if after:
        candidates = make_candidates(training, target, precisions, training.train_clips, "refit")
        kept = {name: candidates[name] for name in names}
        model = model.with_branches(branches_of_precisions(by_branch(kept)))
        fold_fusion_scales(model, found.scales)
    measured = validate(training, tried.measured, candidates)
    policy = _policy(replace(training, model=model), target, name)
    variant = VariantPlan(MIXED, model, policy, _networks(kept))
    bundle_plan = BundlePlan((variant,), stores_of(kept))
    return TrainedVariants(bundle_plan, found.price, tuple(measured), tuple(tried.lines))


def _variant(model: BranchModel, candidates: Candidates) -> VariantPlan:
    """The variant of these candidates without a policy: the model's skips and its heads are left out."""
    mixed = model.branches_alone().choosing_precisions(by_branch(candidates))
    return VariantPlan(MIXED, mixed, None, _networks(candidates))


def _networks(candidates: Candidates) -> dict[str, Network]:
    return {name: candidate.network for name, candidate in candidates.items()}


def _policy(mixed: Training, target: Target, stage: str) -> Network:
    """The policy in the target's first precision."""
    precision = target.precisions[0]
    if precision == "int8":
        clips = mixed.train_clips
        module = integer_networks(mixed, [POLICY], target.activations, clips, stage)[POLICY]
    else:
        module = mixed.adaptive.policy
    return policy_network(mixed, module, precision)


def _costs(model: AdaptiveModel, kept: Sequence[CandidateCost], precision: str, *, modeled: bool) -> Tensor:
    """Cost (A,) of each option: measured mJ, else ms, or modeled BitOps; zero for the policy's own heads.

    Modeled BitOps are relative to int8 (``modeled_cost``). A long skip saves runs of the policy. The policy
    is not made yet: it is taken to cost per MAC what the branches do in its ``precision``, or in any if
    there are none.
    """
    if modeled:
        each = {one.name: one.macs * modeled_cost(one.bits) for one in kept}
    else:
        energies = {one.name: one.mj for one in kept if one.mj is not None}
        each = energies if len(energies) == len(kept) else {one.name: one.ms for one in kept}
    alike = [one for one in kept if one.precision == precision] or list(kept)
    per_mac = sum(each[one.name] for one in alike) / sum(one.macs for one in alike)
    policy = per_mac * network_macs(model.policy, model.views_of(POLICY))
    saved = model.space.saved_runs
    costs = [each.get(str(option.graph), 0.0) for option in model.space.options]
    return torch.tensor([cost - runs * policy for cost, runs in zip(costs, saved, strict=True)])


def _digest(model: AdaptiveModel, costs: Tensor) -> str:
    """Names the policy's stage by what it chooses among: with other options or costs it is another."""
    facts = [[option.name for option in model.space.options], costs.tolist()]
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:8]
