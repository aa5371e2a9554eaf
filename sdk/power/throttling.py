"""Whether this machine slows itself down against heat or current, through sysfs."""

from __future__ import annotations

from pathlib import Path

_FANS = ("fan", "pwm")


class Throttling:
    """What slows this machine down, by name."""

    def __init__(self, cooling: list[Path], alarms: list[Path], counts: list[Path]) -> None:
        self._cooling, self._alarms, self._counts = cooling, alarms, counts
        self._counted = self._count()

    def read(self) -> tuple[str, ...]:
        """Cooling devices that are on now, over-current alarms, and cores slowed since the last reading."""
        acting = {_text(device / "type") for device in self._cooling if _number(device / "cur_state") > 0}
        if any(_number(alarm) > 0 for alarm in self._alarms):
            acting.add("over-current alarm")
        counted, self._counted = self._counted, self._count()
        if self._counted > counted:
            acting.add("hot cores")
        return tuple(sorted(acting))

    def _count(self) -> int:
        return sum(_number(count) for count in self._counts)


def find_throttling(root: Path = Path("/")) -> Throttling | None:
    """What this machine reports of being slowed down; None if nothing. Fans slow nothing, and are left
    out.
    """
    cooling = sorted((root / "sys/class/thermal").glob("cooling_device*"))
    cooling = [device for device in cooling if not any(fan in _text(device / "type") for fan in _FANS)]
    alarms = sorted((root / "sys/class/hwmon").glob("hwmon*/curr*_crit_alarm"))
    counts = sorted((root / "sys/devices/system/cpu").glob("cpu*/thermal_throttle/core_throttle_count"))
    return Throttling(cooling, alarms, counts) if cooling or alarms or counts else None


def _text(file: Path) -> str:
    try:
        return file.read_text().strip().lower()
    except OSError:
        return ""


def _number(file: Path) -> int:
    """0 where it cannot be read: it then reports nothing."""
    text = _text(file)
    return int(text) if text.lstrip("-").isdigit() else 0
