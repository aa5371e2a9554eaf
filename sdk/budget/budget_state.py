"""Whether a budget is met, and what is wrong if it is not."""

from __future__ import annotations

from dataclasses import dataclass

from sdk.budget.metered_energy import SPAN_S, RecentPower
from sdk.budget.power_limit import PowerLimit

_MET = 1.05
_JUDGED_AFTER_S = 3.0
_LATE = 0.12
"""Share of late steps above which a latency budget is not met: two of the last twenty or so are."""


@dataclass(frozen=True, slots=True)
class BudgetState:
    """Where a budget stands after a step.

    ``power_w``: average since the budget was set, of the last 30 s at most, None in the first second and
    where it is not known.
    ``met``: whether the budget holds and no step is throttled for it, None where that is not known, as in the
    first second of a limited power. ``why``: what is wrong, if anything is. ``predicted_mj``: what the time
    since the step before was expected to take, None where nothing is known.
    """

    power_w: float | None
    met: bool | None
    why: str | None
    predicted_mj: float | None


@dataclass(frozen=True, slots=True)
class Standing:
    """What a budget is judged by: the watts that it leaves now, if it limits any, and what is used of it.

    ``latency_ms``: the limit of a step's time, if there is one; ``late``: the share of the last steps that
    took longer. ``unmetered``: the meter says nothing.
    """

    limit: PowerLimit
    watts: float | None
    power: RecentPower
    throttled: bool
    latency_ms: float | None
    late: float
    unmetered: bool

    def judge(self) -> tuple[bool | None, str | None]:
        """Whether the budget is met, and what is wrong if it is not, or why that is not known."""
        wrong = self._wrong()
        if wrong:
            return False, ", ".join(wrong)
        unknown = self.limit.unknown
        if unknown is None and self.watts is not None and self.unmetered:
            unknown = "the power"
        if unknown is not None:
            return None, f"{unknown} is not known"
        if self.watts is not None and self.power.seconds < SPAN_S:
            return None, "the power is not known yet"
        return True, None

    def _wrong(self) -> list[str]:
        wrong = ["steps are throttled"] if self.throttled else []
        used_w = self.power.watts if self.power.seconds >= _JUDGED_AFTER_S else None
        if self.watts is not None and used_w is not None and used_w > _MET * self.watts:
            wrong.append(f"{used_w:.2f} W where {self.watts:.2f} W are allowed")
        if self.latency_ms is not None and self.late > _LATE:
            wrong.append(f"steps take longer than {self.latency_ms:g} ms")
        if self.limit.too_hot_c is not None:
            wrong.append(f"{self.limit.too_hot_c:.1f} °C")
        return wrong
