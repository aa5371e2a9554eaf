"""Decisions of LiteRT's GPU accelerator, on this machine.

``pytest -m device tests/device/emulated/test_litert_gpu.py``: the accelerator runs the golden trace's bundle
on mesa's lavapipe, a Vulkan of the CPU. It says what is computed, never how fast. Needs Debian 12 or newer on
x86-64, and, the first time, the Debian mirrors.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from compiler.targets import TARGETS
from runtimes.engines.litert_sessions import GPU
from tests.device.emulated.lavapipe import lavapipe_environment
from tests.device.emulated.root import MissingToolError
from tests.golden.bundles import SOURCES, build_golden
from tests.golden.test_golden import assert_alike, golden

pytest.importorskip("ai_edge_litert", reason="LiteRT is missing: pip install '.[litert]'")

pytestmark = [pytest.mark.device, pytest.mark.timeout(3000)]

NAME = "arnet"
PROJECT = Path(__file__).parents[3]
TRACE = """
import json, sys
from runtimes.bundle import Bundle
from runtimes.engines.engine import open_engine
from sdk.recording.golden_trace import trace_engine
bundle = Bundle.open(sys.argv[1])
with open_engine(bundle, "gpu") as engine:
    trace = trace_engine(engine, bundle, sys.argv[2])
    providers = {graph.graph: sorted(graph.nodes) for graph in engine.declared}
print(json.dumps([trace, providers]))
"""


def test_gpu_decides_as_the_cpu(tmp_path: Path) -> None:
    try:
        environment = lavapipe_environment()
    except MissingToolError as missing:
        pytest.skip(str(missing))
    bundle = build_golden(NAME, tmp_path, (TARGETS["litert"],))
    done = subprocess.run(
        [sys.executable, "-c", TRACE, str(bundle.folder), SOURCES[NAME]],
        capture_output=True,
        text=True,
        # A driver is found as the process starts, so that it is another one.
        env={**os.environ, **environment, "PYTHONPATH": str(PROJECT)},
    )
    assert done.returncode == 0, done.stderr[-2000:]
    trace, providers = json.loads(done.stdout.splitlines()[-1])
    assert_alike(trace, golden(NAME))
    assert providers == {graph.name: [GPU] for graph in bundle.manifest.graphs}
