"""Models of several modalities through the same stages, split, gates, evaluation and report as others."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from compiler.bundle_plan import BundlePlan
from compiler.export.split import split
from compiler.gates.integer_layers import verify_integers
from compiler.gates.parity import verify_graphs
from compiler.manifest import manifest_fields
from compiler.measuring.evaluation import Evaluator, learned_outcome, random_outcome, static_outcomes
from compiler.measuring.profile import Profile
from compiler.quantization.networks import integer_networks
from compiler.report.report import write_report
from compiler.targets import TARGETS
from compiler.training.stages import train_float
from compiler.training.training import Training
from compiler.variants import variants
from models.recipe import Optimization
from models.rollout.adaptive_model import AdaptiveModel
from models.rollout.branch_model import POLICY
from models.rollout.sampling import argmax_sampler
from runtimes.bundle import Bundle, write_bundle
from runtimes.engines.engine import open_engine
from runtimes.spec import CostTable, GraphCost, ViewCost
from sdk.decisions.choosers import LearnedChoice
from sdk.decisions.option_costs import option_costs
from tests.compiler.small_clips import small_training
from tests.models.small_adamml import MODALITIES, small_preset


@pytest.fixture(scope="module")
def training(tmp_path_factory: pytest.TempPathFactory) -> Training:
    made = small_training(tmp_path_factory.mktemp("run"))
    train_float(made)
    torch.nn.init.normal_(made.adaptive.policy.get_submodule("score").weight, std=3.0)
    return made


@pytest.fixture(scope="module")
def contents(training: Training) -> BundlePlan:
    parts = (POLICY, *training.model.branches)
    integer = integer_networks(training, parts, "uint8", training.train_clips)
    return variants(training, TARGETS["cpu"], integer)


@pytest.fixture(scope="module")
def bundle(training: Training, contents: BundlePlan, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    graphs = tmp_path_factory.mktemp("graphs")
    parts = split(contents, (TARGETS["cpu"],), graphs)
    fields = manifest_fields(training, "small", "cpu", parts) | {"default_variant": "int8"}
    return write_bundle(tmp_path_factory.mktemp("bundle") / "small.bundle", graphs, fields)


@pytest.fixture(scope="module")
def table(bundle: Bundle) -> CostTable:
    """A run of each branch costs 8, 2 and 16 ms, the policy 1, and each view half a ms."""
    ms = {"rgb24x3": 8.0, "audio32": 2.0, "flow24x3": 16.0, "rgb16x2": 1.0}
    graphs = tuple(
        GraphCost(graph=graph.name, view=view, p50_ms=ms[view], p95_ms=ms[view])
        for graph in bundle.manifest.graphs
        for view in graph.macs
    )
    views = tuple(ViewCost(view=view.name, p50_ms=0.5, p95_ms=0.5) for view in bundle.manifest.views)
    return CostTable(device="desk", providers=(), threads=1, graphs=graphs, views=views)


def test_the_manifest(bundle: Bundle, training: Training) -> None:
    manifest = bundle.manifest
    for variant in manifest.variants:
        assert variant.policy is not None
        assert variant.policy.views == ("rgb16x2", "audio16", "rgbdiff16x2")
        assert variant.policy.state == {"h": (1, 8), "c": (1, 8), "last_scores": (1, 6)}
        assert [group.name for group in variant.action_space.groups] == list(MODALITIES)
        assert all(group.optional for group in variant.action_space.groups)
        policy = manifest.graph(variant.policy.graph)
        assert "logits" not in policy.outputs and "frame" not in policy.inputs
        assert policy.inputs["present"].shape == (1, 3)
        assert policy.inputs["audio16"].shape == (1, 16, 16, 1)
    assert manifest.graph("adamml-flow-int8").inputs["frame"].shape == (3, 24, 24, 4)
    assert sum(manifest.fusion.weights.values()) == pytest.approx(1.0)
    assert Bundle.open(bundle.location).manifest == manifest


def test_the_gates(bundle: Bundle, contents: BundlePlan, training: Training) -> None:
    cache = training.cache
    with open_engine(bundle, "cpu") as engine:
        gates = verify_graphs(bundle, engine, contents, cache, cache.split("val"))
    gates += verify_integers(bundle, TARGETS["cpu"])
    assert [gate for gate in gates if not gate.passed and "top choice" not in gate.name] == []
    for gate in (gate for gate in gates if "top choice" in gate.name):
        assert float(gate.saw.partition("%")[0]) > 80, gate


def test_rollouts_decide_and_answer_as_torch(bundle: Bundle, training: Training) -> None:
    """Of clips with steps without sound, by the float graphs."""
    model, cache = training.adaptive.eval(), training.cache
    variant = bundle.variant("fp32")
    clips = cache.split("val")
    with open_engine(bundle, "cpu") as engine:
        evaluator = Evaluator(bundle.manifest, variant, engine, cache, clips)
        for clip in clips:
            steps = evaluator.roll_out(clip, LearnedChoice(variant.action_space, np.zeros(6)))
            rollout = torch_rollout(model, training, clip)
            for t, step in enumerate(steps):
                ran = zip(MODALITIES, rollout.used[0, t], strict=True)
                names = [name if used else f"{name}-off" for name, used in ran]
                held = not rollout.choices[0, t].any()
                assert step.decision.name == ("held" if held else "+".join(names))
                if cache.absent(clip, "audio32")[t]:  # type: ignore[attr-defined]
                    assert step.decision.held or "audio-off" in step.decision.name
            np.testing.assert_allclose(steps[-1].scores, rollout.logits.softmax(1)[0].numpy(), atol=1e-4)
        assert evaluator.absent_views(0, 1) == {"audio32"} and not evaluator.absent_views(1, 1)


def torch_rollout(model: AdaptiveModel, training: Training, clip: int):  # type: ignore[no-untyped-def]
    item = training.clip_steps([clip], train=False)[0]
    with torch.no_grad():
        views = {name: frames[: training.cache.steps(clip)] for name, frames in item["views"].items()}
        features = model.embed(views)[None]
        logits = {
            name: model.branch_logits(name, views[model.view_of(name).name])[None] for name in model.branches
        }
        present = torch.ones(features.shape[:2], dtype=torch.bool)
        available = item["available"][None, : present.shape[1]]
        return model.rollout(features, logits, present, argmax_sampler(torch.zeros(6)), available)


def test_every_set_of_modalities_is_a_static_choice(
    bundle: Bundle, training: Training, table: CostTable
) -> None:
    cache = training.cache
    with open_engine(bundle, "cpu") as engine:
        evaluator = Evaluator(bundle.manifest, bundle.variant("fp32"), engine, cache, cache.split("val"))
        outcomes = {outcome.name: outcome for outcome in static_outcomes(evaluator, table)}
        learned = learned_outcome(evaluator, table, 0.0, "adaptive")
        drawn = random_outcome(evaluator, table, seed=0)
    assert {name.partition(" ")[0] for name in outcomes} == {
        "rgb", "audio", "flow", "rgb+audio", "rgb+flow", "audio+flow", "rgb+audio+flow",
    }  # fmt: skip
    heard = [not cache.absent(clip, "audio32")[cache.steps(clip) // 2] for clip in cache.split("val")]  # type: ignore[attr-defined]
    assert outcomes["rgb+audio x 1"].ms.tolist() == [11.0 if there else 8.5 for there in heard]
    assert outcomes["flow x 2"].ms.tolist() == [33.0] * len(heard)
    costs = option_costs(bundle.variant("fp32"), table)
    assert costs.tolist() == [8.5, 0, 2.5, 0, 16.5, 0]
    for outcome in (learned, drawn):
        assert outcome.used is not None and outcome.used.shape == (len(heard), 3)
        steps = np.array([cache.steps(clip) for clip in cache.split("val")])
        runs = (outcome.used * steps[:, None]) @ np.array([8.5, 2.5, 16.5])
        policy_runs = np.array(outcome.ms - runs) / 2.5  # three views and a ms
        assert (policy_runs <= steps + 1e-6).all() and (policy_runs >= 1 - 1e-6).all()


def test_the_report_tells_modalities_by_label(bundle: Bundle, training: Training, table: CostTable) -> None:
    cache = training.cache
    variant = bundle.variant("int8")
    with open_engine(bundle, "cpu") as engine:
        evaluator = Evaluator(bundle.manifest, variant, engine, cache, cache.split("val"))
        learned = learned_outcome(evaluator, table, 0.0, "adaptive")
        outcomes = (*static_outcomes(evaluator, table), learned)
    manifest = bundle.manifest.model_copy(update={"variants": (variant,)})
    report = write_report(manifest, Profile(table, outcomes, (), (), {"int8": "rgb+audio+flow"}), [], cache)
    assert "steps that used, int8" in report and "<th>audio</th>" in report
    for label in cache.labels:
        assert f"<td>{label}</td>" in report


def test_all_stages_of_the_paper(tmp_path: Path) -> None:
    """Warm-up, alternating epochs and fine-tuning train what they say and nothing else."""
    stage = Optimization(epochs=1, lr=1e-3, batch=4, frames=1, adam=True)
    recipe = {
        "warmup": stage,
        "joint": replace(stage, epochs=2, alternating=True),
        "finetune": replace(stage, frozen_norms=True),
    }
    training = small_training(tmp_path, small_preset(("rgb", "audio"), holdout=0.0, **recipe))
    train_float(training)
    states = {name: training.run.state(name) for name in ("warmup", "joint", "finetune")}

    def changed(before: str, after: str) -> set[str]:
        one, other = states[before], states[after]
        return {name.split(".")[0] for name in one if not torch.equal(one[name], other[name])}

    assert changed("warmup", "joint") == {"policy", "branches", "late_fusion"}
    assert changed("joint", "finetune") <= {"branches", "late_fusion"}
