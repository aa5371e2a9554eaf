"""A compile judges its operating points out of fold, and the bundle is evaluated on other clips."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from compiler.cli.evaluate import evaluate
from compiler.data.synthetic.built_in import make_clips
from compiler.operating_points.evidence import judge_again
from compiler.pipeline import compile_bundle
from compiler.request import DataRequest, ModelRequest, Request, TrainingRequest
from compiler.targets import TARGETS
from models.methods import arnet
from models.recipe import Optimization
from runtimes.bundle import Bundle
from runtimes.cache import cache_folder
from runtimes.errors import AdaptiveVideoError
from sdk.recognizer import StreamRecognizer
from tests.compiler.small_training import CLASSES, CPU, RATE_HZ
from tests.compiler.test_pipeline import Told
from tests.models.small_arnet import small_preset


@pytest.fixture(scope="module")
def request_of(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Request]]:
    """Requests with so many folds, everything below one temporary folder."""
    folder = tmp_path_factory.mktemp("folds")
    clips = make_clips(folder / "clips", train_clips=6, val_clips=2, classes=CLASSES)
    stage = Optimization(epochs=2, lr=3e-3, batch=4, frames=4, adam=True)
    preset = small_preset(branches=stage, joint=replace(stage, epochs=2, frozen_branches=True), finetune=None)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ADAPTIVE_VIDEO_CACHE", str(folder / "cache"))
        patch.setitem(arnet.PRESETS, "tiny", preset)

        def make(folds: int, name: str = "made") -> Request:
            return Request(
                ModelRequest("arnet", "tiny"),
                (TARGETS["cpu"],),
                folder / f"{name}.bundle",
                DataRequest(clips, RATE_HZ),
                training=TrainingRequest(folds=folds, runs=folder / "runs", hardware=CPU),
            )

        yield make


@pytest.fixture(scope="module")
def compiled(request_of: Callable[..., Request]) -> tuple[Bundle, Told]:
    told = Told()
    return compile_bundle(request_of(2), told), told


def test_every_variant_has_a_front(compiled: tuple[Bundle, Told]) -> None:
    bundle, told = compiled
    assert told.stages[4] == "judge operating points"
    assert [front.variant for front in bundle.manifest.fronts] == ["int8", "fp32"]
    for front in bundle.manifest.fronts:
        assert front.judged_on == "18 training clips, each by networks that never saw its group (2 folds)"
        assert front.default in [point.name for point in front.points]
        assert front.dense.looks and set(front.dense.looks) == {front.dense.looks[0]}
    evaluated: list[dict[str, Any]] = bundle.manifest.accuracy["operating_points"]  # type: ignore[assignment]
    assert [one["clips"] for one in evaluated] == [6, 6]
    first = bundle.manifest.accuracy["verdicts"][0]  # type: ignore[index]
    assert str(first).startswith("arnet int8 is ") and "best fixed schedules" in str(first)
    assert "Operating points" in bundle.path("report.html").read_text("utf-8")


def test_the_evidence_is_in_the_bundle(compiled: tuple[Bundle, Told]) -> None:
    bundle, _ = compiled
    for front in bundle.manifest.fronts:
        again = judge_again(bundle.path(f"evidence/{front.variant}.npz"))
        for point in front.points:
            assert point.kind == "schedule" or again[point.name].reason == point.admitted_as


def test_folds_are_kept(compiled: tuple[Bundle, Told], request_of: Callable[..., Request]) -> None:
    """A second compile trains nothing again, and offers the same."""
    runs = request_of(2).training.runs
    assert runs is not None
    before = {path: path.stat().st_mtime_ns for path in runs.rglob("fold-*/*.pt")}
    kept = list(runs.rglob("fold-*/answers-*.npz"))
    assert before and len(kept) == 2 * 2
    again = compile_bundle(request_of(2, "again"), Told())
    assert {path: path.stat().st_mtime_ns for path in runs.rglob("fold-*/*.pt")} == before
    for one, other in zip(again.manifest.fronts, compiled[0].manifest.fronts, strict=True):
        assert one.fusion == other.fusion and one.dense.accuracy == other.dense.accuracy


def test_one_fold_holds_clips_out_for_good(request_of: Callable[..., Request]) -> None:
    told = Told()
    bundle = compile_bundle(request_of(1, "held"), told)
    front = bundle.manifest.fronts[0]
    assert front.judged_on.startswith(
        "4 training clips that nothing was trained on, of only 4 groups: too few"
    )
    assert {point.kind for point in front.points} == {"schedule"}
    assert not any("fold 1 of" in note for note in told.notes)


def test_clips_stream_as_they_were_judged(
    compiled: tuple[Bundle, Told], request_of: Callable[..., Request]
) -> None:
    """The default point's answer and number of looks, through the SDK, are those of the tables."""
    bundle, _ = compiled
    folder = request_of(2).data.folder
    assert folder is not None
    front = bundle.manifest.front("int8")
    assert front is not None
    schedule = next(point for point in reversed(front.points) if point.kind == "schedule")
    right = []
    with StreamRecognizer(bundle, "cpu", point=schedule.name) as recognizer:
        for clip in sorted(folder.glob("val/*/*.mp4")):
            result = recognizer.recognize(clip)
            looks = [step.choice for step in result.recognitions if step.choice != "held"]
            assert looks == list(schedule.looks)[: result.steps]
            right.append(result.label == clip.parent.name)
    rows: list[dict[str, Any]] = bundle.manifest.accuracy["operating_points"][0]["points"]  # type: ignore
    stated = next(row for row in rows if row["name"] == schedule.name)
    assert np.mean(right) == pytest.approx(stated["accuracy"], abs=1e-4)


