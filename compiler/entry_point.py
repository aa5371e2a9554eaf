"""The start of ``adaptive-compile``: whether what it needs is installed, before it is imported."""

from __future__ import annotations

import os
import sys
from importlib.util import find_spec

_TRAINING = ("torch", "lightning", "tensorboard", "torchmetrics", "brevitas")
_PACKING = ("onnx", "onnxoptimizer", "onnxscript", "matplotlib")


def main() -> None:
    """Entry point."""
    missing = [package for package in (*_TRAINING, *_PACKING) if find_spec(package) is None]
    if missing:
        fix = "pip install 'adaptive-video[compile]'"
        print(f"error: adaptive-compile: needs {', '.join(missing)}; {fix}", file=sys.stderr)
        sys.exit(2)
    # Threads of OpenMP that wait for work spin by default: beside other programs that costs both time.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    from compiler.cli import main as compile_main

    compile_main()
