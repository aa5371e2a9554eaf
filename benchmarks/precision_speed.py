"""One network at every precision: time of a run, and what changing the precision at every frame costs.

    python -m benchmarks.precision_speed [--rounds 25]

Random weights: speed alone. The graphs are compiled as CoQuant's are, from one store, and run by the SDK's
engine on one thread; processor time, in turns. Written to ``benchmarks/results/precision_speed.json``.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.record import shown, spread, write
from compiler.bundle_plan import MIXABLE, BundlePlan, Network, VariantPlan
from compiler.export.split import split
from compiler.quantization.networks import at_precisions, codes_of
from compiler.targets import TARGETS
from models.layers.nesting import calibrate, nest
from models.methods import coquant
from runtimes.bundle import Bundle, write_bundle
from runtimes.engines.engine import Engine, open_engine
from runtimes.spec import Fusion, Steps
from sdk.benchmark.switching import measure_switching

_CASES = (("resnet18", 112), ("resnet18", 224), ("resnet50", 224), ("mobilenetv2", 224))
_CLASSES = 200
_RUNS = 3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=25)
    rounds = parser.parse_args().rounds
    rows = {}
    for backbone, size in _CASES:
        with tempfile.TemporaryDirectory() as folder:
            bundle = _compiled(backbone, size, Path(folder))
            with open_engine(bundle, "cpu", threads=1) as engine:
                rows[f"{backbone} at {size} px"] = row = _measured(engine, size, rounds)
        print(f"{backbone} {size}:", {name: shown(value) for name, value in row["speed_up"].items()})
        print("  changing every frame:", row["switching"])
    print(write("precision_speed", {"threads": 1, "rounds": rounds, "networks": rows}))


def _compiled(backbone: str, size: int, folder: Path) -> Bundle:
    """A bundle of the network at every precision, its scales set from noise."""
    torch.manual_seed(0)
    preset = replace(coquant.PRESETS["tiny"], backbone=backbone, size=size)
    labels = tuple(f"class{number:03}" for number in range(_CLASSES))
    model = coquant.METHOD.build(preset, labels).eval()
    ((part, branch),) = model.backbones().items()
    network = nest(branch, preset.widths)

    def run() -> Iterator[None]:
        network(torch.rand(1, 3, size, size) * 4 - 2)
        yield

    calibrate(network, preset.widths, run)
    view = model.view_of(part)
    frozen = at_precisions(network, MIXABLE, "uint8")
    networks = {
        f"{part}-{name}": Network(name, part, module, name, (view,), None if name == "fp32" else "codes")
        for name, module in frozen.items()
    }
    plan = VariantPlan("mixed", model.branches_alone().choosing_precisions({part: frozen}), None, networks)
    graphs = folder / "graphs"
    graphs.mkdir()
    parts = split(BundlePlan((plan,), {"codes": codes_of(network)}), (TARGETS["cpu"],), graphs)
    fields = {
        "model": "coquant",
        "preset": backbone,
        "target": "cpu",
        "labels": labels,
        "views": (view,),
        "steps": Steps(rate_hz=4, clip_steps=16),
        "fusion": Fusion(window=16),
        "graphs": parts.graphs,
        "stores": parts.stores,
        "variants": parts.variants,
        "default_variant": "mixed",
    }
    return write_bundle(folder / "speed.bundle", graphs, fields)


def _measured(engine: Engine, size: int, rounds: int) -> dict[str, Any]:
    frame = np.random.default_rng(0).integers(0, 256, (1, size, size, 3), np.uint8)
    calls: dict[str, Callable[[], object]] = {
        name: partial(engine.graph(name), frame=frame) for name in MIXABLE
    }
    spent: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(rounds):
        for name, call in calls.items():
            spent[name].append(_cpu_ms(call))
    times = {name: np.array(values) for name, values in spent.items()}
    integers = {name: call for name, call in calls.items() if name in ("int8", "int4")}
    return {
        "ms": {name: spread(values) for name, values in times.items()},
        "speed_up": {n: spread(times["fp32"] / values, 2) for n, values in times.items() if n != "fp32"},
        "switching": {
            "every precision": _switching(calls, rounds),
            "int8 and int4": _switching(integers, rounds),
        },
    }


def _switching(calls: dict[str, Callable[[], object]], rounds: int) -> dict[str, Any]:
    cost = measure_switching(calls, rounds, time.process_time)
    assert cost is not None, "there are two or more precisions"
    return asdict(cost)


def _cpu_ms(call: Callable[[], object]) -> float:
    call()
    began = time.process_time()
    for _ in range(_RUNS):
        call()
    return (time.process_time() - began) / _RUNS * 1e3


if __name__ == "__main__":
    main()
