"""What is computed element by element or along channels: additions, gates, a policy's conditioning inputs."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from itertools import accumulate

from torch.fx import Node

from compiler.export.litert.flatbuffer import Value
from compiler.export.litert.translation import (
    Operation,
    Translation,
    argument,
    aten,
    quantization_of,
    shape_of,
    torch_shape,
)

_UNARY: dict[object, str] = {
    aten.abs.default: "ABS",
    aten.log.default: "LOG",
    aten.neg.default: "NEG",
    aten.relu.default: "RELU",
    aten.relu_.default: "RELU",
    aten.sigmoid.default: "LOGISTIC",
    aten.tanh.default: "TANH",
}
_BINARY: dict[object, str] = {
    aten.add.Tensor: "ADD",
    aten.div.Tensor: "DIV",
    aten.maximum.default: "MAXIMUM",
    aten.mul.Tensor: "MUL",
    aten.sub.Tensor: "SUB",
}
_REDUCTIONS: dict[object, str] = {aten.amax.default: "REDUCE_MAX", aten.sum.dim_IntList: "SUM"}
_WITHOUT_ACTIVATION = {"MAXIMUM"}


def unary(translation: Translation, node: Node) -> None:
    """A function of one value, in float."""
    tail = translation.tail(node)
    x = translation.graph.floats(translation.value(node.args[0]))
    result = translation.graph.value(tail.last.name, x.shape)
    translation.graph.operator(_UNARY[node.target], [x.tensor], [result.tensor])
    translation.finish(tail, result)


def binary(translation: Translation, node: Node) -> None:
    """A function of two values, or of one and a number; an addition of quantized values in integers."""
    graph, kind = translation.graph, _BINARY[node.target]
    tail = translation.tail(node, activation=kind not in _WITHOUT_ACTIVATION)
    left, right = (_operand(translation, operand) for operand in node.args[:2])
    integer = kind == "ADD" and None not in (left.quantization, right.quantization, tail.quantization)
    if not integer:
        left, right = graph.floats(left), graph.floats(right)
    result = graph.value(tail.last.name, shape_of(node), tail.quantization if integer else None)
    options = {} if kind in _WITHOUT_ACTIVATION else {"fusedActivationFunction": tail.activation}
    graph.operator(kind, [left.tensor, right.tensor], [result.tensor], 2 if integer else 1, **options)
    translation.finish(tail, result)


def subtracted_from(translation: Translation, node: Node) -> None:
    """A number less a value, as the negative plus the number: not every runtime subtracts from a constant."""
    graph, x = translation.graph, translation.graph.floats(translation.value(node.args[0]))
    tail = translation.tail(node, activation=True)
    negative, result = graph.value(f"{node.name}_negative", x.shape), graph.value(tail.last.name, x.shape)
    graph.operator("NEG", [x.tensor], [negative.tensor])
    inputs = [negative.tensor, graph.number(argument(node, 1, None))]
    graph.operator("ADD", inputs, [result.tensor], fusedActivationFunction=tail.activation)
    translation.finish(tail, result)


def clamp(translation: Translation, node: Node) -> None:
    """A value no lower than one number and no higher than another."""
    graph, x = translation.graph, translation.graph.floats(translation.value(node.args[0]))
    for kind, limit in (("MAXIMUM", argument(node, 1, None)), ("MINIMUM", argument(node, 2, None))):
        if limit is not None:
            limited = graph.value(f"{node.name}_{kind.lower()}", x.shape)
            graph.operator(kind, [x.tensor, graph.number(limit)], [limited.tensor])
            x = limited
    translation.set(node, x)


def reduction(translation: Translation, node: Node) -> None:
    """The sum or the maximum over channels (N, C), to (N, 1)."""
    graph, x = translation.graph, translation.graph.floats(translation.value(node.args[0]))
    (axis,) = (_channels(node.args[0], axis) for axis in node.args[1])  # type: ignore[union-attr]
    tail = translation.tail(node)
    result = graph.value(tail.last.name, shape_of(node))
    inputs, keep = [x.tensor, graph.integers([axis])], argument(node, 2, False)
    graph.operator(_REDUCTIONS[node.target], inputs, [result.tensor], keepDims=keep)
    translation.finish(tail, result)


def softmax(translation: Translation, node: Node) -> None:
    """Probabilities (N, C) of logits."""
    graph, x = translation.graph, translation.graph.floats(translation.value(node.args[0]))
    _channels(node.args[0], node.args[1])
    tail = translation.tail(node)
    result = graph.value(tail.last.name, x.shape)
    graph.operator("SOFTMAX", [x.tensor], [result.tensor], beta=1.0)
    translation.finish(tail, result)


def concatenation(translation: Translation, node: Node) -> None:
    """Values side by side along their channels, in float."""
    graph, parts = translation.graph, node.args[0]
    assert isinstance(parts, Sequence)
    axis = _channels(parts[0], argument(node, 1, 0))
    tail = translation.tail(node)
    tensors = [graph.floats(translation.value(part)).tensor for part in parts]
    result = graph.value(tail.last.name, shape_of(node))
    graph.operator("CONCATENATION", tensors, [result.tensor], axis=axis)
    translation.finish(tail, result)


def sliced(translation: Translation, node: Node) -> None:
    """A range of a value's channels (N, C)."""
    axis, start = _channels(node.args[0], node.args[1]), argument(node, 2, 0)
    translation.set(node, _slice(translation, node, node.args[0], axis, start))


