"""A real bundle's stream under a budget, on a device whose clock and meter the test moves."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from runtimes.bundle import Bundle
from runtimes.errors import AdaptiveVideoError
from sdk import Budget, BudgetError, StreamRecognizer
from sdk.power import AppMeter
from sdk.power.meter import Meter
from sdk.recording.decision_log import DecisionLog
from sdk.recording.replay import breaks_off, replay
from sdk.results import Recognition
from tests.sdk.films import BRIGHT, DARK, MIDDLE, encode, flat

RATE_HZ = 10.0
OPTION_J = {"rgb224": 0.4, "rgb112": 0.1, "head": 0.0, "skip4": 0.0}


class Board:
    """A device of 1 W that draws what the last result's choice takes; its clock is the stream's time."""

    def __init__(self) -> None:
        self.now_s, self.used_j, self.silent = 0.0, 0.0, False

    def clock(self) -> float:
        return self.now_s

    def meter(self) -> Meter:
        return AppMeter(lambda: None if self.silent else self.used_j, "the board", 0.1, self.clock)

    def pictures(self, levels: Iterator[int], seconds: float) -> Iterator[tuple[NDArray[np.uint8], float]]:
        for number in range(int(seconds * RATE_HZ)):
            self.used_j += 1.0 / RATE_HZ
            self.now_s = number / RATE_HZ
            yield flat(next(levels)), self.now_s

    def draw(self, result: Recognition) -> Recognition:
        self.used_j += OPTION_J.get(result.choice, 0.0)
        return result


def bright() -> Iterator[int]:
    while True:
        yield BRIGHT


def mixed() -> Iterator[int]:
    random = np.random.default_rng(0)
    while True:
        yield int(random.choice([BRIGHT, MIDDLE, DARK, BRIGHT]))


@pytest.fixture
def board() -> Board:
    return Board()


def recognize(
    bundle: Bundle,
    board: Board,
    levels: Callable[[], Iterator[int]] = bright,
    seconds: float = 60.0,
    changes: dict[int, Budget | None] | None = None,
    **how: object,
) -> tuple[list[Recognition], StreamRecognizer]:
    """All results; ``changes``: budgets that are set before a step."""
    fields = {"meter": board.meter(), "clock": board.clock} | how
    with StreamRecognizer(bundle, "cpu", **fields) as recognizer:  # type: ignore[arg-type]
        results = []
        for result in recognizer.stream(board.pictures(levels(), seconds)):
            results.append(board.draw(result))
            if changes and len(results) in changes:
                recognizer.budget = changes[len(results)]
        return results, recognizer


def mean_w(results: list[Recognition]) -> float:
    """By the meter, of the steps after the first."""
    known = [result.energy_mj for result in results[1:] if result.energy_mj is not None]
    return sum(known) * 1e-3 / ((len(known)) / RATE_HZ)


def test_the_budget_is_kept_and_may_change_while_the_stream_runs(bundle: Bundle, board: Board) -> None:
    """Bright pictures want rgb224, 5 W; the policy's next best is rgb112, 2 W: of 3 W both have a share."""
    changes = {300: Budget(watts=3.0), 600: Budget(watts=10.0)}
    results, _ = recognize(bundle, board, seconds=90, changes=changes, budget=Budget(watts=6.0))
    assert {result.choice for result in results[100:300]} == {"rgb224"}
    assert {result.choice for result in results[400:600]} == {"rgb112", "rgb224"}
    assert {result.choice for result in results[700:900]} == {"rgb224"}
    for part, watts in ((results[100:300], 6.0), (results[400:600], 3.0), (results[700:900], 10.0)):
        assert mean_w(part) <= 1.05 * watts
        assert all(result.budget_met for result in part)
    assert max(result.price for result in results[400:600]) > results[250].price
    assert 2.0 < (results[599].power_w or 0) <= 3.0


def test_results_and_statistics_say_where_the_budget_stands(bundle: Bundle, board: Board) -> None:
    results, recognizer = recognize(bundle, board, mixed, budget=Budget(watts=2.5))
    statistics = recognizer.stats()
    assert statistics.power_w == results[-1].power_w and statistics.power_w is not None
    assert sum(statistics.budget.values()) == pytest.approx(len(results), abs=1)
    assert statistics.learned_mj["rgb224"] == pytest.approx(400, rel=0.3)
    close = [
        result.predicted_mj == pytest.approx(result.energy_mj, abs=60)
        for result in results[300:]
        if result.predicted_mj is not None
    ]
    assert np.mean(close) > 0.6  # a step's own draw is seen at the next one
    json.dumps(results[-1].to_json())


