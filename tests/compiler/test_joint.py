"""The joint model through its stages, split, gates and evaluation; how a request follows the data."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from compiler.bundle_plan import BundlePlan
from compiler.data.clips import ClipSet, find_clips
from compiler.export.split import split
from compiler.gates.parity import verify_graphs
from compiler.manifest import manifest_fields
from compiler.measuring.evaluation import Evaluator, branch_sets, learned_outcome, static_outcomes
from compiler.pipeline import build_model, follow_data
from compiler.quantization.candidates import PrecisionSet
from compiler.request import DataRequest, ModelRequest, Request
from compiler.targets import TARGETS
from compiler.training.tasks.rollout import roll_out_clips
from compiler.training.training import Training
from compiler.variants import TrainedVariants, train_mixed
from models.methods import joint
from models.rollout.adaptive_model import AdaptiveModel
from models.rollout.sampling import argmax_sampler
from runtimes.bundle import Bundle, write_bundle
from runtimes.engines.engine import open_engine
from runtimes.spec import CostTable, GraphCost, ViewCost
from sdk.decisions.choosers import LearnedChoice
from sdk.decisions.option_costs import option_costs
from tests.compiler.small_clips import small_training
from tests.compiler.test_pipeline import Told
from tests.models.small_joint import small_preset
from tests.sdk.films import DARK, encode

MJ = {"rgb32x3": 8.0, "rgb24x3": 4.0, "audio32": 2.0, "rgb16x2": 1.0}


def table_of(contents: BundlePlan) -> CostTable:
    """What a run takes in mJ, int8 half of fp32; in ms all are alike; views take half a mJ."""
    graphs, views = [], {}
    for plan in contents.variants:
        for network in plan.networks:
            mj = MJ[network.view.name] * (0.5 if network.precision == "int8" else 1.0)
            row = {"graph": network.graph, "view": network.view.name, "energy_mj": mj}
            graphs.append(GraphCost(p50_ms=3.0, p95_ms=3.0, **row))
            views |= {
                view.name: ViewCost(view=view.name, p50_ms=1, p95_ms=1, energy_mj=0.5)
                for view in network.views
            }
    return CostTable(
        device="desk",
        providers=(),
        threads=1,
        graphs=tuple(graphs),
        views=tuple(ViewCost(view=view, p50_ms=1, p95_ms=1, energy_mj=0.5) for view in views),
        idle_w=1.0,
        energy_source="a test",
    )


@pytest.fixture(scope="module")
def training(tmp_path_factory: pytest.TempPathFactory) -> Training:
    return small_training(tmp_path_factory.mktemp("run"), small_preset(), joint)


@pytest.fixture(scope="module")
def trained(training: Training) -> TrainedVariants:
    precisions = PrecisionSet(("fp32", "int8"), keep_all=True)
    return train_mixed(training, TARGETS["cpu"], precisions, table_of)


@pytest.fixture(scope="module")
def mixed(trained: TrainedVariants) -> AdaptiveModel:
    model = trained.plan.variants[0].model
    assert isinstance(model, AdaptiveModel)
    return model


@pytest.fixture(scope="module")
def bundle(training: Training, trained: TrainedVariants, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    graphs = tmp_path_factory.mktemp("graphs")
    parts = split(trained.plan, (TARGETS["cpu"],), graphs)
    fields = manifest_fields(training, "small", "cpu", parts)
    return write_bundle(tmp_path_factory.mktemp("bundle") / "small.bundle", graphs, fields)


def test_the_manifest(bundle: Bundle) -> None:
    (variant,) = bundle.manifest.variants
    assert variant.policy is not None
    assert variant.policy.heads == {"rgb": "logits_rgb", "audio": "logits_audio"}
    rgb, audio = variant.action_space.groups
    assert [option.name for option in rgb.options] == [
        "rgb32x3-fp32", "rgb32x3-int8", "rgb24x3-fp32", "rgb24x3-int8", "rgb16x2", "rgb-skip1", "rgb-skip2",
    ]  # fmt: skip
    assert [option.precision for option in audio.options[:3]] == ["fp32", "int8", "int8"]
    policy = bundle.manifest.graph(variant.policy.graph)
    assert {"price", "answer", "present", "rgb16x2", "audio16"} <= policy.inputs.keys()
    assert policy.inputs["answer"].shape == (1, 3)
    assert policy.outputs.keys() >= {"scores", "logits_rgb", "logits_audio"}


def test_options_are_trained_by_the_energy_that_was_measured(
    bundle: Bundle, trained: TrainedVariants
) -> None:
    variant = bundle.variant(None)
    costs = option_costs(variant, table_of(trained.plan))
    policy = costs[5:7]
    assert costs[:5].tolist() == [8.5, 4.5, 4.5, 2.5, 0.0]
    assert policy[0] == 0 and policy[1] < 0, "a long skip saves a run of the policy"


def test_the_gates(bundle: Bundle, trained: TrainedVariants, training: Training) -> None:
    cache = training.cache
    with open_engine(bundle, "cpu") as engine:
        gates = verify_graphs(bundle, engine, trained.plan, cache, cache.split("val"))
    assert [gate for gate in gates if not gate.passed and "top choice" not in gate.name] == []


def test_rollouts_decide_and_answer_as_torch(
    bundle: Bundle, training: Training, mixed: AdaptiveModel, trained: TrainedVariants
) -> None:
    """With the policy's heads, its memory of the answer, precisions side by side, and steps without sound."""
    plan = trained.plan.variants[0]
    assert plan.policy is not None
    cache, variant = training.cache, bundle.variant(None)
    model = mixed.eval()
    model.policy = plan.policy.module  # type: ignore[assignment]
    kinds = set()
    with open_engine(bundle, "cpu") as engine:
        evaluator = Evaluator(bundle.manifest, variant, engine, cache, cache.split("val"))
        costs = option_costs(variant, table_of(trained.plan))
        for clip in cache.split("val"):
            steps = evaluator.roll_out(clip, LearnedChoice(variant.action_space, costs, 0.5))
            item = training.clip_steps([clip], train=False)[0]
            batch = {
                name: {k: v[None] for k, v in value.items()} if isinstance(value, dict) else value[None]
                for name, value in item.items()
            }
            relative = torch.tensor(costs / costs.max(), dtype=torch.float32)
            with torch.no_grad():
                rollout = roll_out_clips(
                    model,
                    batch,
                    argmax_sampler(relative),
                    only_chosen=False,
                    price=0.5,  # type: ignore[arg-type]
                )
            for t, step in enumerate(steps):
                row = rollout.choices[0, t]
                names = [model.space.options[i].name for i in row.nonzero()[:, 0].tolist()]
                assert step.decision.name == ("+".join(names) or "held")
                kinds |= set(names)
            np.testing.assert_allclose(steps[-1].scores, rollout.logits.softmax(1)[0].numpy(), atol=0.02)
    assert len(kinds) > 1


