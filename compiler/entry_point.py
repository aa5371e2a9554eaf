"""The start of the compiler's commands: whether what they need is installed, before it is imported."""

from __future__ import annotations

import os
import sys
from importlib.util import find_spec

_TRAINING = ("torch", "lightning", "tensorboard", "torchmetrics", "brevitas")
_PACKING = ("onnx", "onnxoptimizer", "onnxscript", "matplotlib")


def main() -> None:
    """``adaptive-compile``."""
    _prepare("adaptive-compile")
    from compiler.cli import main as compile_main

    compile_main()


def evaluate() -> None:
    """``adaptive-evaluate``."""
    _prepare("adaptive-evaluate")
    from compiler.evaluate_cli import main as evaluate_main

    evaluate_main()


def _prepare(command: str) -> None:
    missing = [package for package in (*_TRAINING, *_PACKING) if find_spec(package) is None]
    if missing:
        fix = "pip install 'adaptive-video[compile]'"
        print(f"error: {command}: needs {', '.join(missing)}; {fix}", file=sys.stderr)
        sys.exit(2)
    # Threads of OpenMP that wait for work spin by default: beside other programs that costs both time.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
