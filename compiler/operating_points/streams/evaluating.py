"""Points, points that sleep, and schedules side by side on the same streams."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from compiler.measuring.evaluation import branch_sets
from compiler.operating_points.admission import group_draws
from compiler.operating_points.gathering import look_runs, part_costs, part_names
from compiler.operating_points.streams.running import StreamCourse, run_point, run_schedule
from compiler.operating_points.streams.scoring import StreamScores, score
from compiler.operating_points.streams.stream_answers import BACKGROUND, StreamAnswers
from runtimes.spec import CostTable, Manifest, OperatingFront, Option, Variant
from sdk.decisions.points.hull import hull
from sdk.decisions.watch import Watch

EVERY = (1, 2, 4, 8, 16, 32, 64)
"""Steps from look to look of schedules."""
MEMORIES = (1, 2, 4, 8)
"""Looks that a schedule's answer is the mean of."""
_GIVEN_UP = 0.02
"""Accuracy below the best schedule's at which what it takes is compared."""

Kind = Literal["schedule", "point", "asleep"]


@dataclass(frozen=True)
class StreamOutcome:
    """One way to run all streams.

    ``ms`` of a step, ``idle_ms`` of a step in no event: by the cost table, signals included, decoding apart.
    """

    name: str
    kind: Kind
    scores: StreamScores
    ms: float
    idle_ms: float


@dataclass(frozen=True)
class StreamEvaluation:
    """All ways, and the streams they ran on.

    ``steps`` of all streams; ``idle``: the share of them in no event; ``late``: events beyond a stream's end;
    ``groups``: of each stream, those that belong together; ``dense_look``: of the front's dense point.
    """

    outcomes: tuple[StreamOutcome, ...]
    steps: int
    events: int
    idle: float
    late: int
    groups: tuple[str, ...]
    dense_look: str

    def of_kind(self, kind: Kind) -> list[StreamOutcome]:
        """By rising cost."""
        return sorted((one for one in self.outcomes if one.kind == kind), key=lambda one: one.ms)

    def front(self, kind: Kind) -> list[StreamOutcome]:
        """Those that no other of their kind, nor two in turn, is better than."""
        own = self.of_kind(kind)
        return [own[place] for place in hull([one.ms for one in own], [one.scores.accuracy for one in own])]

    @property
    def aim(self) -> float:
        """The accuracy to reach: the best schedule's, less two points."""
        return max(one.scores.accuracy for one in self.of_kind("schedule")) - _GIVEN_UP

    def cheapest(self, kind: Kind, accuracy: float, missed: float = 1.0) -> StreamOutcome | None:
        """The least expensive way of a kind that is as accurate, and misses no more events."""
        fitting = (
            one
            for one in self.of_kind(kind)
            if one.scores.accuracy >= accuracy and one.scores.missed <= missed
        )
        return next(fitting, None)

    def difference(self, one: StreamOutcome, other: StreamOutcome) -> tuple[float, float, float]:
        """By how much ``one`` is more accurate, with its 95 % interval: paired, groups of streams drawn."""
        gained, asked = one.scores.right - other.scores.right, one.scores.asked
        draws = group_draws(self.groups)
        drawn = (draws @ gained) / np.maximum(draws @ asked, 1e-12)
        low, high = np.quantile(drawn, (0.025, 0.975))
        return float(gained.sum() / asked.sum()), float(low), float(high)

    @property
    def dense(self) -> StreamOutcome:
        """The dense look at every step, with the memory that suits it best."""
        always = f"{self.dense_look} {_rate(1)}"
        same = [one for one in self.of_kind("schedule") if one.name.split(",")[0] == always]
        return max(same, key=lambda one: one.scores.accuracy)


def evaluate_streams(
    answers: Sequence[StreamAnswers],
    manifest: Manifest,
    front: OperatingFront,
    table: CostTable,
    watch: Watch,
    watch_ms: float,
) -> StreamEvaluation:
    """Every schedule, and every point that looks, awake and asleep between events.

    ``watch_ms``: what the signals of one step take. Raises: KeyError for a part without a cost.
    """
    variant = manifest.variant(front.variant)
    ms = _LookCosts(variant, table)
    idle = np.concatenate([one.targets for one in answers]) == BACKGROUND

    def outcome(name: str, kind: Kind, courses: Sequence[StreamCourse]) -> StreamOutcome:
        watched = 0.0 if courses[0].asleep is None else watch_ms
        spent = np.concatenate([[ms.of(ran) for ran in course.ran] for course in courses]) + watched
        scores = score(answers, courses)
        idle_ms = float(spent[idle].mean()) if idle.any() else math.nan
        return StreamOutcome(name, kind, scores, float(spent.mean()), idle_ms)

    found = []
    for look in branch_sets(variant):
        for every, memory in _schedules(max(map(len, answers))):
            courses = [run_schedule(one, manifest, variant, look, every, memory) for one in answers]
            found.append(outcome(_name(look, every, memory), "schedule", courses))
    for point in front.points:
        if point.looks:
            awake = [run_point(one, manifest, variant, front, point, None) for one in answers]
            found.append(outcome(point.name, "point", awake))
            asleep = [run_point(one, manifest, variant, front, point, watch) for one in answers]
            found.append(outcome(point.name, "asleep", asleep))
    return StreamEvaluation(
        tuple(found),
        len(idle),
        sum(len(one.events) for one in answers),
        float(idle.mean()),
        sum(one.late for one in answers),
        tuple(one.group for one in answers),
        front.dense.looks[0],
    )


def _schedules(longest: int) -> Iterator[tuple[int, int]]:
    for every in EVERY:
        if every <= longest:
            yield from ((every, memory) for memory in MEMORIES)


def _name(look: Sequence[Option], every: int, memory: int) -> str:
    names = "+".join(option.name for option in look)
    return f"{names} {_rate(every)}" + (f", mean of {memory}" if memory > 1 else "")


def _rate(every: int) -> str:
    return "every step" if every == 1 else f"every {every} steps"


class _LookCosts:
    """ms of one look by a device's table: graphs and views."""

    def __init__(self, variant: Variant, table: CostTable) -> None:
        self._variant, self._parts = variant, part_names(variant)
        self._costs, _ = part_costs(self._parts, table)
        self._options = {option.name: option for option in variant.action_space.options}
        self._known: dict[tuple[str, ...], float] = {(): 0.0}

    def of(self, names: tuple[str, ...]) -> float:
        if names not in self._known:
            options = [self._options[name] for name in names]
            self._known[names] = float(look_runs(self._variant, options, self._parts) @ self._costs)
        return self._known[names]
