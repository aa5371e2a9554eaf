"""The log of decisions: each step's scores, price, choice, costs, power and drops, as JSON lines.

It holds all that the choices depended on, to the last bit, so that they can be made again without the
bundle, the source or the device (replay.py). The first line says where it comes from, the second what
there was to choose from; ``stream`` lines begin a stream, ``expected_steps`` lines say how long a clip is,
``absent_graphs`` lines which graphs are not there, a ``watch`` line what lets it sleep, and an ``end`` line
comes last; all others are steps.
"""

from __future__ import annotations

import json
import platform
import sys
from collections.abc import Collection, Mapping
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TextIO

import numpy as np
from numpy.typing import NDArray

from runtimes.errors import ArgumentError, OutputError
from runtimes.outputs import require_writable
from runtimes.spec import Variant
from sdk.budget.budget import Budget
from sdk.budget.metered_energy import MeterMark
from sdk.budget.power_limit import Readings
from sdk.decisions.choosers import Chooser
from sdk.decisions.decision import Plan
from sdk.decisions.points.front_choice import FrontChoice
from sdk.decisions.trace import StepTrace
from sdk.decisions.watch import Watch
from sdk.errors import redact, redact_all
from sdk.power.window import StepEnergy
from sdk.results import Recognition

FORMAT = 9
_EXAMPLE = "decisions.jsonl"


class DecisionLog:
    """Writes JSON lines to a file, each at once: an interrupted stream's log is whole up to its last step. ::

        with DecisionLog("decisions.jsonl") as log, StreamRecognizer("demo.bundle", log=log) as recognizer:
            list(recognizer.stream("clip.mp4"))
        differing = [step for step in replay("decisions.jsonl") if not step.same]

    A context manager; once entered, give it to one recognizer. A file that is there already is replaced at
    the first step: a stream that never begins changes nothing. Credentials are never written: in every
    address, also in the command that runs, they are ``***``.
    """

    def __init__(self, path: str | Path, about: Mapping[str, Any] | None = None) -> None:
        """``about``: what else the first line is to say, such as the source."""
        self._path = Path(path)
        self._file: TextIO | None = None
        self._waiting: list[str] = []
        self._steps = 0
        self._entered = False
        self._about = {
            "decision_log": FORMAT,
            "command": " ".join(sys.argv),
            "versions": {name: version(name) for name in ("adaptive-video", "numpy")},
            "python": platform.python_version(),
            **(about or {}),
        }
        self._budget: Budget | None = None
        self._app: tuple[float, str | None] | None = None
        self._planned: dict[str, Any] = {}

    def write_options(
        self,
        chooser: Chooser,
        variant: Variant,
        run_costs: NDArray[np.float64] | None,
        run_ms: NDArray[np.float64] | None,
        known_energies: bool,
    ) -> None:
        """What there is to choose from, and by which costs."""
        along = chooser if isinstance(chooser, FrontChoice) else None
        self._write(
            {
                "chooser": chooser.kind,
                "front": None if along is None else along.front.model_dump(mode="json"),
                "clip_steps": None if along is None else along.clip_steps,
                "policy_graph": None if variant.policy is None else variant.policy.graph,
                "action_space": variant.action_space.model_dump(mode="json"),
                "response": None if variant.response is None else variant.response.model_dump(mode="json"),
                "run_costs": None if run_costs is None else run_costs.tolist(),
                "run_ms": None if run_ms is None else run_ms.tolist(),
                "known_energies": known_energies,
            }
        )

    def write_watch(self, watch: Watch, rate_hz: float) -> None:
        """A watch lets the stream sleep; it has so many steps a second."""
        self._write({"watch": asdict(watch), "rate_hz": rate_hz})

    def write_stream_start(self, now_s: float, energy_j: float | None) -> None:
        """A stream begins, at the meter's reading ``energy_j``."""
        self._write({"stream": True, "began_s": now_s, "energy_j": energy_j})

    def write_expected_steps(self, steps: int | None) -> None:
        """The stream that has begun is a clip of so many steps."""
        self._write({"expected_steps": steps})

    def write_absent_graphs(self, absent: Collection[str]) -> None:
        """From here on these graphs are not there."""
        self._write({"absent_graphs": sorted(absent)})

    def note_plan(
        self, now_s: float, readings: Readings, budget: Budget | None, standing: Plan, since: MeterMark
    ) -> None:
        """What was known when a step was due; ``standing``: without a budget, ``since``: when it was set."""
        self._planned = {"planned_s": now_s, **asdict(readings)}
        if budget is not self._budget:
            self._budget = budget
            self._planned["budget"] = None if budget is None else asdict(budget)
            self._planned["since"] = asdict(since)
        if (standing.price, standing.point) != self._app:  # an app may move it under a budget of latency too
            self._app = standing.price, standing.point
            self._planned["app_price"], self._planned["app_point"] = self._app

    def write_step(
        self, now_s: float, energy: StepEnergy | None, trace: StepTrace, recognition: Recognition
    ) -> None:
        """A step's decision, and what came of it. Raises: OutputError if the file cannot be written."""
        result = recognition
        self._open()
        self._steps += 1
        self._write(
            {
                **self._planned,
                "step": result.step,
                "time_s": result.time_s,
                "scores": None if trace.scores is None else trace.scores.tolist(),
                "allow_skip": trace.decision.allow_skip,
                "absent_views": sorted(trace.absent_views),
                "price": trace.decision.price,
                "point": trace.point,
                "answer": None if trace.point is None or trace.answer is None else trace.answer.tolist(),
                **({} if trace.signals is None else {"signals": trace.signals._asdict()}),
                "choice": [option.name for option in trace.decision.options],
                "held": trace.decision.held,
                "asleep": trace.decision.asleep,
                "throttled": trace.decision.throttled,
                "restarted": result.restarted,
                "policy_ms": trace.policy_ms,
                "option_ms": trace.option_ms,
                "step_ms": trace.step_ms,
                "done_s": now_s,
                "energy_j": None if energy is None else energy.total_j,
                "energy_mj": result.energy_mj,
                "predicted_mj": result.predicted_mj,
                "power_w": result.power_w,
                "budget_met": result.budget_met,
                "budget_problem": result.budget_problem,
                "label": result.label,
                "score": result.score,
                "dropped": result.dropped,
                "modalities": dict(result.modalities),
            }
        )

    def __enter__(self) -> Self:
        """Raises: OutputError if the file cannot be written."""
        require_writable(self._path, _EXAMPLE)
        self._entered = True
        self._write(self._about)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._file is None and kind is not None:
            return
        self._write({"end": True, "steps": self._steps})
        self._open().close()

    def _open(self) -> TextIO:
        """The file, with all that was to be written so far."""
        if self._file is None:
            try:
                self._file = self._path.open("w", buffering=1, encoding="utf-8")
            except OSError as error:
                reason = f"cannot be written: {(error.strerror or 'unknown error').lower()}"
                raise OutputError(self._path, reason, f"name a file like {_EXAMPLE} elsewhere") from None
            self._file.writelines(self._waiting)
            self._waiting.clear()
        return self._file

    def _write(self, line: Mapping[str, Any]) -> None:
        if not self._entered:
            fix = "use it as a context manager: with DecisionLog(path) as log"
            raise ArgumentError(f"log {self._path}", "is not entered", fix)
        text = json.dumps(line)
        if redact(text) != text:  # rare, and found at once: a line of a step has no address in it
            text = json.dumps(redact_all(line))
        if self._file is None:
            self._waiting.append(text + "\n")
        else:
            self._file.write(text + "\n")
