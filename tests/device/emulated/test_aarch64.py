"""Decisions of the SDK on aarch64, emulated: ``pytest -m device tests/device/emulated/test_aarch64.py``.

The golden traces' bundles are made here; the real aarch64 wheels of ONNX Runtime, LiteRT, PyAV and numpy
then run them in Debian's own Python for aarch64, under qemu. It says what is computed, never how fast:
emulation takes hundreds of times as long.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from compiler.targets import TARGETS
from tests.device.emulated.root import MissingToolError, aarch64_root, qemu, run_aarch64, wheels
from tests.golden.bundles import SOURCES, build_golden
from tests.golden.test_golden import close, golden

pytestmark = [pytest.mark.device, pytest.mark.timeout(3000)]

PROJECT = Path(__file__).parents[3]
TRACE = """
import json, platform, sys
from runtimes.bundle import Bundle
from sdk.recording.golden_trace import trace_decisions
assert platform.machine() == "aarch64"
print(json.dumps(trace_decisions(Bundle.open(sys.argv[1]), sys.argv[2])))
"""


@pytest.fixture(scope="module", autouse=True)
def emulated() -> None:
    try:
        aarch64_root(), qemu(), wheels()
    except MissingToolError as missing:
        pytest.skip(str(missing))


@pytest.mark.parametrize("target", ["cpu", "litert"])
@pytest.mark.parametrize("name", [name for name in SOURCES if name != "adamml"])  # whose flow takes OpenCV
def test_aarch64_decides_as_x86(name: str, target: str, tmp_path: Path) -> None:
    bundle = build_golden(name, tmp_path, (TARGETS[target],))
    said = run_aarch64(["-c", TRACE, str(bundle.folder), SOURCES[name]], [PROJECT])
    got: dict[str, Any] = json.loads(said.splitlines()[-1])
    for ours, theirs in zip(got["steps"], golden(name)["steps"], strict=True):
        assert ours["views"] == theirs["views"], "pixels are the same, bit by bit"
        assert ours["choice"] == theirs["choice"]
        assert close(ours["scores"], theirs["scores"]) and close(ours["fused"], theirs["fused"])
