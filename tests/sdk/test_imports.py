"""The SDK is light: what it needs not is not imported."""

from __future__ import annotations

import importlib
import subprocess
import sys
from importlib.metadata import version

import pytest

import sdk

_HEAVY = "{'torch', 'onnx', 'lightning', 'models', 'compiler'}"


def run_fresh(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize(
    "module", ["sdk", "sdk.recognizer", "sdk.decisions.decision_loop", "sdk.benchmark.bench", "sdk.cli.run"]
)
def test_nothing_heavy_is_imported(module: str) -> None:
    code = f"import sys, {module}; print(sorted({_HEAVY} & {{n.split('.')[0] for n in sys.modules}}))"
    assert run_fresh(code).strip() == "[]"


def test_public_names() -> None:
    assert dir(sdk) == sorted([*sdk.__all__, "__version__"])
    for name in sdk.__all__:
        assert getattr(sdk, name).__name__ == name
    with pytest.raises(AttributeError, match="no attribute 'Recognizer'"):
        sdk.Recognizer  # noqa: B018


def test_every_error_is_a_public_name() -> None:
    for module in ("sdk.recognizer", "sdk.benchmark.bench", "sdk.recording.golden_trace"):
        importlib.import_module(module)

    def kinds(of: type[Exception]) -> set[type[Exception]]:
        return {of}.union(*(kinds(kind) for kind in of.__subclasses__()))

    errors = {
        kind.__name__
        for kind in kinds(sdk.AdaptiveVideoError)
        if kind.__module__.partition(".")[0] in ("sdk", "runtimes")
    }
    assert {name for name in errors if not name.startswith("_")} <= set(sdk.__all__)


def test_onnx_runtime_sends_and_keeps_no_events() -> None:
    code = "import os, runtimes; print(os.environ['ORT_DISABLE_TELEMETRY'])"
    assert run_fresh(code).strip() == "1"
    assert run_fresh("import os; os.environ['ORT_DISABLE_TELEMETRY'] = '0'; " + code).strip() == "0"


def test_version() -> None:
    assert sdk.__version__ == version("adaptive-video")
