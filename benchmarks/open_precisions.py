"""Memory of ResNet-50 open at 8 and 4 bits with its policy, by how ONNX Runtime is told to lay it out.

Each layout in a fresh process, counted from the imported SDK on; importing ONNX Runtime is part of it.
``pss`` shares what other processes map too, so that ``rss`` bounds it. Python has no access to ONNX
Runtime's container of shared prepacked weights; two widths' weights differ, so there is nothing to share.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from runtimes.spec import Graph

_CHILD = "--child"
_OPEN = ("net-8", "net-4", "policy")
SDK = "as the SDK opens it"
LAYOUTS = {
    SDK: "branches with neither arena nor memory patterns; each width's codes mapped",
    "8 bits alone": "as the SDK opens it, without the 4-bit graph",
    "all three widths": "as the SDK opens it, with the 2-bit graph",
    "arena": "ONNX Runtime's own choice: an arena each session",
    "arena, no pattern": "an arena each session, no memory patterns",
    "shared arena": "one arena for all sessions",
    "shared arena, no pattern": "one arena for all sessions, no memory patterns",
    "no arena": "no arena, but memory patterns",
    "initializers off the arena": "an arena each session, initializers from the device's allocator",
    "no prepacking": "no arena, no patterns; weights used where they are mapped",
    "codes in the graph": "no arena, no patterns; the codes inside each .onnx, not mapped",
}
_RUNS = 5


def measure(rounds: int) -> dict[str, Any]:
    """Spreads of memory (MB) and time (ms) of every layout."""
    from benchmarks.precisions import precisions_bundle
    from benchmarks.record import spread

    bundle = precisions_bundle().location
    found: dict[str, list[dict[str, float]]] = {layout: [] for layout in LAYOUTS}
    with tempfile.TemporaryDirectory() as cache:
        first = {layout: _opened(bundle, layout, cache) for layout in LAYOUTS}  # installs the codes
        for _ in range(rounds):
            for layout in LAYOUTS:
                found[layout].append(_opened(bundle, layout, cache))
    return {
        "rounds": rounds,
        "first_open_with_building_the_codes_ms": round(first[SDK]["open_ms"], 1),
        "layouts": {
            layout: {"what": LAYOUTS[layout]}
            | {key: spread([one[key] for one in every], 1) for key in every[0]}
            for layout, every in found.items()
        },
    }


def _opened(bundle: Path, layout: str, cache: str) -> dict[str, float]:
    command = [sys.executable, "-m", "benchmarks.open_precisions", _CHILD, str(bundle), layout]
    environment = os.environ | {"ADAPTIVE_VIDEO_CACHE": cache}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


def open_here(bundle: str, layout: str) -> dict[str, float]:
    """Open the graphs and run each, in this process, which should be fresh."""
    import sdk.recognizer  # noqa: F401  # what is counted begins after it

    imported = _memory_mb()
    from runtimes.bundle import Bundle

    whole = Bundle.open(bundle)
    names = {"8 bits alone": ("net-8", "policy"), "all three widths": (*_OPEN, "net-2")}.get(layout, _OPEN)
    began = time.perf_counter()
    runs = [_runner(whole, name, layout) for name in names]
    opened_ms, opened = (time.perf_counter() - began) * 1e3, _memory_mb()
    for run in runs * 2:
        run()
    ran = _memory_mb()
    spent = []
    for _ in range(_RUNS):
        began = time.process_time()
        runs[0]()
        spent.append((time.process_time() - began) * 1e3)
    memory = {f"opened_above_import_{kind}_mb": opened[kind] - imported[kind] for kind in imported}
    memory |= {f"run_above_import_{kind}_mb": ran[kind] - imported[kind] for kind in imported}
    return memory | {"open_ms": opened_ms, "run_8_bits_cpu_ms": sorted(spent)[_RUNS // 2]}


def _runner(bundle: Any, name: str, layout: str) -> Callable[[], object]:
    """What runs one graph of zeros, opened as ``layout`` says."""
    import numpy as np

    graph: Graph = bundle.manifest.graph(name)
    inputs = {
        key: np.zeros([size or 1 for size in tensor.shape], tensor.dtype)
        for key, tensor in graph.inputs.items()
    }
    if layout in (SDK, "8 bits alone", "all three widths"):
        from runtimes.engines.onnx import OnnxEngine

        run = OnnxEngine(bundle, "cpu", threads=1).graph(name)
        return lambda: run(**inputs)
    session = _session(bundle, graph, layout)
    return lambda: session.run(None, inputs)


def _session(bundle: Any, graph: Graph, layout: str) -> Any:
    import onnxruntime as ort

    from runtimes.engines.onnx import session_options
    from runtimes.weight_store_install import installed_graph

    options = session_options(threads=1)
    options.enable_cpu_mem_arena = "arena" in layout and layout != "no arena"
    options.enable_mem_pattern = "arena" in layout and "no pattern" not in layout
    entries = {
        "shared arena": "session.use_env_allocators",
        "shared arena, no pattern": "session.use_env_allocators",
        "initializers off the arena": "session.use_device_allocator_for_initializers",
        "no prepacking": "session.disable_prepacking",
    }
    if layout in entries:
        options.add_session_config_entry(entries[layout], "1")
    if layout.startswith("shared arena"):
        _share_arena()
    path = installed_graph(bundle, graph)
    if layout == "codes in the graph" and graph.store:
        path = _merged(path)
    return ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


@cache
def _share_arena() -> None:
    """One for the process: a second call would put a new one in its place."""
    import onnxruntime as ort

    kind = ort.OrtAllocatorType.ORT_ARENA_ALLOCATOR
    ort.create_and_register_allocator(ort.OrtMemoryInfo("Cpu", kind, 0, ort.OrtMemType.DEFAULT), None)


def _merged(path: Path) -> Path:
    """The graph with its codes in it, written by another process: this one is to stay free of onnx."""
    merged = path.with_name("merged.onnx")
    if not merged.exists():
        code = "import sys, onnx; onnx.save(onnx.load(sys.argv[1]), sys.argv[2])"
        subprocess.run([sys.executable, "-c", code, str(path), str(merged)], check=True)
    return merged


def _memory_mb() -> dict[str, float]:
    """This process's memory: its proportional share, all it maps, and what is its own alone."""
    lines = Path("/proc/self/smaps_rollup").read_text().splitlines()
    kilobytes = {line.split(":")[0]: int(line.split()[1]) for line in lines[1:]}
    kinds = {"pss": "Pss", "rss": "Rss", "anonymous": "Anonymous"}
    return {kind: kilobytes[field] / 1024 for kind, field in kinds.items()}


def main(arguments: Sequence[str]) -> None:
    if arguments[:1] == [_CHILD]:
        print(json.dumps(open_here(*arguments[1:])))
        return
    from benchmarks.record import shown, write

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    measured = measure(parser.parse_args(arguments).rounds)
    for layout, row in measured["layouts"].items():
        values = (f"{key} {value if key == 'what' else shown(value)}" for key, value in row.items())
        print(layout, *values, sep="\n  ")
    print(write("open_precisions", measured))


if __name__ == "__main__":
    main(sys.argv[1:])
