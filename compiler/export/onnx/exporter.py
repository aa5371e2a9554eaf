"""ONNX graphs from trained torch modules: uint8 frames in, integer weights and Q/DQ where quantized.

torch's exporter writes the network; the passes here turn its result into what runtimes fuse:
pixels enter as uint8 NHWC, weights and biases are stored as the integers that were trained, and every
layer reads integers (see docs/quantization.md).
"""

from __future__ import annotations

import copy
import io
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn

from compiler.export.policy_graph import PolicyGraph, example_inputs
from models.backbones.blocks import Backbone
from models.layers.quantization import ActivationFormat
from models.policies.policy import StepPolicy
from runtimes.spec import View

OPSET = 17
FRAME = "frame"
_PIXELS = "pixels"


def export_branch(
    backbone: Backbone, name: str, views: Sequence[View], activations: ActivationFormat | None
) -> onnx.ModelProto:
    """The graph of one branch: ``frame`` uint8 of the view's shape to ``logits`` float (1, C).

    Height and width are fixed if there is one view, and may change if there are several.
    ``activations`` is None for a float network, else how its frozen quantizers are to be read; a frozen
    network's biases are rounded in place to the integers that the graph stores.
    """
    model = _export(backbone, (_example(views[0]),), [_PIXELS], ["logits"])
    _take_frames(model, FRAME, views, activations)
    return _finish(model, backbone, name, activations)


def export_policy(
    policy: StepPolicy,
    name: str,
    views: Mapping[str, View],
    heads: Sequence[str],
    activations: ActivationFormat | None,
) -> onnx.ModelProto:
    """The policy graph: its views by input, what it is conditioned on, and its state by name.

    To ``scores``, the logits of each of its heads by the names in ``heads``, and ``next_<state>``: see
    ``runtimes.spec.Policy``.
    """
    others, state = example_inputs(policy), policy.initial_state(1)._fields
    example = [*map(_example, views.values()), *others.values()]
    inputs = [*(_pixels_of(entry, views) for entry in views), *others]
    outputs = ["scores", *heads, *(f"next_{part}" for part in state)]
    wrapper = PolicyGraph(policy)
    model = _export(wrapper, tuple(example), inputs, outputs)
    for entry, view in views.items():
        _take_frames(model, entry, [view], activations, _pixels_of(entry, views))
    return _finish(model, wrapper, name, activations)


def _pixels_of(entry: str, views: Mapping[str, View]) -> str:
    """What the float pixels that come from an input are called."""
    return _PIXELS if len(views) == 1 else f"{entry}_{_PIXELS}"


def _example(view: View) -> Tensor:
    """What a network sees of one step at a view, all zeros."""
    return torch.zeros(view.frames, view.channels, view.size, view.size)


def save(model: onnx.ModelProto, path: Path) -> tuple[Path, ...]:
    """Write a graph with its weights in one external file beside it, so that a device can map them.

    Returns the files written: the graph, then the weights.
    """
    weights = path.with_suffix(".weights")
    onnx.save_model(
        model,
        path,
        save_as_external_data=True,
        location=weights.name,
        size_threshold=1024,
        convert_attribute=False,
    )
    return (path, weights) if weights.exists() else (path,)


def _export(
    module: nn.Module, example: tuple[Tensor, ...], inputs: list[str], outputs: list[str]
) -> onnx.ModelProto:
    buffer = io.BytesIO()
    module = copy.deepcopy(module).eval()
    with warnings.catch_warnings(), torch.no_grad():
        # The trace-based exporter keeps parameter names and fixed scales as they are; the newer one
        # rewrites Q/DQ weights to float, which no runtime fuses.
        warnings.filterwarnings("ignore", category=DeprecationWarning)
        torch.onnx.export(
            module,
            example,
            buffer,  # type: ignore[arg-type]  # a stream is taken, whatever its hint says
            input_names=inputs,
            output_names=outputs,
            opset_version=OPSET,
            do_constant_folding=False,
            dynamo=False,
        )
    return onnx.load_from_string(buffer.getvalue())


def _finish(
    model: onnx.ModelProto,
    module: nn.Module,
    name: str,
    activations: ActivationFormat | None,
) -> onnx.ModelProto:
    if activations is not None:
        _lift_constants(model)
        _store_weight_codes(model, module)
        _store_bias_codes(model, module)
        _requantize_max_pools(model)
        _reshape_integers(model)
    model.graph.name = name  # engine caches of accelerators go by it: it must be unique
    model.producer_name, model.producer_version = "adaptive-video", ""
    drop_unused(model)
    sort_nodes(model)
    model = onnx.shape_inference.infer_shapes(model, strict_mode=True)
    onnx.checker.check_model(model, full_check=True)
    return model


