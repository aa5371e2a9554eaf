"""The power that a budget leaves now: its own watts, what the battery's life asks for, what keeps cool."""

from __future__ import annotations

from dataclasses import dataclass

from sdk.budget.budget import Budget

_THERMAL_GAIN = 0.04
_THERMAL_RATE = 0.002
"""Of the allowed power, per degree of headroom; and per degree and second."""
_SHARPEST_CUT = 0.2
"""The thermal allowance never falls below this share of the power that the device uses unhindered."""


@dataclass(frozen=True, slots=True)
class Readings:
    """Temperature (degrees Celsius) and energy left in the battery (J); None where not known."""

    temperature_c: float | None = None
    battery_j: float | None = None


class PowerLimit:
    """The watts that a budget leaves: its own, what the battery's life asks for, and what keeps cool."""

    def __init__(self, budget: Budget, now_s: float) -> None:
        self._budget = budget
        self._ends_s = None if budget.battery_hours is None else now_s + 3600 * budget.battery_hours
        self._thermal_w: float | None = None
        self._last_s = now_s
        self._readings = Readings()

    def watts(self, now_s: float, used_w: float, readings: Readings) -> float | None:
        """What may be used on average from now on; None for no limit. ``used_w``: the power used of late."""
        self._readings = readings
        parts = [self._budget.watts, self._for_the_battery(now_s), self._for_the_heat(now_s, used_w)]
        given = [part for part in parts if part is not None]
        return min(given) if given else None

    @property
    def unknown(self) -> str | None:
        """What is limited and not known now."""
        if self._budget.thermal_c is not None and self._readings.temperature_c is None:
            return "the temperature"
        if self._budget.battery_hours is not None and self._readings.battery_j is None:
            return "what the battery holds"
        return None

    @property
    def too_hot_c(self) -> float | None:
        """The temperature, if it is more than two degrees above what is allowed."""
        limit_c, now_c = self._budget.thermal_c, self._readings.temperature_c
        return now_c if limit_c is not None and now_c is not None and now_c > limit_c + 2.0 else None

    def _for_the_battery(self, now_s: float) -> float | None:
        if self._ends_s is None:
            return None
        left_s, left_j = self._ends_s - now_s, self._readings.battery_j
        if left_j is None or left_s <= 0:  # it has lasted as long as it was to
            return None
        return left_j / left_s

    def _for_the_heat(self, now_s: float, used_w: float) -> float | None:
        """Proportional and integral in the power's logarithm, from what was used when the limit came near.

        Well below the limit nothing is cut, and what was learned of the limit's power is forgotten.
        """
        limit_c, now_c = self._budget.thermal_c, self._readings.temperature_c
        elapsed_s, self._last_s = now_s - self._last_s, now_s
        if limit_c is None or now_c is None:
            return self._thermal_w
        headroom_c = limit_c - now_c
        if self._thermal_w is None:
            if headroom_c > 5.0:
                return None
            self._thermal_w = used_w
        self._thermal_w *= 1 + max(-0.5, min(0.5, _THERMAL_RATE * headroom_c * elapsed_s))
        # What is not used is no sign of what is allowed: the integral stays near what is really drawn.
        self._thermal_w = max(_SHARPEST_CUT * used_w, min(self._thermal_w, 2.0 * used_w))
        return self._thermal_w * max(0.2, min(2.0, 1 + _THERMAL_GAIN * headroom_c))
