"""Opens anything that gives pictures, and yields those that are steps."""

from __future__ import annotations

import math
import os
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import takewhile
from numbers import Integral, Real
from types import TracebackType
from typing import Self

from sdk.errors import SourceOptionError
from sdk.media.frames import Event, Frame
from sdk.media.requirements import StreamRequirements
from sdk.media.sources.addresses import Address, Kind, not_a_source, parse_address
from sdk.media.sources.decoder import Decoder, DecoderOptions
from sdk.media.sources.frame_queue import Drop, FrameQueue
from sdk.media.sources.live import LiveStream, Reconnect, paced, paced_frames, reconnects
from sdk.media.sources.pushed import SOUND_RATE_HZ, PushedMedia, TimedPushed, pushed_events
from sdk.media.steps import StepPicker
from sdk.media.stream_time import StreamTime

TimedImages = TimedPushed

_CLOSE_MARGIN_S = 1.0


class Source(ABC):
    """Frames that are steps, one after another. A context manager; iterate it once."""

    def __init__(self) -> None:
        self._reported = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @abstractmethod
    def __iter__(self) -> Iterator[Frame]:
        """The frames, each as soon as it is there.

        Raises: SourceError, after the frames that were decoded before the failure.
        """

    @property
    @abstractmethod
    def drops(self) -> Mapping[str, int]:
        """What was lost so far, by cause (the values of ``Drop``)."""

    @property
    def dropped_since_last(self) -> int:
        """How many drops, of all causes, since this was last asked."""
        total = sum(self.drops.values())
        since, self._reported = total - self._reported, total
        return since

    @abstractmethod
    def close(self) -> None:
        """Stop and let everything go. May be called twice, and from another thread."""


class PushedSource(Source):
    """Frames from an iterable, taken in the consumer's own thread: nothing is lost."""

    def __init__(self, pairs: TimedPushed, picker: StepPicker, media: PushedMedia) -> None:
        super().__init__()
        self._frames = picker.frames(pushed_events(pairs, media))
        self._closed = False

    def __iter__(self) -> Iterator[Frame]:
        for frame in self._frames:
            if self._closed:
                return
            yield frame

    @property
    def drops(self) -> Mapping[str, int]:
        """Nothing: the consumer sets the pace."""
        return {str(cause): 0 for cause in Drop}

    def close(self) -> None:
        """Take no more of the iterable."""
        self._closed = True


class DecodedSource(Source):
    """Frames decoded in a thread of their own, behind a bounded queue."""

    def __init__(
        self,
        address: Address,
        picker: StepPicker,
        queue: FrameQueue,
        options: DecoderOptions,
        reconnect: Reconnect,
        own_pace: Callable[[], bool] = lambda: False,
    ) -> None:
        super().__init__()
        self.address = address
        self._own_pace = own_pace
        self._live = True
        self._picker = picker
        self._queue = queue
        self._options = options
        self._reconnect = reconnect
        self._time = StreamTime()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"decode {address}", daemon=True)

    def __enter__(self) -> Self:
        self._start()
        return self

    def __iter__(self) -> Iterator[Frame]:
        self._start()
        try:
            yield from paced_frames(self._queued(), self._is_paced, self._stop)
        finally:
            self.close()

    def _queued(self) -> Iterator[Frame]:
        while (frame := self._queue.get()) is not None:
            yield frame

    def _is_paced(self) -> bool:
        """Whether the next frame waits for its time: what is live comes in its own time anyway."""
        return not self._live and self._own_pace()

    @property
    def drops(self) -> Mapping[str, int]:
        """What was lost so far, by cause."""
        return self._queue.drops

    def close(self) -> None:
        """Stop the thread and wait for it.

        It ends after the read or open that it may be in, which the time-outs bound.
        """
        self._stop.set()
        self._queue.close()
        if self._thread.is_alive() and self._thread is not threading.current_thread():
            longest = max(self._options.open_timeout_s, self._options.read_timeout_s)
            self._thread.join(longest + _CLOSE_MARGIN_S)

    def _start(self) -> None:
        if self._thread.ident is None and not self._stop.is_set():
            self._thread.start()

    def _run(self) -> None:
        try:
            if reconnects(self.address):
                self._read_stream()
            else:
                self._read_to_the_end()
            self._queue.end()
        except BaseException as error:
            self._queue.end(error)

    def _read_to_the_end(self) -> None:
        with Decoder(self.address, self._options, self._count_corrupt) as decoder:
            events = self._time.events(decoder, lambda: decoder.start_s)
            if self.address.kind is Kind.TEST and decoder.live:
                events = paced(events, self._stop)
            self._pass_on(events, decoder)

    def _read_stream(self) -> None:
        stream = LiveStream(
            self.address,
            self._options,
            self._reconnect,
            self._stop,
            on_corrupt=self._count_corrupt,
            on_reconnect=self._restart,
        )
        self._pass_on(self._time.events(stream, lambda: stream.start_s), stream)

    def _pass_on(self, events: Iterator[Event], of: Decoder | LiveStream) -> None:
        """Queue the steps among ``events``, until they end or the source is closed."""
        until_closed = takewhile(lambda _: not self._stop.is_set(), events)
        for frame in self._picker.frames(until_closed):
            self._live = of.live
            if not self._queue.put(frame, live=of.live):
                return

    def _restart(self) -> None:
        self._time.interrupt()
        self._picker.restart()

    def _count_corrupt(self) -> None:
        self._queue.count(Drop.CORRUPT)


