"""Without the extra of the compiler the program names it; nothing is imported before."""

from __future__ import annotations

import os
from importlib.machinery import ModuleSpec

import pytest

from compiler import entry_point


def test_a_missing_extra_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def found(name: str) -> ModuleSpec | None:
        return None if name in ("torch", "brevitas") else ModuleSpec(name, None)

    monkeypatch.setattr(entry_point, "find_spec", found)
    with pytest.raises(SystemExit) as caught:
        entry_point.main()
    assert caught.value.code == 2
    expected = "error: adaptive-compile: needs torch, brevitas; pip install 'adaptive-video[compile]'\n"
    assert capsys.readouterr() == ("", expected)


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
