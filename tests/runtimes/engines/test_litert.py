"""LiteRT graphs open once, run on named arrays of several sizes, and say where they ran."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("ai_edge_litert", reason="LiteRT graphs need ai-edge-litert")

from compiler.export.litert.flatbuffer import FlatbufferGraph, Value
from runtimes.bundle import Bundle
from runtimes.cache import cache_folder
from runtimes.engines import litert_sessions as sessions
from runtimes.engines.engine import Engine
from runtimes.engines.litert import LitertEngine
from runtimes.errors import EngineError
from tests.runtimes.bundles import STATE
from tests.runtimes.engines.test_engine import noise, run_policy
from tests.runtimes.litert_bundles import TARGET, build_litert_bundle

SIZES = (84, 112, 224)


@pytest.fixture(scope="module")
def litert_bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    folder = tmp_path_factory.mktemp("litert")
    return build_litert_bundle(folder / "tiny.bundle", folder / "scratch")


@pytest.fixture
def damaged(litert_bundle: Bundle, tmp_path: Path) -> Bundle:
    """An opened bundle of its own, whose files a test may change behind its back."""
    return Bundle.open(shutil.copytree(litert_bundle.folder, tmp_path / "damaged.bundle"))


def open_litert(bundle: Bundle, device: str = "cpu", **options: Any) -> LitertEngine:
    return LitertEngine(bundle, device, target=TARGET, **options)


def test_policy_runs_on_named_inputs(litert_bundle: Bundle) -> None:
    with open_litert(litert_bundle) as engine:
        outputs = run_policy(engine, np.full((1, 84, 84, 3), 255, np.uint8))
    np.testing.assert_allclose(outputs["scores"], [[1, 0.2, -5, -5, -1.4]], atol=1e-6)
    np.testing.assert_array_equal(outputs["next_h"], np.ones(STATE))


@pytest.mark.parametrize("graph", ["net-fp32", "net-int8"])
def test_one_session_serves_every_view(litert_bundle: Bundle, graph: str) -> None:
    """Whatever size came before: the same as a fresh interpreter of that size."""
    path = litert_bundle.path(f"{graph}.tflite")
    with open_litert(litert_bundle) as engine:
        for size in (*SIZES, 84, 84, 112):
            got = engine.graph(graph)(frame=noise(size))["logits"]
            fresh = sessions.InterpreterSession(path, threads=1)
            np.testing.assert_array_equal(got, fresh.run({"frame": noise(size)})["logits"])
        assert len(engine.declared) == 1
        assert engine.declared[0].runs == len(SIZES) + 3


def test_nothing_is_said_on_the_error_stream(litert_bundle: Bundle) -> None:
    """Neither when a graph is opened or first run, nor, in programs that end quietly, at their end."""
    code = f"""
import atexit
import numpy as np
from runtimes.bundle import Bundle
from runtimes.engines.litert import LitertEngine
from runtimes.engines.native_log import end_quietly

atexit.register(end_quietly)
engine = LitertEngine(Bundle.open({str(litert_bundle.folder)!r}), "cpu", target={TARGET!r})
engine.graph("net-fp32")(frame=np.zeros((1, 112, 112, 3), np.uint8))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr == ""


def test_int8_is_close_to_fp32(litert_bundle: Bundle) -> None:
    with open_litert(litert_bundle) as engine:
        exact = engine.graph("net-fp32")(frame=noise(112))["logits"]
        rounded = engine.graph("net-int8")(frame=noise(112))["logits"]
    assert np.linalg.norm(rounded - exact) < 0.1 * np.linalg.norm(exact)


def test_outputs_are_copies(litert_bundle: Bundle) -> None:
    with open_litert(litert_bundle) as engine:
        first = engine.graph("net-fp32")(frame=noise(84))["logits"]
        before = first.copy()
        first_policy = run_policy(engine, noise(84))["scores"]
        engine.graph("net-fp32")(frame=255 - noise(84))
        run_policy(engine, np.zeros((1, 84, 84, 3), np.uint8))
        np.testing.assert_array_equal(first, before)
        np.testing.assert_array_equal(first_policy, run_policy(engine, noise(84))["scores"])


def test_views_of_arrays_are_read_as_they_look(litert_bundle: Bundle) -> None:
    turned = noise(84).transpose(0, 2, 1, 3)
    with open_litert(litert_bundle) as engine:
        run = engine.graph("net-fp32")
        wanted = run(frame=turned.copy())["logits"]
        np.testing.assert_array_equal(run(frame=turned)["logits"], wanted)


