"""Time left by the last compile of a kind, and nothing where nothing is known."""

from __future__ import annotations

from pathlib import Path

import pytest

from compiler.cli.stage_times import StageTimes


def test_time_left_is_what_the_rest_took(tmp_path: Path) -> None:
    file = tmp_path / "kept" / "times.json"
    first = StageTimes(file)
    assert first.left_s("data") is None
    for stage, seconds in (("data", 1.0), ("train", 60.0), ("pack", 2.0)):
        first.record(stage, seconds)
        first.save()
    second = StageTimes(file)
    assert [second.left_s(stage) for stage in ("data", "train", "pack", "other")] == [63.0, 62.0, 2.0, None]
    second.record("data", 3.0)
    second.save()  # and is interrupted: of the rest the first is still what is known
    assert StageTimes(file).left_s("data") == 65.0
    assert [path.name for path in file.parent.iterdir()] == ["times.json"]


@pytest.mark.parametrize("text", ["", "[1]", '{"data": "x"}', "null"])
def test_a_file_that_is_not_ours_is_nothing_known(text: str, tmp_path: Path) -> None:
    (tmp_path / "times.json").write_text(text)
    assert StageTimes(tmp_path / "times.json").left_s("data") is None
