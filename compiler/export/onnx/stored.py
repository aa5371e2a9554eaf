"""Quantized graphs whose weight codes lie in a store that all bit-widths of a network share.

The graph's file keeps all but the codes, and as little of that as runtimes need to fuse every layer: what
two more bit-widths cost a bundle is two such files.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from compiler.errors import CompileError
from compiler.export.onnx.exporter import drop_unused, input_scale, sort_nodes
from runtimes.spec import Bits, Store, StoredTensor
from runtimes.weight_store import read_codes, write_planes

_CODES = ".weight.codes"


def write_store(
    codes: Mapping[str, NDArray[np.int8]], whole: Collection[str], name: str, folder: Path
) -> Store:
    """Write the 8-bit ``codes`` of a network, by layer name, as the two planes of the store ``name``.

    Layers in ``whole`` are used at 8 bits in every width. Returns what the manifest says of the store.

    Raises: ValueError if codes are not int8, or ``whole`` names an unknown layer.
    """
    unknown = set(whole) - set(codes)
    if unknown:
        raise ValueError(f"no codes are given for the whole layers {', '.join(sorted(unknown))}")
    tensors = (
        StoredTensor(name=layer, shape=values.shape, nested=layer not in whole)
        for layer, values in codes.items()
    )
    store = Store(name=name, high=f"{name}.high", low=f"{name}.low", tensors=tuple(tensors))
    write_planes(store, codes, folder)
    return store


def save_stored(model: onnx.ModelProto, path: Path, store: Store, bits: Bits) -> Path:
    """Write a quantized graph that takes its weight codes from ``store``, which lies in the same folder.

    The initializer ``<layer>.weight.codes`` becomes a reference into the codes file that a device builds
    (runtimes/weight_store_install.py). Returns ``path``; ``model`` stays as it is.

    Raises: CompileError if the graph's codes are not those that the store gives at ``bits``.
    """
    slim = onnx.ModelProto()
    slim.CopyFrom(model)
    _refer_to_store(slim, path, store, bits)
    _drop_zero_points(slim)
    _derive_bias_scales(slim)
    drop_unused(slim)
    sort_nodes(slim)
    _drop_notes(slim)
    path.write_bytes(slim.SerializeToString(deterministic=True))
    return path


def _refer_to_store(model: onnx.ModelProto, path: Path, store: Store, bits: Bits) -> None:
    """Replace each code initializer's data by its place in the codes file."""
    initializers = {tensor.name: tensor for tensor in model.graph.initializer}
    layers = {name.removesuffix(_CODES) for name in initializers if name.endswith(_CODES)}
    missing = layers - {tensor.name for tensor in store.tensors}
    if missing:
        raise _mismatch(path, f"store {store.name} has no codes for {', '.join(sorted(missing))}")
    offset = 0
    for stored, codes in read_codes(store, path.parent, bits):
        tensor = initializers.get(stored.name + _CODES)
        if tensor is not None:
            if not np.array_equal(numpy_helper.to_array(tensor), codes):
                reason = f"the {bits}-bit codes of {stored.name} are not those of store {store.name}"
                raise _mismatch(path, reason)
            _refer(tensor, {"location": store.codes_file, "offset": offset, "length": stored.size})
        offset += stored.size


def _refer(tensor: onnx.TensorProto, place: Mapping[str, object]) -> None:
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in place.items():
        tensor.external_data.add(key=key, value=str(value))


def _drop_zero_points(model: onnx.ModelProto) -> None:
    """Leave out the zero points of weights and biases, which are zeros, one for every channel.

    Not those of a Gemm's weights: ONNX Runtime fuses none without. Nor any weights' between signed
    activations: where it makes both unsigned (see runtimes.onnx.session_options), it puts a wrong one there.
    """
    kept_of = ("Conv", "Gemm") if _is_symmetric(model) else ("Gemm",)
    kept = {f"{node.input[1]}.zeros" for node in model.graph.node if node.op_type in kept_of}
    for node in model.graph.node:
        zeros = f"{node.output[0]}.zeros"
        if node.op_type == "DequantizeLinear" and node.input[2:] == [zeros] and zeros not in kept:
            del node.input[2]


def _is_symmetric(model: onnx.ModelProto) -> bool:
    """Whether activations are signed."""
    signed = {t.name for t in model.graph.initializer if t.data_type == TensorProto.INT8}
    return any(node.op_type == "QuantizeLinear" and node.input[2] in signed for node in model.graph.node)


def _derive_bias_scales(model: onnx.ModelProto) -> None:
    """Let the graph multiply each bias's scales, input scale x weight scales; runtimes fold that away."""
    producers = {output: node for node in model.graph.node for output in node.output}
    for node in list(model.graph.node):
        if node.op_type in ("Conv", "Gemm") and len(node.input) == 3:
            scale, scales = input_scale(producers, node.input[0]), f"{node.input[2]}.scales"
            stored = next(tensor for tensor in model.graph.initializer if tensor.name == scales)
            model.graph.initializer.remove(stored)
            factors = [scale, f"{node.input[1]}.scales"]
            model.graph.node.append(helper.make_node("Mul", factors, [scales]))


def _drop_notes(model: onnx.ModelProto) -> None:
    """Leave out what only people and tools read: inferred shapes, names of nodes, documentation."""
    del model.graph.value_info[:]
    model.graph.ClearField("doc_string")
    for node in model.graph.node:
        node.ClearField("name")
        node.ClearField("doc_string")


def _mismatch(path: Path, reason: str) -> CompileError:
    return CompileError(path.name, reason, "export the networks that the store was written from")