def test_weights_are_laid_out_once_and_then_mapped(litert_bundle: Bundle, fresh_cache: Path) -> None:
    with open_litert(litert_bundle) as engine:
        first = engine.graph("net-fp32")(frame=noise(112))["logits"]
    (weights,) = cache_folder("litert").rglob("weights.xnnpack")
    assert weights.is_relative_to(fresh_cache)
    written = weights.stat().st_mtime_ns
    with open_litert(litert_bundle) as engine:
        second = engine.graph("net-fp32")(frame=noise(112))["logits"]
        engine.graph("net-fp32")(frame=noise(84))
    assert weights.stat().st_mtime_ns == written
    np.testing.assert_array_equal(first, second)


@pytest.fixture
def fresh_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ADAPTIVE_VIDEO_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_damaged_weights_in_the_cache_are_laid_out_again(litert_bundle: Bundle, fresh_cache: Path) -> None:
    with open_litert(litert_bundle) as engine:
        first = engine.graph("net-fp32")(frame=noise(84))["logits"]
    (weights,) = fresh_cache.rglob("weights.xnnpack")
    weights.write_bytes(b"x" * 5000)
    with open_litert(litert_bundle) as engine:
        np.testing.assert_array_equal(engine.graph("net-fp32")(frame=noise(84))["logits"], first)


def test_graphs_open_when_first_asked_for(litert_bundle: Bundle) -> None:
    with open_litert(litert_bundle, threads=2) as engine:
        assert engine.declared == ()
        assert engine.graph("net-int8") is engine.graph("net-int8")
        engine.graph("policy")
        branch, policy = engine.declared
        assert engine.threads == 2
    assert (branch.threads, policy.threads) == (2, 1)
    assert branch.provider == policy.provider == engine.provider == "LiteRT-XNNPACK"
    assert branch.precision == "int8" and not branch.fallback
    assert policy.nodes["LiteRT-XNNPACK"] > 5
    assert branch.opened_mb is None or -1 < branch.opened_mb < 100


def test_it_is_an_engine(litert_bundle: Bundle) -> None:
    engine: Engine = open_litert(litert_bundle, "auto")
    engine.refresh(litert_bundle)
    assert engine.provider == "LiteRT-XNNPACK"
    engine.close()


def test_threads_take_turns_on_one_graph(litert_bundle: Bundle) -> None:
    with open_litert(litert_bundle) as engine, ThreadPoolExecutor(2) as pool:
        run = engine.graph("net-int8")
        wanted = {size: run(frame=noise(size))["logits"] for size in (84, 112)}
        sizes = [84, 112] * 8
        results = pool.map(lambda size: run(frame=noise(size))["logits"], sizes)
        for size, got in zip(sizes, results, strict=True):
            np.testing.assert_array_equal(got, wanted[size])


def test_unknown_names(litert_bundle: Bundle) -> None:
    with pytest.raises(EngineError, match="use one of auto, cpu, gpu"):
        open_litert(litert_bundle, "cuda")
    with (
        open_litert(litert_bundle) as engine,
        pytest.raises(EngineError, match="use one of policy, net-fp32"),
    ):
        engine.graph("net-fp64")


@pytest.mark.parametrize(
    ("inputs", "told"),
    [
        ({"frame": noise(84).astype(np.float32)}, r"frame is float32 1x84x84x3; give uint8 1x\?x\?x3"),
        ({"picture": noise(84)}, "was given the inputs picture; give frame"),
        ({}, "was given the inputs none; give frame"),
        ({"frame": noise(84)[0]}, "frame is uint8 84x84x3"),
        ({"frame": noise(84)[..., :2]}, "frame is uint8 1x84x84x2"),
        ({"frame": noise(84)[:, :0]}, "frame is uint8 1x0x84x3"),
    ],
)
def test_wrong_inputs(litert_bundle: Bundle, inputs: dict[str, Any], told: str) -> None:
    """The runtime would take most of these, and compute on what it finds in memory."""
    with open_litert(litert_bundle) as engine:
        with pytest.raises(EngineError, match=f"graph net-int8: .*{told}"):
            engine.graph("net-int8")(**inputs)
        assert engine.declared[0].runs == 0


def test_fixed_sizes_stay_fixed(litert_bundle: Bundle) -> None:
    with open_litert(litert_bundle) as engine, pytest.raises(EngineError, match="give uint8 1x84x84x3"):
        run_policy(engine, noise(112))


def test_closed_engine(litert_bundle: Bundle) -> None:
    engine = open_litert(litert_bundle)
    runner = engine.graph("net-int8")
    runner(frame=noise(84))
    engine.close()
    with pytest.raises(EngineError, match="closed"):
        engine.graph("policy")
    with pytest.raises(EngineError, match="closed"):
        runner(frame=noise(84))
    engine.close()
    assert [entry.runs for entry in engine.declared] == [1]


