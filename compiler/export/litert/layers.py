"""Convolutions and linear layers: the codes that were trained, or floats with their batch norms folded in.

A layer computes in integers if its input and its output are quantized. One whose output stays in float (a
classifier's logits, an LSTM's gates) has no scale to round it to, and none is made up: its codes are stored,
and widened to floats when the graph is opened. That is exact, where the runtime's own mixed kernels would
round its input once more, by what each run happens to see.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from ai_edge_litert.schema_py_generated import Padding
from numpy.typing import NDArray
from torch import nn
from torch.fx import Node

from compiler.export.litert.flatbuffer import FROM_CHANNELS, Quantization
from compiler.export.litert.pooling import padded, pads_alike
from compiler.export.litert.translation import Operation, Tail, Translation, argument, aten, pair, shape_of

_OUTPUTS_FIRST = (0, 2, 3, 1)
"""Of a convolution's weight (out, in, H, W): to (out, H, W, in)."""
_CHANNELS_LAST = (1, 2, 3, 0)
"""Of a depthwise one (channels, 1, H, W): to (1, H, W, channels)."""

# The versions from which kernels take int8 with a scale per channel.
_CONV_CHANNELS, _LINEAR_CHANNELS = 3, 12


class _Codes(NamedTuple):
    """A frozen layer's integers: codes of the weight (out, ...) and of the bias (out,), scales of both."""

    weight: NDArray[np.int8]
    scales: NDArray[np.float32]
    bias: NDArray[np.int32]
    bias_scales: NDArray[np.float32]


def convolution(translation: Translation, node: Node) -> None:
    """One convolution with what follows it: CONV_2D or DEPTHWISE_CONV_2D."""
    graph, x = translation.graph, translation.value(node.args[0])
    name, weight = translation.parameter(node.args[1])
    stride, padding, groups = pair(node, 3, 1), pair(node, 4, 0), argument(node, 6, 1)
    depthwise = groups > 1
    if depthwise and (groups != weight.shape[0] or weight.shape[1] != 1):
        raise NotImplementedError(f"{name}: of grouped convolutions only depthwise ones have a counterpart")
    order, axis = (_CHANNELS_LAST, 3) if depthwise else (_OUTPUTS_FIRST, 0)
    tail = translation.tail(node, norms=True, activation=True)
    quantization = tail.quantization if x.quantization and _is_frozen(translation, name) else None
    if quantization is not None and x.quantization is not None:
        codes = _codes(translation, node, x.quantization)
        weights = graph.constant(name, codes.weight.transpose(order), codes.scales, axis)
        biases = graph.constant(f"{name}.bias", codes.bias, codes.bias_scales)
    else:
        x = graph.floats(x)
        folded, bias = _folded(translation, node, tail)
        weights = graph.weight(name, folded.transpose(order))
        biases = graph.weight(f"{name}.bias", bias)
    same = pads_alike(padding, stride, weight.shape[2:])
    if any(padding) and not same:
        x = padded(graph, x, padding)
    result = graph.value(tail.last.name, shape_of(node), quantization)
    graph.operator(
        "DEPTHWISE_CONV_2D" if depthwise else "CONV_2D",
        [x.tensor, weights, biases],
        [result.tensor],
        1 if quantization is None else _CONV_CHANNELS,
        padding=Padding.SAME if same else Padding.VALID,
        strideH=stride[0],
        strideW=stride[1],
        fusedActivationFunction=tail.activation,
        **({"depthMultiplier": 1} if depthwise else {}),
    )
    translation.finish(tail, result)


def linear(translation: Translation, node: Node) -> None:
    """One linear layer with what follows it: FULLY_CONNECTED."""
    graph, x = translation.graph, translation.value(node.args[0])
    name, weight = translation.parameter(node.args[1])
    tail = translation.tail(node, activation=True)
    quantization, version = None, 1
    if x.quantization is not None and _is_frozen(translation, name):
        codes = _codes(translation, node, x.quantization)
        weights = graph.constant(name, codes.weight, codes.scales)
        if tail.quantization is not None:
            quantization, version = tail.quantization, _LINEAR_CHANNELS
            biases = graph.constant(f"{name}.bias", codes.bias, codes.bias_scales)
        else:
            x = graph.floats(x)
            weights = graph.dequantized(weights, name, weight.shape, FROM_CHANNELS)
            biases = graph.constant(f"{name}.bias", (codes.bias * codes.bias_scales).astype(np.float32))
    else:
        x = graph.floats(x)
        weights = graph.weight(name, weight)
        biases = graph.weight(f"{name}.bias", _bias(translation, node))
    result = graph.value(tail.last.name, shape_of(node), quantization)
    graph.operator(
        "FULLY_CONNECTED",
        [x.tensor, weights, biases],
        [result.tensor],
        version,
        keepNumDims=True,
        fusedActivationFunction=tail.activation,
    )
    translation.finish(tail, result)


def _is_frozen(translation: Translation, weight: str) -> bool:
    return hasattr(translation.layer(weight), "codes")


def _codes(translation: Translation, node: Node, entry: Quantization) -> _Codes:
    """What a frozen layer computes with on inputs that are quantized as ``entry``.

    A bias is added to the sums in their own unit, input scale x weight scales; the torch layer takes on the
    rounded bias too, as only then it is what the graph computes.
    """
    name, _ = translation.parameter(node.args[1])
    layer = translation.layer(name)
    weight = layer.get_buffer("codes").numpy()
    scales = layer.get_buffer("scales").expand(len(weight)).numpy().astype(np.float32)
    bias_scales = scales * np.float32(entry.scale)
    limits = np.iinfo(np.int32)
    bias = np.rint(_bias(translation, node).astype(np.float64) / bias_scales)
    bias = np.clip(bias, limits.min, limits.max)
    if isinstance(layer, nn.Conv2d | nn.Linear) and layer.bias is not None:
        layer.bias.data = torch.from_numpy((bias * bias_scales).astype(np.float32))
    return _Codes(weight, scales, bias.astype(np.int32), bias_scales)


def _bias(translation: Translation, node: Node) -> NDArray[np.floating]:
    """The bias (out,) of a layer, zeros if it has none."""
    bias = argument(node, 2, None)
    if bias is not None:
        return translation.parameter(bias)[1]
    return np.zeros(len(translation.parameter(node.args[1])[1]), np.float32)


def _folded(
    translation: Translation, node: Node, tail: Tail
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Weight (out, in, H, W) and bias (out,) of a convolution and the batch norms behind it."""
    weight = translation.parameter(node.args[1])[1].astype(np.float64)
    bias = _bias(translation, node).astype(np.float64)
    for norm in tail.norms:
        gain, offset, mean, variance = (translation.parameter(entry)[1] for entry in norm.args[1:5])
        factor = gain / np.sqrt(variance.astype(np.float64) + argument(norm, 7, 0.0))
        weight = weight * factor[:, None, None, None]
        bias = (bias - mean) * factor + offset
    return weight, bias


OPERATIONS: dict[object, Operation] = {aten.conv2d.default: convolution, aten.linear.default: linear}
