"""The operating points of a front as ways to run: what each takes, and which of them are worth it here."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np

from runtimes.spec import ActionSpace, OperatingFront, OperatingPoint
from sdk.budget.power_level import Device, Floats, PowerLevel
from sdk.decisions.points.hull import hull
from sdk.decisions.trace import StepTrace

_FIRST_CLIPS, _MOST_CLIPS = 2.0, 20.0
"""For how many clips the stated runs count beside those that are seen; and how many are remembered."""
_COMES_BACK = 0.9
"""Of the time that a step may take: what a point that took too long has to keep within to be back."""


class PointLevels:
    """The points of a front, by rising power, as far as more power gives more right answers.

    How often each runs what is stated for clips; a stream may stop sooner or later, so that what is seen of
    a point while it runs comes to count more and more.
    """

    def __init__(
        self, space: ActionSpace, front: OperatingFront, clip_steps: int, policy_graph: str | None
    ) -> None:
        self._front, self._clip_steps = front, clip_steps
        self._places = {option.name: place for place, option in enumerate(space.options, 1)}
        self._rows = {point.name: row for row, point in enumerate(front.points)}
        runs = np.array([_clip_runs(point, space, policy_graph) for point in front.points])
        # Lists, as single elements of arrays are slow to change.
        self._runs: list[list[float]] = (_FIRST_CLIPS * runs).tolist()
        self._steps = [_FIRST_CLIPS * clip_steps] * len(runs)
        graphs = [policy_graph, *(option.graph for option in space.options)]
        self._graphs = [{graphs[place] for place in np.flatnonzero(own)} for own in runs]
        self._looks = [self._places_of_looks(point, space, policy_graph) for point in front.points]
        views = {option.name: str(option.view) for option in space.options}
        self._views = [
            {views[name] for look in point.looks for name in look.split("+")} for point in front.points
        ]
        self._absent_views: Collection[str] = ()
        self._worth = [point.true_probability.mean for point in front.points]
        self._too_slow: set[int] = set()
        self._offered = list(range(len(runs)))

    @property
    def known(self) -> bool:
        """Always: what a point runs is stated."""
        return True

    def predict(self, device: Device, current: PowerLevel | None) -> Sequence[PowerLevel]:
        """The upper hull of the probability of the true class over power."""
        powers_w = device.base_w + self._step_runs() @ device.energies_j / device.step_s
        return self._worth_running(powers_w.tolist())

    def first(self, app_price: float, energies: Floats) -> PowerLevel:
        """The cheapest point."""
        return self._worth_running((self._step_runs() @ energies).tolist())[0]

    def standing(self, price: float, point: str | None) -> PowerLevel:
        """The app's point; if that may not run, the next cheaper that may, or the cheapest that may."""
        row = self._rows[point or self._front.default]
        chosen = max((one for one in self._offered if one <= row), default=self._offered[0])
        level = self._level(chosen, 0.0)
        return level._replace(price=price) if chosen == row else level

    def is_clip(self, steps: int | None) -> bool:
        """Whether it has no more steps than the clips that the points were judged on."""
        return steps is not None and steps <= self._clip_steps

    def observe(self, now_s: float, trace: StepTrace) -> None:
        """Count what a step ran for the point that it was one of."""
        row = self._rows.get(trace.point or "")
        self._absent_views = trace.absent_views
        if row is None or (trace.decision.throttled and not trace.decision.held):
            return
        self._steps[row] += 1
        for option in trace.decision.options:
            self._runs[row][self._places[option.name]] += 1
        self._runs[row][0] += trace.scores is not None
        if self._steps[row] > _MOST_CLIPS * self._clip_steps:  # what is older counts less
            self._runs[row] = [runs / 2 for runs in self._runs[row]]
            self._steps[row] /= 2

    def restrict(self, graphs: Collection[str], left_ms: float, takes_ms: Floats) -> None:
        """Points that need an absent graph, or have a look that takes too long, are not offered.

        If all looks take too long, the quickest point is. One that took too long comes back only where it
        keeps well within.
        """
        there = [row for row, needed in enumerate(self._graphs) if not needed.intersection(graphs)]
        takes = {row: max(float(takes_ms[look].sum()) for look in self._looks[row]) for row in there}
        limits = {row: left_ms * (_COMES_BACK if row in self._too_slow else 1.0) for row in there}
        self._too_slow = {row for row in there if takes[row] > limits[row]}
        quick = [row for row in there if row not in self._too_slow]
        self._offered = quick or [min(there, key=lambda row: takes[row], default=0)]

    def _places_of_looks(
        self, point: OperatingPoint, space: ActionSpace, policy_graph: str | None
    ) -> list[list[int]]:
        """Places that each of a point's looks runs; a learned one keeps within a limit by itself."""
        heads = {option.name for option in space.options if option.graph == policy_graph}
        looks = [look.split("+") for look in dict.fromkeys(point.looks)]
        places = [
            [self._places[name] for name in look] + [0] * (not heads.isdisjoint(look)) for look in looks
        ]
        return places or [[0]]

    def _step_runs(self) -> Floats:
        """How often a step runs what (points, 1 + n)."""
        return np.array(self._runs) / np.array(self._steps)[:, None]

    def _worth_running(self, powers_w: Sequence[float]) -> list[PowerLevel]:
        """Of those offered that see or hear anything, the hull of worth over power."""
        absent = set(self._absent_views)
        senses = [row for row in self._offered if not self._views[row] or self._views[row] - absent]
        offered = senses or self._offered
        places = hull([powers_w[row] for row in offered], [self._worth[row] for row in offered])
        return [self._level(offered[place], powers_w[offered[place]]) for place in places]

    def _level(self, row: int, power_w: float) -> PowerLevel:
        point = self._front.points[row]
        return PowerLevel(power_w, point.price or 0.0, point.name)


def _clip_runs(point: OperatingPoint, space: ActionSpace, policy_graph: str | None) -> list[float]:
    """How often a clip runs the policy, and each option (1 + n,); heads are runs of the policy."""
    counts = {part: runs for part, runs in point.runs.items() if "@" in part}
    policy = sum(runs for part, runs in counts.items() if part.split("@")[0] == policy_graph)
    options = (
        0.0 if option.graph in (None, policy_graph) else counts.get(f"{option.graph}@{option.view}", 0.0)
        for option in space.options
    )
    return [policy, *options]