@pytest.mark.parametrize("graph", ["policy", "net-fp32"])
def test_damaged_files(damaged: Bundle, graph: str) -> None:
    path = damaged.path(f"{graph}.tflite")
    content = path.read_bytes()
    damages = {
        f"has {len(content) // 2} bytes, not the {len(content)}": content[: len(content) // 2],
        "is not a .tflite": b"x" * len(content),
        "does not open": content[:8] + bytes(len(content) - 8),
    }
    for told, bad in damages.items():
        path.write_bytes(bad)
        with (
            open_litert(damaged) as engine,
            pytest.raises(EngineError, match=f"{told}.*copy the bundle again"),
        ):
            engine.graph(graph)
    path.unlink()
    with open_litert(damaged) as engine, pytest.raises(EngineError, match="No such file"):
        engine.graph(graph)


def of_a_later_version() -> bytes:
    graph = FlatbufferGraph("later")
    frame = Value(graph.input_tensor("frame", (1, 8)), (1, 8))
    result = graph.value("result", (1, 8))
    graph.operator("ABS", [frame.tensor], [result.tensor], version=99)
    graph.output("logits", result)
    return graph.bytes()


@pytest.mark.parametrize("graph", ["policy", "net-fp32"])
def test_a_runtime_that_is_too_old(damaged: Bundle, graph: str) -> None:
    """What it does not know is named, with the way to what does; here an operator of a version to come."""
    content = of_a_later_version()
    path = damaged.path(f"{graph}.tflite")
    path.write_bytes(content)
    damaged.manifest.files[path.name] = damaged.manifest.files[path.name].model_copy(
        update={"bytes": len(content)}
    )
    with (
        open_litert(damaged) as engine,
        pytest.raises(EngineError, match=r"opcode 'ABS' version '99'.*pip install '\.\[litert\]'"),
    ):
        engine.graph(graph)


@pytest.fixture
def without_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a machine without a GPU, whatever this one has."""
    opened = sessions.CompiledSession

    def compiled(path: Path, threads: int, *, weights: Path | None = None, gpu: bool = False) -> Any:
        if gpu:
            raise RuntimeError("compiled_model.cc:1036")
        return opened(path, threads, weights=weights)

    monkeypatch.setattr(sessions, "CompiledSession", compiled)


@pytest.mark.usefixtures("without_gpu")
def test_missing_gpu_is_an_error(litert_bundle: Bundle) -> None:
    told = "does not run on a GPU here; check the GPU's driver, or allow the fallback"
    with open_litert(litert_bundle, "gpu") as engine:
        assert engine.provider == "LiteRT-GPU"
        with pytest.raises(EngineError, match=told):
            engine.graph("net-fp32")
        assert engine.declared == ()


@pytest.mark.usefixtures("without_gpu")
@pytest.mark.parametrize("graph", ["policy", "net-int8", "net-fp32"])
def test_allowed_fallback_is_declared(litert_bundle: Bundle, graph: str) -> None:
    with open_litert(litert_bundle, "gpu", allow_fallback=True) as engine:
        engine.graph(graph)
        assert engine.declared[0].fallback
        assert engine.declared[0].provider == engine.provider == "LiteRT-XNNPACK"


def test_integers_are_kept_off_the_gpu(litert_bundle: Bundle) -> None:
    told = "is int8, and LiteRT's GPU gets integers wrong; take a variant in fp32"
    with open_litert(litert_bundle, "gpu") as engine, pytest.raises(EngineError, match=told):
        engine.graph("net-int8")


@pytest.fixture
def predecessor(monkeypatch: pytest.MonkeyPatch) -> None:
    """As where only the interpreter is to be had."""
    monkeypatch.setattr(sessions, "compiled_model_module", lambda: None)


@pytest.mark.usefixtures("predecessor")
def test_an_interpreter_is_enough(litert_bundle: Bundle, fresh_cache: Path) -> None:
    with open_litert(litert_bundle) as engine:
        for size in SIZES:
            assert engine.graph("net-int8")(frame=noise(size))["logits"].shape == (1, 5)
        nodes = engine.declared[0].nodes
    assert nodes["LiteRT-XNNPACK"] > 20
    assert nodes["LiteRT-builtin"] == 1, "the runtime's delegate leaves it the shift of uint8 frames to int8"
    assert not fresh_cache.exists()
    with pytest.raises(EngineError, match="runs nothing on a GPU"):
        open_litert(litert_bundle, "gpu")
    assert open_litert(litert_bundle, "gpu", allow_fallback=True).provider == "LiteRT-XNNPACK"


@pytest.fixture
def not_installed(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    def import_nothing(name: str) -> None:
        raise ImportError(name)

    sessions.interpreter_module.cache_clear()
    with monkeypatch.context() as patch:
        patch.setattr(sessions, "import_module", import_nothing)
        yield
    sessions.interpreter_module.cache_clear()


@pytest.mark.usefixtures("not_installed")
def test_a_missing_package_is_named(litert_bundle: Bundle) -> None:
    with pytest.raises(EngineError, match=r"not installed; pip install '\.\[litert\]'"):
        open_litert(litert_bundle)
