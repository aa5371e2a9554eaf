"""Opens one container and decodes its video and, if wanted, its sound, each with its own time."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Any, Self

import av
from av.container import InputContainer
from av.stream import Disposition, Stream
from av.video.stream import VideoStream

from sdk.errors import SourceError, SourceErrorCode
from sdk.media.audio.lookahead import LookAhead
from sdk.media.audio.microphone import Microphone
from sdk.media.audio.sound import SoundTrack, open_sound
from sdk.media.frames import Event, NoSound, Picture, SoundChunk
from sdk.media.sources.addresses import Address, Kind
from sdk.media.sources.ffmpeg_errors import source_error

_BAD_READS_IN_A_ROW = 16
_BAD_PACKETS_IN_A_ROW = 600
_ASSUMED_RATE_HZ = 25.0
_MOST_UNTIMED = 8
"""Pictures without a time that wait for one with a time."""


@dataclass(frozen=True, slots=True)
class DecoderOptions:
    """How to open and decode. Time-outs are in seconds and hold for each open and each read.

    ``sound_rate_hz``: decode sound too, to so many samples per second; None: leave it alone.
    """

    threads: int = 1
    open_timeout_s: float = 10.0
    read_timeout_s: float = 5.0
    sound_rate_hz: int | None = None


class Decoder:
    """The pictures of one address, and its sound if wanted. A context manager; use it from one thread.

    Sound comes before the pictures of its time, as far as the container has it within two seconds of video
    (live: as far as it comes within 0.3 s). Of several audio tracks the one that FFmpeg takes for the best
    is decoded. A failure of sound is an event, ``NoSound``, and never an error.

    Damaged packets are skipped; ``on_corrupt`` is called for each of video.

    Raises: SourceError on entering (cannot be opened, no video stream, codec unsupported) and on iterating
    (connection lost, not one picture came, or a live stream's last 600 packets were damaged).
    """

    def __init__(self, address: Address, options: DecoderOptions, on_corrupt: Callable[[], None]) -> None:
        self._address = address
        self._options = options
        self._on_corrupt = on_corrupt
        self._container: InputContainer | None = None
        self._microphone: Microphone | None = None

    def __enter__(self) -> Self:
        self._container = open_container(self._address, self._options)
        try:
            self._stream = video_stream(self._container, self._address)
            _open_codec(self._stream, self._options.threads, self._address)
            self._sound = self._open_sound(self._container)
        except BaseException:
            self._container.close()
            raise
        self._period_s = 1 / float(self._stream.average_rate or _ASSUMED_RATE_HZ)
        self._opened_s = time.monotonic()
        self._last_time_s: float | None = None
        self._has_times = False
        self._bad_packets = 0
        self._untimed: list[Picture] = []
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._microphone is not None:
            self._microphone.close()
            self._microphone = None
        if self._container is not None:
            self._container.close()
            self._container = None

    @property
    def live(self) -> bool:
        """True if the stream comes at its own pace and has no end that is known."""
        if self._address.live is not None:
            return self._address.live
        return self._container is not None and not self._container.duration

    @property
    def start_s(self) -> float | None:
        """The first timestamp of a file, of whatever stream; None where that is not known beforehand."""
        start = None if self._container is None or self.live else self._container.start_time
        return None if start is None else start / av.time_base

    def __iter__(self) -> Iterator[Event]:
        if isinstance(self._sound, NoSound):
            yield self._sound
        if self._microphone is not None:
            yield from self._beside_microphone(self._microphone)
        elif isinstance(self._sound, SoundTrack):
            yield from self._with_sound(self._sound)
        else:
            for packet in self._packets(self._stream):
                yield from self._decode(packet)
        yield from self._untimed_before(None)
        if self._last_time_s is None:
            raise self._without_pictures()

    def _open_sound(self, container: InputContainer) -> SoundTrack | NoSound | None:
        rate_hz = self._options.sound_rate_hz
        if rate_hz is None:
            return None
        if self._address.microphone is None:
            return open_sound(container, rate_hz)
        self._microphone = Microphone(self._address.microphone, rate_hz, self._options.read_timeout_s)
        return None

    def _with_sound(self, track: SoundTrack) -> Iterator[Event]:
        """Pictures and sound: video packets wait, undecoded, until the sound of their time is there."""
        ahead = LookAhead(live=self.live and self._address.kind is not Kind.TEST)
        flush: av.Packet[Any] | None = None
        failure: SourceError | None = None
        try:
            for packet in self._packets(self._stream, track.stream):
                if packet.stream.index == track.stream.index:
                    yield from self._heard(track, packet, ahead)
                elif packet.size:
                    ahead.hold(packet)
                else:
                    flush = packet  # sound may have one to come
                for leaving in ahead.leaving():
                    yield from (leaving,) if isinstance(leaving, NoSound) else self._decode(leaving)
        except SourceError as error:
            failure = error
        for last in ahead.rest():
            yield from self._decode(last)
        if failure is not None:
            raise failure
        if flush is not None:
            yield from self._decode(flush)

    def _heard(self, track: SoundTrack, packet: av.Packet[Any], ahead: LookAhead) -> Iterator[Event]:
        for heard in track.decode(packet):
            if isinstance(heard, SoundChunk):
                ahead.heard(heard.time_s + heard.samples.size / track.rate_hz)
            elif packet.pts is not None and packet.time_base:
                ahead.heard(float((packet.pts + (packet.duration or 0)) * packet.time_base))
            yield heard

    def _beside_microphone(self, microphone: Microphone) -> Iterator[Event]:
        """Pictures, each after the sound that the microphone brought until its time."""
        for packet in self._packets(self._stream):
            for picture in self._decode(packet):
                yield from microphone.heard_until(picture.time_s)
                yield picture

    def _packets(self, *streams: Stream) -> Iterator[av.Packet[Any]]:
        """Packets to the end, then for each stream the empty one that flushes its decoder."""
        assert self._container is not None
        bad_reads = 0
        while True:
            try:
                for packet in self._container.demux(*streams):
                    bad_reads = 0
                    yield packet
                return
            except IndexError:
                # PyAV's way to say that this packet is of a stream that began after opening: not ours.
                continue
            except av.error.InvalidDataError:
                bad_reads += 1
                self._on_corrupt()
                if bad_reads == _BAD_READS_IN_A_ROW:
                    return
            except av.error.FFmpegError as error:
                raise source_error(error, self._address) from None

    def _decode(self, packet: av.Packet[Any]) -> Iterator[Picture]:
        began = time.perf_counter()
        try:
            images = self._stream.codec_context.decode(packet)
        except av.error.FFmpegError as error:
            self._skip(error)
            return
        decode_ms = (time.perf_counter() - began) * 1e3
        for image in images:
            self._bad_packets = 0
            picture = Picture(image, image.time or 0.0, decode_ms)
            decode_ms = 0.0
            if image.time is None and self._last_time_s is None and len(self._untimed) < _MOST_UNTIMED:
                self._untimed.append(picture)
                continue
            yield from self._untimed_before(image.time)
            yield replace(picture, time_s=self._time_s(image.time, picture.arrived_s))

    def _untimed_before(self, time_s: float | None) -> Iterator[Picture]:
        """The first pictures, which had no time: a network stream's first packets may lack it.

        They come a period apart, up to ``time_s``; if that is None too, as a stream's without any times.
        """
        waiting, self._untimed = self._untimed, []
        for place, picture in enumerate(waiting):
            before_s = (len(waiting) - place) * self._period_s
            known_s = None if time_s is None else time_s - before_s
            yield replace(picture, time_s=self._time_s(known_s, picture.arrived_s))

    def _skip(self, error: av.error.FFmpegError) -> None:
        """Count a damaged packet. A file is read to its end; a live stream would go on for ever."""
        self._on_corrupt()
        self._bad_packets += 1
        if isinstance(error, av.error.EOFError):
            # An empty packet amid the stream signaled the end to the decoder.
            self._stream.codec_context.flush_buffers()
        if self.live and self._bad_packets == _BAD_PACKETS_IN_A_ROW:
            raise self._undecodable(f"none of {_BAD_PACKETS_IN_A_ROW} packets in a row")

    def _time_s(self, time_s: float | None, arrived_s: float) -> float:
        """``time_s``; if it is None, a period after the last picture's.

        Of a live stream without any times, when the picture came: its rate is not known.
        """
        if time_s is not None:
            self._has_times = True
        elif self.live and not self._has_times:
            time_s = arrived_s - self._opened_s
        else:
            time_s = 0.0 if self._last_time_s is None else self._last_time_s + self._period_s
        self._last_time_s = time_s
        return time_s

    def _without_pictures(self) -> SourceError:
        """That not one picture came: of a device that is starting, or a damaged file."""
        if self.live and self._address.kind in (Kind.NETWORK, Kind.CAMERA):
            reason, fix = "ended before its first picture", "check that the device sends, and what it sends"
            return SourceError(self._address, reason, fix, SourceErrorCode.LOST)
        return self._undecodable("not one frame of it")

    def _undecodable(self, what: str) -> SourceError:
        return SourceError(
            self._address,
            f"{what} can be decoded",
            "convert it anew, e.g. to H.264 in mp4",
            SourceErrorCode.CORRUPT,
        )


def open_container(address: Address, options: DecoderOptions) -> InputContainer:
    """The container at ``address``; the caller closes it. Raises: SourceError."""
    try:
        return av.open(
            address.url if options.sound_rate_hz is None else address.url_with_sound,
            format=address.format,
            options=address.options,
            timeout=(options.open_timeout_s, options.read_timeout_s),
            metadata_errors="replace",
        )
    except av.error.FFmpegError as error:
        raise source_error(error, address) from None


def video_stream(container: InputContainer, address: Address) -> VideoStream:
    """The stream to decode; a picture attached to sound is none. Raises: SourceError."""
    streams = [s for s in container.streams.video if not s.disposition & Disposition.attached_pic]
    if not streams:
        raise SourceError(
            address, "has no video stream", "give a source with pictures", SourceErrorCode.NO_VIDEO_STREAM
        )
    best = container.streams.best("video")
    stream = best if isinstance(best, VideoStream) and best in streams else streams[0]
    if stream.codec_context is None:
        raise SourceError(
            address,
            "its video codec is unknown",
            "convert it, e.g. to H.264 in mp4",
            SourceErrorCode.CODEC_UNSUPPORTED,
        )
    return stream


def _open_codec(stream: VideoStream, threads: int, address: Address) -> None:
    codec = stream.codec_context
    codec.thread_count = threads
    codec.thread_type = "AUTO" if threads != 1 else "SLICE"
    try:
        codec.open(strict=False)
    except av.error.FFmpegError:
        # Whatever number a decoder gives its refusal, even EPERM: it is about the stream, not the user.
        raise SourceError(
            address,
            f"the {codec.name} decoder refuses the stream",
            "convert it anew, e.g. to H.264 in mp4",
            SourceErrorCode.CODEC_UNSUPPORTED,
        ) from None
