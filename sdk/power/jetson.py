"""Jetson: the module's rails, read from the INA3221 and INA238 monitors through sysfs, without root.

Which rails there are differs by module and JetPack; they are found by their labels, never by a number.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from sdk.power.meter import PowerMeter

PERIOD_S = 0.1
_TOTALS = ("VDD_IN", "VIN", "POM_5V_IN", "VDD_5V_IN")
"""Rails that feed the whole module: Orin NX and Nano, Xavier NX; Thor; Nano and TX1; older kernels' names."""
_DOWNSTREAM = frozenset({"VDDQ_VDD2_1V8AO"})
"""May be fed from another monitored rail (AGX Orin's VIN_SYS_5V0): not counted, but named in the source."""
_MONITORS = ("ina3221", "ina3221x", "ina238", "ina2xx")


@dataclass(frozen=True)
class Rail:
    """One monitored rail: its label, and the files that its power comes from.

    ``files`` and ``to_watts``: the power is their product times that factor.
    """

    label: str
    files: tuple[Path, ...]
    to_watts: float

    def watts(self) -> float:
        """The power now. Raises: OSError if it cannot be read."""
        power = self.to_watts
        for file in self.files:
            power *= _number(file)
        return power


def _number(file: Path) -> float:
    try:
        return float(file.read_text())
    except ValueError as error:
        raise OSError(f"{file} does not hold a number") from error


def rails(root: Path = Path("/")) -> list[Rail]:
    """Every labeled rail below ``root``/sys, each once."""
    found: dict[str, Rail] = {}
    for folder in _monitor_folders(root / "sys"):
        for rail in (*_hwmon_rails(folder), *_iio_rails(folder)):
            found.setdefault(rail.label, rail)
    return list(found.values())


def module_rails(found: Sequence[Rail]) -> list[Rail]:
    """Those that add up to the module's power: the one that feeds it all, or the ones that feed its parts."""
    by_label = {rail.label: rail for rail in found}
    for total in _TOTALS:
        if total in by_label:
            return [by_label[total]]
    return [rail for rail in found if rail.label not in _DOWNSTREAM]


def jetson_meter(root: Path = Path("/")) -> PowerMeter | None:
    """A meter of the module's power; None if there is no rail. Raises: OSError if they cannot be read."""
    found = rails(root)
    counted = module_rails(found)
    if not counted:
        return None
    source = f"rails {' + '.join(rail.label for rail in counted)}"
    left = [rail.label for rail in found if rail.label in _DOWNSTREAM and rail not in counted]
    if left and len(counted) > 1:
        source += f" (without {', '.join(left)}, which one of them may feed)"
    return PowerMeter("rails", source, lambda: sum(rail.watts() for rail in counted), PERIOD_S)


def _monitor_folders(sys: Path) -> Iterator[Path]:
    """Folders that hold a monitor's files, by driver (JetPack 4 to 6) and by name (newer kernels)."""
    for driver in _MONITORS:
        for device in sorted((sys / "bus/i2c/drivers" / driver).glob("*-*")):
            yield from sorted(device.glob("hwmon/hwmon*"))
            yield from sorted(device.glob("iio:device*"))
    for folder in sorted((sys / "class/hwmon").glob("hwmon*")):
        name = folder / "name"
        if name.is_file() and name.read_text().strip() in _MONITORS:
            yield folder


def _hwmon_rails(folder: Path) -> Iterator[Rail]:
    """``in<n>_label`` names a rail: its mV times its mA; a monitor of one rail has ``power1_input`` in uW."""
    for label in sorted(folder.glob("in*_label")):
        channel = label.name.removeprefix("in").removesuffix("_label")
        volts, amperes = folder / f"in{channel}_input", folder / f"curr{channel}_input"
        name = label.read_text().strip()
        # The sum that the chip makes of its channels has a label too, and no current of its own number.
        if amperes.is_file() and volts.is_file() and _is_rail(name):
            yield Rail(name, (volts, amperes), 1e-6)
    label, power = folder / "power1_label", folder / "power1_input"
    if power.is_file() and label.is_file():
        yield Rail(label.read_text().strip(), (power,), 1e-6)


def _iio_rails(folder: Path) -> Iterator[Rail]:
    """JetPack 4: ``rail_name_<n>`` with ``in_power<n>_input`` in mW."""
    for label in sorted(folder.glob("rail_name_*")):
        power = folder / f"in_power{label.name.removeprefix('rail_name_')}_input"
        name = label.read_text().strip()
        if power.is_file() and _is_rail(name):
            yield Rail(name, (power,), 1e-3)


def _is_rail(label: str) -> bool:
    return bool(label) and label.upper() != "NC" and "sum" not in label.lower()
