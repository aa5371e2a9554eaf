"""What an app gives to measure by: a meter, and functions that read the temperature and the battery."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from dataclasses import dataclass
from numbers import Real

from runtimes.errors import ArgumentError
from sdk.power import Meter

Reading = Callable[[], float | None]

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Sensors:
    """What an app gives to measure by: a meter, and functions for degrees Celsius and for joules left."""

    meter: Meter | None = None
    thermometer: Reading | None = None
    battery: Reading | None = None

    def __post_init__(self) -> None:
        """Raises: ArgumentError if ``meter`` is not one, or another cannot be called."""
        if self.meter is not None and not isinstance(self.meter, Meter):
            raise ArgumentError(f"meter {self.meter!r}", "is not a Meter", "use sdk.power.open_meter")
        for name, unit in (("thermometer", "degrees Celsius"), ("battery", "the joules left")):
            given = getattr(self, name)
            if given is not None and not callable(given):
                fix = f"give a function that returns {unit}"
                raise ArgumentError(f"{name} {given!r}", "cannot be called", fix)


def read_sensor(what: str, read: Reading) -> float | None:
    """What a sensor says now; None if it fails, or says what is no finite number: then it is not known."""
    try:
        value = read()
    except Exception as error:  # a stream goes on without, whatever an app's function raises
        _LOG.debug("%s cannot be read: %s", what, error)
        return None
    if isinstance(value, bool) or not isinstance(value, Real) or not math.isfinite(value):
        return None
    return float(value)
