"""Graphs of a store compute exactly what the plain exports do, and cost little beside the codes."""

from __future__ import annotations

import copy
import functools
from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import numpy_helper

from compiler.errors import CompileError
from compiler.export.onnx.exporter import FRAME, export_branch
from compiler.export.onnx.stored import save_stored, write_store
from models.backbones.blocks import Backbone
from runtimes.engines.onnx import session_options
from runtimes.spec import Bits, Store
from runtimes.weight_store import write_codes
from tests.models.small_arnet import SMALLEST
from tests.runtimes.stored_bundles import (
    VIEW,
    WIDTHS,
    at_bits,
    codes_of,
    frozen_network,
    pictures,
    whole_layers,
)

KINDS = ("QLinearConv", "QGemm", "Conv", "FusedConv", "Gemm", "MatMul")


@functools.cache
def network(name: str) -> Backbone:
    return frozen_network(name)


def exported(name: str, bits: Bits) -> onnx.ModelProto:
    return export_branch(at_bits(network(name), bits), "net", [VIEW], "uint8")


def stored(name: str, bits: Bits, folder: Path) -> tuple[Store, Path]:
    """The store, and the graph with its codes built beside it."""
    plain = network(name)
    store = write_store(codes_of(plain), whole_layers(plain), "net", folder)
    path = save_stored(exported(name, bits), folder / "net.onnx", store, bits)
    write_codes(store, folder, bits, folder / store.codes_file)
    return store, path


def session(model: bytes | str, optimized: Path | None = None) -> onnxruntime.InferenceSession:
    options = session_options(threads=1)
    options.log_severity_level = 3
    if optimized is not None:
        options.optimized_model_filepath = str(optimized)
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


@pytest.mark.parametrize("bits", WIDTHS)
@pytest.mark.parametrize("name", [SMALLEST, "mobilenetv2"])
def test_outputs_and_fusion_are_those_of_the_plain_export(name: str, bits: Bits, tmp_path: Path) -> None:
    plain = session(exported(name, bits).SerializeToString(), tmp_path / "plain.onnx")
    _, path = stored(name, bits, tmp_path)
    slim = session(str(path), tmp_path / "slim.onnx")
    for picture in pictures():
        inputs = {FRAME: picture}
        np.testing.assert_array_equal(slim.run(None, inputs)[0], plain.run(None, inputs)[0])
    counts = [
        Counter(node.op_type for node in onnx.load(tmp_path / file, load_external_data=False).graph.node)
        for file in ("plain.onnx", "slim.onnx")
    ]
    assert counts[0] == counts[1]
    assert not [kind for kind in KINDS if counts[1][kind] and not kind.startswith("Q")]


def test_symmetric_graphs_for_tensorrt_compute_the_same(tmp_path: Path) -> None:
    plain = frozen_network(SMALLEST, "int8")
    store = write_store(codes_of(plain), whole_layers(plain), "net", tmp_path)
    model = export_branch(at_bits(plain, 4), "net", [VIEW], "int8")
    path = save_stored(model, tmp_path / "net.onnx", store, 4)
    write_codes(store, tmp_path, 4, tmp_path / store.codes_file)
    inputs = {FRAME: pictures()[0]}
    wanted = session(model.SerializeToString()).run(None, inputs)[0]
    np.testing.assert_array_equal(session(str(path)).run(None, inputs)[0], wanted)


def test_graph_file_holds_no_codes(tmp_path: Path) -> None:
    store, path = stored(SMALLEST, 8, tmp_path)
    model = onnx.load(path, load_external_data=False)
    places = {
        tensor.name: {entry.key: entry.value for entry in tensor.external_data}
        for tensor in model.graph.initializer
        if tensor.data_location == onnx.TensorProto.EXTERNAL
    }
    offset = 0
    for tensor in store.tensors:
        wanted = {"location": "net.codes", "offset": str(offset), "length": str(tensor.size)}
        assert places.pop(f"{tensor.name}.weight.codes") == wanted
        offset += tensor.size
    assert not places
    assert path.stat().st_size < 0.35 * offset  # of the smallest network; one of ResNet-50's takes 1.2 %


def test_planes_take_a_byte_a_code(tmp_path: Path) -> None:
    store, _ = stored("resnet18", 8, tmp_path)
    sizes = {file: (tmp_path / file).stat().st_size for file in (store.high, store.low)}
    assert sum(sizes.values()) == sum(tensor.size for tensor in store.tensors)
    whole = sum(tensor.size for tensor in store.tensors if not tensor.nested)
    assert sizes[store.high] - sizes[store.low] == whole


def test_three_widths_cost_little_more_than_one(tmp_path: Path) -> None:
    graphs = {}
    for bits in WIDTHS:
        store, path = stored("resnet18", bits, tmp_path)
        graphs[bits] = path.stat().st_size
    planes = sum((tmp_path / file).stat().st_size for file in (store.high, store.low))
    assert planes + sum(graphs.values()) <= 1.03 * (planes + graphs[8])


def test_the_model_given_stays_as_it_is(tmp_path: Path) -> None:
    store, _ = stored(SMALLEST, 4, tmp_path)
    model = exported(SMALLEST, 4)
    before = model.SerializeToString(deterministic=True)
    save_stored(model, tmp_path / "again.onnx", store, 4)
    assert model.SerializeToString(deterministic=True) == before


def test_other_codes_than_the_stored_ones_are_refused(tmp_path: Path) -> None:
    store, _ = stored(SMALLEST, 8, tmp_path)
    with pytest.raises(CompileError, match=r"wrong\.onnx: the 4-bit codes of .* are not those of store net"):
        save_stored(exported(SMALLEST, 2), tmp_path / "wrong.onnx", store, 4)
    other = copy.deepcopy(network(SMALLEST))
    with torch.no_grad():
        last = list(codes_of(other))[-1]
        other.get_submodule(last).get_buffer("codes")[0, 0] ^= 1
    with pytest.raises(CompileError, match=f"8-bit codes of {last} are not"):
        save_stored(export_branch(other, "net", [VIEW], "uint8"), tmp_path / "wrong.onnx", store, 8)
    assert not (tmp_path / "wrong.onnx").exists()


def test_layers_without_a_store_are_named(tmp_path: Path) -> None:
    codes = codes_of(network(SMALLEST))
    dropped, _ = codes.popitem()
    store = write_store(codes, [], "net", tmp_path)
    with pytest.raises(CompileError, match=f"store net has no codes for {dropped};"):
        save_stored(exported(SMALLEST, 8), tmp_path / "net.onnx", store, 8)
    with pytest.raises(ValueError, match="whole layers nosuch"):
        write_store(codes, ["nosuch"], "net", tmp_path)


def test_scales_of_weights_stay_as_they_are(tmp_path: Path) -> None:
    _, path = stored(SMALLEST, 2, tmp_path)
    kept = {t.name: t for t in onnx.load(path, load_external_data=False).graph.initializer}
    for tensor in exported(SMALLEST, 2).graph.initializer:
        if tensor.name.endswith((".weight.scales", ".bias.codes")):
            np.testing.assert_array_equal(
                numpy_helper.to_array(kept[tensor.name]), numpy_helper.to_array(tensor)
            )
