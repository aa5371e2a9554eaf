"""Which meters this machine has, best first, and the one to use."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from sdk.power.jetson import jetson_meter
from sdk.power.meter import Kind, Meter, MeterError
from sdk.power.modeled import ModeledMeter
from sdk.power.nvml import nvml_meter
from sdk.power.rapl import rapl_meter
from sdk.power.zeus import zeus_meter

Open = Callable[[Path], Meter | None]

_KNOWN: tuple[tuple[str, Kind, Open], ...] = (
    ("jetson", "rails", jetson_meter),
    ("nvml", "gpu", lambda root: nvml_meter()),
    ("rapl", "package", rapl_meter),
    ("zeus", "package", lambda root: zeus_meter()),
)
"""By how much of the device they see: a Jetson's rails feed all of it, a package is the processor alone."""


_OTHERWISE = "give ModeledMeter (--meter modeled:IDLE_W,MORE_W), or a meter of the app's own"


@dataclass(frozen=True)
class MeterInfo:
    """One meter that may be there: what it reads, or why it cannot be read (and then how to fix that)."""

    name: str
    kind: Kind
    source: str | None
    problem: str | None = None


def discover(root: Path = Path("/")) -> list[MeterInfo]:
    """Every known meter and what this machine has of it; none stays open."""
    return [_describe(name, kind, open_meter, root) for name, kind, open_meter in _KNOWN]


def _describe(name: str, kind: Kind, open_meter: Open, root: Path) -> MeterInfo:
    try:
        with _opened(name, open_meter, root) as meter:
            return MeterInfo(name, kind, meter.source)
    except MeterError as error:
        return MeterInfo(name, kind, None, _problem(error))


def _opened(name: str, open_meter: Open, root: Path) -> Meter:
    """The meter, running. Raises: MeterError if it is not there, or cannot be read."""
    try:
        meter = open_meter(root)
    except OSError as error:
        reason = f"cannot be read: {error.strerror or error}"
        raise MeterError(f"meter {name}", reason, "check it, or use another") from None
    if meter is None:
        raise MeterError(f"meter {name}", "not on this machine", _OTHERWISE)
    return meter


def _problem(error: MeterError) -> str:
    return error.reason if error.fix == _OTHERWISE else f"{error.reason}; {error.fix}"


def open_meter(text: str) -> Meter:
    """The meter that ``text`` names: one of ``find_meter``'s, or ``modeled:IDLE_W[,MORE_W]``.

    ``MORE_W`` comes on top of ``IDLE_W`` while the device is busy.

    Raises: MeterError.
    """
    kind, _, powers = text.partition(":")
    if kind not in ("modeled", "modelled"):  # the second is how releases before 0.2 spelled it
        return find_meter(text)
    try:
        idle, comma, busy = powers.partition(",")
        return ModeledMeter(float(idle), float(busy) if comma else None)
    except (ValueError, MeterError):
        fix = (
            "give powers in W, 0 or more: modeled:2,5 for 2 W idle and 5 W more while busy, or modeled:2 to "
            "go by the cost table's mJ"
        )
        raise MeterError(f"meter {text}", "is not modeled:IDLE_W[,MORE_W]", fix) from None


def find_meter(name: str = "auto", root: Path = Path("/")) -> Meter:
    """The meter called ``name``, or the best that there is.

    A meter that is there but may not be read is passed over by ``auto``, never silently: where no other is
    left, the error names it.

    Raises: MeterError if it is unknown, not on this machine, or cannot be read.
    """
    names = [known for known, _, _ in _KNOWN]
    if name != "auto" and name not in names:
        fix = f"use auto, one of {', '.join(names)}, or a model: modeled:IDLE_W[,MORE_W]"
        raise MeterError(f"meter {name}", "is unknown", fix)
    problems = []
    for known, _, open_meter in _KNOWN:
        if name not in ("auto", known):
            continue
        try:
            return _opened(known, open_meter, root)
        except MeterError as error:
            if name == known:
                raise
            problems.append(f"{known}: {_problem(error)}")
    raise MeterError("meter", "; ".join(problems), _OTHERWISE)
