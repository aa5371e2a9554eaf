"""A file by which the budget is changed while a stream runs."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from sdk.budget.budget import Budget
from sdk.cli.control import ControlFile


def test_what_the_file_says_is_set_when_it_changes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, said = tmp_path / "budget.txt", []
    control = ControlFile(path, said.append)
    control.poll()
    control.poll()
    assert said == [], "a file that is not there says nothing"
    errors = capsys.readouterr().err.splitlines()
    assert len(errors) == 1 and "budget.txt: cannot be read (No such file" in errors[0]

    def write(text: str | bytes) -> None:
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        os.utime(path, ns=(write.time, write.time))  # type: ignore[attr-defined]
        write.time += 1  # type: ignore[attr-defined]
        control.poll()
        control.poll()

    write.time = 10**18  # type: ignore[attr-defined]
    write("5W\n")
    assert said == [Budget(watts=5)]
    write("5W")
    assert len(said) == 1, "the same is no change"
    for nonsense in ("", "5", "-3W", bytes([0xFF, 0xFE])):
        write(nonsense)
    assert len(said) == 1, "what cannot be meant changes nothing"
    write("3W, 20ms")
    write("OFF")
    assert said[1:] == [Budget(watts=3, latency_ms=20), None]
    errors = capsys.readouterr().err.splitlines()
    assert errors[0] == "budget: 5W" and errors[-1] == "budget: OFF"
    assert sum("the budget stays as it was" in line for line in errors) == 3
    path.unlink()
    control.poll()
    control.poll()
    assert len(said) == 3
    assert capsys.readouterr().err.count("cannot be read") == 1
