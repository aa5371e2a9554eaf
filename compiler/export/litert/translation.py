"""A torch graph read node by node, each written as operators of a .tflite graph.

torch's images are (N, C, H, W), the file's are (N, H, W, C): every 4-dimensional value is turned over as it
is written, and no operator moves data for that.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from ai_edge_litert.schema_py_generated import ActivationFunctionType as Activation
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.fx import Node

from compiler.export.litert.flatbuffer import FROM_UINT8, FlatbufferGraph, Quantization, Value
from runtimes.spec import View

aten = torch.ops.aten

_SHIFT = 128
"""From uint8 codes to the int8 codes that stand for the same floats."""
_RELUS = {aten.relu.default, aten.relu_.default}
_RELU6S = {aten.hardtanh.default, aten.hardtanh_.default}
_PASSED_ON = {
    aten.alias.default,
    aten.clone.default,
    aten.dropout.default,
    aten.to.device,
    aten.to.dtype,
}
_WITHOUT_VALUE = {aten.new_zeros.default, aten._assert_tensor_metadata.default}
"""What leaves nothing to compute: zeros of a state that is an input, and checks while tracing."""


@dataclass(frozen=True)
class Tail:
    """What follows a node alone and becomes one operator with it: batch norms, activation, quantizer.

    ``last`` is the node whose value that operator computes.
    """

    norms: tuple[Node, ...]
    activation: int
    quantization: Quantization | None
    last: Node


class Translation:
    """One torch module on its way into a .tflite graph.

    ``views``: the module's first inputs by name, which take uint8 frames; ``others``: the further ones,
    float, each like its example. ``operations`` write a node by its torch operator.
    """

    def __init__(
        self,
        graph: FlatbufferGraph,
        module: nn.Module,
        views: Mapping[str, View],
        others: Mapping[str, Tensor],
        operations: Mapping[object, Operation],
    ) -> None:
        self.graph, self.module = graph, module
        self._operations = operations
        self._program = torch.export.export(copy.deepcopy(module).eval(), _example(views, others))
        signature = self._program.graph_signature
        self._names = {**signature.inputs_to_parameters, **signature.inputs_to_buffers}
        self._state = self._program.state_dict | self._program.constants
        self._integer = any(hasattr(layer, "codes") for layer in module.modules())
        self._values: dict[Node, Value] = {}
        self._absorbed: set[Node] = set()
        self._enter(views, others)

    def write(self, outputs: Sequence[str]) -> None:
        """Write every node, and give the results out by the names in ``outputs``.

        Raises: NotImplementedError for a torch operator that there is no counterpart for.
        """
        for node in self._program.graph.nodes:
            if node.op == "output":
                for name, result in zip(outputs, node.args[0], strict=True):
                    self.graph.output(name, self.value(result))
            elif node.op == "call_function" and node not in self._absorbed:
                self._visit(node)

    def value(self, node: object) -> Value:
        """What an argument was written as."""
        assert isinstance(node, Node)
        if node not in self._values:  # a buffer, such as the knots of a price code
            name, array = self.parameter(node)
            self._values[node] = Value(self.graph.weight(name, array), array.shape)
        return self._values[node]

    def set(self, node: Node, value: Value) -> None:
        """Note what ``node`` was written as."""
        self._values[node] = value

    def parameter(self, node: object) -> tuple[str, NDArray[np.floating]]:
        """Name and value of the parameter or buffer that an argument stands for."""
        assert isinstance(node, Node)
        name = self._names[node.name]
        parameter = self._state[name]
        assert isinstance(parameter, Tensor)
        return name, parameter.detach().numpy()

    def layer(self, parameter: str) -> nn.Module:
        """The layer that a parameter belongs to."""
        return self.module.get_submodule(parameter.rpartition(".")[0])

    def tail(self, node: Node, *, norms: bool = False, activation: bool = False) -> Tail:
        """What follows ``node`` alone: its quantizer, and norms and an activation where they are allowed."""
        found, kind, quantization = [], Activation.NONE, None
        while len(node.users) == 1 and quantization is None:
            user = next(iter(node.users))
            fresh = kind == Activation.NONE
            if user.target == aten.batch_norm.default and norms and fresh:
                found.append(user)
            elif activation and fresh and activation_of(user) is not None:
                kind = activation_of(user)
            elif user.target == aten.fake_quantize_per_tensor_affine.default:
                quantization = quantization_of(user)
            else:
                break
            self._absorbed.add(user)
            node = user
        return Tail(tuple(found), kind, quantization, node)

    def finish(self, tail: Tail, value: Value) -> None:
        """Note ``value`` as that of the tail's last node, quantized if it is not yet and has to be."""
        if tail.quantization is not None and value.quantization is None:
            value = self.graph.quantized(value, f"{tail.last.name}_codes", tail.quantization)
        self.set(tail.last, value)

    def _enter(self, views: Mapping[str, View], others: Mapping[str, Tensor]) -> None:
        """Write the inputs, and what they are to the first layers."""
        names = self._program.graph_signature.user_inputs
        placed = {node.name: node for node in self._program.graph.nodes if node.op == "placeholder"}
        for name, entry in zip((*views, *others), names, strict=True):
            node = placed[str(entry)]
            if name in views:
                self.set(node, self._frames(name, views[name]))
            else:
                shape = tuple(others[name].shape)
                self.set(node, Value(self.graph.input_tensor(name, shape), shape))

    def _frames(self, name: str, view: View) -> Value:
        """The pixels of uint8 frames: floats, or in a network of integers the same codes as int8."""
        frames = self.graph.input_tensor(name, view.shape, Quantization(view.scale, view.zero_point))
        if self._integer:
            codes = Quantization(view.scale, view.zero_point - _SHIFT)
            return self.graph.quantized(Value(frames, view.shape), f"{name}_codes", codes)
        pixels = self.graph.dequantized(frames, name, view.shape, FROM_UINT8)
        return Value(pixels, view.shape)

    def _visit(self, node: Node) -> None:
        if node.target in _WITHOUT_VALUE:
            return
        if node.target in _PASSED_ON:
            self.set(node, self.value(node.args[0]))
        elif node.target in self._operations:
            self._operations[node.target](self, node)
        else:
            raise NotImplementedError(f"{node.target} ({node.name}) has no counterpart in LiteRT graphs yet")


