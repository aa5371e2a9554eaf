"""A small bundle for ExecuTorch: one program of a policy, and of a branch in fp32 and int8 for two views."""

from __future__ import annotations

import functools
import tempfile
from pathlib import Path
from typing import Any

from compiler.export.executorch.exporter import Method, Program, branch_method, policy_method, save_program
from runtimes.bundle import Bundle, write_bundle
from runtimes.spec import (
    ActionSpace,
    Fusion,
    Graph,
    Group,
    Option,
    Policy,
    Steps,
    Variant,
)
from tests.compiler.export.small_networks import HIDDEN, LARGE, SMALL, branch, integer

TARGET = "android-cpu"
FILE = "program.pte"
POLICY_VIEWS = {"frame": SMALL}


@functools.cache
def methods() -> dict[str, Method]:
    """The methods of the program by the names of their graphs."""
    return {
        "policy": policy_method(integer("policy"), POLICY_VIEWS, ["logits0"], "int8"),  # type: ignore[arg-type]
        "net-fp32": branch_method(branch(), [SMALL, LARGE], "fp32"),
        "net-int8": branch_method(integer("branch"), [SMALL, LARGE], "int8"),  # type: ignore[arg-type]
    }


@functools.cache
def program() -> Program:
    """The program, written once a session: lowering takes half a minute."""
    return save_program(methods(), Path(tempfile.mkdtemp()) / FILE, "xnnpack")


def build_bundle(destination: Path, files: Path, **overrides: Any) -> Bundle:
    """Write a bundle of the program, or of what lies in ``files``; ``overrides`` are of its manifest."""
    files.mkdir(parents=True, exist_ok=True)
    if not (files / FILE).exists():
        (files / FILE).write_bytes(program().file.read_bytes())
    return write_bundle(destination, files, manifest_fields() | overrides)


def manifest_fields() -> dict[str, Any]:
    """The manifest, all but ``files``."""
    return {
        "model": "arnet",
        "preset": "tiny",
        "target": TARGET,
        "labels": ("archery", "bowling", "cricket", "diving"),
        "views": (SMALL, LARGE),
        "steps": Steps(rate_hz=10, clip_steps=16),
        "fusion": Fusion(window=16),
        "graphs": tuple(_graph(name, method) for name, method in methods().items()),
        "variants": (_variant("fp32"), _variant("int8")),
        "default_variant": "int8",
    }


def _graph(name: str, method: Method) -> Graph:
    return Graph(
        name=name,
        target=TARGET,
        file=FILE,
        method=name,
        runtime="executorch",
        precision=method.precision,
        role="policy" if name == "policy" else "branch",
        inputs=method.inputs,
        outputs=method.outputs,
    )


def _variant(precision: str) -> Variant:
    branches = [
        Option(name=view.name, graph=f"net-{precision}", view=view.name, precision=precision)
        for view in (LARGE, SMALL)
    ]
    head = Option(name="head", graph="policy", view=SMALL.name, precision="int8")
    skips = [Option(name=f"skip{count}", skip=count) for count in (1, 2)]
    group = Group(name="step", options=(*branches, head, *skips))
    state = {"h": (1, HIDDEN), "c": (1, HIDDEN)}
    policy = Policy(graph="policy", views=(SMALL.name,), state=state, heads={"step": "logits0"})
    return Variant(name=precision, policy=policy, action_space=ActionSpace(groups=(group,)))
