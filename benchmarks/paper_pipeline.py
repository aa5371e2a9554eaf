"""AR-Net's ``paper`` preset on 720p H.264, decoding included: adaptive against always 224 px.

The choices are scripted in the paper's proportions, as the weights are random; the policy still runs at
every step that is not held. Every fourth frame is a step.
"""

from __future__ import annotations

import argparse
import time
from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np

from benchmarks.film import HEIGHT, WIDTH, benchmark_film
from benchmarks.paper import STEP_RATE_HZ, paper_bundle
from benchmarks.record import shown, spread, write
from benchmarks.scripted import TWENTY_STEPS, ScriptedChoice
from runtimes.bundle import Bundle
from runtimes.engines.engine import Engine, open_engine
from runtimes.spec import Variant
from sdk.decisions.choosers import Chooser, FixedChoice
from sdk.decisions.step_pipeline import Pipeline
from sdk.media.sources.source import open_source
from sdk.streaming.statistics import Statistics

SECONDS = 8


@dataclass
class Contender:
    """One way to take the film, and what each pass of it took, in ms a step."""

    name: str
    pipeline: Pipeline
    cpu_ms: list[float]
    wall_ms: list[float]
    statistics: Statistics

    def take(self, path: str) -> None:
        """One pass through the film, decoded in a thread of its own as for any app."""
        self.pipeline.reset()
        steps = 0
        cpu, wall = time.process_time(), time.perf_counter()
        with open_source(path, rate_hz=STEP_RATE_HZ) as source:
            for frame in source:
                self.statistics.record_result(self.pipeline.advance(frame))
                steps += 1
        self.cpu_ms.append((time.process_time() - cpu) / steps * 1e3)
        self.wall_ms.append((time.perf_counter() - wall) / steps * 1e3)


def measure(rounds: int, threads: int | None) -> dict[str, Any]:
    """Every contender's ms a step, and how many times faster than the first two it is, round by round."""
    bundle, path = paper_bundle(), str(benchmark_film(SECONDS))
    with open_engine(bundle, "cpu", threads=threads) as engine:
        contenders = _contenders(bundle, engine)
        for number in range(rounds + 1):
            turn = number % len(contenders)
            for contender in contenders[turn:] + contenders[:turn]:
                contender.take(path)
        for contender in contenders:  # the first round warmed up
            del contender.cpu_ms[0], contender.wall_ms[0]
        return {"threads": engine.threads, "rounds": rounds, "contenders": _table(contenders)}


def _contenders(bundle: Bundle, engine: Engine) -> list[Contender]:
    held = {("skip4" if name == "skip1" else name): count for name, count in TWENTY_STEPS.items()}
    fp32, int8 = bundle.variant("fp32"), bundle.variant("int8")
    choosers: list[tuple[str, Variant, Chooser]] = [
        ("always 224 fp32", fp32, FixedChoice(fp32, "rgb224")),
        ("always 224 int8", int8, FixedChoice(int8, "rgb224")),
        ("adaptive fp32", fp32, ScriptedChoice(fp32, TWENTY_STEPS)),
        ("adaptive int8", int8, ScriptedChoice(int8, TWENTY_STEPS)),
        ("adaptive int8, skip4 for skip1", int8, ScriptedChoice(int8, held)),
    ]
    return [
        Contender(name, Pipeline(bundle.manifest, variant, engine, chooser, top=5), [], [], Statistics())
        for name, variant, chooser in choosers
    ]


def _table(contenders: list[Contender]) -> dict[str, Any]:
    fp32, int8 = contenders[0], contenders[1]
    rows = {}
    for contender in contenders:
        cpu, wall = np.array(contender.cpu_ms), np.array(contender.wall_ms)
        snapshot = contender.statistics.snapshot()
        rows[contender.name] = {
            "cpu_ms_per_step": spread(cpu),
            "wall_ms_per_step": spread(wall),
            "cpu_speed_up_over_always_224_fp32": spread(fp32.cpu_ms / cpu, 2),
            "cpu_speed_up_over_always_224_int8": spread(int8.cpu_ms / cpu, 2),
            "wall_speed_up_over_always_224_fp32": spread(fp32.wall_ms / wall, 2),
            "wall_speed_up_over_always_224_int8": spread(int8.wall_ms / wall, 2),
            "stage_p50_ms": {stage: round(found.p50, 3) for stage, found in snapshot.latency_ms.items()},
            "share": _shares(snapshot.choices),
        }
    return rows


def _shares(choices: dict[str, int]) -> dict[str, float]:
    total = Counter(choices).total()
    return {name: round(count / total, 3) for name, count in choices.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    rounds = parser.parse_args().rounds
    source = {"size": f"{WIDTH}x{HEIGHT}", "codec": "h264", "seconds": SECONDS, "step_rate_hz": STEP_RATE_HZ}
    runs = []
    for threads in (1, None):
        run = measure(rounds, threads)
        runs.append(run)
        print(f"{run['threads']} threads a branch")
        for name, row in run["contenders"].items():
            columns = [key for key in row if key.endswith(("step", "fp32", "int8"))]
            print(f"  {name}:", *(f"{column} {shown(row[column])}" for column in columns), sep="\n    ")
    print(write("paper_pipeline", {"source": source, "runs": runs}))


if __name__ == "__main__":
    main()
