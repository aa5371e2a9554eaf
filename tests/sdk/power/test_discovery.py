"""Meters are found by what sysfs says, on every layout that is documented."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from sdk.power import discover, find_meter
from sdk.power.jetson import jetson_meter, module_rails, rails
from sdk.power.meter import MeterError
from sdk.power.nvml import nvml_meter
from sdk.power.rapl import rapl_meter
from tests.sdk.power import sysfs

WATTS = {
    sysfs.orin_nx: 5.040 * 1.2,
    sysfs.agx_orin: 19.808 * 0.3 + 5.048 * 0.8,
    sysfs.xavier: 8.0,
}


@pytest.mark.parametrize(("layout", "watts"), WATTS.items())
def test_the_modules_power_is_counted_once(
    tmp_path: Path, layout: Callable[[Path], None], watts: float
) -> None:
    layout(tmp_path)
    assert sum(rail.watts() for rail in module_rails(rails(tmp_path))) == pytest.approx(watts)


def test_the_source_says_what_it_leaves_out(tmp_path: Path) -> None:
    sysfs.agx_orin(tmp_path)
    meter = jetson_meter(tmp_path)
    assert meter is not None
    with meter:
        counted = "VDD_GPU_SOC + VDD_CPU_CV + VIN_SYS_5V0"
        assert meter.source == f"rails {counted} (without VDDQ_VDD2_1V8AO, which one of them may feed)"
        assert meter.kind == "rails"


def test_newer_kernels_show_the_monitor_by_name_alone(tmp_path: Path) -> None:
    folder = sysfs.ina3221(tmp_path, "1-0040", sysfs.ORIN_NX)
    target = tmp_path / "sys/class/hwmon/hwmon1"
    target.parent.mkdir(parents=True)
    folder.rename(target)
    assert [rail.label for rail in module_rails(rails(tmp_path))] == ["VDD_IN"]


def test_a_monitor_seen_twice_is_counted_once(tmp_path: Path) -> None:
    folder = sysfs.ina3221(tmp_path, "1-0040", sysfs.AGX_ORIN[0])
    link = tmp_path / "sys/class/hwmon/hwmon3"
    link.parent.mkdir(parents=True)
    link.symlink_to(folder)
    assert len(rails(tmp_path)) == 3


def test_a_monitor_of_power_itself(tmp_path: Path) -> None:
    """Thor's INA238."""
    folder = tmp_path / "sys/class/hwmon/hwmon0"
    sysfs.write(folder / "name", "ina238")
    sysfs.write(folder / "power1_label", "VIN")
    sysfs.write(folder / "power1_input", 12_500_000)
    (rail,) = module_rails(rails(tmp_path))
    assert rail.label == "VIN" and rail.watts() == pytest.approx(12.5)


def test_a_rail_that_holds_no_number_is_an_error(tmp_path: Path) -> None:
    folder = sysfs.ina3221(tmp_path, "1-0040", sysfs.ORIN_NX)
    sysfs.write(folder / "curr1_input", "")
    with pytest.raises(OSError, match="does not hold a number"):
        jetson_meter(tmp_path)


def test_rapl_sums_packages_and_wraps(tmp_path: Path) -> None:
    folder = sysfs.rapl(tmp_path, {"package-0": 999_900_000, "package-1": 5_000_000}, wraps_at=1_000_000_000)
    meter = rapl_meter(tmp_path)
    assert meter is not None and meter.kind == "package"
    sysfs.write(folder / "intel-rapl:0/energy_uj", 300_000)
    sysfs.write(folder / "intel-rapl:1/energy_uj", 5_500_000)
    assert meter.read() == pytest.approx(0.4 + 0.5)


def test_the_platform_zone_is_no_package(tmp_path: Path) -> None:
    sysfs.rapl(tmp_path, {"psys": 5})
    assert rapl_meter(tmp_path) is None


