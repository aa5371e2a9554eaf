"""Streams sound and pictures for a long time, at real pace, and watches memory and their alignment.

``python -m benchmarks.soak --minutes 30``: a test pattern through a source with segments, rendered to a
spectrogram and to eight pictures. Memory growth is counted from the end of the first minute; the offset is
that between the pattern's beep, which begins each second, and where it is heard. ``--record`` keeps it.
"""

from __future__ import annotations

import argparse
import time

import numpy as np
import psutil

from benchmarks.record import spread, write
from runtimes.spec import Steps, View
from sdk.media import Frame, StreamRequirements, open_source, renderer

ADDRESS = "test://?size=640x360&rate=25"
STEPS = Steps(rate_hz=2, clip_steps=16, segment_s=1.28)
VIEWS = (View(name="audio", size=256, modality="audio"), View(name="rgb", size=224, frames=8))
_BEEP_HZ, _WARM_UP_S = 880, 60


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--record", action="store_true")
    arguments = parser.parse_args()
    process = psutil.Process()
    renderers = [renderer(view) for view in VIEWS]
    offsets_ms: list[float] = []
    delays_ms: list[float] = []
    steps = absent = 0
    warm = float("nan")
    began, used = time.monotonic(), time.process_time()
    with open_source(ADDRESS, StreamRequirements.of(STEPS, VIEWS)) as source:
        for frame in source:
            elapsed_s = time.monotonic() - began
            if elapsed_s > 60 * arguments.minutes:
                break
            for made in renderers:
                made.render(frame)
            delays_ms.append(frame.queue_ms)
            steps += 1
            absent += frame.sound is None or frame.sound.absent is not None
            offsets_ms += beep_offsets_ms(frame)
            if np.isnan(warm) and elapsed_s > _WARM_UP_S:
                warm = process.memory_info().rss
            if steps % 120 == 0:
                print(f"{elapsed_s:7.0f} s  {process.memory_info().rss / 2**20:7.1f} MiB  {steps} steps")
        drops = dict(source.drops)
    result = {
        "minutes": arguments.minutes,
        "steps": steps,
        "steps_without_sound": absent,
        "drops": drops,
        "memory_growth_mib": _rounded((process.memory_info().rss - warm) / 2**20),
        "beep_offset_ms": spread(offsets_ms),
        "first_and_last_beep_offset_ms": [_rounded(offsets_ms[0]), _rounded(offsets_ms[-1])],
        "render_delay_ms": spread(delays_ms),
        "processor_share": round((time.process_time() - used) / (60 * arguments.minutes), 3),
    }
    print(result)
    if arguments.record:
        print(write("soak", result))


def beep_offsets_ms(frame: Frame) -> list[float]:
    """By how much later than the full second each beep of the segment is heard, in ms."""
    if frame.sound is None or frame.sound.absent is not None:
        return []
    samples, rate_hz = frame.sound.samples, frame.sound.rate_hz
    first_s = frame.time_s - samples.size / rate_hz
    times = np.arange(samples.size) / rate_hz
    beep = samples * np.exp(-2j * np.pi * _BEEP_HZ * times)
    width = rate_hz // 55  # four periods of the tone below, which therefore cancels
    level = np.abs(np.convolve(beep, np.ones(width), "valid"))
    rises = np.flatnonzero((level[1:] >= level.max() / 2) & (level[:-1] < level.max() / 2))
    beginnings = rises[np.diff(rises, prepend=-rate_hz) > rate_hz // 2]  # not the ripple where one ends
    found = [first_s + (place + 1 + width / 2) / rate_hz for place in beginnings if place > width]
    return [1e3 * (time_s - round(time_s)) for time_s in found if time_s > 1]


def _rounded(value: float) -> float:
    return round(float(value), 3)


if __name__ == "__main__":
    main()
