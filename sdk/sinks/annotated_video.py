"""A video of a stream's steps with what was recognized written on them."""

from __future__ import annotations

import os
from fractions import Fraction
from types import TracebackType
from typing import Self

import av
import numpy as np
from av.container import OutputContainer
from av.video.stream import VideoStream
from PIL import Image, ImageDraw, ImageFont

from runtimes.errors import OutputError
from runtimes.outputs import require_writable
from sdk.media.frames import Frame
from sdk.results import Recognition

_MARGIN = 0.25


class AnnotatedVideo:
    """Writes an H.264 video, one picture per step, at the steps' rate. A context manager.

    Pictures keep the size of the first, made even as H.264 wants it.
    """

    def __init__(self, path: str | os.PathLike[str], rate_hz: float) -> None:
        self._path = os.fspath(path)
        self._rate = Fraction(rate_hz).limit_denominator(1000)
        self._container: OutputContainer | None = None
        self._stream: VideoStream | None = None

    def __enter__(self) -> Self:
        """Raises: OutputError if the file cannot be written. It is touched at the first picture only."""
        check_video_path(self._path)
        self._container = av.open(self._path, "w")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._container is None:
            return
        if self._stream is not None:
            self._container.mux(self._stream.encode())
        self._container.close()

    def write_frame(self, frame: Frame, recognition: Recognition) -> None:
        """Write ``frame`` upright, with label, score, choice and time drawn on it."""
        assert self._container is not None, "entered first"
        pixels = np.rot90(frame.image.to_ndarray(format="rgb24"), -frame.rotation // 90)
        picture = Image.fromarray(np.ascontiguousarray(pixels))
        if self._stream is None:
            self._stream = self._add_stream(self._container, picture)
        picture = picture.resize((self._stream.width, self._stream.height))
        _draw(picture, recognition)
        self._container.mux(
            self._stream.encode(av.VideoFrame.from_ndarray(np.asarray(picture), format="rgb24"))
        )

    def _add_stream(self, container: OutputContainer, picture: Image.Image) -> VideoStream:
        stream = container.add_stream("libx264", rate=self._rate)
        stream.width, stream.height = picture.width // 2 * 2, picture.height // 2 * 2
        stream.pix_fmt = "yuv420p"
        return stream


def check_video_path(path: str | os.PathLike[str]) -> None:
    """Change nothing. Raises: OutputError if no H.264 video can be written at ``path``."""
    require_writable(path, "out.mp4")
    try:
        with av.open(os.fspath(path), "w") as container:  # FFmpeg touches no file before the first picture
            known = "h264" in container.supported_codecs
    except (OSError, ValueError):
        known = False
    if not known:
        reason = "cannot be written: no format for H.264 video has this suffix"
        raise OutputError(path, reason, "name a file like out.mp4 or out.mkv")


def _draw(picture: Image.Image, recognition: Recognition) -> None:
    """Two lines at the upper left, on a dark ground so that they can be read on any picture."""
    size = max(10, picture.height // 16)
    font = ImageFont.load_default(size)
    text = (
        f"{recognition.label} {recognition.score:.2f}\n"
        f"{recognition.choice}  {recognition.latency_ms.total:.1f} ms"
    )
    draw = ImageDraw.Draw(picture, "RGBA")
    margin = size * _MARGIN
    left, top, right, bottom = draw.multiline_textbbox((2 * margin, 2 * margin), text, font=font)
    draw.rectangle((left - margin, top - margin, right + margin, bottom + margin), fill=(0, 0, 0, 160))
    draw.multiline_text((2 * margin, 2 * margin), text, font=font, fill="white")
