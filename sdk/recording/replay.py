"""Making the choices of a log of decisions again, and comparing: by the same scores, readings and budgets."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from runtimes.spec import ActionSpace, OperatingFront, Option, PriceResponse
from sdk.budget.budget import Budget, BudgetError
from sdk.budget.controller import BudgetController
from sdk.budget.metered_energy import MeterMark
from sdk.budget.point_levels import PointLevels
from sdk.budget.power_level import PowerLevels
from sdk.budget.power_limit import Readings
from sdk.budget.price_levels import PriceLevels
from sdk.decisions.choosers import LEARNED, Chooser, LearnedChoice
from sdk.decisions.decision import Decision, Observation, Plan
from sdk.decisions.decision_loop import DecisionLoop
from sdk.decisions.option_costs import net_costs
from sdk.decisions.points.front_choice import FrontChoice
from sdk.decisions.points.schedule_choice import SCHEDULE
from sdk.decisions.trace import StepTrace
from sdk.decisions.watch import StreamWatch, Watch
from sdk.errors import RecordingError
from sdk.media.signals.signals import Signals
from sdk.recording.decision_log import FORMAT


@dataclass(frozen=True, slots=True)
class ReplayedStep:
    """One step as it was logged and as it was decided again: its price or operating point, and its choice."""

    step: int
    time_s: float
    logged: tuple[float | str, str]
    replayed: tuple[float | str, str]

    @property
    def same(self) -> bool:
        """Whether price or point, and choice are the same, to the last bit."""
        return self.logged == self.replayed


def replay(path: str | Path) -> Iterator[ReplayedStep]:
    """Decide each step of the log at ``path`` again; one that an interruption broke off, as far as it goes.

    Raises: AdaptiveVideoError if the file is not a log, is damaged, or is one of choices that were fixed
    or random.
    """
    path = Path(path)
    lines = _lines(path)
    _require_log(path, next(lines, (1, {}))[1])
    number, begin = next(lines, (0, {}))
    if not number:
        raise RecordingError(path, "has no steps", "log the stream again")
    with _reading(path, number):
        replaying = _Replay(begin)
    for number, line in lines:
        with _reading(path, number):
            step = replaying.take(line)
        if step is not None:
            yield step


def breaks_off(path: str | Path) -> bool:
    """Whether the log at ``path`` lacks its end: what wrote it was killed. Raises: RecordingError."""
    ended = False
    for _, line in _lines(Path(path)):
        ended = "end" in line
    return not ended


@contextmanager
def _reading(path: Path, number: int) -> Iterator[None]:
    """While a line is read. Raises: AdaptiveVideoError that names it, if it is not as a log's lines are."""
    try:
        yield
    except (LookupError, TypeError, ValueError, AttributeError, BudgetError) as error:
        thing, reason = f"{path}, line {number}", f"is damaged: {_wrong(error)}"
        raise RecordingError(thing, reason, "log the stream again") from None


def _wrong(error: Exception) -> str:
    """What is wrong with a line, in a few words."""
    if isinstance(error, ValidationError):
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        return f"{place}: {first['msg']}" if place else "a part of it is not an object"
    if isinstance(error, KeyError):
        return f"{error} is missing"
    if isinstance(error, TypeError | AttributeError):
        return "a value is of another type than it should be"
    return " ".join(str(error).split())[:100]