def test_heads_are_static_choices_that_cost_nothing_more(
    bundle: Bundle, training: Training, trained: TrainedVariants
) -> None:
    variant, table = bundle.variant(None), table_of(trained.plan)
    names = {"+".join(option.name for option in options) for options in branch_sets(variant)}
    assert {"rgb16x2", "audio16", "rgb16x2+audio16", "rgb32x3-int8+audio16"} <= names
    with open_engine(bundle, "cpu") as engine:
        evaluator = Evaluator(bundle.manifest, variant, engine, training.cache, training.cache.split("val"))
        outcome = learned_outcome(evaluator, table, 1e4, "cheapest")
        static = {one.name: one for one in static_outcomes(evaluator, table)}
    policy_mj = 0.5 + 2 * 0.5  # in int8, with both its views
    steps = max(training.cache.steps(clip) for clip in training.cache.split("val"))
    assert steps == 5 and static["rgb16x2+audio16 x 1"].mj.tolist()[:1] == [policy_mj]  # type: ignore[union-attr]
    assert static["rgb32x3-int8+audio16 x 1"].mj.tolist()[:1] == [policy_mj + 4.5]  # type: ignore[union-attr]
    assert static["rgb32x3-int8 x 2"].mj.tolist()[:1] == [9.0]  # type: ignore[union-attr]
    assert outcome.mj is not None and outcome.mean_mj is not None
    assert set(outcome.choices) <= {"rgb16x2+audio16", "held"} | {
        f"{rgb}+{audio}" for rgb in ("rgb16x2", "rgb-skip2") for audio in ("audio16", "audio-skip2")
    }


def silent(root: Path) -> ClipSet:
    for label in ("one", "other"):
        for number in range(3):
            (root / label).mkdir(parents=True, exist_ok=True)
            encode(root / label / f"{number}.mp4", [DARK] * 12)
    return find_clips(root)


def test_without_sound_the_joint_model_takes_pictures_alone(tmp_path: Path) -> None:
    told, clips = Told(), silent(tmp_path / "clips")
    data, out = DataRequest(tmp_path / "clips"), tmp_path / "x.bundle"
    request = Request(ModelRequest("joint", "tiny"), (TARGETS["cpu"],), out, data)
    followed = follow_data(request, clips, told)
    assert followed.model.modalities == ("rgb",)
    assert told.notes == ["no clip has sound: joint chooses among rgb alone"]
    preset, model = build_model(followed, clips.labels, told)
    assert followed.model.method.timing(preset).segment_s == 0 and model.branches.keys() == {
        "rgb224",
        "rgb168",
        "rgb112",
    }
    asked = replace(request, model=replace(request.model, modalities=("rgb", "audio")))
    assert follow_data(asked, clips, told) is asked, "what is asked for is not taken away"
    other = replace(request, model=ModelRequest("adamml", "tiny"))
    assert follow_data(other, clips, told) is other