def run(*arguments: object) -> tuple[int, str]:
    import typer

    app = typer.Typer(pretty_exceptions_enable=False)
    app.command()(evaluate)
    found = CliRunner().invoke(app, [str(argument) for argument in arguments], standalone_mode=False)
    if found.exception is not None and not isinstance(found.exception, SystemExit):
        raise found.exception
    return found.exit_code, found.output


def test_evaluate(compiled: tuple[Bundle, Told], request_of: Callable[..., Request], tmp_path: Path) -> None:
    folder = request_of(2).data.folder
    location = compiled[0].location
    matrix = tmp_path / "confusion.csv"
    code, said = run(location, "--data", folder, "--schedules", "--confusion", matrix)
    assert code == 0 and "best fixed schedules" in said and "every schedule" in said
    assert "control: oracle stop" in said and "6 clips" in said
    rows = list(csv.reader(matrix.open()))
    assert rows[0] == ["class", *CLASSES] and sum(int(cell) for row in rows[1:] for cell in row[1:]) == 6
    plot = tmp_path / "confusion.png"
    code, said = run(location, "--data", folder, "--split", "all", "--confusion", plot)
    assert code == 0 and "24 clips" in said and plot.read_bytes()[:4] == b"\x89PNG"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--split", "none"), "split none: is not known; use one of test, val, train, all"),
        (("--split", "test"), "states no test clips (splits: train, val)"),
        (("--point", "nope"), "point nope: is not on the front"),
        (("--variant", "nope"), "has no variant nope"),
        (("--confusion", "m.txt"), "is neither a csv nor a plot"),
        (("--confusion", "no/such/m.csv"), "its folder does not exist"),
    ],
)
def test_evaluate_mistakes(
    compiled: tuple[Bundle, Told],
    request_of: Callable[..., Request],
    arguments: tuple[str, ...],
    words: str,
) -> None:
    with pytest.raises(AdaptiveVideoError) as caught:
        run(compiled[0].location, "--data", request_of(2).data.folder, *arguments)
    assert words in str(caught.value)