def test_a_meter_that_falls_silent_is_said(bundle: Bundle, board: Board) -> None:
    meter, seen = board.meter(), []
    with StreamRecognizer(
        bundle, "cpu", meter=meter, clock=board.clock, budget=Budget(watts=3.0)
    ) as recognizer:
        for result in recognizer.stream(board.pictures(bright(), 40)):
            seen.append(board.draw(result))
            board.silent = len(seen) > 200
    last = seen[-1]
    assert last.energy_mj is None and "it gave None" in str(last.energy_problem)
    assert last.budget_met is None and last.budget_problem == "the power is not known"
    assert {result.choice for result in seen[250:]} == {"rgb112"}


def test_throttled_steps_run_nothing(bundle: Bundle, board: Board) -> None:
    """The device alone draws 1 W: of 1.01 W nothing is left for the policy's second-best at every step."""
    results, recognizer = recognize(bundle, board, seconds=40, budget=Budget(watts=0.9))
    throttled = [
        result for result in results if result.choice == "throttled" and result.latency_ms.policy == 0
    ]
    assert len(throttled) > 200 and all(result.budget_met is False for result in throttled[100:])
    runs = recognizer.stats().graph_runs
    assert runs["policy"] < 60


def test_decisions_can_be_made_again(bundle: Bundle, board: Board, tmp_path: Path) -> None:
    path = tmp_path / "decisions.jsonl"
    changes = {150: Budget(watts=2.0, latency_ms=500), 300: None, 350: Budget(watts=1.0)}
    with DecisionLog(path, {"source": "a film"}) as log:
        results, _ = recognize(
            bundle, board, mixed, 50, changes, budget=Budget(watts=3.0), log=log, price=0.1
        )
    steps = list(replay(path))
    assert len(steps) == len(results) and all(step.same for step in steps)
    assert [step.replayed[1] for step in steps] == [result.choice for result in results]
    assert len({step.replayed[0] for step in steps}) > 8, "the price moved"
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert lines[0]["source"] == "a film" and lines[1]["chooser"] == "learned"
    assert lines[2] == {"stream": True, "began_s": 0.0, "energy_j": 0.0}
    assert lines[-1] == {"end": True, "steps": len(results)} and not breaks_off(path)
    step = lines[-2]
    for name in (
        "scores",
        "price",
        "choice",
        "energy_mj",
        "predicted_mj",
        "power_w",
        "dropped",
        "budget_met",
    ):
        assert name in step


def test_several_streams_in_one_log(bundle: Bundle, board: Board, tmp_path: Path) -> None:
    path = tmp_path / "decisions.jsonl"
    clip = encode(tmp_path / "clip.mp4", [BRIGHT] * 30 + [DARK] * 30)
    with (
        DecisionLog(path) as log,
        StreamRecognizer(bundle, "cpu", meter=board.meter(), clock=board.clock, log=log) as recognizer,
    ):
        first = recognizer.recognize(clip)
        second = recognizer.recognize(clip)
    assert [step.replayed[1] for step in replay(path)] == [
        result.choice for clip in (first, second) for result in clip.recognitions
    ]
    assert all(step.same for step in replay(path))


def test_an_altered_log_is_told_apart(bundle: Bundle, board: Board, tmp_path: Path) -> None:
    path = tmp_path / "decisions.jsonl"
    with DecisionLog(path) as log:
        recognize(bundle, board, mixed, 10, budget=Budget(watts=3.0), log=log)
    lines = path.read_text().splitlines()
    place = next(i for i, line in enumerate(lines) if i > 20 and json.loads(line)["choice"] == ["rgb112"])
    altered = json.loads(lines[place]) | {"choice": ["rgb84"]}
    path.write_text("\n".join([*lines[:place], json.dumps(altered), *lines[place + 1 :]]) + "\n")
    differing = [step for step in replay(path) if not step.same]
    assert differing and differing[0].logged[1] == "rgb84"
    path.write_text("\n".join(lines[:-20] + lines[-1:]) + "\n")
    with pytest.raises(AdaptiveVideoError, match=r"is damaged: \d+ of its 100 steps are there"):
        list(replay(path))


