"""What a file says of its video, without decoding any of it."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass

import av
from av.container import InputContainer
from av.video.stream import VideoStream

from runtimes.spec import Steps
from sdk.media.sources.addresses import parse_address
from sdk.media.sources.decoder import DecoderOptions, open_container, video_stream


@dataclass(frozen=True, slots=True)
class Probe:
    """Length in seconds and frames per second as stated by the file; None where it states none.

    ``has_sound``: whether it has a sound track.
    """

    duration_s: float | None
    rate_hz: float | None
    has_sound: bool


def probe(path: str | os.PathLike[str]) -> Probe:
    """Read the header of a video file. Raises: SourceError."""
    address = parse_address(path)
    with open_container(address, DecoderOptions()) as container:
        stream = video_stream(container, address)
        rate_hz = float(stream.average_rate) if stream.average_rate else None
        return Probe(_duration_s(container, stream), rate_hz, bool(container.streams.audio))


def _duration_s(container: InputContainer, stream: VideoStream) -> float | None:
    """The video's own length if stated: sound often makes the container a little longer."""
    if stream.duration and stream.time_base:
        return float(stream.duration * stream.time_base)
    if stream.frames and stream.average_rate:
        return float(stream.frames / stream.average_rate)
    return container.duration / av.time_base if container.duration else None


def stated_steps(path: str | os.PathLike[str], steps: Steps) -> int | None:
    """How many steps a file has, by what it states of its length; None if it states none.

    Raises: SourceError.
    """
    stated = probe(path)
    if stated.duration_s is None:
        return None
    last_s = stated.duration_s - (1 / stated.rate_hz if stated.rate_hz else 0.0) - steps.segment_s
    return 1 + max(0, math.floor(last_s * steps.rate_hz + 1e-6))
