"""The budget that an app sets: power, latency, temperature, battery life, or any of them together."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, fields
from typing import Self

from runtimes.errors import AdaptiveVideoError

_PART = re.compile(r"([+-]?[0-9]*\.?[0-9]+(?:[eE][+-]?[0-9]+)?)\s*([^\s\d,]*)")
_UNITS = {
    "mW": ("watts", 1e-3),
    "W": ("watts", 1.0),
    "kW": ("watts", 1e3),
    "ms": ("latency_ms", 1.0),
    "s": ("latency_ms", 1e3),
    "C": ("thermal_c", 1.0),
    "°C": ("thermal_c", 1.0),
    "min": ("battery_hours", 1 / 60),
    "h": ("battery_hours", 1.0),
}
_SHOWN = {"watts": "W", "latency_ms": "ms", "thermal_c": "°C", "battery_hours": "h of battery"}
_LIMITS = {
    "watts": (0.0, 10_000.0),
    "latency_ms": (0.0, 60_000.0),
    "thermal_c": (0.0, 150.0),
    "battery_hours": (0.0, 1000.0),
}


class BudgetError(AdaptiveVideoError):
    """A budget that cannot be meant, or that nothing here can measure."""


@dataclass(frozen=True, slots=True)
class Budget:
    """What limits a stream; what is None is not limited, and one part at least is given. ::

        recognizer.budget = Budget(watts=5)                       # while a stream runs, too
        recognizer.budget = Budget.parse("3W,50ms")               # as adaptive-run --control takes it
        recognizer.budget = Budget(thermal_c=70, battery_hours=8)
        recognizer.budget = None

    ``watts``: the average power of the whole device, as its meter sees it, over any 30 s. ``latency_ms``:
    what 95 % of the steps take, from taking up a frame to its result. ``thermal_c``: the temperature that the
    device is not to exceed. ``battery_hours``: how long its battery is to last, from when the budget is set.

    Raises: BudgetError for a part that is not a positive number or is out of range, and for none at all.
    """

    watts: float | None = None
    latency_ms: float | None = None
    thermal_c: float | None = None
    battery_hours: float | None = None

    def __post_init__(self) -> None:
        given = {entry.name: getattr(self, entry.name) for entry in fields(self)}
        if all(value is None for value in given.values()):
            raise BudgetError("budget", "limits nothing", f"give one of {', '.join(given)}")
        for name, value in given.items():
            if value is None:
                continue
            above, most = _LIMITS[name]
            number = isinstance(value, int | float) and not isinstance(value, bool)
            if not number or not math.isfinite(value) or not above < value <= most:
                reason = f"is not a number above {above:g} and up to {most:g}"
                raise BudgetError(f"budget {name} {value}", reason, f"give {_SHOWN[name]} in that range")

    @classmethod
    def parse(cls, text: str) -> Self:
        """The budget that ``text`` says, e.g. ``5W``, ``800mW``, ``5W,20ms,70C`` or ``3h``.

        Raises: BudgetError for a part without a unit or with an unknown one, and as the constructor.
        """
        parts = [part for part in re.split(r"[,;]|(?<=\D)\s+(?=[\d.+-])", text.strip()) if part.strip()]
        values: dict[str, float] = {}
        for part in parts:
            match = _PART.fullmatch(part.strip())
            unit = match[2] if match else ""
            if match is None or unit not in _UNITS:
                reason = "has no unit" if match is not None and not unit else "is not a number with a unit"
                raise BudgetError(
                    f"budget {part.strip()}", reason, f"write it with one of {', '.join(_UNITS)}"
                )
            name, factor = _UNITS[unit]
            if name in values:
                raise BudgetError(f"budget {text}", f"says {name} twice", "say it once")
            values[name] = float(match[1]) * factor
        return cls(**values)

    def __str__(self) -> str:
        """As people write it: ``5 W, 20 ms``."""
        given = ((entry.name, getattr(self, entry.name)) for entry in fields(self))
        return ", ".join(f"{value:g} {_SHOWN[name]}" for name, value in given if value is not None)