def _constant(model: onnx.ModelProto, name: str, value: NDArray[np.generic] | np.generic) -> str:
    model.graph.initializer.append(numpy_helper.from_array(np.asarray(value), name))
    return name


def _take_frames(
    model: onnx.ModelProto,
    entry: str,
    views: Sequence[View],
    activations: ActivationFormat | None,
    pixels: str = _PIXELS,
) -> None:
    """Replace the float input ``pixels`` by uint8 NHWC frames called ``entry``.

    With uint8 activations (or none) one DequantizeLinear is both the normalization and the first layer's
    quantized input. TensorRT takes no uint8 there: it gets arithmetic and a signed Q/DQ, equally exact.
    """
    view = views[0]
    side = view.size if len(views) == 1 else None
    shape = [view.frames, side or "height", side or "width", view.channels]
    frames = helper.make_tensor_value_info(entry, TensorProto.UINT8, shape)
    position = [value.name for value in model.graph.input].index(pixels)
    del model.graph.input[position]
    model.graph.input.insert(position, frames)
    scale = _constant(model, pixels.replace(_PIXELS, "pixel_scale"), np.float32(view.scale))
    if activations == "int8":
        nodes = _signed_pixels(model, entry, view, scale, pixels)
    else:
        zero = _constant(model, pixels.replace(_PIXELS, "pixel_zero"), np.uint8(view.zero_point))
        nodes = [
            helper.make_node("Transpose", [entry], [f"{entry}_nchw"], perm=[0, 3, 1, 2]),
            helper.make_node("DequantizeLinear", [f"{entry}_nchw", scale, zero], [pixels]),
        ]
    model.graph.node.extend(nodes)


def _signed_pixels(
    model: onnx.ModelProto, entry: str, view: View, scale: str, pixels: str
) -> list[onnx.NodeProto]:
    zero = _constant(model, pixels.replace(_PIXELS, "pixel_zero"), np.float32(view.zero_point))
    signed_zero = _constant(model, pixels.replace(_PIXELS, "pixel_signed_zero"), np.int8(0))
    return [
        helper.make_node("Cast", [entry], [f"{entry}_float"], to=TensorProto.FLOAT),
        helper.make_node("Transpose", [f"{entry}_float"], [f"{entry}_nchw"], perm=[0, 3, 1, 2]),
        helper.make_node("Sub", [f"{entry}_nchw", zero], [f"{entry}_centered"]),
        helper.make_node("Mul", [f"{entry}_centered", scale], [f"{entry}_scaled"]),
        helper.make_node("QuantizeLinear", [f"{entry}_scaled", scale, signed_zero], [f"{entry}_codes"]),
        helper.make_node("DequantizeLinear", [f"{entry}_codes", scale, signed_zero], [pixels]),
    ]


def _lift_constants(model: onnx.ModelProto) -> None:
    """Turn Constant nodes, and Casts of them, into initializers: scales and zero points become readable.

    Identity nodes, by which the exporter shares equal parameters, become copies again; shapes that it puts
    together from constants become one.
    """
    parameters = {tensor.name: tensor for tensor in model.graph.initializer}
    values: dict[str, NDArray[np.generic]] = {}
    for node in list(model.graph.node):
        if node.op_type == "Identity" and node.input[0] in parameters:
            value = numpy_helper.to_array(parameters[node.input[0]])
        elif node.op_type == "Constant":
            value = numpy_helper.to_array(node.attribute[0].t)
        elif node.op_type == "Cast" and node.input[0] in values:
            dtype = helper.tensor_dtype_to_np_dtype(node.attribute[0].i)
            value = values[node.input[0]].astype(dtype)
        elif node.op_type == "Unsqueeze" and set(node.input) <= set(values):
            value = np.expand_dims(values[node.input[0]], tuple(values[node.input[1]].tolist()))
        elif node.op_type == "Concat" and set(node.input) <= set(values):
            value = np.concatenate([values[name] for name in node.input], node.attribute[0].i)
        else:
            continue
        values[node.output[0]] = value
        _constant(model, node.output[0], value)
        model.graph.node.remove(node)


def _store_weight_codes(model: onnx.ModelProto, module: nn.Module) -> None:
    """Replace each frozen layer's float weight by its int8 codes and a per-channel DequantizeLinear."""
    initializers = {tensor.name: tensor for tensor in model.graph.initializer}
    for name, layer in module.named_modules():
        if not isinstance(layer, nn.Conv2d | nn.Linear):
            continue
        weight = f"{name}.weight"
        codes = layer.get_buffer("codes").numpy()
        scales = layer.get_buffer("scales").numpy()
        model.graph.initializer.remove(initializers[weight])
        _constant(model, f"{weight}.codes", codes)
        _constant(model, f"{weight}.scales", np.broadcast_to(scales, codes.shape[0]).astype(np.float32))
        _constant(model, f"{weight}.zeros", np.zeros(codes.shape[0], np.int8))
        inputs = [f"{weight}.codes", f"{weight}.scales", f"{weight}.zeros"]
        model.graph.node.append(helper.make_node("DequantizeLinear", inputs, [weight], axis=0))


