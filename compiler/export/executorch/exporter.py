"""ExecuTorch programs from trained torch modules: several networks as methods of one file.

A method takes uint8 NHWC frames, as a graph for ONNX Runtime does. They become floats by the runtime's own
uint8 kernel, outside of delegates: neither backend has kernels for uint8. An integer network quantizes these
floats again, at the very scale, to the pixel's own code. Of the inputs that were tried (floats, signed codes,
NCHW, channels-last), all with the same numbers, this one was the fastest that takes a frame as it is: 10.8 ms
a run of MobileNetV2 at 224 px, where a permutation of signed codes outside of the delegate took 11.7 ms.

Methods of one program share equal weights in the file, and the file is mapped: one that is not loaded costs
no memory. But each that is loaded packs its own copy of its weights, so that a network that serves several
views is one method of any size. int8 is as exact as the kernels are: see docs/executorch.md.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import executorch.kernels.quantized  # noqa: F401  # registers what runs outside of delegates
import torch
from executorch.backends.vulkan.partitioner.vulkan_partitioner import VulkanPartitioner
from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
from executorch.exir import EdgeCompileConfig, to_edge_transform_and_lower
from executorch.exir.backend.partitioner import Partitioner
from executorch.exir.dialects._ops import ops as exir_ops
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram, export

from compiler.export.executorch.aten_integers import Quantize, is_integer, prepare, use_codes, with_quantizers
from compiler.export.executorch.delegates import Lowering, lowering_of
from compiler.export.policy_graph import PolicyGraph, example_inputs
from models.backbones.blocks import Backbone
from models.layers.quantization import FakeQuantize
from models.policies.policy import StepPolicy
from runtimes import spec
from runtimes.spec import LOGITS, View

Backend = Literal["xnnpack", "vulkan"]
Precision = Literal["fp32", "fp16", "int8", "int4", "int2"]

FRAME = "frame"
_FLOATS = ("fp32", "fp16")
_DEQUANTISE = exir_ops.edge.quantized_decomposed.dequantize_per_tensor.default
_DTYPES = {torch.uint8: "uint8", torch.float32: "float32"}


@dataclass(frozen=True)
class Method:
    """One network, exported and ready to be lowered.

    ``inputs`` and ``outputs`` are what a manifest says of them; the program takes and gives them in this
    order, without names.
    """

    program: ExportedProgram
    precision: Precision
    inputs: dict[str, spec.Tensor]
    outputs: dict[str, spec.Tensor]


@dataclass(frozen=True)
class Program:
    """A written program, and what became of each of its methods."""

    file: Path
    methods: dict[str, Lowering]


class _Pixels(nn.Module):
    """What a network sees (N, C, H, W) of uint8 frames (N, H, W, C) of a view."""

    def __init__(self, view: View, integer: bool) -> None:
        super().__init__()
        self.format = (view.scale, view.zero_point, 0, 255, torch.uint8)
        codes = FakeQuantize(view.scale, view.zero_point, 0, 255)
        self.quantize = Quantize(codes) if integer else nn.Identity()

    def forward(self, frames: Tensor) -> Tensor:
        pixels = torch.ops.quantized_decomposed.dequantize_per_tensor(frames, *self.format)
        return self.quantize(pixels).permute(0, 3, 1, 2)


class _FromFrames(nn.Module):
    """A network that takes uint8 frames for its first inputs, one for each view."""

    def __init__(self, network: nn.Module, views: Sequence[View]) -> None:
        super().__init__()
        self.network = network
        self.pixels = nn.ModuleList(_Pixels(view, is_integer(network)) for view in views)

    def forward(self, *inputs: Tensor) -> Any:
        seen = [see(frames) for see, frames in zip(self.pixels, inputs, strict=False)]
        return self.network(*seen, *inputs[len(seen) :])


def branch_method(backbone: Backbone, views: Sequence[View], precision: Precision) -> Method:
    """The method of one branch: ``frame`` uint8 of a view's shape to ``logits`` float (1, C).

    Height and width are fixed if all views have one size. Else they may change, together, between the
    smallest and the largest view's. A frozen integer network's biases are rounded in place to the integers
    that kernels add.

    Raises: ValueError if the network is not of the precision.
    """
    sizes = sorted({view.size for view in views})
    largest = max(views, key=lambda view: view.size)
    shapes = None
    if len(sizes) > 1:
        side = Dim("side", min=sizes[0], max=sizes[-1])
        shapes = ({1: side, 2: side},)
    return _method(backbone, [largest], {FRAME: _frames(largest)}, [LOGITS], precision, shapes)


def policy_method(
    policy: StepPolicy, views: Mapping[str, View], heads: Sequence[str], precision: Precision
) -> Method:
    """The method of a policy: its views by input, what it is conditioned on, and its state by name.

    To ``scores``, the logits of each of its heads by the names in ``heads``, and ``next_<state>``: see
    ``runtimes.spec.Policy``. Biases are rounded as a branch's are.

    Raises: ValueError if the network is not of the precision.
    """
    inputs = {entry: _frames(view) for entry, view in views.items()} | example_inputs(policy)
    outputs = ["scores", *heads, *(f"next_{part}" for part in policy.initial_state(1)._fields)]
    return _method(PolicyGraph(policy), list(views.values()), inputs, outputs, precision)


def save_program(methods: Mapping[str, Method], path: Path, backend: Backend) -> Program:
    """Lower methods for a backend and write them as one program; equal methods to equal bytes.

    On Vulkan, fp16 methods compute in half precision; integer ones, which it has no kernels for, and what it
    leaves of others, go to XNNPACK.

    Raises: ValueError for fp16 on XNNPACK, whose kernels would take fp16 inputs too.
    """
    if backend == "xnnpack" and any(method.precision == "fp16" for method in methods.values()):
        raise ValueError("fp16 is for vulkan; on xnnpack export fp32 or int8")
    with warnings.catch_warnings():
        # Of torch, for what the package calls: nothing that anyone here could fix.
        warnings.simplefilter("ignore", FutureWarning)
        warnings.simplefilter("ignore", DeprecationWarning)
        edge = to_edge_transform_and_lower(
            {name: method.program for name, method in methods.items()},
            partitioner={name: _partitioners(method.precision, backend) for name, method in methods.items()},
            compile_config=EdgeCompileConfig(_check_ir_validity=False),
        )
    lowerings = {name: lowering_of(edge.exported_program(name)) for name in methods}
    with path.open("wb") as file:
        edge.to_executorch().write_to_file(file)
    return Program(path, lowerings)


def _partitioners(precision: Precision, backend: Backend) -> list[Partitioner]:
    """What takes a method's operators, each what those before it have left."""
    if backend == "xnnpack" or precision not in _FLOATS:
        return [XnnpackPartitioner()]
    options = {"force_fp16": True} if precision == "fp16" else {}
    # It would take uint8 frames for packed int8, which its kernels then throw on as they are loaded.
    return [VulkanPartitioner(options, operator_blocklist=[_DEQUANTISE]), XnnpackPartitioner()]


