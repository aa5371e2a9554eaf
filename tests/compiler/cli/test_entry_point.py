"""Without the extra of the compiler the program names it; nothing is imported before."""

from __future__ import annotations

import os
from importlib.machinery import ModuleSpec
from importlib.metadata import version

import pytest

from compiler.cli import entry_point


def test_a_missing_extra_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def found(name: str) -> ModuleSpec | None:
        return None if name in ("torch", "brevitas") else ModuleSpec(name, None)

    monkeypatch.setattr(entry_point, "find_spec", found)

    def main(*arguments: str) -> object:
        monkeypatch.setattr("sys.argv", ["adaptive-compile", *arguments])
        with pytest.raises(SystemExit) as caught:
            entry_point.main()
        return caught.value.code

    install = "pip install '.[compile]' in a clone of adaptive-video\n"
    for arguments in ((), ("--list-targets",)):
        assert main(*arguments) == 2
        expected = f"error: adaptive-compile: needs torch, brevitas; {install}"
        assert capsys.readouterr() == ("", expected)
    assert main("--version") == 0 and capsys.readouterr() == (f"{version('adaptive-video')}\n", "")
    assert main("--help") == 0
    shown = capsys.readouterr().out
    assert shown.startswith("Usage: adaptive-compile") and shown.endswith(install)


@pytest.mark.parametrize(("given", "kept"), [(None, "PASSIVE"), ("ACTIVE", "ACTIVE")])
def test_waiting_threads_sleep_unless_the_user_says_otherwise(
    monkeypatch: pytest.MonkeyPatch, given: str | None, kept: str
) -> None:
    monkeypatch.delenv("OMP_WAIT_POLICY", raising=False)
    if given is not None:
        monkeypatch.setenv("OMP_WAIT_POLICY", given)
    monkeypatch.setattr("sys.argv", ["adaptive-compile", "--list-targets"])
    with pytest.raises(SystemExit) as caught:
        entry_point.main()
    assert caught.value.code == 0 and os.environ["OMP_WAIT_POLICY"] == kept
    monkeypatch.delenv("OMP_WAIT_POLICY")
