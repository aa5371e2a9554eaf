"""How long the stages of a compile took the last time, for how long the next one will take."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path


class StageTimes:
    """Seconds by stage, kept in a file of the user's cache; without a readable file nothing is known."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._last = _read(file)
        self._now: dict[str, float] = {}

    def record(self, stage: str, seconds: float) -> None:
        """A stage took so long."""
        self._now[stage] = seconds

    def left_s(self, stage: str) -> float | None:
        """Seconds from the beginning of ``stage`` to the end, as last time; None where not known."""
        names = list(self._last)
        return sum(self._last[name] for name in names[names.index(stage) :]) if stage in names else None

    def save(self) -> None:
        """Keep this time's for the next; a cache that cannot be written keeps what it has."""
        try:
            self._file.parent.mkdir(parents=True, exist_ok=True)
            growing = self._file.with_suffix(f".{os.getpid()}")
            growing.write_text(json.dumps({**self._last, **self._now}), "utf-8")
            growing.replace(self._file)
        except OSError:
            return


def _read(file: Path) -> Mapping[str, float]:
    try:
        found = json.loads(file.read_text("utf-8"))
        return {str(name): float(seconds) for name, seconds in found.items()}
    except (OSError, ValueError, TypeError, AttributeError):
        return {}
