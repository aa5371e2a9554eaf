"""What a .tflite computes in float, read from the file itself."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

from ai_edge_litert import schema_py_generated as schema

WIDENED = "WIDENED"
"""What layers are counted as whose integer codes are widened to float when the graph is opened."""
_LAYERS = {
    schema.BuiltinOperator.CONV_2D: "CONV_2D",
    schema.BuiltinOperator.DEPTHWISE_CONV_2D: "DEPTHWISE_CONV_2D",
    schema.BuiltinOperator.FULLY_CONNECTED: "FULLY_CONNECTED",
}
_WEIGHT = 1
"""Which of a layer's inputs its weight is."""


def float_layers(graph: Path | bytes) -> Counter[str]:
    """How many convolutions and linear layers compute in float, by kind (``CONV_2D`` and so on).

    Those that have integer codes, but results that are wanted in float, count as ``WIDENED``: the classifier
    of every integer branch is one. In a graph whose every layer is integer nothing else is counted.
    """
    content = graph.read_bytes() if isinstance(graph, Path) else graph
    model = schema.ModelT.InitFromPackedBuf(content, 0)
    counts: Counter[str] = Counter()
    for part in model.subgraphs:
        makers = {tensor: operator for operator in part.operators for tensor in operator.outputs}
        for operator in part.operators:
            kind = _LAYERS.get(model.operatorCodes[operator.opcodeIndex].builtinCode)
            if kind and part.tensors[operator.outputs[0]].type == schema.TensorType.FLOAT32:
                widened = _is_widened(part, makers.get(operator.inputs[_WEIGHT]))
                counts[WIDENED if widened else kind] += 1
    return counts


def _is_widened(part: Any, maker: Any) -> bool:
    """Whether a layer's weight is made from int8 codes."""
    return maker is not None and part.tensors[maker.inputs[0]].type == schema.TensorType.INT8
