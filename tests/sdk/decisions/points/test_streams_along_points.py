"""Streams and clips along a bundle's operating points."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from runtimes.bundle import Bundle
from runtimes.errors import AdaptiveVideoError
from runtimes.spec import ActionSpace, Group, Interval, LookFusion, OperatingFront, OperatingPoint, StopRule
from sdk.budget.budget import Budget
from sdk.decisions.points.front_choice import FrontChoice
from sdk.power import AppMeter, Meter, ModeledMeter
from sdk.recognizer import StreamRecognizer
from sdk.recording.decision_log import DecisionLog
from sdk.recording.replay import replay
from sdk.results import Recognition
from tests.sdk.films import BRIGHT, DARK, MIDDLE, encode, film, flat

LOOKS = ("rgb224", "rgb112", "rgb84", "head")


def point(name: str, probability: float, *looks: str, stop: StopRule | None = None) -> OperatingPoint:
    known = Interval(mean=probability, low=probability - 0.1, high=probability + 0.1)
    runs: dict[str, float] = {}
    for look in looks:
        runs[f"net-int8@{look}"] = runs.get(f"net-int8@{look}", 0) + 1
        runs[look] = runs.get(look, 0) + 1
    return OperatingPoint(
        name=name,
        kind="schedule" if stop is None else "stopping",
        looks=looks,
        stop=stop,
        runs=runs,
        accuracy=known,
        true_probability=known,
        ms=float(len(looks)),
        admitted_as=None if stop is None else "better",
    )


LEARNED = OperatingPoint(
    name="policy at 0.5",
    kind="learned",
    price=0.5,
    runs={"policy@rgb84": 16, "rgb84": 16, "net-int8@rgb224": 8, "rgb224": 8},
    accuracy=Interval(mean=0.93, low=0.9, high=0.95),
    true_probability=Interval(mean=0.93, low=0.9, high=0.95),
    ms=90.0,
    admitted_as="better",
)
ALWAYS = StopRule(agreeing=(0.0,) * 3, differing=(0.0,) * 3)
FRONT = OperatingFront(
    variant="int8",
    fusion=LookFusion(
        scales={"rgb224": 2.0, "rgb112": 1.0, "rgb84": 0.5, "head": 1.0},
        weights={"rgb224": 2.0, "rgb112": 1.0, "rgb84": 0.5, "head": 1.0},
        exponent=0.5,
    ),
    points=(
        point("one small", 0.5, "rgb112"),
        point("stop at once", 0.6, "rgb112", "rgb112", "rgb112", "rgb112", stop=ALWAYS),
        point("two big", 0.9, "rgb224", "rgb224"),
        LEARNED,
    ),
    default="two big",
    dense=point("rgb224 x 16", 0.94, *["rgb224"] * 16),
    judged_on="nothing: a test",
)


@pytest.fixture
def along(bundle: Bundle) -> Bundle:
    """The small bundle with operating points of its int8 variant."""
    return replace(bundle, manifest=bundle.manifest.model_copy(update={"fronts": (FRONT,)}))


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sixteen steps: 1.6 s at 30 frames a second."""
    levels = [level for level in (BRIGHT, MIDDLE) * 8 for _ in range(3)]
    return encode(tmp_path_factory.mktemp("clip") / "clip.mp4", levels)


def looked(choices: list[str]) -> list[int]:
    return [step for step, choice in enumerate(choices) if choice != "held"]


def test_the_default_point_runs_and_no_policy(along: Bundle, clip: Path) -> None:
    with StreamRecognizer(along, "cpu") as recognizer:
        result = recognizer.recognize(clip)
        stats = recognizer.stats()
        assert recognizer.point == "two big" and recognizer.points[0].name == "one small"
    choices = [step.choice for step in result.recognitions]
    assert result.steps == 16 and looked(choices) == [4, 12] and result.label
    assert stats.graph_runs["net-int8"] == 2 and stats.graph_runs.get("policy", 0) == 0


def test_a_stream_answers_from_its_first_step_on(along: Bundle) -> None:
    with StreamRecognizer(along, "cpu") as recognizer:
        results = list(recognizer.stream(film([BRIGHT] * 20)))
    assert looked([result.choice for result in results]) == [0, 8, 16]
    assert all(result.label for result in results)