def test_a_log_without_its_end_is_told_apart(bundle: Bundle, board: Board, tmp_path: Path) -> None:
    path = tmp_path / "decisions.jsonl"
    with DecisionLog(path) as log:
        recognize(bundle, board, seconds=2, log=log)
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:-1]))
    assert breaks_off(path) and len(list(replay(path))) == 20


def test_a_log_that_is_not_entered_is_refused(bundle: Bundle, tmp_path: Path) -> None:
    with pytest.raises(AdaptiveVideoError, match="is not entered; use it as a context manager"):
        StreamRecognizer(bundle, "cpu", log=DecisionLog(tmp_path / "decisions.jsonl"))


def test_a_log_is_replaced_when_a_stream_begins(bundle: Bundle, board: Board, tmp_path: Path) -> None:
    path = tmp_path / "decisions.jsonl"
    path.write_text("an older log")
    with pytest.raises(AdaptiveVideoError, match="device npu"), DecisionLog(path) as log:
        StreamRecognizer(bundle, "npu", log=log)
    assert path.read_text() == "an older log"
    with DecisionLog(path) as log:
        recognize(bundle, board, seconds=1, log=log)
    assert path.read_text().startswith('{"decision_log": 9')


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "is not a decision log"),
        ("{}\n", "is not a decision log"),
        ('{"decision_log": 99}\n', "has format 99, and 9 is known here"),
        ('{"decision_log": 9}\n{"chooser": "fixed"}\n', "its choices were fixed"),
        ('{"decision_log": 9}\n{"chooser": "learned"}\n', r"is damaged: 'action_space' is missing"),
        ('{"decision_log": 9}\nnonsense\n', "line 2: is not JSON"),
        ('{"decision_log": 9}\n{"cut', "line 2: is cut off; the stream was interrupted: delete that line"),
        ('{"decision_log": 9}\n[]\n', "line 2: is not a JSON object"),
        ('{"decision_log": 9}\n', "has no steps"),
    ],
)
def test_what_is_no_log(text: str, complaint: str, tmp_path: Path) -> None:
    path = tmp_path / "decisions.jsonl"
    path.write_text(text)
    with pytest.raises(AdaptiveVideoError, match=complaint):
        list(replay(path))


@pytest.mark.parametrize(
    ("field", "value", "complaint"),
    [
        ("scores", [1, 2], r"line 41: is damaged: its scores are not \d+ numbers"),
        ("scores", [float("nan")] * 7, r"its scores are not \d+ numbers"),
        ("scores", "x", "line 41: is damaged"),
        ("energy_j", "abc", "a value is of another type than it should be"),
        ("choice", ["rgb999"], "option rgb999 is unknown"),
    ],
)
def test_a_damaged_step_is_named(
    field: str, value: object, complaint: str, bundle: Bundle, board: Board, tmp_path: Path
) -> None:
    path = tmp_path / "decisions.jsonl"
    with DecisionLog(path) as log:
        recognize(bundle, board, mixed, 10, budget=Budget(watts=3.0), log=log)
    lines = path.read_text().splitlines()
    lines[40] = json.dumps(json.loads(lines[40]) | {field: value})
    path.write_text("\n".join(lines) + "\n")
    with pytest.raises(AdaptiveVideoError, match=complaint):
        list(replay(path))


def test_logs_that_cannot_be_read_or_written(tmp_path: Path) -> None:
    with pytest.raises(AdaptiveVideoError, match="cannot be read"):
        list(replay(tmp_path / "nothing"))
    with pytest.raises(AdaptiveVideoError, match="cannot be written"), DecisionLog(tmp_path / "no" / "log"):
        pass
    (tmp_path / "picture").write_bytes(bytes([0xFF, 0xFE, 0x80]))
    with pytest.raises(AdaptiveVideoError, match="is not text"):
        list(replay(tmp_path / "picture"))


@pytest.mark.parametrize(
    ("how", "complaint"),
    [
        ({"fixed": "rgb224"}, "the choice is fixed here; leave fixed and random_seed out"),
        ({"random_seed": 1}, "the choice is random here"),
        ({"budget": "5W"}, "budget '5W': is no Budget; give Budget"),
        ({"meter": None}, "needs a meter, and none was given"),
    ],
)
def test_budgets_that_cannot_be_kept_here(
    how: dict[str, object], complaint: str, bundle: Bundle, board: Board
) -> None:
    with pytest.raises(BudgetError, match=complaint):
        fields = {"meter": board.meter(), "budget": Budget(watts=3)} | how
        StreamRecognizer(bundle, "cpu", **fields)  # type: ignore[arg-type]


