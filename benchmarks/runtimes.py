"""The same branches in ONNX Runtime, ExecuTorch and LiteRT on this CPU: time, size, memory, agreement.

    python -m benchmarks.runtimes [--rounds 15]

ResNet-18 and MobileNetV2 of random weights, each one graph for views of 224, 168, 112 and 84 px, in fp32 and
int8; 200 classes; scales set from noise: time and size alone. Times: one thread, processor ms, all runtimes
in turns, ratios round by round. Memory: private MB (of ONNX Runtime's fp32 graphs, which are mapped, all of
it) in a process of its own, from the opened engine to a run at one size, and at all four. Written to
``benchmarks/results/runtimes.json``.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from benchmarks.record import spread, write
from compiler.bundle_plan import BundlePlan, Network, VariantPlan
from compiler.export.split import split
from compiler.targets import TARGETS
from models.backbones.registry import BACKBONES
from models.layers.quantization import calibrate, freeze, quantize
from models.rollout.branch_model import BranchModel
from runtimes.bundle import Bundle, write_bundle
from runtimes.device import process_memory_mb
from runtimes.engines.engine import Engine, open_engine
from runtimes.spec import ActionSpace, Fusion, Group, Option, Steps, View

_NETWORKS = ("resnet18", "mobilenetv2")
_SIZES = (224, 168, 112, 84)
_TARGETS = ("cpu", "android", "litert")
_PRECISIONS = ("fp32", "int8")
_CLASSES, _RUNS = 200, 3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--memory", nargs=4, metavar=("BUNDLE", "TARGET", "GRAPH", "SIZES"))
    arguments = parser.parse_args()
    if arguments.memory:
        bundle, target, graph, sizes = arguments.memory
        print(_memory_mb(Path(bundle), target, graph, [int(size) for size in sizes.split(",")]))
        return
    rows = {}
    for name in _NETWORKS:
        with tempfile.TemporaryDirectory() as folder:
            bundle = _compiled(name, Path(folder))
            rows[name] = _measured(bundle, arguments.rounds)
        print(name, json.dumps(rows[name], indent=1))
    print(write("runtimes", {"threads": 1, "rounds": arguments.rounds, "networks": rows}))


def _compiled(name: str, folder: Path) -> Bundle:
    """One network for all four sizes, in every runtime."""
    torch.manual_seed(0)
    labels = tuple(f"class{number:03}" for number in range(_CLASSES))
    network = BACKBONES[name](_CLASSES)
    _set_norms(network)
    quantized = quantize(network.eval(), "uint8")
    calibrate(quantized, _runs(quantized))
    views = tuple(View(name=f"rgb{size}", size=size) for size in _SIZES)
    options = [Option(name=view.name, graph="net", view=view.name, precision="fp32") for view in views]
    space = ActionSpace(groups=(Group(name="size", options=tuple(options)),))
    model = BranchModel({"net": network}, space, {view.name: view for view in views}, labels)
    plans = tuple(
        VariantPlan(
            precision, model, None, {"net": Network(f"net-{precision}", "net", module, precision, views)}
        )
        for precision, module in (("int8", freeze(quantized)), ("fp32", network))
    )
    graphs = folder / "graphs"
    graphs.mkdir()
    parts = split(BundlePlan(plans), [TARGETS[target] for target in _TARGETS], graphs)
    fields = {
        "model": name,
        "preset": "random",
        "target": _TARGETS[0],
        "labels": labels,
        "views": views,
        "steps": Steps(rate_hz=4, clip_steps=16),
        "fusion": Fusion(window=16),
        "graphs": parts.graphs,
        "variants": parts.variants,
        "default_variant": "int8",
    }
    return write_bundle(folder / "runtimes.bundle", graphs, fields)


def _set_norms(network: nn.Module) -> None:
    """Statistics of noise for every batch norm: random networks overflow without."""
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.reset_running_stats()
            module.momentum = None
    network.train()
    with torch.no_grad():
        for _ in _runs(network):
            pass


def _runs(network: nn.Module) -> Iterator[None]:
    for seed in range(3):
        network(torch.randn(4, 3, 112, 112, generator=torch.Generator().manual_seed(seed)))
        yield


def _measured(bundle: Bundle, rounds: int) -> dict[str, Any]:
    engines = {target: open_engine(bundle, "cpu", target=target, threads=1) for target in _TARGETS}
    result = {}
    for precision in _PRECISIONS:
        graph = f"net-{precision}"
        result[precision] = {
            "times": {f"{size} px": _times(engines, graph, size, rounds) for size in _SIZES},
            "file_mb": {target: _file_mb(bundle, target, graph) for target in _TARGETS},
            "memory_mb": {target: _memory(bundle, target, graph) for target in _TARGETS},
            "difference": _differences(engines, graph),
        }
    for engine in engines.values():
        engine.close()
    return result


def _times(engines: dict[str, Engine], graph: str, size: int, rounds: int) -> dict[str, Any]:
    """Processor ms of a run in each runtime, and of ONNX Runtime's time."""
    frame = _frame(size)
    spent: dict[str, list[float]] = {target: [] for target in engines}
    for _ in range(rounds):
        for target, engine in engines.items():
            spent[target].append(_cpu_ms(engine, graph, frame))
    times = {target: np.array(values) for target, values in spent.items()}
    ratios = {target: spread(times[target] / times["cpu"], 2) for target in _TARGETS[1:]}
    return {"ms": {target: spread(values) for target, values in times.items()}, "of_onnx": ratios}


def _cpu_ms(engine: Engine, graph: str, frame: np.ndarray[Any, Any]) -> float:
    runner = engine.graph(graph)
    runner(frame=frame)
    began = time.process_time()
    for _ in range(_RUNS):
        runner(frame=frame)
    return (time.process_time() - began) / _RUNS * 1e3


def _frame(size: int) -> np.ndarray[Any, Any]:
    return np.random.default_rng(size).integers(0, 256, (1, size, size, 3), np.uint8)


def _file_mb(bundle: Bundle, target: str, graph: str) -> float:
    files = bundle.manifest.files_of(bundle.manifest.graph(graph, target))
    return round(sum(bundle.manifest.files[file].bytes for file in files) / 1e6, 2)


def _memory(bundle: Bundle, target: str, graph: str) -> dict[str, float]:
    """With one size run, and with all four, each in a fresh process."""
    every = ",".join(map(str, _SIZES))
    return {
        name: float(_child("--memory", str(bundle.location), target, graph, sizes))
        for name, sizes in (("one size", str(_SIZES[0])), ("four sizes", every))
    }


def _child(*arguments: str) -> str:
    command = [sys.executable, "-m", "benchmarks.runtimes", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return done.stdout.splitlines()[-1]


def _memory_mb(bundle: Path, target: str, graph: str, sizes: list[int]) -> float:
    engine = open_engine(Bundle.open(bundle), "cpu", target=target, threads=1)
    before = process_memory_mb() or 0.0
    for size in sizes:
        for _ in range(3):
            engine.graph(graph)(frame=_frame(size))
    return round((process_memory_mb() or 0.0) - before, 1)


def _differences(engines: dict[str, Engine], graph: str) -> dict[str, float]:
    """Largest difference from ONNX Runtime's logits, relative to their deviation."""
    own, *others = ({t: e.graph(graph)(frame=_frame(112))["logits"] for t, e in engines.items()}).items()
    scale = float(own[1].astype(float).std())
    return {
        target: round(float(np.abs(said.astype(float) - own[1].astype(float)).max()) / scale, 6)
        for target, said in others
    }


if __name__ == "__main__":
    main()