def split(translation: Translation, node: Node) -> None:
    """Nothing yet: each part that is read becomes a slice of its own."""


def part(translation: Translation, node: Node) -> None:
    """One part of a split along the channels."""
    splitting, place = node.args
    assert isinstance(splitting, Node) and isinstance(place, int)
    whole, sizes = splitting.args[:2]
    axis = _channels(whole, argument(splitting, 2, 0))
    if splitting.target == aten.chunk.default:
        assert isinstance(sizes, int)
        sizes = [-(-torch_shape(whole)[axis] // sizes)] * sizes
    start = list(accumulate(sizes, initial=0))[place]  # type: ignore[arg-type]
    translation.set(node, _slice(translation, node, whole, axis, start))


def quantize(translation: Translation, node: Node) -> None:
    """A quantizer that stands alone, as where a value has other readers too."""
    x = translation.value(node.args[0])
    translation.set(node, translation.graph.quantized(x, node.name, quantization_of(node)))


def _operand(translation: Translation, operand: object) -> Value:
    if isinstance(operand, int | float):
        return Value(translation.graph.number(operand), (1,))
    return translation.value(operand)


def _slice(translation: Translation, node: Node, whole: object, axis: int, start: int) -> Value:
    graph, x, shape = translation.graph, translation.value(whole), shape_of(node)
    begin = [0] * len(shape)
    begin[axis] = start
    result = graph.value(node.name, shape, x.quantization)
    inputs = [x.tensor, graph.integers(begin), graph.integers(shape)]
    graph.operator("SLICE", inputs, [result.tensor], 2 if x.quantization else 1)
    return result


def _channels(node: object, axis: object) -> int:
    """``axis`` of a value (N, C), which has to be the channels': that of images lies elsewhere here."""
    assert isinstance(axis, int)
    if len(torch_shape(node)) != 2 or axis not in (-1, 1):
        raise NotImplementedError(f"{node}: axis {axis} of {torch_shape(node)} has no counterpart yet")
    return 1


OPERATIONS: dict[object, Operation] = {
    **dict.fromkeys(_UNARY, unary),
    **dict.fromkeys(_BINARY, binary),
    **dict.fromkeys(_REDUCTIONS, reduction),
    aten.rsub.Scalar: subtracted_from,
    aten.clamp.default: clamp,
    aten.softmax.int: softmax,
    aten.cat.default: concatenation,
    aten.slice.Tensor: sliced,
    aten.chunk.default: split,
    aten.split_with_sizes.default: split,
    operator.getitem: part,
    aten.fake_quantize_per_tensor_affine.default: quantize,
}
