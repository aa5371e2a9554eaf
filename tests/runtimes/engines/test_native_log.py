"""A library's messages are kept, and everything else reaches the stream that it was meant for."""

from __future__ import annotations

import os
import sys

import pytest

from runtimes.engines.native_log import native_log


def test_messages_are_kept_and_the_rest_passed_on(capfd: pytest.CaptureFixture[str]) -> None:
    with native_log() as messages:
        os.write(2, b"[program.cpp:168] no program\nanother thread's line\n")
        os.write(2, "WARNING: [compiler/plugin.cc:9] no plugin\n└ Could not load it\n".encode())
        print("[method.cpp:12] no method\nprinted", file=sys.stderr)
    assert messages == ["no program", "no plugin", "no method"]
    assert capfd.readouterr().err == "another thread's line\nprinted\n"


def test_streams_come_back_after_an_error(capfd: pytest.CaptureFixture[str]) -> None:
    stream = sys.stderr
    with pytest.raises(ValueError, match="inside"), native_log():
        raise ValueError("inside")
    assert sys.stderr is stream
    os.write(2, b"later\n")
    assert capfd.readouterr().err == "later\n"
