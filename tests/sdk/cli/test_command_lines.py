"""The command lines, as a user runs them."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import time
from io import StringIO
from pathlib import Path

import av
import pytest
from rich.console import Console

from runtimes.bundle import Bundle
from sdk.tables import table
from tests.sdk.films import BRIGHT, DARK, encode

SOURCE = "test://?duration=2&live=0"
BUDGET = ("--power-budget", "5W", "--meter", "modeled:2,5")


def command(name: str, *arguments: object) -> list[str]:
    return [sys.executable, "-c", f"from sdk.cli.{name} import main; main()", *map(str, arguments)]


def call(name: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command(name, *arguments), capture_output=True, text=True, timeout=60)


@pytest.fixture
def copy(bundle: Bundle, tmp_path: Path) -> Path:
    return Path(shutil.copytree(bundle.folder, tmp_path / "tiny.bundle"))


def assert_mistake(done: subprocess.CompletedProcess[str], words: str, status: int = 2) -> None:
    assert done.returncode == status, done.stderr
    assert words in done.stderr
    assert done.stderr.startswith("error: ") and done.stderr.count("\n") == 1
    assert "Traceback" not in done.stderr + done.stdout


def test_run_prints_a_line_a_step_and_a_summary(bundle: Bundle) -> None:
    done = call("run", bundle.folder, SOURCE)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert len([line for line in lines if line.rstrip().endswith(" ms") and " s  " in line]) == 20
    assert any(line.startswith("20 steps") for line in lines)


def test_run_prints_json_lines_only(bundle: Bundle, tmp_path: Path) -> None:
    clip = encode(tmp_path / "clip.mp4", [BRIGHT] * 15 + [DARK] * 15)
    done = call("run", bundle.folder, clip, "--json")
    assert done.returncode == 0, done.stderr
    results = [json.loads(line) for line in done.stdout.splitlines()]
    assert [result["step"] for result in results] == list(range(10))
    assert results[0]["choice"] == "rgb224" and results[0]["precision"] in ("fp32", "int8")
    assert "10 steps" in done.stderr


def test_run_measures_energy(bundle: Bundle) -> None:
    done = call("run", bundle.folder, SOURCE, "--json", "--meter", "modeled:2,5")
    assert done.returncode == 0, done.stderr
    results = [json.loads(line) for line in done.stdout.splitlines()]
    assert all(result["energy_mj"] > 0 for result in results)
    assert "mJ a step (modeled: 2 W idle, 5 W more while busy)" in " ".join(done.stderr.split())


def test_run_keeps_to_a_budget_draws_it_logs_it_and_replays_it(bundle: Bundle, tmp_path: Path) -> None:
    plot, log, control = tmp_path / "power.png", tmp_path / "decisions.jsonl", tmp_path / "budget.txt"
    control.write_text("4W,900ms\n")
    asked = ("--plot", plot, "--log", log, "--control", control)
    done = call("run", bundle.folder, SOURCE, *BUDGET, *asked)
    assert done.returncode == 0, done.stderr
    assert done.stderr == "budget: 4W,900ms\n"
    assert " W  price " in done.stdout and "budget" in done.stdout
    assert plot.read_bytes()[:4] == b"\x89PNG"
    done = call("run", "--replay", log)
    assert done.returncode == 0 and done.stdout == "20 steps decided again: 0 choices and 0 plans differ\n"
    lines = log.read_text().splitlines()
    changed = {**json.loads(lines[-2]), "choice": ["rgb84"], "price": 77.0}
    log.write_text("\n".join([*lines[:-2], json.dumps(changed), lines[-1]]) + "\n")
    done = call("run", "--replay", log)
    assert_mistake(done, "1 step is decided otherwise", status=1)
    assert "step 19: plan and choice" in done.stdout and "1 choice and 1 plan differ" in done.stdout


def test_a_log_that_breaks_off_is_said(bundle: Bundle, tmp_path: Path) -> None:
    log = tmp_path / "decisions.jsonl"
    assert call("run", bundle.folder, SOURCE, "--log", log).returncode == 0
    whole = log.read_text()
    log.write_text("".join(whole.splitlines(keepends=True)[:-1]))
    done = call("run", "--replay", log)
    assert done.returncode == 0 and done.stdout.startswith("20 steps decided again: 0 choices")
    assert "breaks off: its end is missing, so the stream was interrupted" in done.stderr
    log.write_text(whole[:-200])
    done = call("run", "--replay", log)
    assert_mistake(done, "is cut off; the stream was interrupted: delete that line")
    assert done.stdout.startswith("19 steps decided again")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("{bundle}", SOURCE, "--save-video", "{tmp}/zz.txt"), "no format for H.264 video has this suffix"),
        (
            ("{bundle}", SOURCE, "--save-video", "{tmp}/sound.wav"),
            "no format for H.264 video has this suffix",
        ),
        (("{bundle}", SOURCE, "--plot", "{tmp}/power.txt"), "is of no kind that can be drawn"),
        (("{bundle}", SOURCE, "--log", "{bundle}/log.jsonl"), "lies inside the bundle"),
        (("{bundle}", SOURCE, "--plot", "{bundle}/deep.png"), "lies inside the bundle"),
        (("{bundle}", SOURCE, "--log", "{tmp}"), "cannot be written: it is a folder"),
        (("{bundle}", SOURCE, "--plot", "{tmp}/one.png", "--log", "{tmp}/one.png"), "is --log too"),
        (("{bundle}", "{tmp}/clip.mp4", "--save-video", "{tmp}/clip.mp4"), "is SOURCE too"),
        (("{bundle}", "missing.mp4"), "no such file"),
        (("{bundle}", "{tmp}/clip.mp4"), "clip.mp4"),
        (("{tmp}/clip.mp4", SOURCE), "is not a bundle"),
        (("{bundle}", SOURCE, "--variant", "fp64"), "use one of fp32, int8"),
        (("{bundle}", SOURCE, "--device", "npu"), "is unknown"),
    ],
)
def test_a_mistake_changes_no_file(
    bundle: Bundle, arguments: tuple[str, ...], words: str, tmp_path: Path
) -> None:
    (tmp_path / "old.jsonl").write_text("an older log")
    (tmp_path / "clip.mp4").write_bytes(b"no video" * 100)
    before = {path: path.read_bytes() for path in [*tmp_path.iterdir(), *bundle.folder.iterdir()]}
    filled = [
        text.replace("{bundle}", str(bundle.folder)).replace("{tmp}", str(tmp_path)) for text in arguments
    ]
    if "--log" not in filled:
        filled += ["--log", str(tmp_path / "old.jsonl")]
    assert_mistake(call("run", *filled), words)
    after = {path: path.read_bytes() for path in [*tmp_path.iterdir(), *bundle.folder.iterdir()]}
    assert after == before


@pytest.mark.parametrize("budget", [("--thermal-budget", "70C"), ("--battery-budget", "3h")])
def test_every_budget_of_power_finds_a_meter(bundle: Bundle, budget: tuple[str, str]) -> None:
    done = call("run", bundle.folder, SOURCE, *budget)
    assert "needs a meter, and none was given" not in done.stderr
    assert_mistake(call("run", bundle.folder, SOURCE, *budget, "--meter", "zeus"), "zeus")


def test_with_a_control_file_a_clip_runs_at_its_own_pace(bundle: Bundle, tmp_path: Path) -> None:
    clip = encode(tmp_path / "clip.mp4", [BRIGHT] * 60)
    (tmp_path / "budget.txt").write_text("off")
    began_s = time.monotonic()
    assert call("run", bundle.folder, clip, "--control", tmp_path / "budget.txt").returncode == 0
    assert time.monotonic() - began_s > 1.9
    assert "its own pace" in " ".join(call("run", "--help").stdout.replace("│", " ").split())


def test_run_saves_an_annotated_video(bundle: Bundle, tmp_path: Path) -> None:
    done = call("run", bundle.folder, SOURCE, "--save-video", tmp_path / "out.mp4", "--max-steps", 5)
    assert done.returncode == 0, done.stderr
    with av.open(str(tmp_path / "out.mp4")) as container:
        assert container.streams.video[0].codec_context.name == "h264"
        assert container.streams.video[0].average_rate == 10
        assert len(list(container.decode(video=0))) == 5


def test_run_fixed_option(bundle: Bundle) -> None:
    done = call("run", bundle.folder, SOURCE, "--json", "--fixed", "rgb84", "--every", 2, "--variant", "fp32")
    choices = [json.loads(line)["choice"] for line in done.stdout.splitlines()]
    assert choices == ["rgb84", "held"] * 10


@pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGTERM])
def test_interrupt_ends_with_the_summary(bundle: Bundle, ending: signal.Signals) -> None:
    with subprocess.Popen(
        command("run", bundle.folder, "test://"),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # Of a test run in the background, whose shell has it ignored, the program would inherit that.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    ) as running:
        assert running.stdout is not None and running.stderr is not None
        running.stdout.readline()
        running.send_signal(ending)
        output, errors = running.communicate(timeout=20)
    assert running.returncode == 0, errors
    assert " steps" in output and errors == ""


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("{bundle}", "missing.mp4"), "no such file"),
        (("{bundle}", "teapot://"), "unknown scheme"),
        (("{bundle}", "test://?rate=-1"), "test://?rate=-1: rate=-1 is not"),
        (("none.bundle", SOURCE), "does not exist"),
        (("{bundle}", SOURCE, "--variant", "fp64"), "use one of fp32, int8"),
        (("{bundle}", SOURCE, "--fixed", "rgb999"), "use one of"),
        (("{bundle}", SOURCE, "--price", "-1"), "not a price"),
        (("{bundle}", SOURCE, "--fixed", ""), "use one of"),
        (("{bundle}", SOURCE, "--every", "2"), "give fixed too"),
        (("{bundle}", "test://?duration=0"), "duration=0 is not a number above 0"),
        (("{bundle}", SOURCE, "--device", "npu"), "is unknown"),
        (("{bundle}", SOURCE, "--meter", "wall"), "use auto, one of jetson, nvml, rapl, zeus, or a model"),
        (("{bundle}", SOURCE, "--meter", "modeled:2,x"), "give powers in W"),
        (("{bundle}", SOURCE, "--save-video", "/no/such/folder/out.mp4"), "cannot be written"),
        (("{bundle}", SOURCE, "--color"), "--color"),
        ((), "BUNDLE and SOURCE: are missing; give both, or --replay LOG"),
        (("{bundle}",), "error: SOURCE: is missing; give a file, camera:0"),
        (("test://", "{bundle}"), "test://: is a source, not a bundle; give BUNDLE first, then SOURCE"),
        (
            ("{bundle}", SOURCE, "--replay", "log.jsonl"),
            "--replay: takes no BUNDLE, SOURCE, output or budget",
        ),
        (("--replay", "log.jsonl", "--power-budget", "5W"), "--replay: takes no BUNDLE"),
        (("{bundle}", SOURCE, "--power-budget", "5"), "budget 5: has no unit; write it with one of mW, W"),
        (("{bundle}", SOURCE, "--power-budget", "-5W"), "is not a number above 0"),
        (("{bundle}", SOURCE, "--power-budget", "0W"), "is not a number above 0"),
        (("{bundle}", SOURCE, "--power-budget", "lots"), "is not a number with a unit"),
        (("{bundle}", SOURCE, "--power-budget", "20ms"), "--power-budget 20ms: is of another kind"),
        (("{bundle}", SOURCE, "--fixed", "rgb84", *BUDGET), "the choice is fixed here"),
        (("{bundle}", SOURCE, "--power-budget", "5W", "--meter", "jetson"), "not on this machine"),
        (("{bundle}", SOURCE, "--plot", "/no/such/folder/power.png"), "cannot be written"),
        (("{bundle}", SOURCE, "--plot", "{tmp}/power.txt"), "is of no kind that can be drawn"),
        (("{bundle}", SOURCE, "--log", "/no/such/folder/decisions.jsonl"), "cannot be written"),
        (("--replay", "/no/such/log.jsonl"), "cannot be read"),
    ],
)
def test_mistakes_are_one_line(
    bundle: Bundle, arguments: tuple[str, ...], words: str, tmp_path: Path
) -> None:
    filled = [
        text.replace("{bundle}", str(bundle.folder)).replace("{tmp}", str(tmp_path)) for text in arguments
    ]
    assert_mistake(call("run", *filled), words)


def test_bench_measures_and_keeps_the_costs(copy: Path) -> None:
    done = call("bench", copy, "--runs", 3, "--source", SOURCE, "--json")
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert {(row["graph"], row["view"]) for row in report["costs"]["graphs"]} >= {
        ("policy", "rgb84"),
        ("net-int8", "rgb224"),
        ("net-fp32", "rgb84"),
    }
    assert report["pipeline"]["dense_option"] == "rgb224"
    assert report["pipeline"]["adaptive"]["steps"] == report["pipeline"]["dense"]["steps"] == 20
    kept = Bundle.open(copy).device_costs()
    assert [table.model_dump(mode="json") for table in kept] == [report["costs"]]


def test_bench_fails_above_a_limit_and_names_the_row(copy: Path) -> None:
    done = call("bench", copy, "--runs", 3, "--source", SOURCE, "--max-p95-ms", 1e-4)
    assert_mistake(done, "net-fp32 on rgb224: p95", status=1)
    assert "adaptive (" in done.stdout and "no costs written" in done.stderr
    assert not Bundle.open(copy).device_costs_path.exists()


def test_bench_keeps_costs_of_more_runs_unless_told_otherwise(copy: Path) -> None:
    for runs, asked, kept, said in (
        (4, (), 4, ""),
        (2, (), 4, "has 4 runs of each graph, and this has 2; --replace-costs replaces it"),
        (2, ("--replace-costs",), 2, ""),
    ):
        done = call("bench", copy, "--runs", runs, "--source", SOURCE, "--json", *asked)
        assert done.returncode == 0 and said in done.stderr and bool(said) == bool(done.stderr)
        assert [table.runs for table in Bundle.open(copy).device_costs()] == [kept]


def test_bench_passes_below_a_limit(copy: Path) -> None:
    assert call("bench", copy, "--runs", 3, "--source", SOURCE, "--max-p95-ms", 1e4).returncode == 0


def test_bench_runs_on_and_tells_each_minute(copy: Path) -> None:
    done = call("bench", copy, "--runs", 1, "--source", SOURCE, "--minutes", 0.01)
    assert done.returncode == 0, done.stderr
    assert "minute 1: " in done.stdout and "power not measured" in done.stdout
    assert "energy was not measured: give --meter" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--runs", 0), "use 1 or more"),
        (("--max-p95-ms", -1), "--max-p95-ms -1.0: is not a time in ms; use more than 0"),
        (("--compare", "--replace-costs"), "--compare: takes no --meter"),
        (("--minutes", 0), "minutes 0.0: is not a duration; use more than 0"),
        (("--meter", "nonsense"), "meter nonsense: is unknown"),
        (
            ("--meter", "modeled:2"),
            "what runs): gives no energy: the bundle's cost table has no energies",
        ),
    ],
)
def test_bench_mistakes(arguments: tuple[object, ...], words: str, copy: Path) -> None:
    assert_mistake(call("bench", copy, "--source", SOURCE, *arguments), words)


def test_inspect_shows_what_is_in_it(bundle: Bundle) -> None:
    done = call("inspect", bundle.folder)
    assert done.returncode == 0, done.stderr
    for words in ("net-int8", "skip4", "rgb224", "bench board", "all 4 files"):
        assert words in done.stdout


def test_nothing_is_cut_off_in_a_pipe(bundle: Bundle, tmp_path: Path) -> None:
    long = "policy-of-a-name-that-no-narrow-column-holds"
    manifest = (bundle.folder / "manifest.json").read_text().replace('"policy"', f'"{long}"')
    renamed = Path(shutil.copytree(bundle.folder, tmp_path / "long.bundle"))
    (renamed / "manifest.json").write_text(
        manifest.replace(f'"{long}":', '"policy":')
        .replace(f'"role":"{long}"', '"role":"policy"')
        .replace(f'"role": "{long}"', '"role": "policy"')
    )
    done = call("inspect", renamed)
    assert done.returncode == 0, done.stderr
    assert long in done.stdout and "…" not in done.stdout and "1 threads" not in done.stdout
    folded = StringIO()
    rows = table("graph", "a", "b")
    rows.add_row(long, "x" * 20, "y" * 20)
    Console(file=folded, width=50).print(rows)
    assert "…" not in folded.getvalue()


def test_inspect_shows_the_meters() -> None:
    done = call("inspect", "--power")
    assert done.returncode == 0, done.stderr
    assert all(name in done.stdout for name in ("jetson", "nvml", "rapl", "zeus"))
    assert_mistake(call("inspect"), "give a bundle, or --power")


def test_inspect_finds_damage(copy: Path) -> None:
    path = copy / "policy.onnx"
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    assert_mistake(call("inspect", copy), "policy.onnx: SHA-256 differs", status=1)


def test_inspect_of_what_is_no_bundle_is_a_mistake(tmp_path: Path) -> None:
    assert_mistake(call("inspect", tmp_path / "none.bundle"), "does not exist")
    (tmp_path / "net.tflite").write_bytes(b"TFL3" * 100)
    assert_mistake(call("inspect", tmp_path / "net.tflite"), "net.tflite: is not a bundle")
    assert_mistake(call("inspect", tmp_path), "is not a bundle: it has no manifest.json")


@pytest.mark.parametrize("name", ["run", "bench", "inspect"])
def test_version_and_help(name: str) -> None:
    assert call(name, "--version").stdout.strip().count(".") == 2
    assert "BUNDLE" in call(name, "--help").stdout


def test_no_terminal_colors_in_a_pipe(bundle: Bundle) -> None:
    assert "\x1b" not in call("run", bundle.folder, SOURCE).stdout


def test_partial_bundles_run_and_are_shown_when_asked_for(stored_copy: Path) -> None:
    done = call("inspect", stored_copy)
    assert done.returncode == 0, done.stderr
    assert "net.high" in done.stdout and "2, 4, 8" in done.stdout
    (stored_copy / "net.low").unlink()
    for name, arguments, status in (("run", (SOURCE,), 2), ("inspect", (), 1)):
        done = call(name, stored_copy, *arguments)
        assert_mistake(done, "net.low: is missing; fetch it, or open with partial=True (adaptive-run", status)
    done = call("inspect", stored_copy, "--partial")
    assert done.returncode == 0, done.stderr
    assert "5 of 6 files" in done.stdout
    assert "missing: net.low, without which net-8 cannot run" in done.stdout
    done = call("run", stored_copy, SOURCE, "--partial", "--max-steps", 3, "--json")
    assert done.returncode == 0, done.stderr
    assert "missing: net.low; available: bits4, bits2, head, skip4" in done.stderr
    assert len(done.stdout.splitlines()) == 3
