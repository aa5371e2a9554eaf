"""Networks at 8, 4 and 2 bits of one store, without training: right in size, speed and memory alone.

Weights are random; int8 scales are set from noise. ``precisions_bundle`` has VideoIQ's sizes: ResNet-50 at
224 px in each width, and an int8 MobileNetV2 + LSTM at 84 px as the policy.
"""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import onnx
import torch
from torch import nn

from compiler.export.onnx.exporter import export_branch, export_policy, save
from compiler.export.onnx.stored import save_stored, write_store
from models.backbones.blocks import Backbone
from models.backbones.registry import BACKBONES
from models.layers.quantization import calibrate, freeze, quantize
from models.policies.policy import RecurrentPolicy
from runtimes.bundle import MANIFEST, Bundle, write_bundle
from runtimes.cache import cache_folder
from runtimes.spec import (
    ActionSpace,
    Bits,
    Fusion,
    Graph,
    Group,
    Option,
    Policy,
    Steps,
    Store,
    Tensor,
    Variant,
    View,
)
from runtimes.weight_store import narrowed

WIDTHS: tuple[Bits, ...] = get_args(Bits)
CLASSES, HIDDEN = 200, 512
_LARGE, _SMALL = View(name="rgb224", size=224), View(name="rgb84", size=84)
_DTYPES = {onnx.TensorProto.UINT8: "uint8", onnx.TensorProto.FLOAT: "float32"}


def precisions_bundle() -> Bundle:
    """The bundle in the user's cache, built when first asked for (ten seconds)."""
    folder = cache_folder("benchmarks") / "precisions.bundle"
    if not (folder / MANIFEST).is_file():
        _build(folder)
    return Bundle.open(folder)


def stored_graphs(backbone: str, classes: int, folder: Path) -> tuple[Store, dict[Bits, onnx.ModelProto]]:
    """Write the network's store and its graph at each width, ``<bits>.onnx``; returns what was written."""
    torch.manual_seed(0)
    network = BACKBONES[backbone](classes).eval()
    frozen = _frozen(network, torch.rand(1, 3, 64, 64) * 4 - 2)
    layers = _layers(frozen)
    whole = {next(iter(layers)), list(layers)[-1]}
    codes = {name: layer.get_buffer("codes").numpy() for name, layer in layers.items()}
    store = write_store(codes, whole, "net", folder)
    models = {}
    for bits in WIDTHS:
        models[bits] = export_branch(_at_bits(frozen, bits, whole), f"net-{bits}", [_LARGE], "uint8")
        save_stored(models[bits], folder / f"net-{bits}.onnx", store, bits)
    return store, models


def _build(destination: Path) -> None:
    with tempfile.TemporaryDirectory(prefix="precisions-") as name:
        folder = Path(name)
        store, models = stored_graphs("resnet50", CLASSES, folder)
        policy = _policy()
        files = [file.name for file in save(policy, folder / "policy.onnx")]
        graphs = [_graph(models[bits], f"net-{bits}.onnx", store=store.name, bits=bits) for bits in WIDTHS]
        graphs.append(_graph(policy, files[0], weight_files=tuple(files[1:]), role="policy"))
        fields = {
            "model": "videoiq",
            "preset": "paper",
            "target": "cpu",
            "labels": tuple(f"class{number:03}" for number in range(CLASSES)),
            "views": (_LARGE, _SMALL),
            "steps": Steps(rate_hz=7.5, clip_steps=16),
            "fusion": Fusion(window=16),
            "graphs": tuple(graphs),
            "stores": (store,),
            "variants": (_variant(),),
            "default_variant": "int8",
        }
        write_bundle(destination, folder, fields)


def _policy() -> onnx.ModelProto:
    policy = RecurrentPolicy(BACKBONES["mobilenetv2"](CLASSES), HIDDEN, len(WIDTHS) + 1, CLASSES).eval()
    frozen = _frozen(policy, torch.rand(1, 3, _SMALL.size, _SMALL.size) * 4 - 2)
    assert isinstance(frozen, RecurrentPolicy)
    return export_policy(frozen, "policy", {"frame": _SMALL}, ["logits"], "uint8")


def _frozen(network: nn.Module, pictures: torch.Tensor) -> Any:
    quantized = quantize(network, "uint8")

    def run() -> Iterator[None]:
        if isinstance(quantized, RecurrentPolicy):
            conditions = quantized.no_conditions(len(pictures))
            quantized.advance(quantized.embed(pictures), conditions, quantized.initial_state(len(pictures)))
        else:
            quantized(pictures)
        yield

    calibrate(quantized, run())
    return freeze(quantized)


def _layers(network: nn.Module) -> dict[str, nn.Module]:
    return {name: m for name, m in network.named_modules() if isinstance(m, nn.Conv2d | nn.Linear)}


def _at_bits(network: Backbone, bits: Bits, whole: set[str]) -> Backbone:
    """A copy with the codes of ``bits`` and the scales that go with them, in all but the whole layers."""
    network = copy.deepcopy(network)
    for name, layer in _layers(network).items():
        if bits < 8 and name not in whole:
            layer.get_buffer("codes").copy_(
                torch.from_numpy(narrowed(layer.get_buffer("codes").numpy(), bits))
            )
            layer.get_buffer("scales").mul_(2 ** (7 - bits))
    return network


def _graph(model: onnx.ModelProto, file: str, role: str = "branch", **fields: Any) -> Graph:
    return Graph.model_validate(
        {
            "name": model.graph.name,
            "file": file,
            "precision": "int8",
            "role": role,
            "inputs": {value.name: _tensor(value) for value in model.graph.input},
            "outputs": {value.name: _tensor(value) for value in model.graph.output},
            **fields,
        }
    )


def _tensor(value: onnx.ValueInfoProto) -> Tensor:
    shape = [dim.dim_value for dim in value.type.tensor_type.shape.dim]
    return Tensor.model_validate({"dtype": _DTYPES[value.type.tensor_type.elem_type], "shape": shape})


def _variant() -> Variant:
    options = (
        Option(name=f"bits{bits}", graph=f"net-{bits}", view=_LARGE.name, precision="int8") for bits in WIDTHS
    )
    group = Group(name="step", options=(*options, Option(name="skip1", skip=1)))
    state: dict[str, tuple[int, ...]] = dict.fromkeys(("h", "c"), (1, HIDDEN))
    policy = Policy(graph="policy", views=(_SMALL.name,), state=state)
    return Variant(name="int8", policy=policy, action_space=ActionSpace(groups=(group,)))
