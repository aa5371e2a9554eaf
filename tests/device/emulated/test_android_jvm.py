"""Decisions with Android's own ExecuTorch libraries, on this machine.

``pytest -m device tests/device/emulated/test_android_jvm.py``: a JVM loads the very ``libexecutorch.so`` that
an app ships and runs the ``.pte`` of the golden trace's bundle in it; the SDK's pipeline decides by what it
answers. XNNPACK, and Vulkan on mesa's lavapipe; the library for arm64 in Debian's own JVM, under qemu. It
says what is computed, never how fast.

Needs Debian 12 or newer on x86-64 with ``apt-get install npm gcc default-jdk-headless``, for arm64 also
``gcc-aarch64-linux-gnu libc6-dev-arm64-cross mmdebstrap``, and, the first time, npm's registry and the Debian
mirrors.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from compiler.targets import TARGETS, Target
from runtimes.engines.executorch import VULKAN
from sdk.recording.golden_trace import trace_engine
from tests.device.emulated.android_engine import AndroidEngine
from tests.device.emulated.android_libraries import android_libraries
from tests.device.emulated.lavapipe import lavapipe_environment
from tests.device.emulated.root import MissingToolError, aarch64_java
from tests.golden.bundles import SOURCES, build_golden
from tests.golden.test_golden import assert_alike, golden

pytest.importorskip("executorch", reason="executorch is missing: pip install '.[executorch]'")

pytestmark = [pytest.mark.device, pytest.mark.timeout(3000)]

NAME = "arnet"


def test_xnnpack_on_x86_64(tmp_path: Path) -> None:
    _decides_alike(TARGETS["android"], tmp_path)


def test_vulkan_on_x86_64(tmp_path: Path) -> None:
    _decides_alike(TARGETS["android-gpu"], tmp_path)


def test_xnnpack_on_arm64(tmp_path: Path) -> None:
    _decides_alike(TARGETS["android"], tmp_path, "arm64-v8a")


def _decides_alike(target: Target, folder: Path, abi: str = "x86_64") -> None:
    try:
        libraries = android_libraries(abi, folder / "java")
        java = ("java",) if abi == "x86_64" else aarch64_java()
        environment = lavapipe_environment() if VULKAN in target.providers else {}
    except MissingToolError as missing:
        pytest.skip(str(missing))
    bundle = build_golden(NAME, folder / NAME, (target,))
    with AndroidEngine(bundle, libraries, java, environment) as engine:
        assert_alike(trace_engine(engine, bundle, SOURCES[NAME]), golden(NAME))
        assert all(target.providers[0] in graph.nodes for graph in engine.declared)
        assert all(graph.runs > 0 for graph in engine.declared)
