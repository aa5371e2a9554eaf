"""int8 graphs against the same graphs in fp32, each at its own size, one thread, processor time.

All graphs are run in turns, so that whatever else the machine does hits all alike.
"""

from __future__ import annotations

import argparse
import time
from typing import Any

import numpy as np

from benchmarks.paper import NETWORKS, paper_bundle
from benchmarks.record import shown, spread, write
from runtimes.engines.engine import Array, open_engine
from runtimes.spec import Graph

_RUNS = 3
"""Runs of a graph in one round, after one that warms the caches."""


def measure(rounds: int) -> dict[str, Any]:
    """Processor time (ms) by network, and the ratio of the two precisions round by round."""
    bundle = paper_bundle()
    random = np.random.default_rng(0)
    with open_engine(bundle, "cpu", threads=1) as engine:
        graphs = {graph.name: graph for graph in bundle.manifest.graphs}
        inputs = {name: _inputs(graph, random) for name, graph in graphs.items()}
        spent: dict[str, list[float]] = {name: [] for name in graphs}
        for _ in range(rounds):
            for name in graphs:
                spent[name].append(_cpu_ms(engine.graph(name), inputs[name]))
    rows = {}
    for part, network in NETWORKS.items():
        fp32, int8 = (np.array(spent[f"arnet-{part}-{precision}"]) for precision in ("fp32", "int8"))
        rows[network] = {
            "fp32_ms": spread(fp32),
            "int8_ms": spread(int8),
            "speed_up": spread(fp32 / int8, 2),
        }
    return {"threads": 1, "rounds": rounds, "graphs": rows}


def _inputs(graph: Graph, random: np.random.Generator) -> dict[str, Array]:
    inputs: dict[str, Array] = {
        name: np.zeros([size or 1 for size in tensor.shape], tensor.dtype)
        for name, tensor in graph.inputs.items()
    }
    inputs["frame"] = random.integers(0, 256, inputs["frame"].shape, np.uint8)
    return inputs


def _cpu_ms(graph: Any, inputs: dict[str, Array]) -> float:
    graph(**inputs)
    began = time.process_time()
    for _ in range(_RUNS):
        graph(**inputs)
    return (time.process_time() - began) / _RUNS * 1e3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=25)
    measured = measure(parser.parse_args().rounds)
    for name, row in measured["graphs"].items():
        print(name, *(f"{key} {shown(value)}" for key, value in row.items()), sep="  ")
    print(write("int8_speed", measured))


if __name__ == "__main__":
    main()
