"""Runs points and schedules over what was answered of a stream, by the code that decides on a device."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from compiler.operating_points.streams.stream_answers import BACKGROUND, StreamAnswers
from runtimes.spec import Manifest, OperatingFront, OperatingPoint, Option, Variant
from sdk.decisions.decision import Observation
from sdk.decisions.decision_loop import DecisionLoop
from sdk.decisions.fusion import StepFusion, StreamFusion
from sdk.decisions.points.schedule_choice import ScheduleChoice
from sdk.decisions.watch import StreamWatch, Watch
from sdk.media.signals.signals import NO_SIGNALS, StreamSignals


@dataclass(frozen=True)
class StreamCourse:
    """What a way to run came to on a stream.

    ``labels`` (steps,): the class answered at each step, ``BACKGROUND`` before any answer. ``ran`` (steps):
    what ran together at each, nothing at most. With a watch, ``asleep`` (steps,), and ``woken``: steps at
    which it began anew.
    """

    labels: NDArray[np.int64]
    ran: list[tuple[str, ...]]
    asleep: NDArray[np.bool_] | None = None
    woken: tuple[int, ...] = ()


def run_point(
    answers: StreamAnswers,
    manifest: Manifest,
    variant: Variant,
    front: OperatingFront,
    point: OperatingPoint,
    watch: Watch | None,
) -> StreamCourse:
    """A point of looks, as a stream whose end is not known runs it; ``watch`` lets it sleep."""
    steps, space = manifest.steps, variant.action_space
    chooser = ScheduleChoice(space, point, steps.clip_steps)  # heads were run with all else
    watching = None if watch is None else StreamWatch(watch, steps.rate_hz)
    loop, signals = DecisionLoop(chooser, watching), StreamSignals()
    fusion = StreamFusion(manifest.fusion, space, front.fusion)
    labels = np.full(len(answers), BACKGROUND, np.int64)
    names: list[tuple[str, ...]] = [()] * len(answers)
    woken: list[int] = []
    asleep = np.zeros(len(answers), np.bool_)
    scores: NDArray[np.floating] | None = None
    absent = _absent_views(answers, variant)
    for step in range(len(answers)):
        if answers.restarted[step]:
            loop.reset()
            fusion.reset()
            signals.reset()
            scores = None
        measured = NO_SIGNALS if watch is None else signals.measure(answers.readings[step])
        decision = loop.decide(Observation(None, absent[step]), answer=scores, signals=measured)
        if decision.anew:
            fusion.begin_anew()
            woken.append(step)
        ran = answers.together(decision.options, step)
        if decision.options:
            signals.mark_look()
            names[step] = tuple(option.name for option, _ in ran)
        asleep[step] = decision.asleep
        if not decision.asleep:
            scores = fusion.update(ran, as_looks=True, last=chooser.memory_steps)
        labels[step] = BACKGROUND if scores is None else int(scores.argmax())
    return StreamCourse(labels, names, None if watch is None else asleep, tuple(woken))


def run_schedule(
    answers: StreamAnswers,
    manifest: Manifest,
    variant: Variant,
    options: tuple[Option, ...],
    every: int,
    memory: int,
) -> StreamCourse:
    """The same look at every ``every``-th step; the answer is the mean of the last ``memory`` of them."""
    fuse = StepFusion(manifest.fusion, variant.action_space).fuse
    labels = np.full(len(answers), BACKGROUND, np.int64)
    names: list[tuple[str, ...]] = [()] * len(answers)
    kept: list[NDArray[np.floating]] = []
    due = 0
    for step in range(len(answers)):
        if answers.restarted[step]:
            kept, due = [], step
        if step < due:
            labels[step] = labels[step - 1]
            continue
        due = step + every
        ran = answers.together(options, step)
        fused = fuse(ran)
        if fused is not None:
            names[step] = tuple(option.name for option, _ in ran)
            kept = [*kept, fused][-memory:]
        if kept:
            labels[step] = int(np.sum(kept, axis=0).argmax())
    return StreamCourse(labels, names)


def _absent_views(answers: StreamAnswers, variant: Variant) -> list[frozenset[str]]:
    """By step, the views that it lacks."""
    branches = [option for option in variant.action_space.options if option.graph and option.view]
    lacking = np.stack([np.isnan(answers.logits[option.name][:, 0]) for option in branches], axis=1)
    views = [str(option.view) for option in branches]
    return [
        frozenset(view for view, absent in zip(views, row, strict=True) if absent)
        if row.any()
        else frozenset()
        for row in lacking
    ]