Operation = Callable[[Translation, Node], None]
"""Writes one node, and what follows it where that is part of the same operator."""


def shape_of(node: object) -> tuple[int, ...]:
    """The shape of a node's value as the file has it, channels last."""
    shape = torch_shape(node)
    return (shape[0], *shape[2:], shape[1]) if len(shape) == 4 else shape


def torch_shape(node: object) -> tuple[int, ...]:
    """The shape of a node's value as torch has it."""
    assert isinstance(node, Node)
    return tuple(int(size) for size in node.meta["val"].shape)


def activation_of(node: object) -> int | None:
    """Which activation a node is, if an operator can have it."""
    assert isinstance(node, Node)
    if node.target in _RELUS:
        return int(Activation.RELU)
    if node.target in _RELU6S and tuple(node.args[1:]) == (0.0, 6.0):
        return int(Activation.RELU6)
    return None


def quantization_of(quantizer: Node) -> Quantization:
    """What a frozen quantizer rounds to, as int8: unsigned codes are shifted, their floats stay."""
    _, scale, zero_point, low, _ = quantizer.args
    assert isinstance(scale, float) and isinstance(zero_point, int)
    return Quantization(scale, zero_point - _SHIFT if low == 0 else zero_point)


def argument(node: Node, place: int, default: Any) -> Any:
    """An argument of a node, ``default`` where torch leaves it out."""
    return node.args[place] if len(node.args) > place else default


def pair(node: Node, place: int, default: int) -> tuple[int, int]:
    """An argument that is one number for both sides of an image, or one for each."""
    first, *rest = argument(node, place, [default])
    return (first, *rest) if rest else (first, first)


def _example(views: Mapping[str, View], others: Mapping[str, Tensor]) -> tuple[Tensor, ...]:
    """Zeros of every input's shape; each a tensor of its own, as one given twice would become one input."""
    pixels = [torch.zeros(view.frames, view.channels, view.size, view.size) for view in views.values()]
    return (*pixels, *map(torch.zeros_like, others.values()))