def test_looks_are_fused_as_fitted(along: Bundle, bundle: Bundle, clip: Path) -> None:
    """By hand from the same graph's answers: scaled, over the root of the weights' sum."""
    with StreamRecognizer(along, "cpu", point="two big", top=5) as recognizer:
        fused = dict(recognizer.recognize(clip).top)
    with StreamRecognizer(bundle, "cpu", fixed="rgb224", top=5) as recognizer:
        run = recognizer.engine.graph("net-int8")
        renderer = recognizer._pipeline._renderers["rgb224"]
        logits = []
        recognizer._pipeline._run = lambda options, step: (
            logits.append(  # type: ignore[method-assign]
                run(frame=step.render(renderer))["logits"][0]
            )
            or []
        )  # type: ignore[func-returns-value]
        recognizer.recognize(clip)
    total = 2.0 * (logits[4].astype(float) + logits[12].astype(float)) / (2.0 + 2.0) ** 0.5
    powers = np.exp(total - total.max())
    expected = dict(zip(bundle.manifest.labels, powers / powers.sum(), strict=True))
    assert fused == pytest.approx(expected, abs=1e-6)


def test_a_rule_that_always_stops_looks_once(along: Bundle, clip: Path) -> None:
    with StreamRecognizer(along, "cpu", point="stop at once") as recognizer:
        result = recognizer.recognize(clip)
        assert recognizer.stats().graph_runs["net-int8"] == 1
    assert looked([step.choice for step in result.recognitions]) == [2]


def test_a_learned_point_is_the_policy_at_its_price(along: Bundle, bundle: Bundle) -> None:
    levels = [BRIGHT] * 4 + [DARK] * 4
    with StreamRecognizer(along, "cpu", point="policy at 0.5") as recognizer:
        found = [(r.choice, r.price, r.top) for r in recognizer.stream(film(levels))]
    with StreamRecognizer(bundle, "cpu", price=0.5) as recognizer:
        assert found == [(r.choice, r.price, r.top) for r in recognizer.stream(film(levels))]


def test_price_moves_along_the_front(along: Bundle) -> None:
    names = []
    with StreamRecognizer(along, "cpu", price=0.0) as recognizer:
        for price in (0.0, 0.5, 5.0, 50.0):
            recognizer.price = price
            names.append(recognizer.point)
        order = [one.name for one in recognizer.points]
    assert names == sorted(names, key=lambda name: -order.index(str(name))) and len(set(names)) > 2


def test_points_change_while_a_stream_runs(along: Bundle) -> None:
    choices, labels = [], []
    with StreamRecognizer(along, "cpu", point="one small") as recognizer:
        for step, result in enumerate(recognizer.stream(film([BRIGHT] * 55))):
            choices.append(result.choice)
            labels.append(result.label)
            if step == 19:
                recognizer.point = "policy at 0.5"
            if step == 35:
                recognizer.point = "one small"
    assert choices[:20] == ["rgb112" if step % 16 == 0 else "held" for step in range(20)]
    assert set(choices[20:36]) == {"rgb224"}, "the learned policy waits for no look of the point before"
    assert looked(choices[36:]) == [15], "as if the policy's last look had been its own"
    assert all(labels)


def test_a_log_of_points_is_replayed(along: Bundle, clip: Path, tmp_path: Path) -> None:
    path = tmp_path / "decisions.jsonl"
    with (
        DecisionLog(path) as log,
        StreamRecognizer(along, "cpu", point="stop at once", log=log) as recognizer,
    ):
        recognizer.recognize(clip)
        recognizer.point = "policy at 0.5"
        for step, _ in enumerate(recognizer.stream(film([BRIGHT, DARK] * 10))):
            if step == 5:
                recognizer.point = "two big"
    steps = list(replay(path))
    assert len(steps) == 36 and all(step.same for step in steps)
    assert {"rgb112", "rgb224", "held", "skip4"} <= {step.replayed[1] for step in steps}


def test_a_budget_takes_over_and_gives_back(along: Bundle) -> None:
    with StreamRecognizer(along, "cpu", meter=ModeledMeter(1.0, 1.0)) as recognizer:
        recognizer.budget = Budget(watts=100)
        with pytest.raises(AdaptiveVideoError, match="point: the budget sets it"):
            recognizer.point = "two big"
        recognizer.budget = None
        assert recognizer.point == "two big"


