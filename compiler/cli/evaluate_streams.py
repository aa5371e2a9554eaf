"""``adaptive-evaluate`` on streams: what points come to along time, asleep between events or not."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

from rich.table import Table

from compiler.cli.stage_console import StageConsole
from compiler.data.loading import find_judged_clips
from compiler.data.streams.composing import Composition, compose_streams
from compiler.data.streams.labeled_streams import StreamSet, find_streams, is_stream_listing
from compiler.errors import DataError
from compiler.operating_points.streams.evaluating import (
    StreamEvaluation,
    StreamOutcome,
    evaluate_streams,
)
from compiler.operating_points.streams.stream_answers import StreamAnswers, StreamReader
from runtimes.bundle import Bundle
from runtimes.cache import cache_folder
from runtimes.engines.engine import Engine
from runtimes.errors import ArgumentError
from runtimes.spec import CostTable, Manifest, OperatingFront
from sdk.decisions.watch import Watch
from sdk.errors import SourceError
from sdk.tables import console, table

_MOST_UNREADABLE = 0.10
_FEWEST_FOR_INTERVAL = 10


def labeled_streams(
    data: Path | None, manifest: Manifest, split: str | None, compose: str | None, stages: StageConsole
) -> StreamSet:
    """The streams at ``data``, or those composed of its clips. Raises: DataError, ArgumentError."""
    if compose is None:
        assert data is not None, "what is not composed is listed"
        return find_streams(data, manifest.labels, split)
    composition = Composition.parse(compose)
    if data is not None and is_stream_listing(data):
        raise ArgumentError(
            "--compose-streams", f"is for trimmed clips, and {data} lists streams", "leave it out"
        )
    clips = find_judged_clips(data, manifest, split)
    with stages.progress("composing streams") as advance:
        listing = compose_streams(
            clips,
            composition,
            cache_folder("streams"),
            advance,
            lambda path, reason: stages.note(f"left out: {path}: {reason}"),
        )
    for path, reason in clips.rejected:
        stages.note(f"left out: {path}: {reason}")
    return find_streams(listing, manifest.labels)


def read_streams(
    bundle: Bundle, front: OperatingFront, engine: Engine, streams: StreamSet, stages: StageConsole
) -> tuple[list[StreamAnswers], float]:
    """What everything answers of each stream, and the ms that the signals of a step take.

    Raises: DataError if more than a tenth of the streams cannot be read.
    """
    reader = StreamReader(bundle.manifest, bundle.variant(front.variant), engine)
    found: list[StreamAnswers] = []
    refused, signal_ms = [], 0.0
    with stages.progress("running every look") as advance:
        for number, stream in enumerate(streams.streams):
            try:
                signal_ms = reader.signal_ms(stream) if not found else signal_ms
                found.append(reader.read(stream))
            except SourceError as error:
                refused.append(f"{stream.path}: {error.reason}")
            advance(number + 1, len(streams.streams))
    for reason in refused:
        stages.note(f"left out: {reason}")
    if len(refused) > _MOST_UNREADABLE * len(streams.streams) or not any(one.events for one in found):
        reason = f"{len(refused)} of {len(streams.streams)} streams cannot be read"
        reason = reason if refused else "no event begins within its stream"
        raise DataError(
            streams.origin, reason, "check the files, and that times are seconds from their start"
        )
    return found, signal_ms


def print_streams(
    bundle: Bundle,
    front: OperatingFront,
    answers: Sequence[StreamAnswers],
    costs: CostTable,
    signal_ms: float,
    *,
    schedules: bool,
) -> None:
    """Evaluate, and print it."""
    found = evaluate_streams(answers, bundle.manifest, front, costs, Watch(), signal_ms)
    out = console()
    for line in stream_lines(bundle.manifest.model, front.variant, found):
        out.print(line, soft_wrap=True, markup=False)
    out.print(_outcomes(found, found.of_kind("schedule") if schedules else found.front("schedule")))


def stream_lines(model: str, variant: str, found: StreamEvaluation) -> list[str]:
    """What sleeping saves, in words."""
    dense, aim = found.dense, found.aim
    lines = [
        f"{found.events} events in {found.steps} steps, {found.idle:.0%} of them idle. Right is counted at "
        "the steps of events; nothing is asked of the rest.",
        f"always on ({dense.name}): {dense.scores.accuracy:.1%} right at {dense.ms:.3f} ms a step",
    ]
    schedule, asleep = found.cheapest("schedule", aim), found.cheapest("asleep", aim)
    assert schedule is not None, "the best schedule reaches what it is measured by"
    if asleep is None:
        best = max(found.of_kind("asleep"), key=lambda one: one.scores.accuracy, default=None)
        reached = "no point rests" if best is None else f"the best reaches {best.scores.accuracy:.1%}"
        lines.append(
            f"{model} {variant} asleep between events does not reach {aim:.1%}, the best schedule less two "
            f"points: {reached}"
        )
    else:
        lines.append(
            f"{model} {variant} asleep between events: {asleep.scores.accuracy:.1%} right at "
            f"{asleep.ms:.3f} ms a step ({asleep.name}); the cheapest schedule that reaches {aim:.1%} takes "
            f"{schedule.ms / asleep.ms:.1f} times that ({schedule.name}, {schedule.scores.accuracy:.1%}"
            f"{_interval(found, asleep, schedule)})"
        )
        lines.append(_missing_no_more(found, schedule))
    awake = found.cheapest("point", aim)
    if awake is not None and (asleep is None or awake.ms < asleep.ms):
        lines.append(
            f"sleep saves nothing here: awake, {awake.name} is right at {awake.scores.accuracy:.1%} for "
            f"{awake.ms:.3f} ms a step"
        )
    if found.late:
        lines.append(f"{found.late} events reach beyond the end of their stream, and are cut there")
    return lines


def _missing_no_more(found: StreamEvaluation, schedule: StreamOutcome) -> str:
    """What it takes to be right at some step of as many events as that schedule."""
    missed = schedule.scores.missed
    asleep = found.cheapest("asleep", found.aim, missed)
    if asleep is None:
        fewest = min(one.scores.missed for one in found.of_kind("asleep"))
        return f"that schedule is never right of {missed:.1%} of events; asleep {fewest:.1%} at the fewest"
    return (
        f"to be never right of no more events either ({missed:.1%}), {asleep.name} takes "
        f"{asleep.ms:.3f} ms a step: the schedule {schedule.ms / asleep.ms:.1f} times that"
    )


def _interval(found: StreamEvaluation, one: StreamOutcome, other: StreamOutcome) -> str:
    """How they differ, where there are streams enough to say."""
    if len(set(found.groups)) < _FEWEST_FOR_INTERVAL:
        return ""
    mean, low, high = found.difference(one, other)
    return f"; difference {mean:+.1%}, 95 % interval {low:+.1%} to {high:+.1%}"


def _outcomes(found: StreamEvaluation, schedules: Sequence[StreamOutcome]) -> Table:
    rows = table(
        "what runs",
        "right",
        "delay p50, p95",
        "missed",
        "events F1",
        "changes a min",
        "false wakings an hour",
        "ms a step",
        "idle",
        "of always on",
    )
    points = [*found.of_kind("point"), *found.of_kind("asleep")]
    for one in [*schedules, *points]:
        median, late = one.scores.delay_s
        rows.add_row(
            one.name + (" (asleep between events)" if one.kind == "asleep" else ""),
            f"{one.scores.accuracy:.1%}",
            f"{median:.2f}, {late:.2f} s",
            f"{one.scores.missed:.1%}",
            f"{one.scores.detected.f1:.2f}",
            f"{one.scores.changes:.1f}",
            "" if math.isnan(one.scores.false_wakings) else f"{one.scores.false_wakings:.1f}",
            f"{one.ms:.4f}",
            "" if math.isnan(one.idle_ms) else f"{one.idle_ms:.4f}",
            f"{one.ms / found.dense.ms:.1%}",
        )
    return rows
