"""Opens one container and decodes its video stream: every picture, in order, with its own time."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import TracebackType
from typing import Self

import av
from av.container import InputContainer
from av.stream import Disposition
from av.video.stream import VideoStream

from sdk.errors import SourceError, SourceErrorCode
from sdk.media.addresses import Address
from sdk.media.ffmpeg_errors import source_error
from sdk.media.frames import Picture

_BAD_READS_IN_A_ROW = 16
_BAD_PACKETS_IN_A_ROW = 600
_ASSUMED_RATE_HZ = 25.0


@dataclass(frozen=True, slots=True)
class DecoderOptions:
    """How to open and decode. Time-outs are in seconds and hold for each open and each read."""

    threads: int = 1
    open_timeout_s: float = 10.0
    read_timeout_s: float = 5.0


class Decoder:
    """The pictures of one address. A context manager; use it from one thread.

    Damaged packets are skipped; ``on_corrupt`` is called for each.

    Raises: SourceError on entering (cannot be opened, no video stream, codec unsupported) and on iterating
    (connection lost, not one picture could be decoded, or a live stream's last 600 packets were damaged).
    """

    def __init__(self, address: Address, options: DecoderOptions, on_corrupt: Callable[[], None]) -> None:
        self._address = address
        self._options = options
        self._on_corrupt = on_corrupt
        self._container: InputContainer | None = None

    def __enter__(self) -> Self:
        self._container = open_container(self._address, self._options)
        try:
            self._stream = video_stream(self._container, self._address)
            _open_codec(self._stream, self._options.threads, self._address)
        except BaseException:
            self._container.close()
            raise
        self._period_s = 1 / float(self._stream.average_rate or _ASSUMED_RATE_HZ)
        self._opened_s = time.monotonic()
        self._last_time_s: float | None = None
        self._bad_packets = 0
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._container is not None:
            self._container.close()
            self._container = None

    @property
    def live(self) -> bool:
        """True if the stream comes at its own pace and has no end that is known."""
        if self._address.live is not None:
            return self._address.live
        return self._container is not None and not self._container.duration

    def __iter__(self) -> Iterator[Picture]:
        for packet in self._packets():
            yield from self._decode(packet)
        if self._last_time_s is None:
            raise self._undecodable("not one frame of it")

    def _packets(self) -> Iterator[av.Packet[VideoStream]]:
        """Packets to the end, then the empty one that flushes the decoder."""
        assert self._container is not None
        bad_reads = 0
        while True:
            try:
                for packet in self._container.demux(self._stream):
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

    def _decode(self, packet: av.Packet[VideoStream]) -> Iterator[Picture]:
        began = time.perf_counter()
        try:
            images = self._stream.codec_context.decode(packet)
        except av.error.FFmpegError as error:
            self._skip(error)
            return
        decode_ms = (time.perf_counter() - began) * 1e3
        for image in images:
            self._bad_packets = 0
            yield Picture(image, self._time_s(image), decode_ms)
            decode_ms = 0.0

    def _skip(self, error: av.error.FFmpegError) -> None:
        """Count a damaged packet. A file is read to its end; a live stream would go on for ever."""
        self._on_corrupt()
        self._bad_packets += 1
        if isinstance(error, av.error.EOFError):
            # An empty packet amid the stream told the decoder that this was the end.
            self._stream.codec_context.flush_buffers()
        if self.live and self._bad_packets == _BAD_PACKETS_IN_A_ROW:
            raise self._undecodable(f"none of {_BAD_PACKETS_IN_A_ROW} packets in a row")

    def _time_s(self, image: av.VideoFrame) -> float:
        """Its pts in seconds; without one: a live source's arrival, else one period after the last."""
        time_s = image.time
        if time_s is None:
            if self.live:
                time_s = time.monotonic() - self._opened_s
            else:
                time_s = 0.0 if self._last_time_s is None else self._last_time_s + self._period_s
        self._last_time_s = time_s
        return time_s

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
            address.url,
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
