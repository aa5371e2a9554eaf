"""Opening the ``paper`` bundle: memory and time to the first result, each time in a fresh process.

Counted from the imported SDK on; importing ONNX Runtime, which the SDK leaves to the opening, is part of it.
Cold: the bundle's files are not in the page cache, nor fp32 graphs in the user's.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from runtimes.engines.engine import Engine
    from runtimes.spec import Graph

_CHILD = "--child"


def measure(rounds: int) -> dict[str, Any]:
    """Spreads of memory (MB) and time (ms), by variant and by what is cached."""
    from benchmarks.film import benchmark_film
    from benchmarks.paper import paper_bundle
    from benchmarks.record import spread

    bundle, film = paper_bundle().location, benchmark_film(8)
    cases = [(variant, cache) for variant in ("int8", "fp32") for cache in ("warm", "cold")]
    found: dict[tuple[str, str], list[dict[str, float]]] = {case: [] for case in cases}
    with tempfile.TemporaryDirectory() as warm:
        _opened(bundle, film, "fp32", warm)  # fills the user's cache
        for _ in range(rounds):
            for variant, cache in cases:
                with tempfile.TemporaryDirectory() as empty:
                    if cache == "cold":
                        _forget(bundle)
                    found[variant, cache].append(
                        _opened(bundle, film, variant, empty if cache == "cold" else warm)
                    )
    return {
        "rounds": rounds,
        "opening": {
            f"{variant}, {cache}": {key: spread([one[key] for one in every], 1) for key in every[0]}
            for (variant, cache), every in found.items()
        },
    }


def _forget(bundle: Path) -> None:
    """Drop the bundle's files from the page cache."""
    os.sync()
    for path in bundle.iterdir():
        with path.open("rb") as file:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def _opened(bundle: Path, film: Path, variant: str, cache: str) -> dict[str, float]:
    command = [sys.executable, "-m", "benchmarks.open_bundle", _CHILD, str(bundle), str(film), variant]
    environment = os.environ | {"ADAPTIVE_VIDEO_CACHE": cache}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


def open_here(bundle: str, film: str, variant: str) -> dict[str, float]:
    """Open, take the first result, then every graph once, in this process, which should be fresh."""
    from runtimes.bundle import Bundle
    from sdk.recognizer import StreamRecognizer

    imported = _memory_mb()
    began = time.perf_counter()
    whole = Bundle.open(bundle)
    with StreamRecognizer(whole, "cpu", variant=variant) as recognizer:
        opened = time.perf_counter()
        stream = recognizer.stream(film)
        next(stream)
        answered = time.perf_counter()
        stream.close()
        first = _memory_mb()
        for option in recognizer.variant.action_space.options:
            if option.graph:
                _run_once(recognizer.engine, whole.manifest.graph(option.graph))
        run = _memory_mb()
        above = {f"first_result_above_import_{kind}_mb": first[kind] - imported[kind] for kind in imported}
        above |= {f"all_graphs_run_above_import_{kind}_mb": run[kind] - imported[kind] for kind in imported}
        return above | {
            "imported_sdk_pss_mb": imported["pss"],
            "open_ms": (opened - began) * 1e3,
            "first_result_ms": (answered - began) * 1e3,
        }


def _memory_mb() -> dict[str, float]:
    """This process's memory: its proportional share of what is shared, and with all of that."""
    lines = Path("/proc/self/smaps_rollup").read_text().splitlines()
    kilobytes = {line.split(":")[0]: int(line.split()[1]) for line in lines[1:]}
    return {"pss": kilobytes["Pss"] / 1024, "rss": kilobytes["Rss"] / 1024}


def _run_once(engine: Engine, graph: Graph) -> None:
    import numpy as np

    inputs = {
        name: np.zeros([size or 1 for size in tensor.shape], tensor.dtype)
        for name, tensor in graph.inputs.items()
    }
    engine.graph(graph.name)(**inputs)


def main(arguments: Sequence[str]) -> None:
    if arguments[:1] == [_CHILD]:
        print(json.dumps(open_here(*arguments[1:])))
        return
    from benchmarks.record import shown, write

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    measured = measure(parser.parse_args(arguments).rounds)
    for case, row in measured["opening"].items():
        print(case, *(f"{key} {shown(value)}" for key, value in row.items()), sep="\n  ")
    print(write("open_bundle", measured))


if __name__ == "__main__":
    main(sys.argv[1:])
