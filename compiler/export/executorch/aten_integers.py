"""Frozen integer networks as ATen graphs that say so: Q/DQ pairs around integer weight codes.

torch's exporter turns ``FakeQuantize`` and a layer's float weight into float arithmetic, which no backend
takes for integers. Here quantizers become ``quantized_decomposed`` Q/DQ, weights the codes that were trained
with a per-channel DQ, all at the scales of the frozen network: nothing is calibrated a second time.

Backends take signed codes only. Those of unsigned quantizers are shifted by 128, and so are their zero
points: the same numbers, to the last bit.
"""

from __future__ import annotations

import copy
import operator
from typing import Any

import torch
from torch import Tensor, nn
from torch.ao.quantization.fx import _decomposed  # noqa: F401  # registers quantized_decomposed
from torch.fx import Graph, GraphModule, Node

from models.layers.quantization import FakeQuantize

_aten = torch.ops.aten
_decomposed_ops = torch.ops.quantized_decomposed
QUANTISE = _decomposed_ops.quantize_per_tensor.default
DEQUANTISE = _decomposed_ops.dequantize_per_tensor.default
_DEQUANTISE_CHANNELS = _decomposed_ops.dequantize_per_channel.default

_LAYERS = (_aten.conv2d.default, _aten.linear.default)
_POOLS = (_aten.max_pool2d.default, _aten.avg_pool2d.default)
_ARITHMETIC = (
    _aten.add.Tensor,
    _aten.sub.Tensor,
    _aten.mul.Tensor,
    _aten.div.Tensor,
    _aten.rsub.Scalar,
)
_RELUS = (_aten.relu.default, _aten.relu_.default)
_MOVES = (
    _aten.max_pool2d.default,
    _aten.view.default,
    _aten.reshape.default,
    _aten.flatten.using_ints,
    _aten.permute.default,
)
"""What moves values and computes none: its output has the scale of its input."""

_SHIFT = 128
_LEAST_RANGE = 1e-9


class Quantize(nn.Module):
    """A ``FakeQuantize`` in signed codes, as an explicit Q/DQ pair."""

    def __init__(self, fake: FakeQuantize) -> None:
        super().__init__()
        shift = _SHIFT if (fake.low, fake.high) == (0, 255) else 0
        bounds = (fake.zero_point - shift, fake.low - shift, fake.high - shift)
        self.format = (fake.scale, *bounds, torch.int8)

    def forward(self, x: Tensor) -> Tensor:
        """What is left of ``x``."""
        return DEQUANTISE(QUANTISE(x, *self.format), *self.format)


def is_integer(network: nn.Module) -> bool:
    """Whether a network is a frozen integer one: some layer has codes."""
    return any(hasattr(layer, "codes") for layer in network.modules())


def with_quantizers(network: nn.Module) -> nn.Module:
    """A copy of a network for inference whose quantizers are Q/DQ pairs."""
    network = copy.deepcopy(network).eval().requires_grad_(False)
    for parent in list(network.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, FakeQuantize):
                setattr(parent, name, Quantize(child))
    return network


def prepare(module: GraphModule) -> None:
    """Rewrite, in place, what backends do not take whole though they have what it is made of."""
    _pool_by_means(module.graph)
    _cut_by_slices(module.graph)
    _stride_explicitly(module.graph)
    _count_in_floats(module.graph)
    _finish(module)


def use_codes(module: GraphModule, network: nn.Module) -> None:
    """Let the layers of an exported integer ``network`` read integers, in place.

    ``module`` is what ``with_quantizers(network)`` exports to. Biases that backends add to integer sums are
    rounded to what these take, in ``network`` too: only then is it what the program computes.

    Raises: ValueError for a layer whose input is not quantized.
    """
    _drop_dropouts(module.graph)
    _requantize_moves(module.graph)
    layers = {f"{name}.weight": layer for name, layer in network.named_modules() if hasattr(layer, "codes")}
    for node in list(module.graph.nodes):
        if node.target in _LAYERS and node.args[1].target in layers:
            _use_layer_codes(module, node, layers[node.args[1].target])
    _part_readers(module.graph)
    _finish(module)


