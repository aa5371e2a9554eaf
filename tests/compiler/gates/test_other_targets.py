"""A bundle's further targets: the gates pass the same networks in other runtimes, and fail others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from compiler.bundle_plan import BundlePlan
from compiler.data.cache import ClipCache
from compiler.export.split import split, write_again
from compiler.gates.other_targets import verify_decisions, verify_target
from compiler.targets import TARGETS, Target
from compiler.training.stages import Training
from runtimes.bundle import Bundle, write_bundle
from tests.compiler.small_training import bundle_fields

PACKAGES = {"litert": "ai_edge_litert", "android": "executorch", "android-gpu": "executorch"}


def packed(contents: BundlePlan, targets: Sequence[Target], training: Training, folder: Path) -> Bundle:
    graphs = folder / "graphs"
    graphs.mkdir()
    parts = split(contents, targets, graphs)
    assert all(gate.passed for gate in parts.gates)
    return write_bundle(folder / "small.bundle", graphs, bundle_fields(training, parts, "int8"))


@pytest.mark.parametrize("name", ["litert", pytest.param("android", marks=pytest.mark.slow)])
def test_the_same_networks_decide_alike_in_another_runtime(
    contents: BundlePlan, cache: ClipCache, training: Training, tmp_path: Path, name: str
) -> None:
    if find_spec(PACKAGES[name]) is None:
        pytest.skip(f"{PACKAGES[name]} is not installed")
    target, clips = TARGETS[name], cache.split("val")
    bundle = packed(contents, (TARGETS["cpu"], target), training, tmp_path)
    gates = verify_target(bundle, target, contents, cache, clips, clips, clips)
    assert [gate for gate in gates if not gate.passed] == []
    assert {gate.name for gate in gates} >= {f"{name}: int8 decides alike", f"{name}: fp32 decides alike"}
    assert all(gate.name.startswith(f"{name}: ") for gate in gates)


def test_other_decisions_fail_the_gate(
    contents: BundlePlan, cache: ClipCache, training: Training, tmp_path: Path
) -> None:
    """A further target whose float policy likes nothing but the first option."""
    bundle = packed(contents, (TARGETS["cpu"],), training, tmp_path)
    twins = [graph.model_copy(update={"target": "twin"}) for graph in bundle.manifest.graphs]
    place = next(i for i, graph in enumerate(twins) if graph.name == "arnet-policy-fp32")
    model = onnx.load(tmp_path / "graphs" / twins[place].file)
    bias = next(tensor for tensor in model.graph.initializer if tensor.name.endswith("score.bias"))
    partial = 100.0 * np.eye(1, len(contents.variants[0].model.space.options), dtype=np.float32)[0]
    bias.CopyFrom(numpy_helper.from_array(partial, bias.name))
    onnx.save(model, tmp_path / "graphs" / "partial.onnx")
    twins[place] = twins[place].model_copy(update={"file": "partial.onnx", "weight_files": ()})
    fields = bundle.manifest.model_dump(exclude={"files"}) | {"graphs": (*bundle.manifest.graphs, *twins)}
    both = write_bundle(tmp_path / "both.bundle", tmp_path / "graphs", fields)
    paths = [cache.clips[clip].path for clip in cache.split("val")]
    gates = verify_decisions(both, replace(TARGETS["cpu"], name="twin"), paths)
    assert {gate.name: gate.passed for gate in gates} == {
        "int8 decides alike": True,
        "fp32 decides alike": False,
    }


@pytest.mark.slow
def test_a_stand_in_gives_way_to_the_targets_own_graphs(
    contents: BundlePlan, training: Training, tmp_path: Path
) -> None:
    if find_spec("executorch") is None:
        pytest.skip("executorch is not installed")
    target = TARGETS["android-gpu"]
    floats = BundlePlan(tuple(plan for plan in contents.variants if plan.name == "fp32"))
    parts = split(floats, (target.run_here,), tmp_path)
    stood_in = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    parts = write_again(parts, floats, (target,), tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == set(stood_in)
    assert all(path.read_bytes() != stood_in[path.name] for path in tmp_path.iterdir())
    assert b"VulkanBackend" in (tmp_path / parts.graphs[0].file).read_bytes()
