"""Live streams: paced test patterns, and network streams that are connected again when they are lost."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from sdk.errors import SourceError, SourceErrorCode
from sdk.media.frames import Event, Frame, Picture
from sdk.media.sources.addresses import Address, Kind
from sdk.media.sources.decoder import Decoder, DecoderOptions

_PERMANENT = (SourceErrorCode.AUTH_FAILED, SourceErrorCode.CODEC_UNSUPPORTED)
_PASSING = (SourceErrorCode.CONNECTION_FAILED, SourceErrorCode.TIMEOUT, SourceErrorCode.LOST)
"""Of the first opening: a device that is starting, or a network that is not there yet."""


@dataclass(frozen=True, slots=True)
class Reconnect:
    """How often and how soon a network stream that is lost, or does not open, is opened again. ::

        recognizer.stream("rtsp://camera/1", reconnect=Reconnect(limit=100, longest_s=60))   # for months
        recognizer.stream("rtsp://camera/1", reconnect=Reconnect(limit=0))                   # never

    ``limit``: attempts in a row without a frame before it counts as lost for good; 0: never try.
    ``first_limit``: how often the first opening is tried again, where its failure may pass. The wait
    doubles from ``first_s`` to ``longest_s``, each shortened at random by up to a half, so that many
    devices do not return to one server at the same instant.
    """

    limit: int = 10
    first_s: float = 0.5
    longest_s: float = 30.0
    first_limit: int = 3

    @property
    def first_attempts(self) -> int:
        """How often the first opening is tried again."""
        return min(self.first_limit, self.limit)

    def wait_s(self, attempt: int) -> float:
        """Seconds to wait before ``attempt`` (from 0)."""
        longest = min(self.longest_s, self.first_s * 2.0 ** min(attempt, 30))
        return longest * random.uniform(0.5, 1.0)


def paced(events: Iterator[Event], stop: threading.Event) -> Iterator[Event]:
    """``events``, the pictures in real time, for a source that makes them faster than that."""
    start: float | None = None
    for event in events:
        if not isinstance(event, Picture):
            yield event
            continue
        start = time.monotonic() - event.time_s if start is None else start
        if stop.wait(max(0.0, start + event.time_s - time.monotonic())):
            return
        yield replace(event, arrived_s=time.monotonic())


def paced_frames(
    frames: Iterator[Frame], wanted: Callable[[], bool], stop: threading.Event | None = None
) -> Iterator[Frame]:
    """The frames of a file, each when its time has come while ``wanted`` says so; it is asked before each.

    From when on it says so, times count from the frame before. Setting ``stop`` ends them.
    """
    stop = threading.Event() if stop is None else stop
    began_s: float | None = None
    for frame in frames:
        if wanted():
            began_s = time.monotonic() - frame.time_s if began_s is None else began_s
            waits_s = began_s + frame.time_s - time.monotonic()
            if waits_s > 0:
                if stop.wait(waits_s):
                    return
                frame = replace(frame, arrived_s=time.monotonic())
        else:
            began_s = time.monotonic() - frame.time_s
        yield frame


class LiveStream:
    """The pictures and the sound of a network stream or camera, over as many connections as it takes.

    The first connection is tried again where its failure may pass (refused, or timed out), and raises
    SourceError at once where it may not: a wrong path, password or codec. Later losses are repaired; when
    ``reconnect.limit`` attempts in a row bring no frame, SourceError LOST. ``on_reconnect`` is called before
    the first event of a new connection.
    """

    def __init__(
        self,
        address: Address,
        options: DecoderOptions,
        reconnect: Reconnect,
        stop: threading.Event,
        on_corrupt: Callable[[], None],
        on_reconnect: Callable[[], None],
    ) -> None:
        self._address = address
        self._options = options
        self._reconnect = reconnect
        self._stop = stop
        self._on_corrupt = on_corrupt
        self._on_reconnect = on_reconnect
        self.live = address.live is not False
        self.start_s: float | None = None

    def __iter__(self) -> Iterator[Event]:
        failures = 0
        seen_any = False
        first_error: SourceError | None = None
        while not self._stop.is_set():
            loss = SourceError(self._address, "the stream ended", "check the sender", SourceErrorCode.LOST)
            fresh = True
            try:
                for event in self._connection():
                    if fresh and seen_any:
                        self._on_reconnect()
                    fresh = False
                    if isinstance(event, Picture):
                        seen_any, failures = True, 0
                    yield event
                if not self.live:
                    return
            except SourceError as error:
                if not self.live or error.code in _PERMANENT:
                    raise
                if not seen_any and error.code not in _PASSING:
                    raise
                first_error = first_error or error
                if not seen_any and failures == self._reconnect.first_attempts:
                    raise self._unopened(first_error, failures) from None
                loss = error
            if failures == self._reconnect.limit:
                raise self._lost(loss) from None
            self._stop.wait(self._reconnect.wait_s(failures))
            failures += 1

    def _connection(self) -> Iterator[Event]:
        with Decoder(self._address, self._options, self._on_corrupt) as decoder:
            self.live, self.start_s = decoder.live, decoder.start_s
            yield from decoder

    def _unopened(self, error: SourceError, retries: int) -> SourceError:
        if not retries:
            return error
        reason = f"{error.reason} ({retries + 1} attempts)"
        return SourceError(self._address, reason, error.fix, error.code)

    def _lost(self, loss: SourceError) -> SourceError:
        return SourceError(
            self._address,
            f"lost, and {self._reconnect.limit} attempts to reconnect brought no frame ({loss.reason})",
            "check the device and the network, then open it again",
            SourceErrorCode.LOST,
        )


def reconnects(address: Address) -> bool:
    """True for sources whose loss may pass: network streams and unplugged cameras."""
    return address.kind in (Kind.NETWORK, Kind.CAMERA)
