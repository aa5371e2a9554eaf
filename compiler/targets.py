"""Named device classes: what a bundle for them contains."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from compiler.errors import CompileError
from models.layers.quantization import ActivationFormat
from runtimes.spec import Runtime


@dataclass(frozen=True)
class Target:
    """A device class.

    ``runtime``: what runs its graphs. ``activations``: those that its int8 networks are trained for.
    ``precisions``: those that are really faster there than a more exact one, the first the default.
    ``providers``: of the runtime, best first. ``fuses_here``: whether this machine's CPU runs int8 graphs as
    the target does, so that they can be checked and their costs measured. ``speeds``: how many times as fast
    as fp32 each precision is taken to be where costs cannot be measured while compiling; a device's own
    table (``--costs``) replaces them. ``stand_in``: names the target whose graphs of the same networks are
    checked and evaluated in place of its own, which no machine without the device runs.
    """

    name: str
    description: str
    runtime: Runtime
    activations: ActivationFormat
    precisions: tuple[str, ...]
    providers: tuple[str, ...]
    fuses_here: bool
    speeds: Mapping[str, float]
    stand_in: str | None = None

    @property
    def run_here(self) -> Target:
        """What this machine runs for it: itself, or its stand-in under its name and with its precisions."""
        if self.stand_in is None:
            return self
        return replace(TARGETS[self.stand_in], name=self.name, precisions=self.precisions)

    @property
    def known_precisions(self) -> frozenset[str]:
        """Every precision that it has graphs of: where there is int8, fewer bits run as int8."""
        fewer = ("int4", "int2") if "int8" in self.precisions else ()
        return frozenset((*self.precisions, *fewer))


_CPU_SPEEDS = {"fp32": 1.0, "fp16": 1.0, "int8": 3.0, "int4": 3.0, "int2": 3.0}

TARGETS = {
    target.name: target
    for target in (
        Target(
            "cpu",
            "x86-64 or ARM CPU through ONNX Runtime; uint8 activations, every int8 layer fused",
            runtime="onnx",
            activations="uint8",
            precisions=("int8", "fp32"),
            providers=("CPUExecutionProvider",),
            fuses_here=True,
            speeds=_CPU_SPEEDS,
        ),
        Target(
            "jetson",
            "Jetson or NVIDIA GPU through TensorRT, CUDA or CPU; symmetric int8 Q/DQ",
            runtime="onnx",
            activations="int8",
            precisions=("int8", "fp32"),
            providers=("TensorrtExecutionProvider", "CUDAExecutionProvider", "CPUExecutionProvider"),
            fuses_here=False,
            # The peak rates of Orin's tensor cores; 4- and 2-bit codes run as int8 there too.
            speeds={"fp32": 1.0, "int8": 4.0, "int4": 4.0, "int2": 4.0},
        ),
        Target(
            "android",
            "phone CPU through ExecuTorch: XNNPACK, fp32 and int8",
            runtime="executorch",
            activations="uint8",
            precisions=("int8", "fp32"),
            providers=("XnnpackBackend",),
            fuses_here=True,
            speeds=_CPU_SPEEDS,
        ),
        Target(
            "android-gpu",
            "phone GPU through ExecuTorch: Vulkan, fp16 and fp32; int8 stays on the CPU",
            runtime="executorch",
            activations="uint8",
            precisions=("fp16", "fp32", "int8"),
            providers=("VulkanBackend", "XnnpackBackend"),
            fuses_here=False,
            speeds={"fp32": 1.0, "fp16": 2.0, "int8": 1.0, "int4": 1.0, "int2": 1.0},
            stand_in="android",
        ),
        Target(
            "litert",
            "phone CPU or GPU through LiteRT: XNNPACK int8, fp16 and fp32, or the GPU accelerator",
            runtime="litert",
            activations="uint8",
            precisions=("int8", "fp16", "fp32"),
            providers=("LiteRT-XNNPACK", "LiteRT-GPU"),
            fuses_here=True,
            speeds=_CPU_SPEEDS,
        ),
    )
}


def find_target(name: str) -> Target:
    """The target called ``name``. Raises: CompileError that lists the known ones."""
    if name not in TARGETS:
        raise CompileError(f"target {name}", "is unknown", f"use one of {', '.join(TARGETS)}")
    return TARGETS[name]


def find_targets(names: str) -> tuple[Target, ...]:
    """The targets of a bundle by their names, with commas between, its own first.

    Raises: CompileError if one is unknown or named twice, or they cannot share one set of trained weights.
    """
    targets = tuple(find_target(name.strip()) for name in names.split(","))
    if len({target.name for target in targets}) != len(targets):
        raise CompileError(f"targets {names}", "name one twice", "name each once")
    _require_one_training(targets)
    return targets


def _require_one_training(targets: Sequence[Target]) -> None:
    """Raises: CompileError if the targets' int8 networks are trained differently."""
    first = targets[0]
    for other in targets[1:]:
        if other.activations != first.activations:
            reason = f"are trained for other activations ({first.activations}, {other.activations})"
            raise CompileError(f"targets {first.name} and {other.name}", reason, "compile a bundle for each")
