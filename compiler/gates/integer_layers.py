"""The gate that no layer of an int8 graph is left to compute in float, for ONNX Runtime."""

from __future__ import annotations

import tempfile
from collections import Counter
from pathlib import Path

import onnx
import onnxruntime

from compiler.gate import Gate
from compiler.targets import Target
from runtimes.bundle import Bundle
from runtimes.engines.onnx import session_options
from runtimes.spec import Graph
from runtimes.weight_store_install import installed_graph

_FLOAT_LAYERS = ("Conv", "FusedConv", "Gemm", "MatMul", "FusedGemm")


def verify_integers(bundle: Bundle, target: Target) -> list[Gate]:
    """No layer of an int8 graph of ``target`` is left to compute in float.

    Where this machine's ONNX Runtime optimizes as the target's does, that is read off its optimized graph.
    Elsewhere every layer must at least have its input and its weights from a DequantizeLinear, which is
    what the target's own compiler fuses. Files of other runtimes were judged when they were written.
    """
    judge = _fused_gate if target.fuses_here else _explicit_gate
    graphs = bundle.manifest.graphs_of(target.name) if target.runtime == "onnx" else ()
    return [judge(bundle, graph) for graph in graphs if graph.precision != "fp32"]


def _fused_gate(bundle: Bundle, graph: Graph) -> Gate:
    with tempfile.TemporaryDirectory() as folder:
        optimized = Path(folder) / "optimized.onnx"
        options = session_options(threads=1)
        options.optimized_model_filepath = str(optimized)
        options.log_severity_level = 3  # it warns that the file fits this machine only, which is the point
        path = str(installed_graph(bundle, graph))
        onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        counts = Counter(node.op_type for node in onnx.load(optimized, load_external_data=False).graph.node)
    left = {kind: counts[kind] for kind in _FLOAT_LAYERS if counts[kind]}
    fused = counts["QLinearConv"] + counts["QGemm"]
    saw = f"{fused} layers fused, {sum(left.values())} left in float {left or ''}".strip()
    return Gate(f"{graph.name} is integer after the runtime's optimizer", saw, not left)


def _explicit_gate(bundle: Bundle, graph: Graph) -> Gate:
    model = onnx.load(bundle.path(graph.file), load_external_data=False)
    producers = {output: node.op_type for node in model.graph.node for output in node.output}
    layers = [node for node in model.graph.node if node.op_type in _FLOAT_LAYERS]
    left = [n.name for n in layers if {producers.get(i) for i in n.input[:2]} != {"DequantizeLinear"}]
    saw = f"{len(layers) - len(left)} layers between explicit Q/DQ, {len(left)} in float"
    return Gate(f"{graph.name} is explicitly quantized", saw, not left)