def test_evaluate_along_streams(
    compiled: tuple[Bundle, Told], request_of: Callable[..., Request], tmp_path: Path
) -> None:
    """Composed of clips, and as listed: the same streams, the same answers."""
    location, folder = compiled[0].location, request_of(2).data.folder
    code, said = run(location, "--data", folder, "--compose-streams", "idle=0.5,streams=2,clips=3")
    assert code == 0 and "6 events in" in said and "always on (" in said
    points = compiled[0].manifest.fronts[0].points
    assert said.count("asleep between") >= sum(bool(point.looks) for point in points)
    (listing,) = cache_folder("streams").glob("composed-*/streams.csv")
    code, listed = run(location, "--data", listing)
    counts = [line for text in (said, listed) for line in text.splitlines() if "events in" in line]
    assert code == 0 and len(counts) == 2 and counts[0] == counts[1]
    assert (
        "every schedule" not in said
        and run(location, "--data", listing, "--schedules")[1].count("every") > 20
    )


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--compose-streams", "idle=2"), "--compose-streams idle=2.0: is not between 0 and 0.99"),
        (("--compose-streams", "loud=1"), "--compose-streams loud=1: is not known"),
        (("--compose-streams", "idle=0.5", "--confusion", "m.csv"), "--confusion m.csv: is for clips, not"),
    ],
)
def test_stream_mistakes(
    compiled: tuple[Bundle, Told],
    request_of: Callable[..., Request],
    arguments: tuple[str, ...],
    words: str,
) -> None:
    with pytest.raises(AdaptiveVideoError) as caught:
        run(compiled[0].location, "--data", request_of(2).data.folder, *arguments)
    assert words in str(caught.value)


def test_no_one_point_is_chosen_for_streams(
    compiled: tuple[Bundle, Told], request_of: Callable[..., Request]
) -> None:
    bundle = compiled[0]
    name = bundle.manifest.fronts[0].default
    how = ("--data", request_of(2).data.folder, "--compose-streams", "idle=0.5")
    with pytest.raises(AdaptiveVideoError, match="is for clips, not for streams") as caught:
        run(bundle.location, *how, "--point", name)
    assert str(caught.value).startswith(f"--point {name}")


def test_streams_that_cannot_be_read(compiled: tuple[Bundle, Told], tmp_path: Path) -> None:
    (tmp_path / "one.mp4").write_bytes(b"no video")
    listing = tmp_path / "streams.csv"
    listing.write_text(f"path,start_s,end_s,label\none.mp4,0,1,{CLASSES[0]}\n", "utf-8")
    with pytest.raises(AdaptiveVideoError, match="1 of 1 streams cannot be read"):
        run(compiled[0].location, "--data", listing)


def test_a_bundle_of_other_clips_needs_data(compiled: tuple[Bundle, Told]) -> None:
    with pytest.raises(AdaptiveVideoError, match="--data: is missing, and the bundle was not trained on the"):
        run(compiled[0].location)


def test_classes_that_the_bundle_does_not_know(
    compiled: tuple[Bundle, Told], request_of: Callable[..., Request], tmp_path: Path
) -> None:
    folder = request_of(2).data.folder
    assert folder is not None
    clip = next(folder.glob("val/*/*.mp4"))
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / clip.name).write_bytes(clip.read_bytes())
    with pytest.raises(AdaptiveVideoError, match="has the class other, which the bundle does not know"):
        run(compiled[0].location, "--data", tmp_path)


def test_some_of_the_classes_will_do(
    compiled: tuple[Bundle, Told], request_of: Callable[..., Request], tmp_path: Path
) -> None:
    """Clips of one class alone, without splits: its place is the bundle's, not the folder's."""
    folder = request_of(2).data.folder
    assert folder is not None
    label = CLASSES[-1]
    (tmp_path / label).mkdir()
    for clip in folder.glob(f"val/{label}/*.mp4"):
        (tmp_path / label / clip.name).write_bytes(clip.read_bytes())
    code, said = run(compiled[0].location, "--data", tmp_path, "--confusion", tmp_path / "m.csv")
    rows = {row[0]: row[1:] for row in csv.reader((tmp_path / "m.csv").open())}
    assert code == 0 and "2 clips" in said
    assert sum(map(int, rows[label])) == 2 and sum(int(n) for name in CLASSES[:-1] for n in rows[name]) == 0


def test_a_bundle_without_points(request_of: Callable[..., Request]) -> None:
    bundle = compile_bundle(request_of(0, "none"), Told())
    assert bundle.manifest.fronts == () and json.loads((bundle.folder / "manifest.json").read_text())
    with pytest.raises(AdaptiveVideoError, match="no operating points for variant int8; compile it again"):
        run(bundle.location, "--data", request_of(0).data.folder)
    assert "compiler.cli.evaluate" in sys.modules
