"""What this machine says of itself."""

from __future__ import annotations

from pathlib import Path

import pytest

from runtimes import device


@pytest.mark.parametrize(
    ("machine", "flags", "exact"),
    [
        ("x86_64", "fpu avx2 avx512f", False),
        ("x86_64", "fpu avx2 avx512f avx512_vnni", True),
        ("AMD64", "fpu avx2 avx_vnni", True),
        ("x86_64", None, False),
        ("aarch64", None, True),
    ],
)
def test_which_processors_sum_int8_products_exactly(
    machine: str, flags: str | None, exact: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cpuinfo = tmp_path / "cpuinfo"
    if flags is not None:
        cpuinfo.write_text(
            f"processor : 0\nflags\t\t: {flags}\nbugs : none\n\nprocessor : 1\nflags : {flags}\n"
        )
    monkeypatch.setattr(device.platform, "machine", lambda: machine)
    monkeypatch.setattr(device, "_CPUINFO", cpuinfo)
    device.sums_int8_exactly.cache_clear()
    try:
        assert device.sums_int8_exactly() is exact
    finally:
        device.sums_int8_exactly.cache_clear()
