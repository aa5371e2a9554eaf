"""The gates: they pass a good bundle, and each fails when it should."""

from __future__ import annotations

import copy
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from torch import nn

from compiler.bundle_plan import BundlePlan, Network
from compiler.data.cache import ClipCache
from compiler.errors import CompileError
from compiler.export.onnx.exporter import save
from compiler.gate import Gate, require
from compiler.gates.integer_layers import verify_integers
from compiler.gates.parity import _agreement as agreement
from compiler.gates.parity import _compare_branch as compare_branch
from compiler.gates.parity import _compare_policy as compare_policy
from compiler.gates.parity import _Compared as Compared
from compiler.gates.parity import verify_graphs, verify_streaming
from compiler.targets import TARGETS
from models.rollout.adaptive_model import AdaptiveModel
from models.rollout.branch_model import POLICY
from runtimes.bundle import Bundle, write_bundle
from runtimes.engines.engine import Array, GraphRunner, open_engine
from runtimes.spec import Steps

Remade = Callable[..., Bundle]


@pytest.fixture
def remade(manifest_fields: dict[str, Any], graphs: Path, tmp_path: Path) -> Remade:
    """``remade(edit, **fields)``: the bundle, after ``edit(folder of graphs)``, with other fields."""

    def remake(edit: Callable[[Path], None] = lambda folder: None, **fields: object) -> Bundle:
        folder = tmp_path / "graphs"
        shutil.copytree(graphs, folder)
        edit(folder)
        return write_bundle(tmp_path / "remade.bundle", folder, manifest_fields | fields)

    return remake


def failed(gates: list[Gate]) -> list[str]:
    return [gate.name for gate in gates if not gate.passed]


def with_another(contents: BundlePlan, variant: str, part: str, network: nn.Module) -> BundlePlan:
    """The same contents, but for one network."""
    plans = []
    for plan in contents.variants:
        if plan.name == variant and part == POLICY:
            assert plan.policy is not None
            plan = replace(plan, policy=replace(plan.policy, module=network))
        elif plan.name == variant:
            other = replace(plan.branches[part], module=network)
            plan = replace(plan, branches={**plan.branches, part: other})
        plans.append(plan)
    return BundlePlan(tuple(plans))


def the_network(contents: BundlePlan, variant: str, part: str) -> nn.Module:
    (plan,) = (plan for plan in contents.variants if plan.name == variant)
    (network,) = (network for network in plan.networks if network.part == part)
    return copy.deepcopy(network.module)


def graph_gates(bundle: Bundle, contents: BundlePlan, cache: ClipCache) -> list[Gate]:
    with open_engine(bundle, "cpu") as engine:
        return verify_graphs(bundle, engine, contents, cache, cache.split("val")[:3])


def test_a_good_bundle_passes(bundle: Bundle, contents: BundlePlan, cache: ClipCache) -> None:
    clips = cache.split("val")
    gates = graph_gates(bundle, contents, cache) + verify_integers(bundle, TARGETS["cpu"])
    gates += verify_streaming(bundle, contents, cache, clips)
    assert failed([gate for gate in gates if "top choice" not in gate.name]) == []
    # An epoch of training leaves ties, which rounding may break: the graphs still mostly agree.
    for gate in (gate for gate in gates if "top choice" in gate.name):
        assert float(gate.saw.partition("%")[0]) > 80, gate
    names = [gate.name for gate in gates]
    assert len(names) == len(set(names)) == 2 * 4 + 4 + 3


def test_another_weight_fails_the_float_gate(bundle: Bundle, contents: BundlePlan, cache: ClipCache) -> None:
    branch = the_network(contents, "fp32", "rgb48")
    with torch.no_grad():
        branch.get_submodule("fc").bias[0] += 1e-3  # type: ignore[index, operator]
    gates = graph_gates(bundle, with_another(contents, "fp32", "rgb48", branch), cache)
    assert [name for name in failed(gates) if "fp32" in name] == ["arnet-rgb48-fp32 equals torch"]


@pytest.mark.parametrize("part", [POLICY, "rgb40"])
def test_another_network_fails_the_integer_gate(
    bundle: Bundle, contents: BundlePlan, cache: ClipCache, part: str
) -> None:
    network = the_network(contents, "int8", part)
    head = network.get_submodule("score" if part == POLICY else "fc")
    assert isinstance(head, nn.Linear)
    head.weight.data.neg_()
    head.bias.data.neg_()
    gates = graph_gates(bundle, with_another(contents, "int8", part, network), cache)
    assert f"arnet-{part}-int8 agrees with the int8 network's top choice" in failed(gates)


def leave_a_float_convolution(folder: Path) -> None:
    """Take the quantizer before the second convolution out of one int8 graph."""
    path = folder / "arnet-rgb64-int8.onnx"
    model = onnx.load(path)
    producers = {output: node for node in model.graph.node for output in node.output}
    convolution = [node for node in model.graph.node if node.op_type == "Conv"][1]
    quantize = producers[producers[convolution.input[0]].input[0]]
    assert quantize.op_type == "QuantizeLinear"
    convolution.input[0] = quantize.input[0]
    save(model, path)


