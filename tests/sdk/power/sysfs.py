"""Copies of the documented sysfs layouts of power monitors."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

Rails = Mapping[str, tuple[float, float]]
"""Label to (mV, mA)."""


def write(file: Path, value: object) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(f"{value}\n")


def ina3221(root: Path, address: str, rails: Rails, driver: str = "ina3221", hwmon: int = 3) -> Path:
    """JetPack 5 and 6: three channels, then the chip's own sum of them as in7."""
    folder = root / f"sys/bus/i2c/drivers/{driver}/{address}/hwmon/hwmon{hwmon}"
    write(folder / "name", "ina3221")
    for channel, (label, (millivolts, milliamperes)) in enumerate(rails.items(), start=1):
        write(folder / f"in{channel}_label", label)
        write(folder / f"in{channel}_input", millivolts)
        write(folder / f"curr{channel}_input", milliamperes)
        write(folder / f"curr{channel}_crit", 32760)
    write(folder / "in7_label", "sum of shunt voltages")
    write(folder / "in7_input", 11)
    write(folder / "curr4_input", sum(milliamperes for _, milliamperes in rails.values()))
    return folder


def iio(root: Path, address: str, milliwatts: Mapping[str, float]) -> Path:
    """JetPack 4: power in mW beside a rail's name."""
    folder = root / f"sys/bus/i2c/drivers/ina3221x/{address}/iio:device{address[-1]}"
    for channel, (label, power) in enumerate(milliwatts.items()):
        write(folder / f"rail_name_{channel}", label)
        write(folder / f"in_power{channel}_input", power)
    return folder


ORIN_NX = {"VDD_IN": (5040, 1200), "VDD_CPU_GPU_CV": (5040, 300), "VDD_SOC": (5040, 400)}
AGX_ORIN = (
    {"VDD_GPU_SOC": (19808, 200), "VDD_CPU_CV": (19808, 100), "VIN_SYS_5V0": (5048, 800)},
    {"NC": (0, 0), "VDDQ_VDD2_1V8AO": (5048, 150)},
)
XAVIER = (
    {"GPU": 1500, "CPU": 2000, "SOC": 1200},
    {"CV": 100, "VDDRQ": 700, "SYS5V": 2500},
)


def orin_nx(root: Path) -> None:
    ina3221(root, "1-0040", ORIN_NX)


def agx_orin(root: Path) -> None:
    ina3221(root, "1-0040", AGX_ORIN[0])
    ina3221(root, "1-0041", AGX_ORIN[1], hwmon=4)


def xavier(root: Path) -> None:
    iio(root, "1-0040", XAVIER[0])
    iio(root, "1-0041", XAVIER[1])


def rapl(root: Path, microjoules: Mapping[str, int], wraps_at: int = 262_143_328_850) -> Path:
    """Packages with a core zone below each, and a platform zone that holds them all."""
    folder = root / "sys/class/powercap"
    for place, (name, count) in enumerate(microjoules.items()):
        for zone, label in ((f"intel-rapl:{place}", name), (f"intel-rapl:{place}:0", "core")):
            write(folder / zone / "name", label)
            write(folder / zone / "energy_uj", count)
            write(folder / zone / "max_energy_range_uj", wraps_at)
    return folder
