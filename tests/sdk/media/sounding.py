"""Small real films with sound, whose every sample and time the test chooses."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray

Samples = NDArray[np.float32]
Piece = tuple[float, Samples]
RATE_HZ = 24_000


def noise(seconds: float, rate_hz: int = RATE_HZ, channels: int = 1) -> Samples:
    """Loud noise: float32 (channels, n)."""
    shape = (channels, round(seconds * rate_hz))
    return np.random.default_rng(0).uniform(-0.5, 0.5, shape).astype(np.float32)


def clicks(seconds: float, *times_s: float, rate_hz: int = RATE_HZ) -> Samples:
    """Silence with a millisecond of sound at each of ``times_s``: float32 (1, n)."""
    samples = np.zeros((1, round(seconds * rate_hz)), np.float32)
    for time_s in times_s:
        first = round(time_s * rate_hz)
        samples[:, first : first + rate_hz // 1000] = 0.8
    return samples


def write_film(
    path: Path,
    seconds: float = 3.0,
    pieces: Sequence[Piece] | None = None,
    *,
    flashes: Sequence[int] = (),
    rate: int = 25,
    codec: str = "pcm_s16le",
    sound_rate: int = RATE_HZ,
    layout: str = "mono",
    start_s: float = 0.0,
    garbled: bool = False,
) -> Path:
    """Dark pictures, white ones at ``flashes``, and sound in ``pieces``: (time, float32 (channels, n)).

    ``pieces`` None: no audio track. ``start_s``: time of the first picture. ``garbled``: packets of sound
    keep their times and sizes and lose their sense.
    """
    with av.open(str(path), "w") as container:
        video = container.add_stream("libx264", rate=rate)
        video.width, video.height, video.pix_fmt = 64, 48, "yuv420p"
        video.options = {"preset": "ultrafast", "tune": "zerolatency", "g": str(rate)}
        video.codec_context.time_base = Fraction(1, 1000)
        audio = None if pieces is None else container.add_stream(codec, rate=sound_rate, layout=layout)
        packets: list[av.Packet] = []
        for index in range(round(seconds * rate)):
            level = 255 if index in flashes else 0
            image = av.VideoFrame.from_ndarray(np.full((48, 64, 3), level, np.uint8), format="rgb24")
            image.pts = round(1000 * (start_s + index / rate))
            image.time_base = Fraction(1, 1000)
            packets += video.encode(image)
        packets += video.encode(None)
        if audio is not None:
            packets += _sound_packets(audio, pieces or (), garbled)
        for packet in sorted(packets, key=lambda packet: packet.dts * packet.time_base):
            container.mux(packet)
    return path


def _sound_packets(audio: av.AudioStream, pieces: Sequence[Piece], garbled: bool) -> list[av.Packet]:
    """Blocks of 1024 samples, each with its own time."""
    rate_hz = audio.codec_context.sample_rate
    packets: list[av.Packet] = []
    for time_s, samples in pieces:
        for first in range(0, samples.shape[1], 1024):
            block = np.ascontiguousarray(samples[:, first : first + 1024])
            if audio.codec_context.format.name.startswith("s16"):
                whole = np.round(block * 32767).astype(np.int16)
                frame = av.AudioFrame.from_ndarray(
                    np.ascontiguousarray(whole.T.reshape(1, -1)), format="s16", layout=audio.layout.name
                )
            else:
                frame = av.AudioFrame.from_ndarray(block, format="fltp", layout=audio.layout.name)
            frame.sample_rate = rate_hz
            frame.time_base = Fraction(1, rate_hz)
            frame.pts = round(time_s * rate_hz) + first
            packets += audio.encode(frame)
    packets += audio.encode(None)
    return [_garbled(packet) for packet in packets] if garbled else packets


def _garbled(packet: av.Packet) -> av.Packet:
    junk = av.Packet(bytes(255 - byte for byte in bytes(packet)))
    junk.pts, junk.dts, junk.time_base, junk.stream = packet.pts, packet.dts, packet.time_base, packet.stream
    return junk
