"""BundlePlan of several precisions: one store, one policy over them, and what is dropped."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from compiler.bundle_plan import BundlePlan
from compiler.data.cache import ClipCache
from compiler.errors import CompileError
from compiler.export.split import split
from compiler.gates.integer_layers import verify_integers
from compiler.gates.parity import verify_graphs, verify_streaming
from compiler.measuring.graph_costs import declared_costs, kept_costs, read_costs
from compiler.quantization.candidates import PrecisionSet
from compiler.targets import TARGETS
from compiler.training.plan_checks import check_plan
from compiler.training.run import TrainingRun
from compiler.training.stages import StageContext, run_stage
from compiler.training.training import Training
from compiler.variants import MIXED, TrainedVariants, train_mixed
from models.methods import coquant, videoiq
from models.recipe import Recipe
from models.training_plan import TrainPolicy, TrainStage
from runtimes.bundle import Bundle, write_bundle
from runtimes.engines.engine import open_engine
from runtimes.spec import CostTable, GraphCost, ViewCost
from runtimes.weight_store import narrowed, read_codes
from sdk.recognizer import StreamRecognizer
from tests.compiler.small_training import CPU, bundle_fields, small_training
from tests.models.small_arnet import SMALLEST, small_preset

ALL = ("fp32", "int8", "int4", "int2")


def costs_of(contents: BundlePlan) -> CostTable:
    """Floats cost three times what integers do, whatever the machine is busy with."""
    graphs, views = [], {}
    for plan in contents.variants:
        for network in plan.networks:
            ms = 3.0 if network.precision == "fp32" else 1.0
            graphs.append(GraphCost(graph=network.graph, view=network.view.name, p50_ms=ms, p95_ms=ms))
            views[network.view.name] = ViewCost(view=network.view.name, p50_ms=0.0, p95_ms=0.0)
    return CostTable(
        device="test", providers=("none",), threads=1, graphs=tuple(graphs), views=tuple(views.values())
    )


def recipe() -> Recipe:
    stages = small_preset().recipe
    return replace(stages, multibit=stages.branches, finetune=None)


def small_videoiq() -> videoiq.Preset:
    return replace(
        videoiq.PRESETS["tiny"],
        size=64,
        policy_size=32,
        hidden=16,
        backbone=SMALLEST,
        policy=SMALLEST,
        recipe=recipe(),
    )


def small_coquant() -> coquant.Preset:
    return replace(
        coquant.PRESETS["tiny"], size=64, backbone=SMALLEST, recipe=replace(recipe(), joint=None, qat=None)
    )


def training_of(method: ModuleType, preset: Any, cache: ClipCache, folder: Path) -> Training:
    torch.manual_seed(0)
    model = method.METHOD.build(preset, cache.labels)
    run = TrainingRun(folder, seed=0, hardware=CPU, progress=False)
    return Training(model, method.plan(preset), cache, run, name="small")


@dataclass(frozen=True)
class Packed:
    """A model's trained contents and the bundle they make."""

    training: Training
    trained: TrainedVariants
    bundle: Bundle


def packed(training: Training, trained: TrainedVariants, folder: Path) -> Packed:
    graphs = folder / "graphs"
    graphs.mkdir(parents=True)
    parts = split(trained.plan, (TARGETS["cpu"],), graphs)
    fields = bundle_fields(training, parts, MIXED)
    return Packed(training, trained, write_bundle(folder / "small.bundle", graphs, fields))


@pytest.fixture(scope="module")
def many_bits(cache: ClipCache, tmp_path_factory: pytest.TempPathFactory) -> Packed:
    """VideoIQ with every precision kept."""
    folder = tmp_path_factory.mktemp("videoiq")
    training = training_of(videoiq, small_videoiq(), cache, folder / "run")
    precisions = PrecisionSet(ALL, keep_all=True)
    return packed(training, train_mixed(training, TARGETS["cpu"], precisions, costs_of), folder)


@pytest.fixture(scope="module")
def menu(cache: ClipCache, tmp_path_factory: pytest.TempPathFactory) -> Packed:
    """CoQuant with every precision kept."""
    folder = tmp_path_factory.mktemp("coquant")
    training = training_of(coquant, small_coquant(), cache, folder / "run")
    precisions = PrecisionSet(ALL, keep_all=True)
    return packed(training, train_mixed(training, TARGETS["cpu"], precisions, costs_of), folder)