@pytest.mark.parametrize("fuses_here", [True, False])
def test_a_float_convolution_fails_the_fused_gate(remade: Remade, fuses_here: bool) -> None:
    target = replace(TARGETS["cpu"], fuses_here=fuses_here)
    gates = verify_integers(remade(leave_a_float_convolution), target)
    (name,) = failed(gates)
    assert name.startswith("arnet-rgb64-int8")
    assert len(gates) == 4


def test_other_steps_fail_the_streaming_gate(remade: Remade, contents: BundlePlan, cache: ClipCache) -> None:
    """The stream sees fewer frames than the cached ones that the bundle is compared on."""
    bundle = remade(steps=Steps(rate_hz=1.0, clip_steps=cache.clip_steps))
    gates = verify_streaming(bundle, contents, cache, cache.split("val")[:3])
    assert {"int8: streaming equals offline", "fp32: streaming equals offline"} <= set(failed(gates))


def test_another_model_fails_the_rollout_gate(bundle: Bundle, contents: BundlePlan, cache: ClipCache) -> None:
    model = copy.deepcopy(contents.variants[0].model)
    assert isinstance(model, AdaptiveModel)
    with torch.no_grad():
        model.policy.classify.bias += torch.tensor([1.0, 0, 0])
        for branch in model.branches.values():
            branch.get_submodule("fc").bias[0] += 1.0  # type: ignore[index, operator]
    other = BundlePlan(tuple(replace(plan, model=model) for plan in contents.variants))
    gates = verify_streaming(bundle, other, cache, cache.split("val")[:3])
    assert failed(gates) == ["fp32: streaming equals torch's rollout"]


def test_require_names_what_failed() -> None:
    good, bad = Gate("good", "all of it", passed=True), Gate("bad", "3 of 4 steps", passed=False)
    require([good])
    with pytest.raises(CompileError, match="bad: 3 of 4 steps") as caught:
        require([good, bad])
    assert "good" not in str(caught.value)


def test_a_failure_is_judged_again_on_more_clips_and_in_double(
    bundle: Bundle, contents: BundlePlan, cache: ClipCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    judged: list[tuple[int, bool]] = []

    def compare(
        run: object, network: Network, cache: ClipCache, clips: list[int], in_double: bool = False
    ) -> list[Compared]:
        """One step that agrees, if there is more than one clip."""
        judged.append((len(clips), in_double))
        got, wanted = np.array([[1.0, 0.0]]), np.array([[0.0, 1.0]])
        return [Compared(wanted if len(clips) > 1 else got, wanted, None)]

    monkeypatch.setattr("compiler.gates.parity._compare_branch", compare)
    clips = cache.split("val")[:3]
    with open_engine(bundle, "cpu") as engine:
        gates = verify_graphs(bundle, engine, contents, cache, clips[:1], clips)
        assert judged == [(1, False), (3, True)] * 3 + [(1, False)] * 3
        branches = [gate for gate in gates if "policy" not in gate.name]
        assert [gate.passed for gate in branches] == [True] * 3 + [False] * 3
        judged.clear()
        gates = verify_graphs(bundle, engine, contents, cache, clips[:1])
    assert judged == [(1, False), (1, True)] * 3 + [(1, False)] * 3 and not all(gate.passed for gate in gates)


def test_steps_that_rounding_decides_are_not_held_against_a_graph() -> None:
    """100 steps: 2 tops differ from the network's, and it changes one of these itself in double precision."""
    wanted = np.tile(np.array([1.0, 0.0]), (100, 1))
    got, in_double = wanted.copy(), wanted.copy()
    got[:2] = got[:2, ::-1]
    in_double[1:2] = in_double[1:2, ::-1]
    assert agreement(Compared(got, wanted, None)) == (0.98, 0.98, 100)
    assert agreement(Compared(got, wanted, in_double)) == (0.98, 98 / 99, 99)


@dataclass(frozen=True)
class _Contrary:
    """A graph that says the opposite of another at every step, so that all are looked at."""

    run: GraphRunner

    def __call__(self, **inputs: Array) -> dict[str, Array]:
        return {name: -said for name, said in self.run(**inputs).items()}


def test_the_network_in_double_is_the_network(contents: BundlePlan, cache: ClipCache, bundle: Bundle) -> None:
    with open_engine(bundle, "cpu") as engine:
        for network in contents.variants[0].networks:
            compare = compare_policy if network.part == POLICY else compare_branch
            contrary = _Contrary(engine.graph(network.graph))
            for output in compare(contrary, network, cache, cache.split("val")[:2], in_double=True):
                assert output.in_double is not None and output.in_double.dtype == np.float64
                assert np.abs(output.in_double - output.wanted).mean() < 0.2 * output.wanted.std()
