"""A camera on this machine: a small RTSP server that sends H.264 over its TCP connection."""

from __future__ import annotations

import base64
import socket
import struct
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from fractions import Fraction

import av
import numpy as np

_PAYLOAD = 96
_CLOCK_HZ = 90_000
_LARGEST = 1200


@dataclass(frozen=True)
class Clip:
    """Encoded pictures: the NAL units of each, and its parameter sets."""

    pictures: tuple[tuple[bytes, ...], ...]
    parameter_sets: tuple[bytes, bytes]
    rate_hz: int


@dataclass(frozen=True)
class Session:
    """What one connection gets: so many pictures of the clip, ``burst`` at once, the rest in real time.

    ``hangs``: afterwards it stays open and silent; else it is closed. ``refused``: the answer to DESCRIBE.
    """

    pictures: int
    burst: int = 10**6
    hangs: bool = False
    refused: str | None = None


def encode_clip(pictures: int, rate_hz: int = 25, group: int = 75) -> Clip:
    """Moving noise in H.264 without B-pictures, a key frame every ``group``."""
    context = av.CodecContext.create("libx264", "w")
    context.width, context.height, context.pix_fmt = 96, 64, "yuv420p"
    context.framerate, context.time_base = Fraction(rate_hz), Fraction(1, rate_hz)
    context.options = {"g": str(group), "keyint_min": str(group), "sc_threshold": "0", "tune": "zerolatency"}
    random = np.random.default_rng(0)
    made = []
    for number in range(pictures):
        pixels = random.integers(0, 60, (64, 96, 3), np.uint8)
        pixels[:, number % 90 : number % 90 + 6] = 250
        frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
        frame.pts = number
        made += [bytes(packet) for packet in context.encode(frame)]
    made += [bytes(packet) for packet in context.encode(None)]
    units = [_nal_units(packet) for packet in made]
    sets = {unit[0] & 31: unit for picture in units for unit in picture if unit[0] & 31 in (7, 8)}
    slices = tuple(tuple(unit for unit in picture if unit[0] & 31 in (1, 5)) for picture in units)
    return Clip(slices, (sets[7], sets[8]), rate_hz)


def _nal_units(packet: bytes) -> list[bytes]:
    parts = packet.replace(b"\0\0\0\1", b"\0\0\1").split(b"\0\0\1")
    return [part for part in parts if part]


@contextmanager
def serving_rtsp(clip: Clip, sessions: Sequence[Session]) -> Iterator[str]:
    """An rtsp address; connection n that asks for the stream gets ``sessions[n]``, later ones are refused."""
    done = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.05)
        thread = threading.Thread(target=_serve, args=(server, clip, list(sessions), done))
        thread.start()
        try:
            yield f"rtsp://camera:secret@127.0.0.1:{server.getsockname()[1]}/live"
        finally:
            done.set()
            thread.join()


def _serve(server: socket.socket, clip: Clip, left: list[Session], done: threading.Event) -> None:
    threads = []
    while left and not done.is_set():
        with suppress(TimeoutError):
            connection, _ = server.accept()
            threads.append(threading.Thread(target=_Camera(connection, clip, left.pop(0), done).run))
            threads[-1].start()
    if not left:
        server.close()
    for thread in threads:
        thread.join()


class _Camera:
    """One connection: answers until PLAY, and sends."""

    def __init__(
        self, connection: socket.socket, clip: Clip, session: Session, done: threading.Event
    ) -> None:
        self._connection, self._clip, self._session, self._done = connection, clip, session, done
        self._sequence = 0

    def run(self) -> None:
        with self._connection, suppress(OSError):
            self._connection.settimeout(5)
            for method, number in self._requests():
                self._answer(method, number)
                if method == "PLAY":
                    self._send_clip()
                    return
                if method == "DESCRIBE" and self._session.refused is not None:
                    return

    def _requests(self) -> Iterator[tuple[str, str]]:
        received = b""
        while True:
            while b"\r\n\r\n" not in received:
                more = self._connection.recv(4096)
                if not more:
                    return
                received += more
            head, _, received = received.partition(b"\r\n\r\n")
            lines = head.decode().split("\r\n")
            number = next(line.split(":")[1].strip() for line in lines if line.lower().startswith("cseq"))
            yield lines[0].split()[0], number

    def _answer(self, method: str, number: str) -> None:
        fields, body = "", ""
        if method == "DESCRIBE" and self._session.refused is not None:
            self._connection.sendall(f"RTSP/1.0 {self._session.refused}\r\nCSeq: {number}\r\n\r\n".encode())
            return
        if method == "OPTIONS":
            fields = "Public: OPTIONS, DESCRIBE, SETUP, PLAY, TEARDOWN\r\n"
        elif method == "DESCRIBE":
            body = self._description()
            fields = f"Content-Type: application/sdp\r\nContent-Length: {len(body)}\r\n"
        elif method == "SETUP":
            fields = "Transport: RTP/AVP/TCP;unicast;interleaved=0-1\r\nSession: 1\r\n"
        elif method == "PLAY":
            fields = "Session: 1\r\nRange: npt=0.000-\r\n"
        self._connection.sendall(f"RTSP/1.0 200 OK\r\nCSeq: {number}\r\n{fields}\r\n{body}".encode())

    def _description(self) -> str:
        sets = ",".join(base64.b64encode(part).decode() for part in self._clip.parameter_sets)
        return (
            "v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=camera\r\nt=0 0\r\n"
            f"m=video 0 RTP/AVP {_PAYLOAD}\r\na=rtpmap:{_PAYLOAD} H264/{_CLOCK_HZ}\r\n"
            f"a=fmtp:{_PAYLOAD} packetization-mode=1;sprop-parameter-sets={sets}\r\na=control:track0\r\n"
        )

    def _send_clip(self) -> None:
        began = time.monotonic()
        for number, units in enumerate(self._clip.pictures[: self._session.pictures]):
            if number >= self._session.burst:
                due = began + (number - self._session.burst) / self._clip.rate_hz
                time.sleep(max(0.0, due - time.monotonic()))
            stamp = number * _CLOCK_HZ // self._clip.rate_hz
            for place, unit in enumerate(units):
                self._send_unit(unit, stamp, last=place == len(units) - 1)
            if self._done.is_set():
                return
        if self._session.hangs:
            self._done.wait(30)

    def _send_unit(self, unit: bytes, stamp: int, *, last: bool) -> None:
        """One NAL unit, in fragments (FU-A) if it is large."""
        if len(unit) <= _LARGEST:
            self._send_packet(unit, stamp, marker=last)
            return
        indicator, kind = (unit[0] & 0xE0) | 28, unit[0] & 31
        pieces = [unit[i : i + _LARGEST] for i in range(1, len(unit), _LARGEST)]
        for place, piece in enumerate(pieces):
            begins, ends = place == 0, place == len(pieces) - 1
            header = bytes([indicator, (0x80 * begins) | (0x40 * ends) | kind])
            self._send_packet(header + piece, stamp, marker=last and ends)

    def _send_packet(self, payload: bytes, stamp: int, *, marker: bool) -> None:
        head = struct.pack(">BBHII", 0x80, (0x80 * marker) | _PAYLOAD, self._sequence & 0xFFFF, stamp, 7)
        self._sequence += 1
        packet = head + payload
        self._connection.sendall(b"$\0" + struct.pack(">H", len(packet)) + packet)
