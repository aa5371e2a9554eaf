"""Named device classes: what a bundle for them contains."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from compiler.errors import CompileError
from models.quantization import ActivationFormat


@dataclass(frozen=True)
class Target:
    """A device class.

    ``activations``: what its int8 kernels take. ``precisions``: those that are really faster there than a
    more exact one, the first the default. ``providers``: of ONNX Runtime, best first. ``fuses_here``: whether
    this machine's CPU runtime optimises int8 graphs as the target's does, so that fusion can be checked
    and costs measured. ``speeds``: how many times as fast as fp32 each precision is taken to be where costs
    cannot be measured while compiling; a device's own table (``--costs``) replaces them.
    """

    name: str
    description: str
    activations: ActivationFormat
    precisions: tuple[str, ...]
    providers: tuple[str, ...]
    fuses_here: bool
    speeds: Mapping[str, float]


TARGETS = {
    target.name: target
    for target in (
        Target(
            "cpu",
            "x86-64 or ARM CPU through ONNX Runtime; uint8 activations, every int8 layer fused",
            activations="uint8",
            precisions=("int8", "fp32"),
            providers=("CPUExecutionProvider",),
            fuses_here=True,
            speeds={"fp32": 1.0, "int8": 3.0, "int4": 3.0, "int2": 3.0},
        ),
        Target(
            "jetson",
            "Jetson or NVIDIA GPU through TensorRT, CUDA or CPU; symmetric int8 Q/DQ",
            activations="int8",
            precisions=("int8", "fp32"),
            providers=("TensorrtExecutionProvider", "CUDAExecutionProvider", "CPUExecutionProvider"),
            fuses_here=False,
            # The peak rates of Orin's tensor cores; 4- and 2-bit codes run as int8 there too.
            speeds={"fp32": 1.0, "int8": 4.0, "int4": 4.0, "int2": 4.0},
        ),
    )
}


def find_target(name: str) -> Target:
    """The target called ``name``. Raises: CompileError that lists the known ones."""
    if name not in TARGETS:
        raise CompileError(f"target {name}", "is unknown", f"use one of {', '.join(TARGETS)}")
    return TARGETS[name]
