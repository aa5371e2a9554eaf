"""The ExecuTorch engine: methods load once, run on arrays of the right shape, and say where they ran."""

from __future__ import annotations

import builtins
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("executorch", reason="executorch is not installed: pip install '.[executorch]'")

from runtimes.bundle import Bundle
from runtimes.engines import executorch as engines
from runtimes.engines.executorch import ExecutorchEngine
from runtimes.errors import EngineError
from tests.compiler.export.small_networks import HIDDEN, LARGE, SMALL, branch, pictures, run_branch
from tests.runtimes.executorch_bundles import FILE, TARGET, build_bundle, program


@pytest.fixture(scope="module")
def phone(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    folder = tmp_path_factory.mktemp("phone")
    return build_bundle(folder / "phone.bundle", folder / "files")


@pytest.fixture
def engine(phone: Bundle) -> Iterator[ExecutorchEngine]:
    with ExecutorchEngine(phone, "cpu", target=TARGET, threads=1) as opened:
        yield opened


def policy_inputs(**others: Any) -> dict[str, np.ndarray]:
    state = np.zeros((1, HIDDEN), np.float32)
    price = np.zeros((1, 1), np.float32)
    return {"frame": pictures(SMALL), "price": price, "h": state, "c": state} | others


def altered(phone: Bundle, tmp_path: Path, content: bytes) -> Bundle:
    """The bundle with another program, whose checksum is right."""
    (tmp_path / "files").mkdir()
    (tmp_path / "files" / FILE).write_bytes(content)
    return build_bundle(tmp_path / "altered.bundle", tmp_path / "files")


def test_one_method_serves_every_view(engine: ExecutorchEngine) -> None:
    for view in (SMALL, LARGE, SMALL):
        logits = engine.graph("net-fp32")(frame=pictures(view))["logits"]
        np.testing.assert_allclose(logits, run_branch(branch(), pictures(view), view), atol=1e-5)
    (declared,) = engine.declared
    assert declared.runs == 3 and declared.precision == "fp32"


def test_graphs_load_when_first_asked_for(engine: ExecutorchEngine) -> None:
    assert engine.declared == ()
    assert engine.graph("net-int8") is engine.graph("net-int8")
    engine.graph("policy")
    for declared in engine.declared:
        assert declared.nodes == {"XnnpackBackend": 1}
        assert declared.provider == engine.provider == "XnnpackBackend"
        assert declared.threads == engine.threads == 1
        assert declared.runs == 0 and not declared.fallback
        assert declared.opened_mb is None or -1 < declared.opened_mb < 100


def test_inputs_go_by_name(engine: ExecutorchEngine) -> None:
    inputs = policy_inputs(c=np.full((1, HIDDEN), 0.5, np.float32))
    outputs = engine.graph("policy")(**dict(reversed(inputs.items())))
    assert list(outputs) == ["scores", "logits0", "next_h", "next_c"]
    again = engine.graph("policy")(**inputs)
    for name, value in outputs.items():
        np.testing.assert_array_equal(again[name], value)


def test_outputs_are_the_callers_own(engine: ExecutorchEngine) -> None:
    runner = engine.graph("net-int8")
    first = runner(frame=pictures(SMALL))["logits"]
    kept = first.copy()
    runner(frame=pictures(LARGE, seed=1))
    np.testing.assert_array_equal(first, kept)


def test_frames_that_may_not_be_written_to(
    engine: ExecutorchEngine, recwarn: pytest.WarningsRecorder
) -> None:
    frame = pictures(SMALL)
    frame.flags.writeable = False
    mirrored = pictures(SMALL)[:, :, ::-1]
    wanted = engine.graph("net-int8")(frame=np.ascontiguousarray(mirrored))["logits"]
    engine.graph("net-int8")(frame=frame)
    np.testing.assert_array_equal(engine.graph("net-int8")(frame=mirrored)["logits"], wanted)
    assert not recwarn.list


@pytest.mark.parametrize(
    ("size", "reason"),
    [
        ((1, 39, 39, 3), "side from 40 to 64"),
        ((1, 65, 65, 3), "side from 40 to 64"),
        ((1, 64, 40, 3), "given uint8"),
        ((2, 40, 40, 3), "given uint8"),
        ((1, 40, 40, 4), "given uint8"),
        ((1, 3, 40, 40), "given uint8"),
        ((40, 40, 3), "given uint8"),
    ],
)
def test_other_shapes_are_refused(engine: ExecutorchEngine, size: tuple[int, ...], reason: str) -> None:
    """The library runs some of them, and answers."""
    with pytest.raises(EngineError, match=f"graph net-int8: takes frame as .*{reason}"):
        engine.graph("net-int8")(frame=np.zeros(size, np.uint8))


def test_wrong_inputs(engine: ExecutorchEngine) -> None:
    with pytest.raises(EngineError, match=r"given float32.*manifest declares"):
        engine.graph("net-int8")(frame=pictures(SMALL).astype(np.float32))
    with pytest.raises(EngineError, match="takes frame and was given picture"):
        engine.graph("net-int8")(picture=pictures(SMALL))
    inputs = policy_inputs()
    del inputs["price"]
    with pytest.raises(EngineError, match="takes frame, price, h, c and was given frame, h, c"):
        engine.graph("policy")(**inputs)
    with pytest.raises(EngineError, match=r"takes h as float32 \(1, 8\)"):
        engine.graph("policy")(**policy_inputs(h=np.zeros((1, 9), np.float32)))
    assert [entry.runs for entry in engine.declared] == [0, 0]


def test_unknown_names(phone: Bundle, engine: ExecutorchEngine) -> None:
    with pytest.raises(EngineError, match="use one of policy, net-fp32, net-int8"):
        engine.graph("net-fp64")
    with pytest.raises(EngineError, match="use one of auto, cpu, gpu"):
        ExecutorchEngine(phone, "tensorrt", target=TARGET)
    with pytest.raises(EngineError, match=f"use one of {TARGET}"):
        ExecutorchEngine(phone, target="jetson")


def test_closed_engine(phone: Bundle) -> None:
    opened = ExecutorchEngine(phone, target=TARGET, threads=1)
    runner = opened.graph("net-int8")
    runner(frame=pictures(SMALL))
    opened.close()
    for attempt in (lambda: opened.graph("policy"), lambda: runner(frame=pictures(SMALL))):
        with pytest.raises(EngineError, match="closed"):
            attempt()
    assert [entry.runs for entry in opened.declared] == [1]


def test_the_pool_of_threads_is_the_process_own(phone: Bundle) -> None:
    """Its size cannot change under a loaded method: that would end the process."""
    with ExecutorchEngine(phone, target=TARGET, threads=2) as first:
        wanted = first.graph("net-int8")(frame=pictures(LARGE))["logits"]
        with pytest.raises(EngineError, match=r"threads 1: .* already runs ExecuTorch on 2; close"):
            ExecutorchEngine(phone, target=TARGET, threads=1)
        with ExecutorchEngine(phone, target=TARGET) as second:
            assert second.threads == 2
            second.graph("policy")
            assert [entry.threads for entry in second.declared] == [2]
    for threads in (1, 3):
        with ExecutorchEngine(phone, target=TARGET, threads=threads) as other:
            np.testing.assert_array_equal(other.graph("net-int8")(frame=pictures(LARGE))["logits"], wanted)


def test_no_cpu_for_a_gpu(phone: Bundle) -> None:
    with pytest.raises(EngineError, match=r"is not compiled for VulkanBackend; .*allow the fallback"):
        ExecutorchEngine(phone, "gpu", target=TARGET)
    with ExecutorchEngine(phone, "gpu", target=TARGET, allow_fallback=True, threads=1) as opened:
        opened.graph("net-int8")
        assert opened.declared[0].fallback
        assert opened.declared[0].provider == opened.provider == "XnnpackBackend"


@pytest.mark.parametrize("device", ["auto", "gpu", "cpu"])
@pytest.mark.parametrize("allow_fallback", [False, True])
def test_backend_that_this_build_lacks(
    phone: Bundle, tmp_path: Path, device: str, allow_fallback: bool
) -> None:
    content = program().file.read_bytes().replace(b"XnnpackBackend", b"VulkanoBackend")
    lacking = altered(phone, tmp_path, content)
    with pytest.raises(EngineError, match=r"needs VulkanoBackend, which this build of executorch has not; "):
        ExecutorchEngine(lacking, device, target=TARGET, allow_fallback=allow_fallback)


@pytest.mark.parametrize("damage", ["empty", "text", "half", "end", "older", "zeros"])
def test_damaged_programs(
    phone: Bundle, tmp_path: Path, damage: str, capfd: pytest.CaptureFixture[str]
) -> None:
    whole = program().file.read_bytes()
    content = {
        "empty": b"",
        "text": b"this is no program " * 100,
        "half": whole[: len(whole) // 2],
        "end": whole[:-100],
        "older": whole.replace(b"ET12", b"ET11", 1),
        "zeros": whole[:400] + bytes(400) + whole[800:],
    }[damage]
    bundle = altered(phone, tmp_path, content)
    with pytest.raises(EngineError, match=r"; copy the bundle whole, or compile again"):  # noqa: SIM117
        with ExecutorchEngine(bundle, target=TARGET, threads=1) as opened:
            opened.graph("net-int8")
    assert capfd.readouterr().err == ""


def test_method_that_is_not_there(phone: Bundle, tmp_path: Path) -> None:
    graphs = [entry.model_copy(update={"method": "other"}) for entry in phone.manifest.graphs]
    bundle = build_bundle(tmp_path / "other.bundle", tmp_path / "files", graphs=tuple(graphs))
    with pytest.raises(EngineError, match=r"program.pte has no method other; .*compile again"):
        ExecutorchEngine(bundle, target=TARGET)


def test_missing_package(phone: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    def without(name: str, *rest: Any) -> Any:
        if name.startswith("executorch"):
            raise ModuleNotFoundError(f"No module named {name}")
        return builtins.__import__(name, *rest)

    monkeypatch.setattr(engines.importlib, "import_module", without)
    engines._library.cache_clear()
    with pytest.raises(EngineError, match=r"executorch: does not import: .*pip install '\.\[executorch\]'"):
        ExecutorchEngine(phone, target=TARGET)
    engines._library.cache_clear()


def test_a_process_of_its_own_is_quiet(phone: Bundle) -> None:
    """The library's remarks do not reach the terminal, and the exporter is not imported."""
    code = f"""
import sys
from runtimes.bundle import Bundle
from runtimes.engines.executorch import ExecutorchEngine
assert "torch" not in sys.modules
with ExecutorchEngine(Bundle.open({str(phone.location)!r}), target={TARGET!r}) as engine:
    engine.graph("net-int8")
assert "executorch.exir" not in sys.modules
print("this is printed", file=sys.stderr)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "this is printed\n")
