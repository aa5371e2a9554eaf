"""Graphs open once, run on named arrays, and say where they ran."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from runtimes.bundle import Bundle
from runtimes.cache import cache_folder
from runtimes.engines.engine import Engine, open_engine
from runtimes.engines.tensorrt import optimization_profiles, tensorrt_options
from runtimes.errors import EngineError
from tests.runtimes.bundles import STATE


def noise(size: int) -> np.ndarray:
    return np.random.default_rng(size).integers(0, 256, (1, size, size, 3), np.uint8)


def run_policy(engine: Engine, frame: np.ndarray) -> dict[str, np.ndarray]:
    state = np.zeros(STATE, np.float32)
    return engine.graph("policy")(frame=frame, price=np.zeros((1, 1), np.float32), h=state, c=state)


def test_policy_runs_on_named_inputs(bundle: Bundle) -> None:
    with open_engine(bundle, "cpu") as engine:
        outputs = run_policy(engine, np.full((1, 84, 84, 3), 255, np.uint8))
    np.testing.assert_allclose(outputs["scores"], [[1, 0.2, -5, -5, -1.4]], atol=1e-6)
    np.testing.assert_array_equal(outputs["next_h"], np.ones(STATE))


@pytest.mark.parametrize("graph", ["net-fp32", "net-int8"])
def test_one_session_serves_every_view(bundle: Bundle, graph: str) -> None:
    with open_engine(bundle, "cpu") as engine:
        for size in (84, 112, 224):
            assert engine.graph(graph)(frame=noise(size))["logits"].shape == (1, 5)
        assert len(engine.declared) == 1
        assert engine.declared[0].runs == 3


def test_int8_is_close_to_fp32(bundle: Bundle) -> None:
    with open_engine(bundle, "cpu") as engine:
        exact = engine.graph("net-fp32")(frame=noise(112))["logits"]
        rounded = engine.graph("net-int8")(frame=noise(112))["logits"]
    np.testing.assert_allclose(rounded, exact, atol=0.15)


def test_fp32_is_optimized_once_and_then_mapped(bundle: Bundle) -> None:
    with open_engine(bundle, "cpu") as engine:
        first = engine.graph("net-fp32")(frame=noise(112))["logits"]
    optimized = {path: path.stat().st_mtime_ns for path in cache_folder("onnx").rglob("graph.onnx")}
    with open_engine(bundle, "cpu") as engine:
        second = engine.graph("net-fp32")(frame=noise(112))["logits"]
    assert optimized == {path: path.stat().st_mtime_ns for path in cache_folder("onnx").rglob("graph.onnx")}
    np.testing.assert_array_equal(first, second)


def test_graphs_open_when_first_asked_for(bundle: Bundle) -> None:
    with open_engine(bundle, "cpu", threads=2) as engine:
        assert engine.declared == ()
        assert engine.graph("net-int8") is engine.graph("net-int8")
        engine.graph("policy")
        branch, policy = engine.declared
    assert (branch.threads, policy.threads) == (2, 1)
    assert branch.provider == policy.provider == "CPUExecutionProvider"
    assert branch.precision == "int8" and not branch.fallback
    assert branch.nodes["CPUExecutionProvider"] > 0
    assert branch.opened_mb is None or -1 < branch.opened_mb < 100


def test_missing_accelerator_is_an_error(bundle: Bundle) -> None:
    with pytest.raises(EngineError, match=r"TensorrtExecutionProvider.*allow the fallback"):
        open_engine(bundle, "tensorrt")


def test_allowed_fallback_is_declared(bundle: Bundle) -> None:
    with open_engine(bundle, "tensorrt", allow_fallback=True) as engine:
        run_policy(engine, noise(84))
        assert engine.declared[0].fallback
        assert engine.declared[0].provider == engine.provider == "CPUExecutionProvider"


def test_unknown_names(bundle: Bundle) -> None:
    with pytest.raises(EngineError, match="use one of auto, cpu, cuda, tensorrt"):
        open_engine(bundle, "npu")
    with pytest.raises(EngineError, match="use 1 or more"):
        open_engine(bundle, threads=0)
    with open_engine(bundle) as engine, pytest.raises(EngineError, match="use one of policy, net-fp32"):
        engine.graph("net-fp64")


def test_wrong_inputs(bundle: Bundle) -> None:
    with open_engine(bundle) as engine:
        with pytest.raises(EngineError, match="graph net-int8"):
            engine.graph("net-int8")(frame=noise(84).astype(np.float32))
        with pytest.raises(EngineError, match="graph net-int8"):
            engine.graph("net-int8")(picture=noise(84))


def test_closed_engine(bundle: Bundle) -> None:
    engine = open_engine(bundle)
    runner = engine.graph("net-int8")
    runner(frame=noise(84))
    engine.close()
    with pytest.raises(EngineError, match="closed"):
        engine.graph("policy")
    with pytest.raises(EngineError, match="closed"):
        runner(frame=noise(84))
    assert [entry.runs for entry in engine.declared] == [1]


def test_tensorrt_engines_never_share_a_cache(bundle: Bundle) -> None:
    manifest = bundle.manifest
    profiles = optimization_profiles(manifest, manifest.graph("net-int8"))
    assert profiles == "frame:1x84x84x3,frame:1x112x112x3,frame:1x224x224x3"
    assert optimization_profiles(manifest, manifest.graph("policy")) == ""
    options = [
        tensorrt_options(manifest, manifest.graph(name), name * 4, "1.31.1")
        for name in ("policy", "net-fp32", "net-int8")
    ]
    assert len({entry["trt_engine_cache_path"] for entry in options}) == 3
    assert [entry["trt_engine_cache_prefix"] for entry in options] == ["policy", "net-fp32", "net-int8"]
    assert [entry["trt_fp16_enable"] for entry in options] == ["0", "0", "1"]
    assert all(Path(entry["trt_engine_cache_path"]).is_dir() for entry in options)
