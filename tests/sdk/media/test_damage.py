"""Damaged files: frames or one SourceError, never another error, never a hang."""

from __future__ import annotations

import random
import struct
import time
from pathlib import Path

import numpy as np
import pytest

from runtimes.spec import View
from sdk.errors import SourceError
from sdk.media import StreamRequirements, ViewRenderer, decode_steps, open_source
from tests.sdk.media.sounding import noise, write_film
from tests.sdk.media.videos import write_video


def _truncate(content: bytearray, dice: random.Random) -> None:
    del content[dice.randrange(len(content)) :]


def _scatter(content: bytearray, dice: random.Random) -> None:
    for _ in range(dice.choice([1, 20, 200])):
        content[dice.randrange(len(content))] = dice.randrange(256)


def _overwrite(content: bytearray, dice: random.Random) -> None:
    start = dice.randrange(len(content))
    length = min(dice.choice([16, 500, 5000]), len(content) - start)
    content[start : start + length] = dice.randbytes(length)


@pytest.mark.parametrize("damage", [_truncate, _scatter, _overwrite])
@pytest.mark.parametrize("container", ["mp4", "mkv", "ts", "flv", "avi", "h264"])
def test_damaged_files_end_well(tmp_path: Path, container: str, damage) -> None:  # type: ignore[no-untyped-def]
    whole = write_video(tmp_path / f"whole.{container}").read_bytes()
    renderer = ViewRenderer(View(name="view", size=16))
    damaged = tmp_path / f"damaged.{container}"
    for seed in range(12):
        content = bytearray(whole)
        damage(content, random.Random(seed))
        damaged.write_bytes(content)
        began = time.monotonic()
        try:
            with open_source(damaged, rate_hz=8) as source:
                assert [renderer.render(frame) for frame in source]
        except SourceError as error:
            assert damaged.name in str(error)
        assert time.monotonic() - began < 5


@pytest.mark.parametrize("damage", [_truncate, _scatter, _overwrite])
@pytest.mark.parametrize(
    ("container", "codec"),
    [("mp4", "aac"), ("mkv", "libopus"), ("ts", "aac"), ("flv", "aac"), ("mov", "pcm_s16le")],
)
def test_damaged_sound_ends_no_stream(tmp_path: Path, container: str, codec: str, damage) -> None:  # type: ignore[no-untyped-def]
    rate_hz = 48_000 if codec == "libopus" else 44_100
    film = tmp_path / f"whole.{container}"
    write_film(film, 2, [(0, noise(2, rate_hz))], codec=codec, sound_rate=rate_hz)
    whole = film.read_bytes()
    wanted = StreamRequirements(8, 0.5, sound_rate_hz=24_000)
    damaged = tmp_path / f"damaged.{container}"
    for seed in range(12):
        content = bytearray(whole)
        damage(content, random.Random(seed))
        damaged.write_bytes(content)
        with_sound, without = (_ending(damaged, what) for what in (wanted, StreamRequirements(8, 0.5)))
        assert with_sound == without, seed


def _ending(path: Path, wanted: StreamRequirements) -> tuple[list[float], str]:
    """Times of the steps, and the error that came after them."""
    times: list[float] = []
    began = time.monotonic()
    try:
        for frame in decode_steps(path, wanted):
            assert frame.sound is None or np.isfinite(frame.sound.samples).all()
            times.append(frame.time_s)
    except SourceError as error:
        return times, str(error)
    assert time.monotonic() - began < 5
    return times, ""


def test_a_stream_that_begins_late_is_passed_over(tmp_path: Path) -> None:
    content = write_video(tmp_path / "video.flv", frames=160).read_bytes()
    late = tmp_path / "late.flv"
    late.write_bytes(_with_audio_tag(content, 150))
    assert len(list(decode_steps(late, 8))) == len(list(decode_steps(tmp_path / "video.flv", 8)))


def _with_audio_tag(flv: bytes, place: int) -> bytes:
    """``flv`` with a tag of sound, where there was none before, as its tag number ``place``."""
    position = 13
    for _ in range(place):
        size = int.from_bytes(flv[position + 1 : position + 4], "big")
        position += 11 + size + 4
    sound = bytes([0x32]) + bytes(64)
    header = bytes([8]) + len(sound).to_bytes(3, "big") + flv[position + 4 : position + 8] + bytes(3)
    return flv[:position] + header + sound + struct.pack(">I", 11 + len(sound)) + flv[position:]
