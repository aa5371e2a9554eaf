"""A real stream under a budget that changes twice while it runs, with a load that comes and goes.

    python -m benchmarks.live_budget BUNDLE [--seconds 150] [--meter modeled:0.1,10] [--plot docs/power.png]

Built-in validation clips, one after the other in one film, go through ``adaptive-run`` at their own pace. The
meter is a model of time: idle watts, and more while the recognizer works (this machine shows no energy), so
that a load on the machine, which makes every step longer, costs energy here too. Budgets, by the control
file: idle, and 90 % of what the work takes freely, then 60 %, then 75 %; in the last fifth of the time two
processes spin. Reported: watts of each part against its budget, the worst 30 s of all, operating points (or
prices), how often these change, and choices. Written to ``benchmarks/results/live_budget.json``.
"""

from __future__ import annotations

import argparse
import json
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from itertools import pairwise
from pathlib import Path
from typing import Any

import av
import numpy as np

from benchmarks.record import write
from compiler.data.clips import find_clips
from compiler.data.synthetic.built_in import make_clips
from compiler.data.synthetic.encoding import write_clip
from compiler.data.synthetic.scenes import RATE_HZ
from compiler.data.synthetic.sounds import SAMPLE_RATE_HZ
from runtimes.cache import cache_folder
from sdk.power import ModeledMeter, open_meter

_SHARES = (0.9, 0.6, 0.75)
_LOAD = (0.8, 1.0)
"""When the load is on, in shares of the whole time."""
_SETTLED_S, _WINDOW_S = 10.0, 30.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--seconds", type=int, default=150)
    parser.add_argument("--meter", default="modeled:0.1,10")
    parser.add_argument("--plot", type=Path)
    arguments = parser.parse_args()
    film = clips_film(arguments.seconds)
    free_w = _free_w(arguments, film)
    idle_w = _idle_w(arguments.meter)
    budgets = [round(idle_w + share * (free_w - idle_w), 3) for share in _SHARES]
    print(f"free: {free_w:.3f} W; budgets: {budgets}")
    steps = _streamed(arguments, film, budgets)
    replayed = subprocess.run(_command("--replay", _LOG), capture_output=True, text=True)
    report = {
        "free_w": free_w,
        "budgets_w": budgets,
        "parts": [_part(steps, number, arguments.seconds) for number in range(len(budgets))],
        "worst 30 s": _worst(steps),
        "replay": replayed.stdout.strip() or replayed.stderr.strip(),
        "meter": arguments.meter,
    }
    write("live_budget", report)
    print(json.dumps(report, indent=1))


def _idle_w(meter: str) -> float:
    with open_meter(meter) as opened:
        return opened.idle_w if isinstance(opened, ModeledMeter) else 0.0


_LOG = Path(tempfile.gettempdir()) / "live_budget.jsonl"


def clips_film(seconds: int) -> Path:
    """Built-in validation clips in one film, pictures and sound, made once."""
    folder = cache_folder("benchmarks")
    path = folder / f"clips-{seconds}s.mp4"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        growing = path.with_suffix(".part.mp4")
        clips = [clip.path for clip in find_clips(make_clips(seed=0)).clips if clip.split == "val"]
        random.Random(0).shuffle(clips)
        frames: list[Any] = []
        sounds: list[Any] = []
        for clip in clips:
            with av.open(str(clip)) as container:
                for frame in container.decode():
                    if isinstance(frame, av.VideoFrame):
                        frames.append(frame.to_ndarray(format="rgb24"))
                    else:
                        sounds.append(frame.to_ndarray()[0])
            if len(frames) >= seconds * RATE_HZ:
                break
        count = seconds * RATE_HZ
        samples = np.concatenate(sounds)[: seconds * SAMPLE_RATE_HZ].astype(np.float32)
        write_clip(growing, frames[:count], RATE_HZ, samples, SAMPLE_RATE_HZ)
        growing.replace(path)
    return path


def _command(*arguments: object) -> list[str]:
    return [sys.executable, "-c", "from sdk.cli.run import main; main()", *map(str, arguments)]