def _frames(view: View) -> Tensor:
    """One step at a view, all zeros."""
    return torch.zeros(view.shape, dtype=torch.uint8)


def _method(
    network: nn.Module,
    views: Sequence[View],
    inputs: Mapping[str, Tensor],
    outputs: Sequence[str],
    precision: Precision,
    shapes: Any = None,
) -> Method:
    if precision not in get_args(Precision):
        raise ValueError(f"precision {precision}: use one of {', '.join(get_args(Precision))}")
    if is_integer(network) == (precision in _FLOATS):
        kind = "integer" if is_integer(network) else "float"
        raise ValueError(f"precision {precision}: the network is of {kind} layers")
    program = _exported(_FromFrames(network, views), tuple(inputs.values()), shapes)
    signature = program.graph_signature
    return Method(
        program,
        precision,
        inputs=dict(zip(inputs, _tensors(program, signature.user_inputs), strict=True)),
        outputs=dict(zip(outputs, _tensors(program, signature.user_outputs), strict=True)),
    )


def _exported(module: nn.Module, inputs: tuple[Tensor, ...], shapes: Any) -> ExportedProgram:
    """A network in torch's own operators, its integers explicit."""
    with torch.no_grad():
        # Of a module that takes any number of inputs their shapes are asked for in one tuple more.
        every = None if shapes is None else (shapes,)
        exported = export(with_quantizers(module), inputs, dynamic_shapes=every, strict=False)
        graph = exported.module(check_guards=False)
        prepare(graph)
        if is_integer(module):
            use_codes(graph, module)
        # Once more, for the shapes of what has been rewritten.
        return export(graph, inputs, dynamic_shapes=shapes, strict=False)


def _tensors(program: ExportedProgram, names: Sequence[Any]) -> list[spec.Tensor]:
    """What a manifest says of inputs or outputs: dimensions that may change are None."""
    values = {node.name: node.meta.get("val") for node in program.graph.nodes}
    tensors = []
    for name in names:
        value = values[name]
        shape = [size if isinstance(size, int) else None for size in value.shape]
        tensors.append(spec.Tensor.model_validate({"dtype": _DTYPES[value.dtype], "shape": shape}))
    return tensors