def test_options_are_precisions_and_skips(many_bits: Packed) -> None:
    (variant,) = many_bits.bundle.manifest.variants
    options = variant.action_space.options
    assert [option.name for option in options] == [*(f"rgb64-{p}" for p in ALL), "skip1", "skip2", "skip4"]
    assert [option.precision for option in options if option.graph] == list(ALL)
    assert variant.policy is not None and variant.policy.graph == "small-policy-int8"


def test_one_store_serves_every_width(many_bits: Packed) -> None:
    bundle = many_bits.bundle
    (store,) = bundle.manifest.stores
    stored = many_bits.trained.plan.stores[store.name]
    assert {t.name for t in store.tensors} == set(stored.codes)
    assert {t.name for t in store.tensors if not t.nested} == stored.whole
    for bits in (8, 4, 2):
        graph = bundle.manifest.graph(f"small-rgb64-int{bits}")
        assert (graph.store, graph.bits) == (store.name, bits) and not graph.weight_files
        network = many_bits.trained.plan.variants[0].branches[f"rgb64-int{bits}"]
        for tensor, codes in read_codes(store, bundle.folder, bits):
            eight = stored.codes[tensor.name]
            assert np.array_equal(codes, narrowed(eight, bits) if tensor.nested else eight)
            trained = network.module.get_submodule(tensor.name).get_buffer("codes").numpy()
            assert np.array_equal(codes, trained)
    assert bundle.manifest.graph("small-rgb64-fp32").store is None


@pytest.mark.parametrize("which", ["many_bits", "menu"])
def test_the_gates_hold(which: str, request: pytest.FixtureRequest) -> None:
    made: Packed = request.getfixturevalue(which)
    cache, contents = made.training.cache, made.trained.plan
    clips = cache.split("val")[:3]
    with open_engine(made.bundle, "cpu") as engine:
        graphs = verify_graphs(made.bundle, engine, contents, cache, clips)
    # An epoch of training leaves ties, which rounding may break: the graphs still mostly agree.
    for gate in graphs:
        assert gate.passed or float(gate.saw.partition("%")[0]) > 80, gate
    gates = verify_integers(made.bundle, TARGETS["cpu"]) + verify_streaming(
        made.bundle, contents, cache, clips
    )
    assert [gate for gate in gates if not gate.passed] == []
    assert len(verify_integers(made.bundle, TARGETS["cpu"])) >= 3


def test_the_app_chooses_where_there_is_no_policy(menu: Packed) -> None:
    (variant,) = menu.bundle.manifest.variants
    assert variant.policy is None and not any(option.skip for option in variant.action_space.options)
    clip = menu.training.cache.clips[menu.training.cache.split("val")[0]].path
    with StreamRecognizer(menu.bundle, "cpu") as recognizer:
        opened = {entry.graph for entry in recognizer.declared}
        assert recognizer.fixed == variant.action_space.options[0].name
        wanted = ["rgb64-int2", "rgb64-int8", "rgb64-fp32"]
        seen = []
        for recognition, name in zip(recognizer.stream(clip), [*wanted, "rgb64-int8"], strict=False):
            seen.append(recognition.choice)
            recognizer.fixed = name
        assert seen[1:] == wanted[: len(seen) - 1] and len(seen) > 2
        assert {entry.graph for entry in recognizer.declared} == opened  # no switch opened anything


def test_what_is_not_worth_its_cost_is_dropped(cache: ClipCache, many_bits: Packed, tmp_path: Path) -> None:
    training = training_of(coquant, small_coquant(), cache, tmp_path)
    precisions = PrecisionSet(ALL)
    trained = train_mixed(training, TARGETS["cpu"], precisions, costs_of)
    kept = {network.precision for network in trained.plan.variants[0].networks}
    assert kept < set(ALL) and len(trained.measured) == 4
    assert len(trained.lines) == 4 - len(kept)
    assert all(line.startswith("dropped rgb64 in ") for line in trained.lines)