def _free_w(arguments: argparse.Namespace, film: Path) -> float:
    """What the stream takes at its own price under a budget that binds nothing, by the last 20 s of 40."""
    running = _start(arguments, film, "10kW")
    time.sleep(40)
    running.send_signal(signal.SIGINT)
    running.wait()
    return _watts([step for step in _steps() if step["time_s"] >= 20])


def _streamed(arguments: argparse.Namespace, film: Path, budgets: list[float]) -> list[dict[str, Any]]:
    with tempfile.TemporaryDirectory() as folder:
        control = Path(folder) / "budget.txt"
        extra = ["--control", control] + (["--plot", arguments.plot] if arguments.plot else [])
        running = _start(arguments, film, f"{budgets[0]}W", *extra)
        began = time.monotonic()
        for number, watts in enumerate(budgets[1:], start=1):
            _wait_until(began + number * arguments.seconds / len(budgets))
            control.write_text(f"{watts}W\n")
        _wait_until(began + _LOAD[0] * arguments.seconds)
        loads = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(2)]
        try:
            running.wait()
        finally:
            for load in loads:
                load.kill()
    return _steps()


def _start(arguments: argparse.Namespace, film: Path, budget: str, *extra: object) -> subprocess.Popen[bytes]:
    command = _command(arguments.bundle, film, "--json", "--power-budget", budget, "--meter", arguments.meter)
    command += list(map(str, ("--log", _LOG, *extra)))
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def _wait_until(moment: float) -> None:
    time.sleep(max(0.0, moment - time.monotonic()))


def _steps() -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in _LOG.read_text().splitlines()]
    return [line for line in lines if "step" in line]


def _watts(steps: list[dict[str, Any]]) -> float:
    """The average between the first and the last of these steps."""
    return float((steps[-1]["energy_j"] - steps[0]["energy_j"]) / (steps[-1]["done_s"] - steps[0]["done_s"]))


def _budget_of(steps: list[dict[str, Any]]) -> list[float]:
    watts, now = [], 0.0
    for step in steps:
        if "budget" in step:
            now = step["budget"]["watts"]
        watts.append(now)
    return watts


def _part(steps: list[dict[str, Any]], number: int, seconds: int) -> dict[str, Any]:
    """One budget's steps, those of its first ten seconds apart."""
    watts = _budget_of(steps)
    changes = [i for i, step in enumerate(steps) if "budget" in step]
    begin = changes[number]
    end = changes[number + 1] if number + 1 < len(changes) else len(steps)
    own = steps[begin:end]
    settled = [step for step in own if step["time_s"] >= own[0]["time_s"] + _SETTLED_S]
    choices = Counter("+".join(step["choice"]) or "held" for step in settled)
    loaded = [step for step in settled if step["time_s"] >= _LOAD[0] * seconds + _SETTLED_S]
    return {
        "budget_w": watts[begin],
        "settled": _watts(settled) / watts[begin],
        "under load": _watts(loaded) / watts[begin] if len(loaded) > 1 else None,
        "not met": sum(step["budget_met"] is False for step in settled) / len(settled),
        "ways": dict(Counter(_way(step) for step in settled).most_common()),
        "changes a minute": _changes(settled) / ((settled[-1]["time_s"] - settled[0]["time_s"]) / 60),
        "choices": dict(choices.most_common()),
    }


def _way(step: dict[str, Any]) -> str:
    """The operating point, or the price."""
    return step["point"] or f"{step['price']:.2f}"


def _changes(steps: list[dict[str, Any]]) -> int:
    return sum(_way(one) != _way(other) for one, other in pairwise(steps))


def _worst(steps: list[dict[str, Any]]) -> float:
    """The largest power of any 30 s of one budget, relative to it."""
    watts, worst, begin = _budget_of(steps), 0.0, 0
    for i, step in enumerate(steps):
        while watts[begin] != watts[i] or step["done_s"] - steps[begin]["done_s"] > _WINDOW_S:
            begin += 1
        if step["done_s"] - steps[begin]["done_s"] > 0.95 * _WINDOW_S:
            worst = max(worst, _watts(steps[begin : i + 1]) / watts[i])
    return worst


if __name__ == "__main__":
    main()