def test_sensors_that_are_not_there(bundle: Bundle, board: Board, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sdk.streaming.energy_accounting.find_thermometer", lambda: None)
    monkeypatch.setattr("sdk.streaming.energy_accounting.find_battery", lambda: None)
    with StreamRecognizer(bundle, "cpu", meter=board.meter()) as recognizer:
        with pytest.raises(BudgetError, match="this machine shows no temperature; give thermometer="):
            recognizer.budget = Budget(thermal_c=70)
        with pytest.raises(BudgetError, match="this machine shows no battery; give battery="):
            recognizer.budget = Budget(battery_hours=2)
        assert recognizer.budget is None
        recognizer.budget = Budget(watts=3)
        with pytest.raises(AdaptiveVideoError, match="price: the budget sets it"):
            recognizer.price = 1.0


def test_the_apps_own_sensors_are_read(bundle: Bundle, board: Board) -> None:
    results, _ = recognize(
        bundle, board, budget=Budget(thermal_c=50), seconds=60, thermometer=lambda: 30 + 8 * mean_power(board)
    )
    assert results[-1].price > 0 and results[-1].power_w is not None


def unplugged() -> float:
    raise OSError("it was unplugged")


SILENCE = [unplugged, lambda: float("nan"), lambda: float("inf"), lambda: "hot", lambda: None, lambda: True]


@pytest.mark.parametrize("reading", SILENCE)
@pytest.mark.parametrize(
    ("budget", "sensor", "problem"),
    [
        (Budget(thermal_c=50), "thermometer", "the temperature is not known"),
        (Budget(battery_hours=2), "battery", "what the battery holds is not known"),
    ],
)
def test_a_sensor_that_says_nothing_is_named(
    bundle: Bundle, board: Board, budget: Budget, sensor: str, problem: str, reading: Callable[[], object]
) -> None:
    results, _ = recognize(bundle, board, budget=budget, seconds=3, **{sensor: reading})
    assert {(result.budget_met, result.budget_problem) for result in results} == {(None, problem)}


def test_a_reading_of_numpys_may_be_logged(bundle: Bundle, board: Board, tmp_path: Path) -> None:
    path = tmp_path / "decisions.jsonl"
    with DecisionLog(path) as log:
        recognize(
            bundle, board, seconds=3, budget=Budget(thermal_c=50), log=log, thermometer=lambda: np.float32(30)
        )
    assert all(step.same for step in replay(path))


def mean_power(board: Board) -> float:
    return board.used_j / max(board.now_s, 1.0)


@pytest.mark.parametrize("before", [None, Budget(watts=6.0)], ids=["no budget", "another budget"])
@pytest.mark.parametrize("set_s", [0.0, 0.06], ids=["after a result", "between two steps"])
def test_power_is_energy_since_the_budget_was_set_over_time_since(
    bundle: Bundle, board: Board, before: Budget | None, set_s: float
) -> None:
    expected: list[float] = []

    def pictures() -> Iterator[tuple[NDArray[np.uint8], float]]:
        for number in range(70):
            board.now_s, board.used_j = board.now_s + set_s, board.used_j + set_s
            if number == 40:
                recognizer.budget = Budget(watts=3.0)
                mark.extend((board.now_s, board.used_j))
            board.now_s, board.used_j = board.now_s + 0.1 - set_s, board.used_j + 0.1 - set_s
            yield flat(BRIGHT), number / RATE_HZ

    mark: list[float] = []
    with StreamRecognizer(bundle, "cpu", meter=board.meter(), clock=board.clock, budget=before) as recognizer:
        results = []
        for result in recognizer.stream(pictures()):
            if mark:
                expected.append((board.used_j - mark[1]) / (board.now_s - mark[0]))
            results.append(board.draw(result))
    after = results[40:]
    assert len(after) == len(expected)
    early = [result for result in after if result.power_w is None]
    assert 9 <= len(early) <= 11
    assert {(result.budget_met, result.budget_problem) for result in early} == {
        (None, "the power is not known yet")
    }
    known = [(result.power_w, watts) for result, watts in zip(after, expected, strict=True)][len(early) :]
    assert [power_w for power_w, _ in known] == pytest.approx([watts for _, watts in known])