class _Replay:
    """A chooser and a controller as the stream had them, fed with what is logged."""

    def __init__(self, begin: Mapping[str, Any]) -> None:
        if begin["chooser"] not in (LEARNED, SCHEDULE):
            raise RecordingError(
                "log", f"its choices were {begin['chooser']}", "there is nothing to decide again"
            )
        space = ActionSpace.model_validate(begin["action_space"])
        self._options = {option.name: option for option in space.options}
        costs = begin["run_costs"]
        run_costs = np.zeros(1 + len(space.options)) if costs is None else np.array(costs)
        chooser: Chooser = LearnedChoice(space, net_costs(space, run_costs))
        response = begin["response"] and PriceResponse.model_validate(begin["response"])
        levels: PowerLevels = PriceLevels(space, response)
        self._standing = chooser.standing_plan
        if begin["front"] is not None:
            front = OperatingFront.model_validate(begin["front"])
            graph, steps = begin["policy_graph"], int(begin["clip_steps"])
            chooser = FrontChoice(space, net_costs(space, run_costs), front, steps, graph)
            levels = PointLevels(space, front, steps, graph)
        self._budget: Budget | None = None
        self._controller: BudgetController | None = None
        if costs is not None:
            run_ms, known = np.array(begin["run_ms"]), bool(begin["known_energies"])
            self._controller = BudgetController(space, run_costs, run_ms, known_energies=known, levels=levels)
        self._loop = DecisionLoop(chooser)
        self._steps = 0

    def take(self, line: Mapping[str, Any]) -> ReplayedStep | None:
        """The step of a line, if it is one."""
        if "stream" in line:
            self._loop.reset()
            if self._controller is not None:
                self._controller.begin_stream(line["began_s"], line["energy_j"])
        elif "expected_steps" in line:
            self._loop.expect_steps(line["expected_steps"])
            if self._controller is not None:
                self._controller.expect_steps(line["expected_steps"])
        elif "watch" in line:
            watch = StreamWatch(Watch(**line["watch"]), float(line["rate_hz"]))
            self._loop = DecisionLoop(self._loop.chooser, watch)
        elif "absent_graphs" in line:
            self._loop.chooser.set_absent_graphs(line["absent_graphs"])
            if self._controller is not None:
                self._controller.set_absent_graphs(line["absent_graphs"])
        elif "end" in line:
            if line["steps"] != self._steps:
                raise ValueError(f"{self._steps} of its {line['steps']} steps are there")
        else:
            self._steps += 1
            return self._step(line)
        return None

    def _step(self, line: Mapping[str, Any]) -> ReplayedStep:
        if line["restarted"]:
            self._loop.restart()
        plan = self._plan(line)
        scores = None if line["scores"] is None else self._scores(line["scores"])
        options = tuple(map(self._option, line["choice"]))
        held = {name: line[name] for name in ("held", "throttled", "asleep")}
        logged = Decision(options, **held)
        signals = Signals(**line.get("signals", {}))
        answer = None if line["answer"] is None else np.array(line["answer"], np.float64)
        decision = self._decide(plan, Observation(scores, line["absent_views"]), answer, signals)
        if self._controller is not None:
            carried_out = replace(decision, options=logged.options, throttled=plan.throttled)
            times = line["policy_ms"], tuple(line["option_ms"]), line["step_ms"]
            trace = StepTrace(carried_out, scores, line["absent_views"], *times, plan.point)
            self._controller.observe_step(line["done_s"], line["energy_j"], trace)
        by = line["point"] or line["price"], plan.point or plan.price
        return ReplayedStep(line["step"], line["time_s"], (by[0], logged.name), (by[1], decision.name))

    def _decide(
        self,
        plan: Plan,
        observation: Observation,
        answer: NDArray[np.float64] | None,
        signals: Signals,
    ) -> Decision:
        """The decision by a step's logged scores; a policy runs nothing where none were logged."""
        if observation.scores is None and plan.point is None:
            plan = replace(plan, throttled=True)
        return self._loop.decide(observation, plan, answer, signals)

    def _scores(self, logged: Any) -> NDArray[np.float64]:
        scores = np.array(logged, np.float64)
        if scores.shape != (len(self._options),) or not np.isfinite(scores).all():
            raise ValueError(f"its scores are not {len(self._options)} numbers")
        return scores

    def _option(self, name: str) -> Option:
        if name not in self._options:
            raise ValueError(f"option {name} is unknown")
        return self._options[name]

    def _plan(self, line: Mapping[str, Any]) -> Plan:
        """The plan as it was: the controller's under a budget, else the app's price or point."""
        if "app_price" in line:
            self._standing = replace(self._standing, price=line["app_price"], point=line["app_point"])
        if "budget" in line:
            self._budget = None if line["budget"] is None else Budget(**line["budget"])
        elif self._budget is None and "app_price" not in line:
            self._standing = replace(self._standing, price=line["price"], point=line["point"])
        if self._controller is None:
            return self._standing
        readings = Readings(line["temperature_c"], line["battery_j"])
        since = MeterMark(**line["since"]) if "budget" in line else None
        return self._controller.plan_step(line["planned_s"], self._budget, self._standing, readings, since)


def _require_log(path: Path, first: Mapping[str, Any]) -> None:
    if "decision_log" not in first:
        raise RecordingError(path, "is not a decision log", "name a file that adaptive-run --log wrote")
    if first["decision_log"] != FORMAT:
        reason = f"has format {first['decision_log']}, and {FORMAT} is known here"
        raise RecordingError(path, reason, "replay it with the version that wrote it")


def _lines(path: Path) -> Iterator[tuple[int, Mapping[str, Any]]]:
    """The log's lines with their numbers."""
    try:
        with path.open(encoding="utf-8") as file:
            for number, text in enumerate(file, start=1):
                yield number, _parsed(path, number, text)
    except OSError as error:
        raise RecordingError(path, f"cannot be read ({error.strerror})", "check the path") from None
    except UnicodeDecodeError:
        raise RecordingError(path, "is not text", "name a file that adaptive-run --log wrote") from None


def _parsed(path: Path, number: int, text: str) -> Mapping[str, Any]:
    try:
        line = json.loads(text)
    except ValueError:
        reason = "is cut off" if not text.endswith("\n") else "is not JSON"
        fix = "the stream was interrupted: delete that line" if reason == "is cut off" else "log it again"
        raise RecordingError(f"{path}, line {number}", reason, fix) from None
    if not isinstance(line, dict):
        raise RecordingError(f"{path}, line {number}", "is not a JSON object", "log the stream again")
    return line
