"""The start of the compiler's commands: whether what they need is installed, before it is imported."""

from __future__ import annotations

import os
import sys
from importlib.metadata import version
from importlib.util import find_spec

from runtimes.words import install

_TRAINING = ("torch", "lightning", "tensorboard", "torchmetrics", "brevitas")
_PACKING = ("onnx", "onnxoptimizer", "onnxscript", "matplotlib")
_USAGES = {
    "adaptive-compile": """Usage: adaptive-compile --model MODEL --target TARGET [OPTIONS]

Train an adaptive model, quantize it, split it, verify it, measure it, and pack a bundle.
""",
    "adaptive-evaluate": """Usage: adaptive-evaluate BUNDLE --data DIR [OPTIONS]

Accuracy and cost of every operating point of a bundle on labeled clips.
""",
}
_HELP = """{usage}
Options and targets are listed once the compiler's packages are installed
(missing: {missing}):
    {fix}
"""


def main() -> None:
    """``adaptive-compile``."""
    _prepare("adaptive-compile")
    from compiler.cli.compile import main as compile_main

    compile_main()


def evaluate() -> None:
    """``adaptive-evaluate``."""
    _prepare("adaptive-evaluate")
    from compiler.cli.evaluate import main as evaluate_main

    evaluate_main()


def _prepare(command: str) -> None:
    missing = [package for package in (*_TRAINING, *_PACKING) if find_spec(package) is None]
    if missing:
        sys.exit(_without(command, ", ".join(missing), sys.argv[1:]))
    # Threads of OpenMP that wait for work spin by default: beside other programs that costs both time.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


def _without(command: str, missing: str, arguments: list[str]) -> int:
    """What can be said without the compiler's packages; the exit status."""
    fix = install("compile")
    if "--version" in arguments:
        print(version("adaptive-video"))
        return 0
    if "--help" in arguments:
        print(_HELP.format(usage=_USAGES[command], missing=missing, fix=fix), end="")
        return 0
    print(f"error: {command}: needs {missing}; {fix}", file=sys.stderr)
    return 2
