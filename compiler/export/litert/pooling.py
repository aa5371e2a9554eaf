"""Pools and padding, where LiteRT's rules differ from torch's.

torch pads both ends alike. The file's own SAME padding does so only where the stride is 1; elsewhere the
image is padded by an operator before. The same file then fits any size of image.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

from ai_edge_litert.schema_py_generated import Padding
from torch.fx import Node

from compiler.export.litert.flatbuffer import FlatbufferGraph, Value
from compiler.export.litert.translation import (
    Operation,
    Translation,
    activation_of,
    aten,
    pair,
    quantization_of,
    shape_of,
    torch_shape,
)

_LEAST_CODE = -128


def pads_alike(padding: Sequence[int], stride: Sequence[int], kernel: Sequence[int]) -> bool:
    """Whether SAME pads as torch does, or there is nothing to pad."""
    sides = zip(padding, stride, kernel, strict=True)
    return all(step == 1 and size == 2 * pad + 1 for pad, step, size in sides)


def padded(graph: FlatbufferGraph, x: Value, padding: Sequence[int]) -> Value:
    """Images (N, H, W, C) with zeros around them."""
    rows, columns = padding
    shape = (x.shape[0], x.shape[1] + 2 * rows, x.shape[2] + 2 * columns, x.shape[3])
    result = graph.value(f"padded{x.tensor}", shape, x.quantization)
    widths = graph.integers([[0, 0], [rows, rows], [columns, columns], [0, 0]])
    graph.operator("PAD", [x.tensor, widths], [result.tensor], 2 if x.quantization else 1)
    return result


def max_pool(translation: Translation, node: Node) -> None:
    """The largest of each window: MAX_POOL_2D."""
    graph, x = translation.graph, translation.value(node.args[0])
    kernel, stride, padding = (pair(node, place, 0) for place in (1, 2, 3))
    if any(padding):
        # Zeros are never the largest of what a ReLU left.
        x = padded(graph, x, padding) if _is_rectified(node.args[0]) else _repeated(graph, x, padding)
    height, width = (
        (size - window) // step + 1 for size, window, step in zip(x.shape[1:3], kernel, stride, strict=True)
    )
    result = graph.value(node.name, (x.shape[0], height, width, x.shape[3]), x.quantization)
    graph.operator(
        "MAX_POOL_2D",
        [x.tensor],
        [result.tensor],
        2 if x.quantization else 1,
        padding=Padding.VALID,
        strideH=stride[0],
        strideW=stride[1],
        filterHeight=kernel[0],
        filterWidth=kernel[1],
    )
    translation.set(node, result)


def global_pool(translation: Translation, node: Node) -> None:
    """The mean over an image: (N, H, W, C) to (N, C), which is what flattening makes of it anyway."""
    graph, x = translation.graph, translation.value(node.args[0])
    if list(node.args[1]) != [1, 1]:  # type: ignore[arg-type]
        raise NotImplementedError(f"{node.name}: of adaptive pools only those to 1 x 1 have a counterpart")
    tail = translation.tail(node)
    if tail.quantization is None:
        x = graph.floats(x)
    quantization = tail.quantization if x.quantization else None
    result = graph.value(tail.last.name, (x.shape[0], x.shape[3]), quantization)
    inputs = [x.tensor, graph.integers([1, 2])]
    graph.operator("MEAN", inputs, [result.tensor], 2 if quantization else 1, keepDims=False)
    translation.finish(tail, result)


def reshape(translation: Translation, node: Node) -> None:
    """A flattening that is done already, or a segment's frames on their way to a pool over time and back.

    torch lays each segment as an image of one channel, with a frame a row: (N, 1, F, C * H * W). Here it is
    one of C channels, (N, F, H * W, C): the same windows, and channels stay last.
    """
    x, before, after = translation.value(node.args[0]), torch_shape(node.args[0]), torch_shape(node)
    if len(x.shape) == len(after) == 2:
        translation.set(node, x)
        return
    if len(after) == 4 and after[1] == 1 and after[3] == prod(before[1:]):
        _, height, width, channels = x.shape
        shape: tuple[int, ...] = (after[0], after[2], height * width, channels)
    elif len(after) == 4 and before[1] == 1 and before[3] == prod(after[1:]):
        shape = shape_of(node)
    else:
        raise NotImplementedError(f"{node.name}: {before} to {after} has no counterpart in channels-last")
    translation.set(node, translation.graph.reshape(x, shape, node.name))


def _repeated(graph: FlatbufferGraph, x: Value, padding: Sequence[int]) -> Value:
    """Images with their first and last row once more: that changes no maximum, whatever the values' signs."""
    if list(padding) != [1, 0]:
        raise NotImplementedError(f"a pool of signed values can be padded by one row, not by {padding}")
    first, last = (_row(graph, x, place) for place in (0, x.shape[1] - 1))
    result = graph.value(f"repeated{x.tensor}", (x.shape[0], x.shape[1] + 2, *x.shape[2:]), x.quantization)
    inputs = [first.tensor, x.tensor, last.tensor]
    graph.operator("CONCATENATION", inputs, [result.tensor], 2 if x.quantization else 1, axis=1)
    return result


def _row(graph: FlatbufferGraph, x: Value, place: int) -> Value:
    """One row of images."""
    shape = (x.shape[0], 1, *x.shape[2:])
    row = graph.value(f"row{place}_of{x.tensor}", shape, x.quantization)
    inputs = [x.tensor, graph.integers([0, place, 0, 0]), graph.integers(shape)]
    graph.operator("SLICE", inputs, [row.tensor], 2 if x.quantization else 1)
    return row


def _is_rectified(node: object) -> bool:
    """Whether a value is never below zero: behind a ReLU, or a quantizer with no codes there."""
    assert isinstance(node, Node)
    while node.target in (aten.reshape.default, aten.view.default):
        assert isinstance(node.args[0], Node)
        node = node.args[0]
    if activation_of(node) is not None:
        return True
    if node.target != aten.fake_quantize_per_tensor_affine.default:
        return False
    return quantization_of(node).zero_point == _LEAST_CODE or activation_of(node.args[0]) is not None


OPERATIONS: dict[object, Operation] = {
    aten.max_pool2d.default: max_pool,
    aten.adaptive_avg_pool2d.default: global_pool,
    aten.flatten.using_ints: reshape,
    aten.reshape.default: reshape,
    aten.view.default: reshape,
}
