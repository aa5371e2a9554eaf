"""What native libraries write to the standard error stream: kept off it, to be reasons of errors."""

from __future__ import annotations

import io
import os
import re
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr

_STDERR = 2
_LINE = re.compile(r"(?:[A-Z]+: )?\[[\w/]+\.(?:cpp|cc|h):\d+\] (?P<message>.*)")
_MORE = ("└ ", "INFO: Created TensorFlow Lite XNNPACK delegate")
"""How lines begin that go on with a message, or are one of another form."""
_lock = threading.RLock()


@contextmanager
def native_log() -> Iterator[list[str]]:
    """Messages like ``INFO: [file.cpp:12] message`` that are written meanwhile, in a list filled at the end.

    To the process's own stream or to Python's, which may be another. Whatever else is written to them, by
    other threads too, reaches them a moment later.
    """
    messages: list[str] = []
    with _lock:
        python = sys.stderr
        try:
            with _diverted() as written, redirect_stderr(io.StringIO()) as said:
                yield messages
        finally:
            for line in written:
                if not _is_message(line, messages):
                    os.write(_STDERR, line.encode(errors="surrogateescape"))
            for line in said.getvalue().splitlines(keepends=True):
                if not _is_message(line, messages):
                    python.write(line)


def end_quietly() -> None:
    """LiteRT's library logs its end as the process ends: a program's own summary is to be the last word.

    For programs to register with ``atexit``; what they write to the standard error stream afterwards is lost.
    """
    if "ai_edge_litert" in sys.modules:
        sys.stderr.flush()
        os.dup2(os.open(os.devnull, os.O_WRONLY), _STDERR)


def _is_message(line: str, messages: list[str]) -> bool:
    """Whether a line is a library's message, which then joins the others."""
    found = _LINE.match(line)
    if found:
        messages.append(found["message"].strip())
    return found is not None or line.startswith(_MORE)


@contextmanager
def _diverted() -> Iterator[list[str]]:
    """The lines that are written to the process's stream meanwhile, in a list filled at the end."""
    lines: list[str] = []
    with tempfile.TemporaryFile() as written:
        stream = os.dup(_STDERR)
        os.dup2(written.fileno(), _STDERR)
        try:
            yield lines
        finally:
            os.dup2(stream, _STDERR)
            os.close(stream)
            written.seek(0)
            lines += written.read().decode(errors="surrogateescape").splitlines(keepends=True)
