"""Decodes a sound track to mono at one rate; whatever goes wrong with sound is reported, never raised."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from fractions import Fraction
from typing import Any

import av
import numpy as np
from av.audio.stream import AudioStream
from av.container import InputContainer
from numpy.typing import NDArray

from sdk.media.absence import NO_TRACK, Absence
from sdk.media.frames import NoSound, SoundChunk

_FAULTS = (av.error.FFmpegError, ValueError, OverflowError)


class MonoResampler:
    """Makes mono float32 at ``rate_hz`` of decoded sound: the mean of its channels.

    What comes may change its rate, layout and format; where it does, the filter begins anew.
    """

    def __init__(self, rate_hz: int) -> None:
        self.rate_hz = rate_hz
        self._setup: object = None
        self._resampler: av.AudioResampler | None = None

    def chunks(self, frame: av.AudioFrame, decode_ms: float = 0.0) -> Iterator[SoundChunk]:
        """The sound of ``frame``, which has its pts and time base, as far as the filter lets it go.

        Raises: FFmpegError or ValueError for sound that cannot be converted.
        """
        setup = (frame.format.name, frame.layout.name, frame.sample_rate, frame.time_base)
        if setup != self._setup:
            yield from self.flush()
            self._resampler = av.AudioResampler(format="fltp", layout=frame.layout, rate=self.rate_hz)
            self._setup = setup
        assert self._resampler is not None
        for converted in self._resampler.resample(frame):
            yield _chunk(converted, decode_ms)
            decode_ms = 0.0

    def flush(self) -> Iterator[SoundChunk]:
        """What the filter still holds: a millisecond or less."""
        resampler, self._resampler, self._setup = self._resampler, None, None
        if resampler is None:
            return
        for converted in resampler.resample(None):
            if converted is not None and converted.samples:
                yield _chunk(converted, 0.0)


def _chunk(frame: av.AudioFrame, decode_ms: float) -> SoundChunk:
    channels: NDArray[Any] = frame.to_ndarray()
    samples = np.array(channels[0] if len(channels) == 1 else channels.mean(0), np.float32)
    if not np.isfinite(samples).all():  # damaged float sound
        samples = np.nan_to_num(samples, posinf=0.0, neginf=0.0)
    if frame.time is None or not math.isfinite(frame.time):
        raise ValueError("its sound has no time")
    return SoundChunk(samples, float(frame.time), decode_ms)


class SoundTrack:
    """One audio stream of an open container, decoded packet by packet.

    Raises: FFmpegError or ValueError if its codec is unknown or refuses the stream.
    """

    def __init__(self, stream: AudioStream, rate_hz: int) -> None:
        if stream.codec_context is None:
            raise ValueError("its codec is unknown")
        self.stream = stream
        self.rate_hz = rate_hz
        codec = stream.codec_context
        codec.thread_count = 1
        codec.open(strict=False)
        self._codec = codec
        self._resampler = MonoResampler(rate_hz)
        self._heard = False
        self._next_s = 0.0

    def decode(self, packet: av.Packet[AudioStream]) -> Iterator[SoundChunk | NoSound]:
        """The sound of ``packet``, or why there is none; the empty packet brings what was held back."""
        began = time.perf_counter()
        try:
            frames = self._codec.decode(packet)
            decode_ms = (time.perf_counter() - began) * 1e3
            for frame in frames:
                self._heard = True
                for chunk in self._resampler.chunks(self._timed(frame), decode_ms):
                    yield chunk
                    decode_ms = 0.0
            if not packet.size:
                yield from self._resampler.flush()
        except _FAULTS as error:
            if isinstance(error, av.error.EOFError):
                # An empty packet amid the stream signaled the end to the decoder.
                self._codec.flush_buffers()
            yield undecodable(error, at_once=not self._heard)

    def _timed(self, frame: av.AudioFrame) -> av.AudioFrame:
        """``frame`` with a time; one that has none follows the one before."""
        if frame.pts is None or not frame.time_base:
            frame.time_base = Fraction(1, frame.sample_rate)
            frame.pts = round(self._next_s * frame.sample_rate)
        self._next_s = float(frame.time or 0.0) + frame.samples / frame.sample_rate
        return frame


def open_sound(container: InputContainer, rate_hz: int) -> SoundTrack | NoSound:
    """The track that FFmpeg takes for the best (most channels, then bit rate; a default track first).

    If its decoder refuses it, the first that can be opened.
    """
    best = container.streams.best("audio")
    streams = sorted(container.streams.audio, key=lambda stream: stream is not best)
    failure: BaseException | None = None
    for stream in streams:
        try:
            return SoundTrack(stream, rate_hz)
        except _FAULTS as error:
            failure = failure or error
    return NoSound(NO_TRACK, at_once=True) if failure is None else undecodable(failure, at_once=True)


def undecodable(error: BaseException, *, at_once: bool) -> NoSound:
    """That sound cannot be decoded, and FFmpeg's reason."""
    reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return NoSound(Absence(f"audio cannot be decoded: {reason.lower()}", permanent=True), at_once)
