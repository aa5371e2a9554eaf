"""Servers that misbehave as cameras do."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

OK = b"HTTP/1.0 200 OK\r\nContent-Type: video/mp2t\r\n\r\n"
UNAUTHORIZED = b"HTTP/1.0 401 Unauthorized\r\nContent-Length: 0\r\n\r\n"
NOT_FOUND = b"HTTP/1.0 404 Not Found\r\nContent-Length: 0\r\n\r\n"


@dataclass(frozen=True)
class Answer:
    """What one connection gets. ``hangs``: afterwards it stays open and silent."""

    content: bytes
    hangs: bool = False


@contextmanager
def serving(answers: Sequence[Answer]) -> Iterator[str]:
    """An http address on this machine; connection n gets ``answers[n]``, later ones are refused."""
    done = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.05)
        thread = threading.Thread(target=_serve, args=(server, answers, done))
        thread.start()
        try:
            yield f"http://camera:secret@127.0.0.1:{server.getsockname()[1]}/live.ts"
        finally:
            done.set()
            thread.join()


def _serve(server: socket.socket, answers: Sequence[Answer], done: threading.Event) -> None:
    hanging = []
    left = list(answers)
    while left and not done.is_set():
        try:
            connection, _ = server.accept()
        except TimeoutError:
            continue
        answer = left.pop(0)
        connection.settimeout(5)
        connection.recv(4096)
        connection.sendall(answer.content)
        if answer.hangs:
            hanging.append(connection)
        else:
            connection.close()
    if not left:
        server.close()
    done.wait()
    for connection in hanging:
        connection.close()
