"""From clips to a bundle that streams, for one target and then another."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from compiler.errors import CompileError, DataError
from compiler.pipeline import build_model, compile_bundle
from compiler.request import (
    DataRequest,
    ModelRequest,
    PrecisionRequest,
    Request,
    TrainingRequest,
    check_model,
    check_precisions,
)
from compiler.targets import TARGETS
from models.backbones.registry import BACKBONES
from models.backbones.weights import WeightsError
from models.methods import arnet, videoiq
from models.recipe import Optimization
from runtimes.bundle import Bundle
from sdk.recognizer import StreamRecognizer
from tests.compiler.small_training import CLASSES, CPU, RATE_HZ
from tests.models.small_arnet import BRANCHES, SMALLEST, small_preset


class Told:
    """A console that remembers what it was told."""

    def __init__(self) -> None:
        self.stages: list[str] = []
        self.notes: list[str] = []

    def stage(self, name: str) -> None:
        self.stages.append(name)

    def note(self, text: str) -> None:
        self.notes.append(text)

    @contextmanager
    def progress(self, name: str) -> Iterator[Callable[[int, int], None]]:
        yield lambda done, total: None


@pytest.fixture(scope="module")
def request_of(
    clips_root: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[..., Request]]:
    """Requests for a small preset in place of ``tiny``, everything below one temporary folder."""
    folder = tmp_path_factory.mktemp("compile")
    stage = Optimization(epochs=4, lr=3e-3, batch=4, frames=4, adam=True)
    preset = small_preset(
        branches=stage,
        joint=replace(stage, epochs=10, frozen_branches=True),
        finetune=replace(stage, epochs=1),
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ADAPTIVE_VIDEO_CACHE", str(folder / "cache"))
        patch.setenv("XDG_CACHE_HOME", str(folder / "xdg"))
        patch.setitem(arnet.PRESETS, "tiny", preset)

        def make(target: str, **parts: Any) -> Request:
            request = Request(
                ModelRequest("arnet", "tiny"),
                (TARGETS[target],),
                folder / f"{target}.bundle",
                DataRequest(clips_root, RATE_HZ),
                training=TrainingRequest(folds=0, runs=folder / "runs", hardware=CPU),
            )
            return replace(request, **parts)

        yield make


@pytest.fixture(scope="module")
def compiled(request_of: Callable[..., Request]) -> tuple[Bundle, Told]:
    told = Told()
    return compile_bundle(request_of("cpu"), told), told


def test_stages_and_gates_are_told(compiled: tuple[Bundle, Told]) -> None:
    _, told = compiled
    assert told.stages == ["data", "train and quantize", "split", "verify", "profile", "pack"]
    gates = [note for note in told.notes if note.startswith("passed: ")]
    assert len(gates) == 2 * 4 + 4 + 3 and not any(note.startswith("FAILED") for note in told.notes)
    assert sum("Adaptive" in note for note in told.notes) == 2


def test_the_bundle_opens_and_says_what_it_is(compiled: tuple[Bundle, Told], clips_root: Path) -> None:
    manifest = Bundle.open(compiled[0].location).manifest
    assert (manifest.model, manifest.preset, manifest.target) == ("arnet", "tiny", "cpu")
    assert manifest.labels == CLASSES
    assert manifest.default_variant == "int8" and len(manifest.graphs) == 8
    (table,) = manifest.cost_tables
    for graph in manifest.graphs:
        for view in graph.macs:
            assert table.graph_ms(graph.name, view) > 0
    assert manifest.provenance["dataset"] == str(clips_root)
    assert manifest.provenance["seed"] == 0
    assert set(manifest.provenance["versions"]) >= {"torch", "onnxruntime"}  # type: ignore[arg-type]
    assert "report.html" in manifest.files


def test_the_manifest_has_every_outcome(compiled: tuple[Bundle, Told]) -> None:
    accuracy: dict[str, Any] = compiled[0].manifest.accuracy
    assert accuracy["clips"] == 6
    assert all(gate["passed"] for gate in accuracy["gates"])
    assert len(accuracy["verdicts"]) == 2
    for variant in ("int8", "fp32"):
        kinds = [row["kind"] for row in accuracy["outcomes"] if row["variant"] == variant]
        assert {kind: kinds.count(kind) for kind in ("static", "random", "adaptive")} == {
            "static": 16,  # four branches on 1, 2, 4 and all steps
            "random": 3,
            "adaptive": 1,
        }
    for row in accuracy["outcomes"]:
        assert 0 <= row["accuracy"] <= 1 and row["ms_per_clip"] > 0


def test_the_report_is_one_file(compiled: tuple[Bundle, Told]) -> None:
    report = compiled[0].path("report.html").read_text("utf-8")
    assert report.startswith("<!") and "</html>" in report
    for verdict in compiled[0].manifest.accuracy["verdicts"]:  # type: ignore[union-attr]
        assert str(verdict).split(":")[0] in report
    assert 'src="http' not in report and 'href="http' not in report


@pytest.mark.parametrize("variant", ["int8", "fp32"])
def test_the_bundle_streams(compiled: tuple[Bundle, Told], clips_root: Path, variant: str) -> None:
    with StreamRecognizer(compiled[0], "cpu", variant=variant) as recognizer:
        for clip in sorted(clips_root.glob("val/*/*.mp4")):
            recognitions = list(recognizer.stream(clip))
            assert len(recognitions) == 8
            assert {name for name, _ in recognitions[-1].top} <= set(CLASSES)
            assert sum(score for _, score in recognitions[-1].top) == pytest.approx(1)


def modified(folder: Path) -> dict[str, int]:
    return {path.name: path.stat().st_mtime_ns for path in folder.rglob("*.pt")}


def test_another_target_takes_the_trained_weights(
    compiled: tuple[Bundle, Told], request_of: Callable[..., Request]
) -> None:
    runs = request_of("jetson").training.runs
    assert runs is not None
    before = modified(runs)
    bundle = compile_bundle(request_of("jetson"), Told())
    after = modified(runs)
    assert {name: after[name] for name in before} == before
    assert set(after) - set(before) == {f"int8-{part}.pt" for part in ("policy", *BRANCHES)}
    assert bundle.manifest.target == "jetson"
    float_files = {name: record for name, record in bundle.manifest.files.items() if "fp32" in name}
    assert float_files == {name: compiled[0].manifest.files[name] for name in float_files}


@pytest.mark.parametrize("target", ["cpu", "jetson"])
def test_bit_widths_compile_for_every_target(
    request_of: Callable[..., Request], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, target: str
) -> None:
    recipe = small_preset(holdout=0.25).recipe
    recipe = replace(recipe, multibit=recipe.branches, finetune=None)
    small = replace(
        videoiq.PRESETS["tiny"], size=64, policy_size=32, hidden=16, backbone=SMALLEST, recipe=recipe
    )
    monkeypatch.setitem(videoiq.PRESETS, "tiny", small)
    monkeypatch.setattr("compiler.gates.parity.INTEGER_AGREEMENT", 0.5)  # an epoch of training leaves ties
    monkeypatch.setattr("compiler.gates.parity.TIED_AGREEMENT", 0.5)
    told = Told()
    request = replace(
        request_of(target),
        model=ModelRequest("videoiq", "tiny"),
        out=tmp_path / "v.bundle",
        precision=PrecisionRequest(keep_all=True),
    )
    manifest = compile_bundle(request, told).manifest
    assert {graph.precision for graph in manifest.graphs} == {"fp32", "int8", "int4", "int2"}
    assert any("declared, not measured" in note for note in told.notes) == (target == "jetson")
    tried: Any = manifest.accuracy["precisions"]
    assert [one["precision"] for one in tried] == ["fp32", "int8", "int4", "int2"]
    assert tried[2]["int8_equivalent_macs"] == tried[1]["int8_equivalent_macs"] / 4
    assert tried[1]["int8_equivalent_macs"] == tried[1]["macs"]
    report = Bundle.open(tmp_path / "v.bundle").path("report.html").read_text("utf-8")
    assert "int8-equivalent GMACs" in report and "Precisions tried" in report
    assert report.count("<td>shared</td>") >= 3, "graphs of one store have no memory of their own"


@pytest.mark.parametrize(
    ("model", "precisions", "said"),
    [
        ("arnet", ("fp32", "int4"), "int4 only with a shared store; use fp32,int8, or --model videoiq"),
        ("arnet", ("int5",), "precisions int5: are not bit-widths; give some of fp32, int8, int4, int2"),
        ("videoiq", (), "precisions none: are not bit-widths"),
        ("coquant", ("int8", "int8"), "precisions int8,int8: are not bit-widths"),
    ],
)
def test_precisions_that_are_not_to_be_had(model: str, precisions: tuple[str, ...], said: str) -> None:
    asked = PrecisionRequest(precisions)
    request = Request(ModelRequest(model, "tiny"), (TARGETS["cpu"],), Path("x.bundle"), precision=asked)
    with pytest.raises(CompileError) as caught:
        check_precisions(request)
    assert said in str(caught.value)


def test_failed_gates_leave_no_bundle_and_the_training(
    request_of: Callable[..., Request],
    compiled: tuple[Bundle, Told],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("compiler.gates.parity.FLOAT_TOLERANCE", -1.0)
    request = replace(request_of("cpu"), out=tmp_path / "never.bundle")
    assert request.training.runs is not None
    told, trained = Told(), modified(request.training.runs)
    with pytest.raises(CompileError, match="verification: arnet-policy-fp32 equals torch"):
        compile_bundle(request, told)
    assert not list(tmp_path.iterdir())
    assert any(note.startswith("FAILED: ") for note in told.notes)
    assert modified(request.training.runs) == trained  # nothing is lost, and nothing was trained again


def test_weights_to_start_from_are_loaded_where_they_fit(
    request_of: Callable[..., Request], tmp_path: Path
) -> None:
    torch.manual_seed(7)
    network = BACKBONES[SMALLEST](5)
    torch.save(network.state_dict(), tmp_path / "start.pt")
    told = Told()
    _, model = build_model(
        request_of("cpu", model=ModelRequest("arnet", "tiny", tmp_path / "start.pt")), CLASSES, told
    )
    wanted = network.state_dict()["layer4.0.conv2.weight"]
    for backbone in model.backbones().values():
        assert torch.equal(backbone.state_dict()["layer4.0.conv2.weight"], wanted)
    assert len(told.notes) == 4 and all("unfit: fc.weight, fc.bias" in note for note in told.notes)
    with pytest.raises(WeightsError, match="no such file"):
        build_model(
            request_of("cpu", model=ModelRequest("arnet", "tiny", tmp_path / "none.pt")), CLASSES, told
        )


def test_unknown_data_is_an_error(request_of: Callable[..., Request], tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such file or folder"):
        compile_bundle(request_of("cpu", data=DataRequest(tmp_path / "none")), Told())


def test_unknown_models_and_presets_list_the_known_ones() -> None:
    check_model(ModelRequest("arnet", "paper"))
    with pytest.raises(CompileError, match="model resnet: is unknown; use one of arnet"):
        check_model(ModelRequest("resnet", "tiny"))
    with pytest.raises(
        CompileError, match="preset huge: is unknown to arnet; use one of tiny, mobile, paper"
    ):
        check_model(ModelRequest("arnet", "huge"))