class Forbidden:
    """A file that only root may read (tests may run as root)."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
        read_text, open_file = Path.read_text, os.open

        def refuse(path: Path) -> None:
            if path.name == name:
                raise PermissionError(13, "Permission denied", str(path))

        def read_or_refuse(path: Path, *arguments: str) -> str:
            refuse(path)
            return read_text(path, *arguments)

        def open_or_refuse(path: str | Path, flags: int, mode: int = 0o777, **place: int) -> int:
            refuse(Path(path))
            return open_file(path, flags, mode, **place)

        monkeypatch.setattr(Path, "read_text", read_or_refuse)
        monkeypatch.setattr(os, "open", open_or_refuse)


def test_rapl_without_permission_says_how_to_mend_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sysfs.rapl(tmp_path, {"package-0": 5})
    Forbidden(monkeypatch, "energy_uj")
    with pytest.raises(MeterError, match=r"energy_uj: may be read by root alone; run as root"):
        rapl_meter(tmp_path)
    with pytest.raises(MeterError, match="run as root"):
        find_meter("rapl", tmp_path)
    (offer,) = (offer for offer in discover(tmp_path) if offer.name == "rapl")
    assert offer.source is None and "run as root" in str(offer.problem)


def test_the_best_meter_is_taken(tmp_path: Path) -> None:
    sysfs.rapl(tmp_path, {"package-0": 5})
    with find_meter(root=tmp_path) as meter:
        assert meter.kind == "package"
    sysfs.orin_nx(tmp_path)
    with find_meter(root=tmp_path) as meter:
        assert meter.kind == "rails" and meter.source == "rails VDD_IN"
    with find_meter("rapl", tmp_path) as meter:
        assert meter.kind == "package"


def test_without_a_meter_every_one_is_named(tmp_path: Path) -> None:
    with pytest.raises(MeterError, match=r"jetson: not on this machine; nvml: .*rapl: .*zeus"):
        find_meter(root=tmp_path)
    with pytest.raises(MeterError, match="use auto, one of jetson, nvml, rapl, zeus, or a model"):
        find_meter("wall", tmp_path)


class FakeNvml(SimpleNamespace):
    """pynvml's functions over one GPU, with or without its energy counter."""

    class NVMLError(Exception):
        pass

    def __init__(self, *, counts: bool) -> None:
        super().__init__(energy_mj=5000.0)
        self.counts = counts

    def nvmlInit(self) -> None:  # noqa: N802 - pynvml's name
        pass

    def nvmlDeviceGetHandleByIndex(self, index: int) -> int:  # noqa: N802
        return index

    def nvmlDeviceGetName(self, device: int) -> bytes:  # noqa: N802
        return b"NVIDIA Test"

    def nvmlDeviceGetTotalEnergyConsumption(self, device: int) -> float:  # noqa: N802
        if not self.counts:
            raise self.NVMLError("Not Supported")
        return float(self.energy_mj)

    def nvmlDeviceGetPowerUsage(self, device: int) -> int:  # noqa: N802
        return 70_000


def test_a_gpu_counts_its_own_energy(monkeypatch: pytest.MonkeyPatch) -> None:
    nvml = FakeNvml(counts=True)
    monkeypatch.setitem(sys.modules, "pynvml", nvml)
    meter = nvml_meter()
    assert meter is not None and meter.source == "GPU 0, NVIDIA Test (NVML)"
    nvml.energy_mj += 2500
    assert meter.read() == pytest.approx(2.5)


def test_an_older_gpu_is_sampled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", FakeNvml(counts=False))
    meter = nvml_meter()
    assert meter is not None
    with meter:
        assert meter.read() is not None and meter.period_s > 0


def test_a_driver_that_fails_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    nvml = FakeNvml(counts=True)

    def fail() -> None:
        raise nvml.NVMLError("Driver Not Loaded")

    monkeypatch.setattr(nvml, "nvmlInit", fail)
    monkeypatch.setitem(sys.modules, "pynvml", nvml)
    with pytest.raises(MeterError, match="GPU 0: NVML says: Driver Not Loaded; check it with nvidia-smi"):
        nvml_meter()
    with pytest.raises(MeterError, match="nvml: NVML says: Driver Not Loaded"):
        find_meter(root=tmp_path)


def test_no_library_is_no_meter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", None)
    assert nvml_meter() is None
