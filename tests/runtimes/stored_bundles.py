"""A small real bundle with a store: one network at 8, 4 and 2 bits, chosen among by brightness.

Bright frames choose ``bits8``, dark ones ``skip4``, others ``bits4`` (tests/runtimes/bundles.py). The
network is quantized by the compiler's own code; its layers' codes are cut down, and not trained for it.
"""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any, get_args

import numpy as np
import torch
from torch import nn

from compiler.export.onnx.exporter import export_branch
from compiler.export.onnx.stored import save_stored, write_store
from models.backbones.blocks import Backbone
from models.backbones.registry import BACKBONES
from models.layers.quantization import ActivationFormat, calibrate, freeze, quantize
from runtimes.bundle import Bundle, write_bundle
from runtimes.spec import (
    ActionSpace,
    Bits,
    CostTable,
    Graph,
    GraphCost,
    Group,
    Option,
    Policy,
    Tensor,
    Variant,
    View,
    ViewCost,
)
from runtimes.weight_store import Codes, narrowed
from tests.models.small_arnet import SMALLEST
from tests.runtimes.bundles import (
    LABELS,
    STATE,
    cost_table,
    manifest_fields,
    policy_graph,
    policy_model,
    save_model,
)

WIDTHS: tuple[Bits, ...] = get_args(Bits)
VIEW = View(name="rgb64", size=64)
STORE = "net"


def frozen_network(backbone: str = SMALLEST, activations: ActivationFormat = "uint8") -> Backbone:
    """A network at 8 bits with random weights, and activations that random pictures calibrated."""
    torch.manual_seed(0)
    network = BACKBONES[backbone](len(LABELS))
    for _ in range(3):  # batch norms learn what they see
        network(torch.rand(8, 3, VIEW.size, VIEW.size) * 4 - 2)
    quantized = quantize(network, activations)
    pictures = torch.rand(8, 3, VIEW.size, VIEW.size) * 4 - 2
    calibrate(quantized, (None for _ in range(1) if quantized(pictures) is not None))
    frozen = freeze(quantized)
    assert isinstance(frozen, Backbone)
    return frozen


def layers(network: nn.Module) -> dict[str, nn.Module]:
    """What computes with weights, by name, the first and the last layer at the ends."""
    return {name: m for name, m in network.named_modules() if isinstance(m, nn.Conv2d | nn.Linear)}


def codes_of(network: nn.Module) -> dict[str, Codes]:
    """The 8-bit codes of a frozen network by layer name."""
    return {name: layer.get_buffer("codes").numpy() for name, layer in layers(network).items()}


def whole_layers(network: nn.Module) -> set[str]:
    """The first layer and the classifier."""
    names = list(layers(network))
    return {names[0], names[-1]}


def at_bits(network: Backbone, bits: Bits) -> Backbone:
    """A copy whose layers, all but the whole ones, compute with the codes of ``bits``."""
    network = copy.deepcopy(network)
    for name, layer in layers(network).items():
        if bits < 8 and name not in whole_layers(network):
            codes, scales = layer.get_buffer("codes"), layer.get_buffer("scales")
            codes.copy_(torch.from_numpy(narrowed(codes.numpy(), bits)))
            scales *= 2 ** (7 - bits)
            each = scales.broadcast_to(len(codes)).reshape(-1, *[1] * (codes.ndim - 1))
            layer.get_parameter("weight").data = codes * each
    return network


def build_stored_bundle(destination: Path, scratch: Path) -> Bundle:
    """Write the bundle."""
    files = scratch / "files"
    files.mkdir(parents=True)
    save_model(policy_model(), files / "policy.onnx")
    network = frozen_network()
    store = write_store(codes_of(network), whole_layers(network), STORE, files)
    for bits in WIDTHS:
        model = export_branch(at_bits(network, bits), f"net-{bits}", [VIEW], "uint8")
        save_stored(model, files / f"net-{bits}.onnx", store, bits)
    fields: dict[str, Any] = manifest_fields() | {
        "views": (View(name="rgb84", size=84), VIEW),
        "graphs": (policy_graph(), *(_graph(bits) for bits in WIDTHS)),
        "stores": (store,),
        "variants": (_variant(),),
        "default_variant": "int8",
        "cost_tables": (_costs(),),
    }
    return write_bundle(destination, files, fields)


def pictures(count: int = 3) -> list[np.ndarray]:
    """Frames of noise, each uint8 (1, 64, 64, 3)."""
    random = np.random.default_rng(7)
    return [random.integers(0, 256, (1, VIEW.size, VIEW.size, 3), np.uint8) for _ in range(count)]


def _graph(bits: Bits) -> Graph:
    return Graph(
        target="cpu",
        name=f"net-{bits}",
        file=f"net-{bits}.onnx",
        precision="int8",
        role="branch",
        inputs={"frame": Tensor(dtype="uint8", shape=(1, VIEW.size, VIEW.size, 3))},
        outputs={"logits": Tensor(dtype="float32", shape=(1, len(LABELS)))},
        store=STORE,
        bits=bits,
    )


def _variant() -> Variant:
    branches = (
        Option(name=f"bits{bits}", graph=f"net-{bits}", view=VIEW.name, precision="int8") for bits in WIDTHS
    )
    head = Option(name="head", graph="policy", view="rgb84", precision="fp32")
    group = Group(name="step", options=(*branches, head, Option(name="skip4", skip=4)))
    state = {"h": STATE, "c": STATE}
    policy = Policy(graph="policy", views=("rgb84",), state=state, heads={"step": "logits"})
    return Variant(name="int8", policy=policy, action_space=ActionSpace(groups=(group,)))


def _costs() -> CostTable:
    plain = cost_table()
    rows = [GraphCost(graph=f"net-{bits}", view=VIEW.name, p50_ms=2, p95_ms=2) for bits in WIDTHS]
    rows.append(GraphCost(graph="policy", view="rgb84", p50_ms=0.5, p95_ms=0.5))
    views = (ViewCost(view=view, p50_ms=0.1, p95_ms=0.1) for view in ("rgb84", VIEW.name))
    return plain.model_copy(update={"graphs": tuple(rows), "views": tuple(views)})
