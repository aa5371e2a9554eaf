"""What a decision trace has to be like to be decided again: its fields, and what a step may not lack."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    FiniteFloat,
    ValidationError,
    model_validator,
)

from runtimes.spec import ActionSpace, Fusion
from sdk.errors import RecordingError
from sdk.results import HELD, NOTHING

FORMAT = 1
_FIX = "trace the stream again"


def _some(values: list[float]) -> list[float]:
    if not values:
        raise ValueError("is empty")
    return values


_Numbers = Annotated[list[FiniteFloat], AfterValidator(_some)]


class TraceStep(BaseModel):
    """One step, see docs/decision_trace.md; what is not needed to decide again is not read."""

    model_config = ConfigDict(frozen=True)

    absent_views: tuple[str, ...]
    price: Annotated[FiniteFloat, Field(ge=0)]
    scores: _Numbers | None
    choice: str
    logits: dict[str, _Numbers]
    fused: _Numbers | None


class Trace(BaseModel):
    """A decision trace whose parts fit together."""

    model_config = ConfigDict(frozen=True)

    labels: Annotated[tuple[str, ...], Field(min_length=1)]
    action_space: ActionSpace
    fusion: Fusion
    costs: list[FiniteFloat]
    steps: Annotated[tuple[TraceStep, ...], Field(min_length=1)]

    @model_validator(mode="after")
    def _check(self) -> Self:
        """Raises: ValueError if a list is not of its length, or a step lacks scores or logits."""
        if len(self.costs) != len(self.action_space.options):
            raise ValueError(f"has {len(self.costs)} costs of {len(self.action_space.options)} options")
        answered = False
        for number, step in enumerate(self.steps):
            ran = self._ran(number, step)
            answered = answered or bool(ran)
            self._check_step(number, step, ran, answered)
        return self

    def _ran(self, number: int, step: TraceStep) -> set[str]:
        """The options that a step's choice says to have run."""
        options = {option.name: option for option in self.action_space.options}
        names = [] if step.choice in (HELD, NOTHING) else step.choice.split("+")
        unknown = next((name for name in names if name not in options), None)
        if unknown is not None:
            raise ValueError(f"step {number}: option {unknown} is unknown")
        return {name for name in names if options[name].graph is not None}

    def _check_step(self, number: int, step: TraceStep, ran: set[str], answered: bool) -> None:
        lengths = {name: (len(logits), len(self.labels)) for name, logits in step.logits.items()}
        if step.scores is None and step.choice != HELD:
            raise ValueError(f"step {number}: has no scores")
        if step.scores is not None:
            lengths["the scores"] = len(step.scores), len(self.costs)
        if set(step.logits) != ran:
            first = sorted(set(step.logits) ^ ran)[0]
            wrong = "has no logits of" if first in ran else "has logits, and did not run,"
            raise ValueError(f"step {number}: {wrong} {first}")
        if (step.fused is not None) != answered:
            raise ValueError(f"step {number}: fused scores {'are missing' if answered else 'come too early'}")
        if step.fused is not None:
            lengths["the fused scores"] = len(step.fused), len(self.labels)
        for what, (has, needs) in lengths.items():
            if has != needs:
                raise ValueError(f"step {number}: {what}: {has} numbers instead of {needs}")


def read_trace(trace: Mapping[str, Any]) -> Trace:
    """The parts of a trace, checked. Raises: RecordingError if it is of another format or malformed."""
    if not isinstance(trace, Mapping):
        raise RecordingError("decision trace", "is not a JSON object", _FIX)
    if trace.get("decision_trace") != FORMAT:
        reason = f"has format {trace.get('decision_trace')}, and {FORMAT} is known here"
        raise RecordingError("decision trace", reason, _FIX)
    try:
        return Trace.model_validate(dict(trace))
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        message = first["msg"].removeprefix("Value error, ")
        reason = f"is malformed: {place}: {message}" if place else f"is malformed: {message}"
        raise RecordingError("decision trace", reason, _FIX) from None
