"""The split: one graph per part and precision, and variants that name them."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest
import torch

from compiler.bundle_plan import BundlePlan
from compiler.errors import CompileError
from compiler.export.split import Split, split
from compiler.export.writers import write_graphs
from compiler.targets import TARGETS, find_target, find_targets
from compiler.training.stages import Training, option_macs
from models.rollout.branch_model import POLICY
from tests.models.small_arnet import BRANCHES


def test_a_graph_per_part_and_precision(parts: Split, graphs: Path) -> None:
    names = [graph.name for graph in parts.graphs]
    assert sorted(names) == sorted(
        f"arnet-{part}-{precision}" for part in (POLICY, *BRANCHES) for precision in ("int8", "fp32")
    )
    for graph in parts.graphs:
        model = onnx.load(graphs / graph.file, load_external_data=False)
        assert model.graph.name == graph.name
        assert [value.name for value in model.graph.input] == list(graph.inputs)
        assert [value.name for value in model.graph.output] == list(graph.outputs)
        assert graph.weight_files and all((graphs / file).is_file() for file in graph.weight_files)
        assert graph.inputs["frame"].dtype == "uint8"
        assert graph.role == ("policy" if POLICY in graph.name else "branch")


def test_variants_name_graphs_of_their_precision(parts: Split) -> None:
    assert [variant.name for variant in parts.variants] == ["int8", "fp32"]
    for variant in parts.variants:
        assert variant.policy is not None
        assert variant.policy.graph == f"arnet-{POLICY}-{variant.name}"
        assert variant.policy.state == {"h": (1, 16), "c": (1, 16)}
        branches = [option for option in variant.action_space.options if not option.skip]
        assert [option.graph for option in branches] == [
            f"arnet-{part}-{variant.name}" for part in (*BRANCHES, POLICY)
        ]
        assert {option.precision for option in branches} == {variant.name}
        assert [option.skip for option in variant.action_space.options if option.skip] == [1, 2, 4]


def test_macs_are_those_of_the_float_networks(parts: Split, training: Training) -> None:
    counted = {graph.name: graph.macs for graph in parts.graphs}
    for name, macs in zip(BRANCHES, option_macs(training.model).tolist(), strict=False):
        assert counted[f"arnet-{name}-int8"] == counted[f"arnet-{name}-fp32"] == {name: macs}
    (policy,) = counted[f"arnet-{POLICY}-int8"].values()
    lstm = training.adaptive.policy.lstm
    assert policy > lstm.from_input.weight.numel() + lstm.from_state.weight.numel()


def test_integer_graphs_are_small(parts: Split, graphs: Path) -> None:
    size = {g.name: sum((graphs / f).stat().st_size for f in g.weight_files) for g in parts.graphs}
    for part in (POLICY, *BRANCHES):
        assert size[f"arnet-{part}-int8"] < 0.3 * size[f"arnet-{part}-fp32"]


def test_targets_are_found_by_name() -> None:
    assert find_target("jetson") is TARGETS["jetson"]
    with pytest.raises(CompileError, match="target toaster: is unknown; use one of cpu, jetson"):
        find_target("toaster")


def test_splitting_again_writes_the_same(
    contents: BundlePlan, graphs: Path, tmp_path: Path, parts: Split
) -> None:
    torch.manual_seed(1)
    again = split(contents, (TARGETS["cpu"],), tmp_path)
    assert again == parts
    for path in tmp_path.iterdir():
        assert path.read_bytes() == (graphs / path.name).read_bytes()


def test_several_targets_share_one_training() -> None:
    assert [target.name for target in find_targets("android, litert,cpu")] == ["android", "litert", "cpu"]
    with pytest.raises(CompileError, match="targets cpu,cpu: name one twice; name each once"):
        find_targets("cpu,cpu")
    with pytest.raises(CompileError, match=r"targets cpu and jetson: are trained for other activations"):
        find_targets("cpu,jetson")


def test_what_no_machine_without_the_device_runs_has_a_stand_in() -> None:
    gpu = TARGETS["android-gpu"]
    assert gpu.run_here.name == "android-gpu" and gpu.run_here.precisions == gpu.precisions
    assert gpu.run_here.providers == TARGETS["android"].providers
    assert TARGETS["cpu"].run_here is TARGETS["cpu"]


def test_a_network_that_a_runtime_cannot_take_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    pytest.importorskip("ai_edge_litert")

    def refuse(*_: object) -> None:
        raise NotImplementedError("aten.erf (erf_1) has no counterpart in LiteRT graphs yet")

    monkeypatch.setattr("compiler.export.litert.writer.write_graphs", refuse)
    with pytest.raises(CompileError, match=r"target litert: cannot take a network \(aten.erf"):
        write_graphs([], TARGETS["litert"], tmp_path, {})
