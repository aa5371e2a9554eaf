"""Named device classes: what a bundle for them contains."""

from __future__ import annotations

from dataclasses import dataclass

from compiler.errors import CompileError
from models.quantization import ActivationFormat


@dataclass(frozen=True)
class Target:
    """A device class.

    ``activations``: what its int8 kernels take. ``precisions``: those that are really faster there than a
    more exact one, the first the default. ``providers``: of ONNX Runtime, best first. ``fuses_here``: whether
    this machine's CPU runtime optimises int8 graphs as the target's does, so that fusion can be checked.
    """

    name: str
    description: str
    activations: ActivationFormat
    precisions: tuple[str, ...]
    providers: tuple[str, ...]
    fuses_here: bool


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
        ),
        Target(
            "jetson",
            "Jetson or NVIDIA GPU through TensorRT, CUDA or CPU; symmetric int8 Q/DQ",
            activations="int8",
            precisions=("int8", "fp32"),
            providers=("TensorrtExecutionProvider", "CUDAExecutionProvider", "CPUExecutionProvider"),
            fuses_here=False,
        ),
    )
}


def find_target(name: str) -> Target:
    """The target called ``name``. Raises: CompileError that lists the known ones."""
    if name not in TARGETS:
        raise CompileError(f"target {name}", "is unknown", f"use one of {', '.join(TARGETS)}")
    return TARGETS[name]