def open_source(
    source: str | os.PathLike[str] | int | TimedImages,
    requirements: StreamRequirements | None = None,
    *,
    rate_hz: float | None = None,
    gap_s: float = 2.0,
    queue_size: int = 4,
    max_staleness_s: float = 0.5,
    threads: int = 1,
    open_timeout_s: float = 10.0,
    read_timeout_s: float = 5.0,
    reconnect: Reconnect | None = None,
    sound_rate_hz: int = SOUND_RATE_HZ,
    own_pace: bool | Callable[[], bool] = False,
) -> Source:
    """Open a source of steps: by ``requirements``, or just ``rate_hz`` pictures per second of its own
    time.

    ``source`` is one of

    * a path or ``file://`` address of anything FFmpeg reads;
    * ``camera:0``, or its number alone, or ``v4l2:///dev/video0?size=1280x720&rate=30``;
      ``camera:0+mic:default`` hears an ALSA device too;
    * ``rtsp://`` or ``http(s)://``; an http stream without a stated duration is live;
    * ``test://?size=320x240&rate=30&duration=5&pattern=testsrc2``: endless without ``duration``, in real
      time unless ``live=0``, with a tone and a beep each second unless ``sound=0``;
    * an iterable of (image, time in seconds); image: uint8 (H, W, 3) RGB, or an ``av.VideoFrame``. Among
      them may be sound, each before the pictures of its time: mono float32 (n,) in [-1, 1] of
      ``sound_rate_hz``, with the time of its first sample.

    If sound is required, a picture waits for the sound of its time: in a file as far as the container
    has it within two seconds of video, live for 0.3 s at most. Where there is none, ``Frame.sound`` says
    why. Of several audio tracks the one that FFmpeg takes for the best is heard, as the mean of its channels.

    If segments are required, the first frame comes when a whole one has passed; of a source that ends
    before that, its last picture is the only frame.

    Files and iterables lose nothing. Live sources keep the newest ``queue_size`` frames and skip those
    older than ``max_staleness_s`` when there is a newer one; every drop is counted by cause. A gap of more
    than ``gap_s``, time that runs backwards, and a reconnection mark the next frame as ``restarted``, and
    are followed by a whole segment first, too.
    ``own_pace``: a file's steps come at the times that they have in it, as a camera's do, and not as fast as
    they are taken; none is lost all the same. A function is asked before each step.

    Times are stream time (``sdk.media.stream_time``), and the app's own for an iterable; the source's pts is
    ``Frame.source_time_s``. Nothing is opened before the source is entered or iterated.

    Raises: SourceError for an unknown scheme, a malformed address, or a missing file; SourceOptionError for
    an option that is not a number or out of its range; ValueError for a rate that is not positive, or for
    both or neither of ``requirements`` and ``rate_hz``.
    Whatever else goes wrong is raised as SourceError while iterating.
    """
    if requirements is None:
        if rate_hz is None:
            raise ValueError("open_source: give requirements or rate_hz")
        requirements = StreamRequirements(rate_hz)
    elif rate_hz is not None:
        raise ValueError("open_source: requirements has a rate_hz of its own")
    _require("queue_size", queue_size, 1, whole=True)
    _require("threads", threads, 0, whole=True)
    for name, seconds in (("gap_s", gap_s), ("max_staleness_s", max_staleness_s)):
        _require(name, seconds, 0.0)
    for name, seconds in (("open_timeout_s", open_timeout_s), ("read_timeout_s", read_timeout_s)):
        _require(name, seconds, 1e-3)
    if reconnect is not None and not isinstance(reconnect, Reconnect):
        raise SourceOptionError(f"reconnect {reconnect!r}", "is not a Reconnect", "use Reconnect(limit=3)")
    picker = StepPicker(requirements, gap_s)
    pushed = PushedMedia(requirements.sound_rate_hz, sound_rate_hz)
    if isinstance(source, Integral) and not isinstance(source, bool):
        source = f"camera:{int(source)}"
    if not isinstance(source, str | os.PathLike | Iterable):
        raise not_a_source(source)
    if not isinstance(source, str | os.PathLike):
        return PushedSource(source, picker, pushed)
    return DecodedSource(
        parse_address(source),
        picker,
        FrameQueue(queue_size, max_staleness_s),
        DecoderOptions(threads, open_timeout_s, read_timeout_s, requirements.sound_rate_hz),
        reconnect or Reconnect(),
        own_pace if callable(own_pace) else lambda: own_pace,
    )


def _require(name: str, value: object, least: float, *, whole: bool = False) -> None:
    """Raises: SourceOptionError if ``value`` is not a number of at least ``least``."""
    kind = Integral if whole else Real
    if isinstance(value, bool) or not isinstance(value, kind) or math.isnan(value) or value < least:
        name_of_kind = "whole number" if whole else "number"
        raise SourceOptionError(
            f"{name} {value!r}", f"is not a {name_of_kind} of at least {least:g}", f"use {least:g} or more"
        )
