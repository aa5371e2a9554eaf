"""``adaptive-compile``: one line and an exit status for every mistake, before anything is computed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from compiler.cli.compile import main
from tests.compiler.data.clip_files import write_data_set, write_listing

GOOD = ("--model", "arnet", "--target", "cpu", "--accelerator", "cpu")
ADAMML = ("--model", "adamml", "--target", "cpu", "--dry-run")


def adaptive_compile(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """The installed program, with its caches below ``folder``."""
    program = Path(sys.executable).parent / "adaptive-compile"
    environment = {**os.environ, "ADAPTIVE_VIDEO_CACHE": str(folder / "cache"), "COLUMNS": "200"}
    return subprocess.run(
        [program, *arguments],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_dry_run_of_the_program_writes_nothing(tmp_path: Path) -> None:
    ended = adaptive_compile(tmp_path, *GOOD, "--preset", "mobile", "--dry-run")
    assert ended.returncode == 0, ended.stderr
    for said in ("arnet mobile for cpu", "built-in clips", "int8, fp32", "arnet-mobile-cpu.bundle"):
        assert said in ended.stdout
    assert not list(tmp_path.iterdir())


def test_bad_data_is_one_line(tmp_path: Path) -> None:
    ended = adaptive_compile(tmp_path, *GOOD, "--data", "nowhere")
    assert ended.returncode == 2
    (line,) = ended.stderr.splitlines()
    assert line.startswith("error: ") and "nowhere: no such file or folder; check the path" in line
    assert "Traceback" not in ended.stdout
    assert not list(tmp_path.iterdir())


def run(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *arguments: str
) -> tuple[int, str, str]:
    """Exit status, what was printed, and the error."""
    monkeypatch.setattr(sys, "argv", ["adaptive-compile", *arguments])
    monkeypatch.setenv("COLUMNS", "200")
    with pytest.raises(SystemExit) as ended:
        main()
    printed = capsys.readouterr()
    return int(ended.value.code or 0), printed.out, printed.err


def test_targets_are_listed(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    status, out, err = run(monkeypatch, capsys, "--list-targets")
    assert (status, err) == (0, "")
    assert "cpu" in out and "uint8" in out
    assert "jetson" in out and "TensorrtExecutionProvider" in out


def test_dry_run_counts_the_data(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    data = write_data_set(tmp_path / "set")
    status, out, _ = run(monkeypatch, capsys, *GOOD, "--dry-run", "--data", str(data), "--out", "x.bundle")
    assert status == 0
    assert "12 clips of 2 classes" in out and "bundle: x.bundle" in out


def test_dry_run_refuses_what_fails_at_once(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    silent = write_data_set(tmp_path / "silent")
    status, _, err = run(monkeypatch, capsys, *ADAMML, "--dry-run", "--data", str(silent))
    assert (status, err.startswith("error: modality audio: not one of the clips has it")) == (2, True)
    rows = [
        f"{name}.wav,{label},{split}"
        for label in "ab"
        for split in ("train", "val")
        for name in (label + split,)
    ]
    sounds = write_listing(tmp_path / "sounds", "path,label,split", *rows)
    status, _, err = run(monkeypatch, capsys, *GOOD, "--dry-run", "--data", str(sounds))
    assert status == 2 and "not one of its clips has pictures that can be read" in err


def test_a_preset_for_pretrained_weights_warns_without_any(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for preset, warns in (("mobile", True), ("tiny", False)):
        _, out, _ = run(monkeypatch, capsys, *GOOD, "--dry-run", "--preset", preset)
        assert ("warning: preset mobile is made for pretrained weights" in out) == warns


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--model", "resnet", "--target", "cpu"), "model resnet: is unknown; use one of arnet"),
        (("--model", "arnet", "--target", "toaster"), "target toaster: is unknown; use one of cpu, jetson"),
        ((*GOOD, "--preset", "huge"), "preset huge: is unknown to arnet; use one of tiny, mobile, paper"),
        (("--target", "cpu"), "--model"),
        ((*GOOD, "--seed", "x"), "--seed"),
        ((*GOOD, "--seed", "-1"), "--seed"),
        ((*GOOD, "--epochs", "0"), "--epochs"),
        ((*GOOD, "--batch-size", "-1"), "--batch-size"),
        ((*GOOD, "--color"), "--color"),
        ((*GOOD, "--dry-run", "--init", "none.pt"), "none.pt: no such file"),
        ((*GOOD, "--dry-run", "--init", __file__), "test_compile.py: "),
        ((*GOOD, "--dry-run", "--out", __file__), "exists and is not a bundle"),
        ((*GOOD, "--out", f"{__file__}/x.bundle"), "is not a writable folder"),
        ((*GOOD, "--dry-run", "--data", "none"), "none: no such file or folder"),
        ((*GOOD, "--dry-run", "--runs", __file__), "test_compile.py: is a file; name a folder"),
        ((*GOOD, "--runs", f"{__file__}/runs"), "test_compile.py is not a writable folder"),
        ((*GOOD, "--dry-run", "--devices", "many"), "hardware: "),
        ((*GOOD, "--dry-run", "--precision", "7-bit"), "hardware: "),
        ((*GOOD, "--dry-run", "--rate-hz", "0"), "--rate-hz"),
        ((*GOOD, "--dry-run", "--rate-hz", "-3"), "--rate-hz"),
        ((*GOOD, "--precisions", "int3"), "precisions int3: are not bit-widths"),
        ((*GOOD, "--precisions", ""), "precisions none: are not bit-widths"),
        (("--model", "coquant", "--target", "cpu", "--modeled-costs"), "leave --modeled-costs out"),
        ((*GOOD, "--precisions", "fp32, int4"), "use fp32,int8, or --model videoiq or coquant"),
        ((*GOOD, "--keep-all-precisions"), "give --precisions, or leave out what is about them"),
        ((*GOOD, "--precisions", "fp32,int8", "--costs", "none.json"), "none.json: no such file"),
        ((*GOOD, "--modalities", "rgb"), "modalities rgb: arnet sees pictures alone"),
        ((*ADAMML, "--modalities", "rgb,smell"), "give some of rgb, rgbdiff, flow, audio, each once"),
        ((*ADAMML, "--modalities", "rgb,rgb"), "modalities rgb,rgb: name one twice"),
        ((*ADAMML, "--modalities", ""), "modalities none: "),
    ],
)
def test_mistakes_are_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], said: str
) -> None:
    status, out, err = run(monkeypatch, capsys, *arguments)
    assert status == 2
    (line,) = err.splitlines()
    assert line.startswith("error: ") and said in line
    assert "Traceback" not in out