class Board:
    """A device of 1 W whose looks draw what is written here; its clock is the stream's time."""

    LOOK_J = {"rgb224": 0.4, "rgb112": 0.1}

    def __init__(self) -> None:
        self.now_s = self.used_j = 0.0

    def clock(self) -> float:
        return self.now_s

    def meter(self) -> Meter:
        return AppMeter(lambda: self.used_j, "the board", 0.1, self.clock)

    def pictures(self, seconds: float) -> Iterator[tuple[NDArray[np.uint8], float]]:
        for number in range(int(seconds * 10)):
            self.now_s, self.used_j = number / 10, self.used_j + 0.1
            yield flat(BRIGHT), self.now_s

    def draw(self, result: Recognition) -> Recognition:
        self.used_j += self.LOOK_J.get(result.choice, 0.0)
        return result


def budgeted(along: Bundle, seconds: float, **how: Any) -> tuple[list[Recognition], Board]:
    board = Board()
    with StreamRecognizer(along, "cpu", meter=board.meter(), clock=board.clock, **how) as recognizer:
        return [board.draw(result) for result in recognizer.stream(board.pictures(seconds))], board


def of_schedules(along: Bundle) -> Bundle:
    """With no other points."""
    schedules = FRONT.model_copy(update={"points": tuple(p for p in FRONT.points if p.kind == "schedule")})
    return replace(along, manifest=along.manifest.model_copy(update={"fronts": (schedules,)}))


def test_a_budget_moves_along_the_points_and_not_the_policy(along: Bundle, tmp_path: Path) -> None:
    """Two big looks of sixteen steps take 1.5 W, one small one 1.06 W: of 1.3 W both have a share."""
    along = of_schedules(along)
    path = tmp_path / "decisions.jsonl"
    with DecisionLog(path) as log:
        results, board = budgeted(along, 90, budget=Budget(watts=1.3), log=log)
    assert {result.point for result in results[400:]} == {"one small", "two big"}
    choices = Counter(result.choice for result in results[400:])
    assert {"rgb112", "rgb224", "held"} <= choices.keys() and choices["throttled"] < 0.05 * 500
    assert board.used_j / 90 == pytest.approx(0.985 * 1.3, rel=0.03)
    points = [result.point for result in results[350:]]
    assert sum(one != other for one, other in pairwise(points)) <= 5
    assert all(step.same for step in replay(path))


def test_a_clip_under_a_budget_runs_as_one_point(along: Bundle, clip: Path) -> None:
    board = Board()
    with StreamRecognizer(
        along, "cpu", meter=board.meter(), clock=board.clock, budget=Budget(watts=50)
    ) as recognizer:
        for _ in range(6):
            result = recognizer.recognize(clip)
            board.now_s, board.used_j = board.now_s + 1.6, board.used_j + 3.0
            assert len({step.point for step in result.recognitions}) == 1


def test_a_limit_of_time_goes_with_its_budget(along: Bundle) -> None:
    board, along = Board(), of_schedules(along)
    with StreamRecognizer(along, "cpu", meter=board.meter(), clock=board.clock) as recognizer:
        recognizer.budget = Budget(latency_ms=0.01)
        points = []
        for number, result in enumerate(recognizer.stream(board.pictures(30))):
            points.append(board.draw(result).point)
            if number == 100:
                recognizer.budget = Budget(watts=500)
    assert points[90] == "one small" and points[-1] == "two big"


def test_a_budget_may_move_to_a_learned_point(along: Bundle) -> None:
    """The policy's graph is open, though the point that stands runs none."""
    results, _ = budgeted(along, 20, budget=Budget(watts=500))
    assert results[-1].point == LEARNED.name and results[-1].latency_ms.policy > 0


def test_a_clip_under_a_limit_of_time_runs_as_one_point(along: Bundle, clip: Path) -> None:
    with StreamRecognizer(along, "cpu", point="two big", budget=Budget(latency_ms=0.01)) as recognizer:
        for _ in range(2):
            result = recognizer.recognize(clip)
            assert len({step.point for step in result.recognitions}) == 1


def test_the_point_and_price_that_were_set_are_said_at_once(along: Bundle) -> None:
    with StreamRecognizer(along, "cpu", meter=ModeledMeter(1.0, 1.0)) as recognizer:
        recognizer.point = "one small"
        recognizer.budget = Budget(watts=5)
        assert recognizer.point == "one small"