def _use_layer_codes(module: GraphModule, node: Node, layer: nn.Module) -> None:
    """Give one layer of the graph its int8 codes (out, ...) and their scales (out,)."""
    weight = str(node.args[1].target)  # type: ignore[union-attr]  # a get_attr node
    source = node.args[0]
    if not isinstance(source, Node) or source.target is not DEQUANTISE:
        raise ValueError(f"{weight}: its input comes from no quantizer")
    codes = layer.get_buffer("codes").clone()
    scales = layer.get_buffer("scales").expand(len(codes)).float().contiguous()
    if _is_quantized(node):
        _round_bias(module, node, float(source.args[1]) * scales, layer)  # type: ignore[arg-type]
    else:
        codes = _fix_dynamic_scale(module, node, codes)
    parts = {"codes": codes, "scales": scales, "zeros": torch.zeros(len(codes), dtype=torch.int64)}
    with module.graph.inserting_before(node):
        inputs = [_constant(module, f"{weight}_{part}", value) for part, value in parts.items()]
        arguments: tuple[Any, ...] = (*inputs, 0, -128, 127, torch.int8)
        node.update_arg(1, module.graph.call_function(_DEQUANTISE_CHANNELS, arguments))


def _constant(module: GraphModule, name: str, value: Tensor) -> Node:
    """A node that reads a new buffer of the graph, inserted where the graph inserts now."""
    key = name.replace(".", "_")
    module.register_buffer(key, value)
    return module.graph.get_attr(key)


def _is_quantized(layer: Node) -> bool:
    """Whether a layer's output goes to a quantizer, at most through a ReLU, and nowhere else."""
    users = list(layer.users)
    if len(users) == 1 and users[0].target in _RELUS:
        users = list(users[0].users)
    return len(users) == 1 and users[0].target is QUANTISE


def _round_bias(module: GraphModule, node: Node, scales: Tensor, layer: nn.Module) -> None:
    """Round a bias to int32 codes at ``scales`` (out,), those of the sums: input scale x weight scales.

    Kernels do the same. Of the float bias, 3 % of one branch's steps came out otherwise.
    """
    if len(node.args) < 3 or not isinstance(node.args[2], Node):
        return
    bias = layer.get_parameter("bias")
    limits, exact = torch.iinfo(torch.int32), scales.double()
    codes = (bias.detach().double() / exact).round().clamp(limits.min, limits.max)
    bias.data = (codes * exact).float()
    with module.graph.inserting_before(node):
        node.update_arg(2, _constant(module, f"{node.args[2].target}_rounded", bias.detach().clone()))


def _fix_dynamic_scale(module: GraphModule, node: Node, codes: Tensor) -> Tensor:
    """Let a linear layer of float output, codes (out, in), take its input at the frozen scale.

    XNNPACK has integer layers of float output for inputs whose scale is found anew at every run, from their
    smallest and largest values. Two values more, the ends of the frozen range, with weights of 0, make it
    the frozen scale. (Float weights would be four times the bytes, and slower: 2.5 ms a run of a policy on
    MobileNetV2 at 84 px, not 1.9.)

    Returns: the codes with those two columns (out, in + 2).
    """
    if node.target is not _aten.linear.default:
        raise ValueError(f"{node}: a convolution's output goes to no quantizer")
    source: Any = node.args[0]
    scale, zero, low, high, _ = source.args[1:]
    ends = torch.tensor([[(low - zero) * scale, (high - zero) * scale]])
    limits = (-128, 127)
    with module.graph.inserting_before(node):
        call = module.graph.call_function
        wide = call(_aten.cat.default, ([source, _constant(module, f"{node.name}_ends", ends)], -1))
        found = call(_decomposed_ops.choose_qparams.tensor, (wide, *limits, _LEAST_RANGE, torch.int8))
        scale_and_zero = [call(operator.getitem, (found, place)) for place in range(2)]
        params: tuple[Any, ...] = (*scale_and_zero, *limits, torch.int8)
        quantized = call(_decomposed_ops.quantize_per_tensor.tensor, (wide, *params))
        node.update_arg(0, call(_decomposed_ops.dequantize_per_tensor.tensor, (quantized, *params)))
    return nn.functional.pad(codes, (0, 2))


