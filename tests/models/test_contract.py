"""What every method declares: buildable architectures, stages that the compiler can run, and its choices."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from compiler.training.stages import run_stage
from models.contract import Method, prepared
from models.methods.registry import METHODS
from models.policies.policy import StepPolicy
from models.rollout.adaptive_model import AdaptiveModel
from models.rollout.branch_model import POLICY
from models.training_plan import (
    MatchSizes,
    RefitBranches,
    TrainBackbones,
    TrainIntegers,
    TrainPolicy,
    TrainStage,
    TrainWidths,
)

LABELS = ("a", "b", "c")
PRESETS = [(method, name) for method in METHODS.values() for name in method.presets]


def declared(case: tuple[Method[Any], str]) -> str:
    return f"{case[0].name}-{case[1]}"


@pytest.mark.parametrize("case", PRESETS, ids=declared)
def test_options_name_networks_and_views_that_are_declared(case: tuple[Method[Any], str]) -> None:
    method, name = case
    architecture = method.architecture(method.presets[name])
    graphs = {option.graph for option in architecture.space.options if option.graph}
    assert graphs - {POLICY} == set(architecture.branches)
    for option in architecture.space.options:
        if option.graph in architecture.branches:
            assert architecture.branches[str(option.graph)].view.name == option.view
    seen = [network.view for network in architecture.branches.values()]
    seen += [network.view for network in architecture.policy.networks] if architecture.policy else []
    assert {view.name: view for view in seen} == dict(architecture.views)


@pytest.mark.parametrize("case", [c for c in PRESETS if c[1] == "tiny"], ids=declared)
def test_the_model_is_what_the_architecture_says(case: tuple[Method[Any], str]) -> None:
    method, name = case
    preset = method.presets[name]
    model = method.build(preset, LABELS)
    assert isinstance(model, AdaptiveModel) == method.has_policy(preset)
    assert model.space == method.architecture(preset).space
    if isinstance(model, AdaptiveModel):
        assert isinstance(model.policy, StepPolicy)
        assert model.policy.score.out_features == len(model.space.options)


@pytest.mark.parametrize("case", PRESETS, ids=declared)
def test_stages_come_in_an_order_that_makes_sense(case: tuple[Method[Any], str]) -> None:
    method, name = case
    plan = method.plan(method.presets[name])
    kinds = [type(stage) for stage in plan.stages]
    first = kinds[1] if kinds[0] is MatchSizes else kinds[0]
    assert first is TrainBackbones and len(set(kinds)) == len(kinds)
    for before, after in ((TrainPolicy, RefitBranches), (TrainWidths, TrainPolicy)):
        if before in kinds and after in kinds:
            assert kinds.index(before) < kinds.index(after)
    if TrainIntegers in kinds:
        assert kinds[-1] is TrainIntegers, "networks are quantized as they are in the end"
    policy = plan.find(TrainPolicy)
    if policy is not None and policy.frozen_branches:
        assert plan.holdout > 0, "a policy over frozen branches learns from clips that these have not seen"


@pytest.mark.parametrize("case", PRESETS, ids=declared)
def test_every_float_stage_has_a_runner(case: tuple[Method[Any], str]) -> None:
    method, name = case
    fallback = run_stage.dispatch(TrainStage)
    for stage in method.plan(method.presets[name]).stages:
        if stage.precision == "float":
            assert run_stage.dispatch(type(stage)) is not fallback


@pytest.mark.parametrize("method", METHODS.values(), ids=lambda method: method.name)
def test_steps_and_modalities(method: Method[Any]) -> None:
    for preset in method.presets.values():
        timing = method.timing(preset)
        assert timing.clip_steps > 0 and timing.segment_s >= 0
        if method.modalities is None:
            assert {view.modality for view in method.architecture(preset).views.values()} == {"rgb"}
            continue
        default, known = method.modalities.default(preset), method.modalities.known(preset)
        assert set(default) <= set(known)
        alone = method.modalities.restrict(preset, default[:1])
        groups = method.architecture(alone).space.groups
        assert [group.name for group in groups] == list(default[:1])


@pytest.mark.parametrize("method", METHODS.values(), ids=lambda method: method.name)
def test_without_weights_to_start_from_nothing_is_frozen(method: Method[Any]) -> None:
    for preset in method.presets.values():
        fresh = method.plan(prepared(preset, pretrained=False, flip=True))
        assert fresh.flip
        for stage in fresh.stages:
            assert stage.optimization.frozen_layers == 0 and stage.optimization.probe_decay == 0
        assert prepared(preset, pretrained=True) == preset
        assert replace(preset) == preset