def test_points_without_their_graphs(along: Bundle) -> None:
    """The default gives way to another; one that the app names does not."""
    space = along.variant("int8").action_space
    graphs = {option.graph for option in space.options if option.graph}
    costs = np.ones(len(space.options))
    with pytest.raises(AdaptiveVideoError, match="is not there"):
        FrontChoice(space, costs, FRONT, 16, "policy").set_absent_graphs(graphs)
    points = (*FRONT.points[:3], point("a head", 0.95, "head"))
    chooser = FrontChoice(space, costs, FRONT.model_copy(update={"points": points}), 16, "policy")
    chooser.set_absent_graphs({"net-int8"})
    assert chooser.standing_plan.point == "a head"
    with pytest.raises(AdaptiveVideoError, match="point two big: its graph net-int8 is not there"):
        chooser.plan_of(FRONT.point("two big"), 0.0)
    chooser.set_absent_graphs(())
    chooser.stand_at(FRONT.point("two big"), 0.0, named=True)
    with pytest.raises(AdaptiveVideoError, match="choose another point"):
        chooser.set_absent_graphs({"net-int8"})


def test_a_budget_needs_no_policy(bundle: Bundle) -> None:
    results, _ = budgeted(without_policy(bundle), 40, budget=Budget(watts=1.2))
    assert {result.point for result in results[100:]} == {"one small", "two big"}


def test_a_clip_shorter_than_it_states_is_still_answered(along: Bundle, tmp_path: Path) -> None:
    """The one look would lie in the middle of what is stated: behind the end of what is there."""
    whole = encode(tmp_path / "whole.mp4", [BRIGHT] * 45)
    with StreamRecognizer(along, "cpu", point="one small") as recognizer:
        stated = recognizer.recognize(whole)
        assert looked([step.choice for step in stated.recognitions]) == [7] and stated.steps == 15
        recognizer._expected_steps = lambda path: 16  # type: ignore[method-assign]
        short = recognizer.recognize(encode(tmp_path / "short.mp4", [BRIGHT] * 9))
    assert short.steps == 3 and short.label


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"point": "nope"}, "point nope: is not on the front; use one of 'one small'"),
        ({"point": "two big", "price": 1.0}, "point and price: exclude each other"),
        ({"point": "two big", "fixed": "rgb224"}, "point and fixed: exclude each other"),
        ({"price": -1.0}, "price -1.0: is not a price"),
        ({"every": 2}, "every 2: is for a fixed option"),
    ],
)
def test_arguments_that_cannot_be_meant(along: Bundle, arguments: dict[str, object], words: str) -> None:
    with pytest.raises(AdaptiveVideoError) as caught:
        StreamRecognizer(along, "cpu", **arguments)  # type: ignore[arg-type]
    assert words in str(caught.value)


def without_policy(bundle: Bundle) -> Bundle:
    """The small bundle's int8 branches alone, with the schedules of its front."""
    whole = bundle.manifest.variant("int8")
    branches = tuple(o for o in whole.action_space.options if o.graph == "net-int8")
    space = ActionSpace(groups=(Group(name="step", options=branches),))
    alone = whole.model_copy(update={"policy": None, "action_space": space})
    points = tuple(one for one in FRONT.points if one.kind != "learned")
    front = FRONT.model_copy(update={"points": points})
    fields = {"variants": (alone,), "default_variant": "int8", "fronts": (front,)}
    return replace(bundle, manifest=bundle.manifest.model_copy(update=fields))


def test_without_a_policy_the_app_chooses_unless_it_asks_for_a_point(bundle: Bundle) -> None:
    switched = without_policy(bundle)
    with StreamRecognizer(switched, "cpu") as recognizer:
        assert recognizer.fixed == "rgb224" and recognizer.point is None
        recognizer.fixed = "rgb84"
        assert {result.choice for result in recognizer.stream(film([BRIGHT] * 3))} == {"rgb84"}
    with StreamRecognizer(switched, "cpu", price=100.0) as recognizer:
        choices = [result.choice for result in recognizer.stream(film([BRIGHT] * 3))]
        assert choices == ["rgb112", "held", "held"] and recognizer.point == "one small"


def test_a_bundle_without_points_says_so(bundle: Bundle) -> None:
    with pytest.raises(AdaptiveVideoError, match="no operating points; compile again"):
        StreamRecognizer(bundle, "cpu", point="two big")
    with StreamRecognizer(bundle, "cpu") as recognizer:
        assert recognizer.points == () and recognizer.point is None
        with pytest.raises(AdaptiveVideoError, match="the choice here is not along operating points"):
            recognizer.point = "two big"