def _drop_dropouts(graph: Graph) -> None:
    """Remove what does nothing in inference, but would part a layer from its quantizer."""
    for node in list(graph.nodes):
        if node.target is _aten.dropout.default:
            node.replace_all_uses_with(node.args[0])
            graph.erase_node(node)


def _requantize_moves(graph: Graph) -> None:
    """Put Q/DQ of the input's own scale behind whatever only moves values: without, it is done in float."""
    for node in list(graph.nodes):  # in order, so that it goes through several in a row
        source: Any = node.args[0] if node.target in _MOVES else None
        if not isinstance(source, Node) or source.target is not DEQUANTISE or source.args[-1] != torch.int8:
            continue
        scale: tuple[Any, ...] = source.args[1:]
        users = list(node.users)
        if len(users) == 1 and users[0].target is QUANTISE:
            continue
        with graph.inserting_after(node):
            codes = graph.call_function(QUANTISE, (node, *scale))
        with graph.inserting_after(codes):
            values = graph.call_function(DEQUANTISE, (codes, *scale))
        for user in users:
            user.replace_input_with(node, values)


def _part_readers(graph: Graph) -> None:
    """A dequantizer for every reader: one that integer and float operators share suits only one of them."""
    for node in list(graph.nodes):
        if node.target is DEQUANTISE:
            for user in list(node.users)[1:]:
                with graph.inserting_before(user):
                    user.replace_input_with(node, graph.call_function(node.target, node.args))


def _pool_by_means(graph: Graph) -> None:
    """Adaptive pools to one pixel as means: of frames in NHWC they end in a stride that nothing lowers."""
    for node in list(graph.nodes):
        if node.target is _aten.adaptive_avg_pool2d.default:
            with graph.inserting_before(node):
                mean = graph.call_function(_aten.mean.dim, (node.args[0], [2, 3], True))
            node.replace_all_uses_with(mean)
            graph.erase_node(node)


def _cut_by_slices(graph: Graph) -> None:
    """Chunks and splits as slices, which XNNPACK has: a split would cut an LSTM step into two delegates."""
    for node in list(graph.nodes):
        if node.target not in (_aten.chunk.default, _aten.split_with_sizes.default):
            continue
        source, cut, *rest = node.args
        dim = rest[0] if rest else 0
        length = source.meta["val"].shape[dim]
        sizes = cut if isinstance(cut, list | tuple) else [-(-length // cut)] * cut
        for part in list(node.users):
            first = sum(sizes[: part.args[1]])
            last = first + sizes[part.args[1]]
            with graph.inserting_before(part):
                piece = graph.call_function(_aten.slice.Tensor, (source, dim, first, last))
            part.replace_all_uses_with(piece)
            graph.erase_node(part)
        graph.erase_node(node)


def _stride_explicitly(graph: Graph) -> None:
    """Give every pool its stride: one left to its default lowers to Vulkan, and then fails on the device."""
    for node in list(graph.nodes):
        if node.target in _POOLS and (len(node.args) < 3 or not node.args[2]):
            node.args = (*node.args[:2], node.args[1], *node.args[3:])


def _count_in_floats(graph: Graph) -> None:
    """Whole numbers of float arithmetic as floats: or each is a tensor that is cast at every run."""
    for node in list(graph.nodes):
        if node.target in _ARITHMETIC and node.meta["val"].is_floating_point():
            node.args = tuple(float(value) if type(value) is int else value for value in node.args)


def _finish(module: GraphModule) -> None:
    """Drop what is read no more, parameters too: the exporter would write them down."""
    graph = module.graph
    graph.eliminate_dead_code()
    graph.lint()
    module.recompile()
    read = {node.target for node in graph.nodes if node.op == "get_attr"}
    named = (*module.named_parameters(remove_duplicate=False), *module.named_buffers(remove_duplicate=False))
    for name in [name for name, _ in named if name not in read]:
        owner, _, leaf = name.rpartition(".")
        delattr(module.get_submodule(owner), leaf)
