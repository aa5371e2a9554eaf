"""Operating points as ways to run: their power, which are offered, and what is learned while they run."""

from __future__ import annotations

import math

import numpy as np
import pytest

from sdk.budget.point_levels import PointLevels
from sdk.budget.power_level import Device
from sdk.decisions.decision import Decision
from sdk.decisions.trace import StepTrace
from tests.sdk.budgeted_streams import action_space, schedules

SPACE = action_space(2)
B0, B1 = SPACE.options[:2]
STEP_S, BASE_W, CLIP_STEPS = 0.5, 2.0, 16
NO_LIMIT = np.zeros(7)


def levels(*looks: tuple[str, int]) -> PointLevels:
    return PointLevels(SPACE, schedules(SPACE, looks), CLIP_STEPS, "policy")


def device(b0_j: float = 1.0, b1_j: float = 0.25) -> Device:
    energies = np.array([0.1, b0_j, b1_j, 0, 0, 0, 0])
    return Device(energies, BASE_W, energies[1:], STEP_S)


def names(found: PointLevels, on: Device | None = None) -> list[str | None]:
    return [level.point for level in found.predict(on or device(), None)]


def test_power_is_what_a_clip_runs_over_its_time() -> None:
    found = levels(("b1", 1), ("b1", 16), ("b0", 16)).predict(device(), None)
    seconds = CLIP_STEPS * STEP_S
    assert [level.power_w for level in found] == pytest.approx(
        [BASE_W + 0.25 / seconds, BASE_W + 4 / seconds, BASE_W + 16 / seconds]
    )


def test_what_is_dearer_here_and_no_better_is_not_offered() -> None:
    """On the device that compiled it b1 x 16 was the cheaper one; here b0 x 2 is, and better too."""
    found = levels(("b1", 1), ("b1", 16), ("b0", 2), ("b0", 16))
    assert names(found) == ["b1 x 1", "b0 x 2", "b0 x 16"]
    assert names(found, device(b0_j=8.0, b1_j=0.01)) == ["b1 x 1", "b1 x 16", "b0 x 2", "b0 x 16"]


def test_what_two_others_share_better_is_not_offered() -> None:
    assert names(levels(("b1", 1), ("b0", 14), ("b0", 16))) == ["b1 x 1", "b0 x 16"]


def test_what_a_stream_runs_comes_to_count() -> None:
    found = levels(("b1", 1), ("b0", 16))
    stated_w = found.predict(device(), None)[0].power_w
    for _ in range(40 * CLIP_STEPS):
        found.observe(0.0, StepTrace(Decision((B1,)), None, (), 0, (1.0,), 1.0, "b1 x 1"))
    seen_w = found.predict(device(), None)[0].power_w
    assert stated_w < 2.1 and seen_w == pytest.approx(BASE_W + 0.25 / STEP_S, rel=0.05)


def test_steps_that_are_throttled_and_other_points_count_for_nothing() -> None:
    found = levels(("b1", 1), ("b0", 16))
    before = found.predict(device(), None)
    found.observe(0.0, StepTrace(Decision((), throttled=True), None, (), 0, (), 1.0, "b1 x 1"))
    found.observe(0.0, StepTrace(Decision((B0,)), None, (), 0, (1.0,), 1.0, None))
    assert found.predict(device(), None) == before


def test_a_held_step_counts_also_while_throttled() -> None:
    """Its schedule goes on meanwhile."""
    found = levels(("b1", 1), ("b0", 16))
    for _ in range(20 * CLIP_STEPS):
        found.observe(0.0, StepTrace(Decision((), held=True, throttled=True), None, (), 0, (), 1.0, "b1 x 1"))
    assert found.predict(device(), None)[0].power_w < 1.002 * BASE_W


@pytest.mark.parametrize(
    ("absent", "offered"),
    [(("sound",), ["b0 x 16"]), (("view",), ["b1 x 1"]), (("sound", "view"), ["b1 x 1", "b0 x 16"])],
)
def test_a_point_that_senses_nothing_is_not_offered(absent: tuple[str, ...], offered: list[str]) -> None:
    """If none does, all are."""
    group = SPACE.groups[0]
    heard = tuple(o.model_copy(update={"view": "sound"}) if o == B1 else o for o in group.options)
    space = SPACE.model_copy(update={"groups": (group.model_copy(update={"options": heard}),)})
    found = PointLevels(space, schedules(SPACE, (("b1", 1), ("b0", 16))), CLIP_STEPS, "policy")
    found.observe(0.0, StepTrace(Decision(()), None, absent, 0, (), 1.0, "b1 x 1"))
    assert names(found) == offered


def test_points_whose_graphs_are_absent_are_not_offered() -> None:
    found = levels(("b1", 1), ("b1", 16), ("b0", 16))
    found.restrict(("g0",), math.inf, NO_LIMIT)
    assert names(found) == ["b1 x 1", "b1 x 16"]
    found.restrict((), math.inf, NO_LIMIT)
    assert names(found)[-1] == "b0 x 16"


def test_a_point_that_takes_too_long_comes_back_only_well_within() -> None:
    found = levels(("b1", 1), ("b0", 16))
    takes_ms = np.array([5, 40, 10, 0, 0, 0, 0.0])
    for left_ms, expected in ((50, 2), (39, 1), (41, 1), (45, 2)):
        found.restrict((), left_ms, takes_ms)
        assert len(names(found)) == expected
    found.restrict((), 1, takes_ms)
    assert names(found) == ["b1 x 1"]


def test_the_apps_own_point_stands_unless_it_takes_too_long() -> None:
    found = levels(("b1", 1), ("b0", 2), ("b0", 16))
    assert found.standing(0.0, "b0 x 16").point == "b0 x 16"
    found.restrict((), 20, np.array([5, 40, 10, 0, 0, 0, 0.0]))
    assert found.standing(0.0, "b0 x 16").point == "b1 x 1"


def test_the_cheapest_runs_first() -> None:
    assert levels(("b1", 1), ("b0", 16)).first(0.0, device().energies_j).point == "b1 x 1"
