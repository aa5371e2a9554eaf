"""What sleeping between events saves on streams composed of a set's clips, at several shares of idle time.

    python -m benchmarks.streams BUNDLE [BUNDLE ...] [--data DIR] [--idle 0,0.5,0.8,0.95] [--onset 0]

Written to ``benchmarks/results/streams-<set>.json``: for each bundle and idle share every schedule of the
front, every point awake and asleep, and how many times what the best sleeping point takes the cheapest
schedule needs that is as right as any, less two points.
"""

from __future__ import annotations

import argparse
from dataclasses import asdict
from math import isnan
from pathlib import Path
from typing import Any

from benchmarks.record import write
from compiler.cli.evaluate_streams import labeled_streams, read_streams, stream_lines
from compiler.cli.stage_console import StageConsole
from compiler.operating_points.streams.evaluating import (
    StreamEvaluation,
    StreamOutcome,
    evaluate_streams,
)
from runtimes.bundle import Bundle
from runtimes.device import device_name
from runtimes.engines.engine import open_engine
from sdk.decisions.watch import Watch


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("bundles", type=Path, nargs="+")
    parser.add_argument("--data", type=Path, help="default: the built-in clips")
    parser.add_argument("--idle", default="0,0.5,0.8,0.95")
    parser.add_argument("--onset", type=float, default=0.0)
    parser.add_argument("--streams", type=int, default=30)
    arguments = parser.parse_args()
    rows = []
    for path in arguments.bundles:
        for idle in arguments.idle.split(","):
            rows.append(_row(path, arguments, idle))
    data = arguments.data.name if arguments.data else "built-in"
    name = f"streams-{data}" + (f"-onset{arguments.onset:g}" if arguments.onset else "")
    print(write(name, {"watch": asdict(Watch()), "rows": rows}))


def _row(path: Path, arguments: argparse.Namespace, idle: str) -> dict[str, Any]:
    bundle, stages = Bundle.open(path), StageConsole()
    front = bundle.manifest.front(bundle.variant(None).name)
    assert front is not None, f"{path} has operating points"
    how = f"idle={idle},streams={arguments.streams},onset_s={arguments.onset:g}"
    streams = labeled_streams(arguments.data, bundle.manifest, None, how, stages)
    with open_engine(bundle, "cpu") as engine:
        costs = bundle.costs(device_name(), engine.provider)
        assert costs is not None, f"{path} has a cost table"
        answers, signal_ms = read_streams(bundle, front, engine, streams, stages)
    found = evaluate_streams(answers, bundle.manifest, front, costs, Watch(), signal_ms)
    for line in stream_lines(bundle.manifest.model, front.variant, found):
        print(line)
    return {"bundle": path.name, "composed": how, "signal_ms": round(signal_ms, 4), **_measured(found)}


def _measured(found: StreamEvaluation) -> dict[str, Any]:
    schedule, asleep = found.cheapest("schedule", found.aim), found.cheapest("asleep", found.aim)
    assert schedule is not None, "the best schedule reaches what it is measured by"
    compared: dict[str, Any] = {"aim": round(found.aim, 4), "schedule": _outcome(schedule)}
    if asleep is not None:
        compared |= {
            "asleep": _outcome(asleep),
            "times_less": round(schedule.ms / asleep.ms, 2),
            "difference": [round(value, 4) for value in found.difference(asleep, schedule)],
        }
    awake = found.cheapest("point", found.aim)
    if awake is not None:
        compared["awake"] = _outcome(awake)
    as_few = found.cheapest("asleep", found.aim, schedule.scores.missed)
    if as_few is not None:
        compared |= {
            "asleep_missing_no_more": _outcome(as_few),
            "times_less_missing_no_more": round(schedule.ms / as_few.ms, 2),
        }
    return {
        "steps": found.steps,
        "events": found.events,
        "idle": round(found.idle, 4),
        "compared": compared,
        "dense": _outcome(found.dense),
        "schedules": [_outcome(one) for one in found.front("schedule")],
        "points": [_outcome(one) for one in found.of_kind("point")],
        "points_asleep": [_outcome(one) for one in found.of_kind("asleep")],
    }


def _outcome(one: StreamOutcome) -> dict[str, Any]:
    wakings = one.scores.false_wakings
    return {
        "name": one.name,
        "right": round(one.scores.accuracy, 4),
        "delay_s": [round(value, 3) for value in one.scores.delay_s],
        "missed": round(one.scores.missed, 4),
        "events": one.scores.detected._asdict(),
        "events_f1": round(one.scores.detected.f1, 3),
        "changes_a_minute": round(one.scores.changes, 2),
        "false_wakings_an_hour": None if isnan(wakings) else round(wakings, 1),
        "ms_a_step": round(one.ms, 5),
        "ms_an_idle_step": None if isnan(one.idle_ms) else round(one.idle_ms, 5),
    }


if __name__ == "__main__":
    main()
