"""Operating points on the command line."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from runtimes.bundle import Bundle
from tests.sdk.cli.test_command_lines import SOURCE, assert_mistake, call
from tests.sdk.decisions.points.test_streams_along_points import FRONT
from tests.sdk.test_watching import encode_watched


@pytest.fixture
def along(bundle: Bundle, tmp_path: Path) -> Path:
    """The small bundle on disk, with operating points."""
    copy = Path(shutil.copytree(bundle.folder, tmp_path / "points.bundle"))
    fields = json.loads((copy / "manifest.json").read_text())
    fields["fronts"] = [FRONT.model_dump(mode="json")]
    (copy / "manifest.json").write_text(json.dumps(fields))
    return copy


def test_inspect_lists_them(along: Path) -> None:
    done = call("inspect", along)
    assert done.returncode == 0, done.stderr
    for words in ("judged on nothing: a test", "two big (default)", "dense: rgb224 x 16", "80.0% to 100.0%"):
        assert words in done.stdout


def test_run_takes_one_by_name_or_by_price(along: Path) -> None:
    done = call("run", along, SOURCE, "--point", "one small", "--json")
    assert done.returncode == 0, done.stderr
    ran = [json.loads(line)["choice"] for line in done.stdout.splitlines()]
    assert [step for step, choice in enumerate(ran) if choice == "rgb112"] == [0, 16]
    done = call("run", along, SOURCE, "--price", "100", "--json")
    cheapest = [json.loads(line)["choice"] for line in done.stdout.splitlines()]
    assert set(cheapest) == {"rgb112", "held"}


def test_run_sleeps_with_a_watch_and_the_log_replays(along: Path, tmp_path: Path) -> None:
    watched = encode_watched(tmp_path / "watched.mp4")
    log = tmp_path / "log.jsonl"
    done = call("run", along, watched, "--point", "one small", "--watch", "--json", "--log", log)
    assert done.returncode == 0, done.stderr
    ran = [json.loads(line)["choice"] for line in done.stdout.splitlines()]
    assert [step for step, choice in enumerate(ran) if choice == "rgb112"] == [0, 80]
    assert ran.count("asleep") == 101 and "asleep" in done.stderr
    assert call("run", "--replay", log).returncode == 0


def test_run_takes_turns_at_a_share_of_the_cost(along: Path) -> None:
    done = call("run", along, SOURCE, "--cost-share", "0.1", "--json")
    assert done.returncode == 0, done.stderr
    points = [json.loads(line)["point"] for line in done.stdout.splitlines()]
    assert points and set(points) <= {point.name for point in FRONT.points}


def test_mistakes(along: Path) -> None:
    assert_mistake(call("run", along, SOURCE, "--cost-share", "2"), "cost_share 2.0: is not a share")
    assert_mistake(call("run", along, SOURCE, "--fixed", "rgb224", "--watch"), "watch: only operating points")
    assert_mistake(
        call("run", along, SOURCE, "--point", "nope"), "point nope: is not on the front; use one of"
    )
    assert_mistake(call("run", along, SOURCE, "--point", "two big", "--price", "1"), "exclude each other")


def test_bench_measures_the_default_point(along: Path) -> None:
    done = call("bench", along, "--source", SOURCE, "--runs", "3")
    assert done.returncode == 0, done.stderr
    assert "point two big" in done.stdout