def _store_bias_codes(model: onnx.ModelProto, module: nn.Module) -> None:
    """Replace float biases by int32 codes at the scale of the accumulator: input scale x weight scales.

    The torch layers take on the rounded biases too: only then are they what the graph computes, to the
    last bit or so (with the float ones, 3 % of one branch's steps came out otherwise).
    """
    producers = {output: node for node in model.graph.node for output in node.output}
    values = {tensor.name: tensor for tensor in model.graph.initializer}
    for node in list(model.graph.node):
        if node.op_type not in ("Conv", "Gemm") or len(node.input) < 3:
            continue
        bias = node.input[2]
        scale = np.float32(numpy_helper.to_array(values[input_scale(producers, node.input[0])]))
        scales = numpy_helper.to_array(values[f"{node.input[1]}.scales"]) * scale
        limits = np.iinfo(np.int32)
        codes = np.rint(numpy_helper.to_array(values[bias]).astype(np.float64) / scales)
        codes = np.clip(codes, limits.min, limits.max)
        module.get_parameter(bias).data = torch.from_numpy((codes * scales).astype(np.float32))
        model.graph.initializer.remove(values[bias])
        _constant(model, f"{bias}.codes", codes.astype(np.int32))
        _constant(model, f"{bias}.scales", scales.astype(np.float32))
        _constant(model, f"{bias}.zeros", np.zeros(len(scales), np.int32))
        inputs = [f"{bias}.codes", f"{bias}.scales", f"{bias}.zeros"]
        model.graph.node.append(helper.make_node("DequantizeLinear", inputs, [bias], axis=0))


def input_scale(producers: Mapping[str, onnx.NodeProto], tensor: str) -> str:
    """Name of the scale of the quantized tensor that reaches a layer, past nodes that only move values.

    Raises: ValueError if ``tensor`` does not come from a quantizer.
    """
    node = producers[tensor]
    while node.op_type in ("Flatten", "MaxPool", "Reshape"):
        node = producers[node.input[0]]
    if node.op_type != "DequantizeLinear":
        raise ValueError(f"{tensor} comes from {node.op_type}, not from a quantizer")
    return str(node.input[1])


def _requantize_max_pools(model: onnx.ModelProto) -> None:
    """Put Q/DQ of the input's own scale behind each MaxPool: without, the next layer stays in float."""
    producers = {output: node for node in model.graph.node for output in node.output}
    for node in list(model.graph.node):
        if node.op_type != "MaxPool":
            continue
        before = producers[node.input[0]]
        while before.op_type == "Reshape":
            before = producers[before.input[0]]
        _, scale, zero = before.input
        output = node.output[0]
        pooled, codes = f"{output}_pooled", f"{output}_codes"
        node.output[0] = pooled
        model.graph.node.append(helper.make_node("QuantizeLinear", [pooled, scale, zero], [codes]))
        model.graph.node.append(helper.make_node("DequantizeLinear", [codes, scale, zero], [output]))


def _reshape_integers(model: onnx.ModelProto) -> None:
    """Move each Flatten and Reshape between Q and DQ, so that both its neighbors touch their quantizer."""
    producers = {output: node for node in model.graph.node for output in node.output}
    for reshape in [node for node in model.graph.node if node.op_type in ("Flatten", "Reshape")]:
        dequantize = producers[reshape.input[0]]
        if dequantize.op_type != "DequantizeLinear":
            continue
        codes, output = dequantize.input[0], reshape.output[0]
        reshape.input[0], reshape.output[0] = codes, f"{output}_codes"
        dequantize.input[0], dequantize.output[0] = f"{output}_codes", output


def drop_unused(model: onnx.ModelProto) -> None:
    """Remove initializers that no node reads any more."""
    read = {name for node in model.graph.node for name in node.input}
    for tensor in [tensor for tensor in model.graph.initializer if tensor.name not in read]:
        model.graph.initializer.remove(tensor)


def sort_nodes(model: onnx.ModelProto) -> None:
    """Order nodes so that each comes after what it reads (the passes append)."""
    known = {tensor.name for tensor in model.graph.initializer} | {v.name for v in model.graph.input} | {""}
    waiting, ordered = list(model.graph.node), []
    while waiting:
        ready = [node for node in waiting if all(name in known for name in node.input)]
        if not ready:
            raise ValueError(f"graph {model.graph.name} has a cycle")
        ordered += ready
        known.update(output for node in ready for output in node.output)
        waiting = [node for node in waiting if node not in ready]
    del model.graph.node[:]
    model.graph.node.extend(ordered)