def test_arnet_chooses_among_resolutions_and_precisions(cache: ClipCache, tmp_path: Path) -> None:
    training = small_training(cache, tmp_path / "run")
    nn.init.normal_(training.adaptive.policy.score.weight, std=1.0)
    precisions = PrecisionSet(("fp32", "int8"), keep_all=True)
    made = packed(training, train_mixed(training, TARGETS["cpu"], precisions, costs_of), tmp_path)
    (variant,) = made.bundle.manifest.variants
    assert [option.name for option in variant.action_space.options] == [
        *(f"rgb{size}-{precision}" for size in (64, 48, 40) for precision in ("fp32", "int8")),
        "rgb32",
        "skip1",
        "skip2",
        "skip4",
    ]
    assert variant.is_head(variant.action_space.options[6])
    clips = cache.split("val")[:3]
    assert all(gate.passed for gate in verify_streaming(made.bundle, made.trained.plan, cache, clips))


def test_too_few_clips_to_calibrate(cache: ClipCache, tmp_path: Path) -> None:
    training = small_training(cache, tmp_path)
    few = replace(training, plan=replace(training.plan, holdout=0.7))
    precisions = PrecisionSet(("fp32", "int8"))
    with pytest.raises(CompileError, match=r"calibration: has \d training clips; give 8 or more"):
        train_mixed(few, TARGETS["cpu"], precisions, costs_of)


def declared(contents: BundlePlan) -> dict[str, float]:
    table = declared_costs(contents, TARGETS["jetson"])
    assert "not measured" in table.device
    return {row.graph: row.p50_ms for row in table.graphs}


def test_declared_costs_follow_macs_and_the_targets_speeds(many_bits: Packed) -> None:
    costs = declared(many_bits.trained.plan)
    speeds = TARGETS["jetson"].speeds
    for precision in ("int8", "int4", "int2"):
        ratio = costs["small-rgb64-fp32"] / costs[f"small-rgb64-{precision}"]
        assert ratio == pytest.approx(speeds[precision])


def test_costs_are_measured_once(tmp_path: Path) -> None:
    calls: list[int] = []

    def measure() -> CostTable:
        calls.append(1)
        row = GraphCost(graph="a", view="v", p50_ms=1.0, p95_ms=1.0)
        return CostTable(device="d", providers=("p",), threads=1, graphs=(row,), views=())

    def keep(graphs: list[str]) -> CostTable:
        return kept_costs(tmp_path / "c.json", graphs, "d", measure)

    assert keep(["a"]) == keep(["a"]) and len(calls) == 1
    keep(["a", "b"])
    assert len(calls) == 2
    kept_costs(tmp_path / "c.json", ["a"], "another", measure)
    assert len(calls) == 3


def test_a_devices_cost_file(tmp_path: Path) -> None:
    with pytest.raises(CompileError, match="no such file; check the path given to --costs"):
        read_costs(tmp_path / "none.json", ["a"])
    damaged = tmp_path / "damaged.json"
    damaged.write_text("{}")
    with pytest.raises(CompileError, match="is not a cost table"):
        read_costs(damaged, ["a"])
    row = GraphCost(graph="a", view="v", p50_ms=1.0, p95_ms=1.0)
    table = CostTable(device="d", providers=("p",), threads=1, graphs=(row,), views=())
    good = tmp_path / "good.json"
    good.write_text(f"[{table.model_dump_json()}]")
    assert read_costs(good, ["a"]) == table
    with pytest.raises(CompileError, match="has no table with b; run adaptive-bench on the device"):
        read_costs(good, ["a", "b"])


@dataclass(frozen=True)
class Later(TrainStage):
    """A stage of a paper's own, declared after the policy's."""

    trains = "branches"
    clips = "all"


def test_stages_after_the_policys_run_in_their_order(many_bits: Packed) -> None:
    ran: list[str] = []

    @run_stage.register
    def _(stage: Later, training: Training, context: StageContext) -> StageContext:
        ran.append("later")
        return context

    declared = many_bits.training.plan
    place = [isinstance(stage, TrainPolicy) for stage in declared.stages].index(True)
    later = Later(declared.stages[0].optimization)
    plan = replace(declared, stages=(*declared.stages[: place + 1], later, *declared.stages[place + 1 :]))
    training = replace(many_bits.training, plan=plan)
    check_plan("own", plan, TARGETS["cpu"], ALL)
    train_mixed(training, TARGETS["cpu"], PrecisionSet(ALL, keep_all=True), costs_of)
    assert ran == ["later"]
    assert training.run.done("bits-rgb64-refit"), "branches get their precisions from what it leaves"
