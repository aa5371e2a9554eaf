"""Stream time starts near 0 and never runs backwards, the same with and without sound."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import av
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sdk.media import decode_steps, open_source
from sdk.media.frames import Picture, SoundChunk
from sdk.media.stream_time import StreamTime
from tests.sdk.media.audio.test_sound import wanted
from tests.sdk.media.sounding import RATE_HZ, clicks, write_film


def picture(time_s: float) -> Picture:
    return Picture(None, time_s, arrived_s=0.0)  # type: ignore[arg-type]


def chunk(time_s: float) -> SoundChunk:
    return SoundChunk(np.zeros(240, np.float32), time_s)


def times(*events: Picture | SoundChunk) -> list[float]:
    return [round(event.time_s, 6) for event in StreamTime().events(events)]  # type: ignore[union-attr]


@pytest.mark.parametrize("start_s", [0.0, 0.2, -0.04])
def test_times_near_zero_stay(start_s: float) -> None:
    assert times(picture(start_s), picture(start_s + 0.04)) == pytest.approx([start_s, start_s + 0.04])


@pytest.mark.parametrize("start_s", [1.47, -2.3, 95443.7])
def test_others_begin_at_zero(start_s: float) -> None:
    assert times(picture(start_s), picture(start_s + 0.04)) == pytest.approx([0.0, 0.04])


def test_time_that_begins_anew_goes_on_for_pictures_and_sound() -> None:
    """Sound of the second part comes before the first's last picture, as it does in files."""
    first = [chunk(1.4), picture(1.4), chunk(2.4), picture(2.4), chunk(3.4)]
    second = [chunk(1.4), picture(3.4), chunk(1.5), picture(1.4), chunk(2.4), picture(2.4)]
    made = list(StreamTime().events([*first, *second]))
    assert [m.time_s for m in made if isinstance(m, Picture)] == pytest.approx([0, 1, 2, 3, 4])
    assert [m.after_gap for m in made if isinstance(m, Picture)] == [False, False, False, True, False]
    assert [m.source_time_s for m in made if isinstance(m, Picture)] == [1.4, 2.4, 3.4, 1.4, 2.4]
    sound = [m.time_s for m in made if isinstance(m, SoundChunk)]
    assert sound == pytest.approx([0, 1, 2, 3, 3.1, 4])


@given(st.lists(st.floats(-100, 100), min_size=1, max_size=40))
def test_it_never_runs_backwards_by_more_than_disorder(source: list[float]) -> None:
    made = times(*map(picture, source))
    latest = np.maximum.accumulate(made)
    assert (np.array(made) >= latest - 0.2 - 1e-6).all() and abs(made[0]) <= 0.5


@given(st.lists(st.tuples(st.booleans(), st.floats(-50, 50)), min_size=1, max_size=40))
def test_sound_changes_no_picture(events: list[tuple[bool, float]]) -> None:
    both = [picture(time_s) if is_picture else chunk(time_s) for is_picture, time_s in events]
    alone = [event for event in both if isinstance(event, Picture)]
    made = [m.time_s for m in StreamTime().events(both) if isinstance(m, Picture)]
    assert made == [m.time_s for m in StreamTime().events(alone)]  # type: ignore[union-attr]


def transport_stream(path: Path, start_s: float, seconds: float = 1.0) -> Path:
    """A film in MPEG-TS whose clock starts at ``start_s``: a click at 1.0 s, a flash at 1.2 s."""
    sound = [(0.0, clicks(seconds, 1.0))]
    plain = write_film(path.with_suffix(".mkv"), seconds, sound, codec="aac", flashes=[30])
    with av.open(str(plain)) as source, av.open(str(path), "w", options={"muxdelay": "0"}) as target:
        streams = {stream.index: target.add_stream_from_template(stream) for stream in source.streams}
        for packet in source.demux():
            if packet.dts is not None and packet.time_base and packet.pts is not None:
                shift = round(start_s / packet.time_base)
                packet.pts, packet.dts = packet.pts + shift, packet.dts + shift
                packet.stream = streams[packet.stream.index]
                target.mux(packet)
    return path


@pytest.mark.parametrize("start_s", [0.0, 10.0, 95440.0])
def test_a_transport_stream_begins_at_zero(tmp_path: Path, start_s: float) -> None:
    path = transport_stream(tmp_path / "a.ts", start_s)
    frames = list(decode_steps(path, 25.0))
    assert frames[0].time_s == pytest.approx(0.0, abs=0.1) and len(frames) == 25
    if start_s < 95_000:  # else FFmpeg unwraps the clock, to a time before 0
        assert frames[0].source_time_s == pytest.approx(start_s, abs=2.0)
    streamed = [frame.time_s for frame in open_source(path, rate_hz=25)]
    assert streamed == [frame.time_s for frame in frames]


def from_clicks_to_flashes_s(path: Path) -> list[float]:
    """How long before each flash its click is heard."""
    distances_s = []
    for frame in decode_steps(path, wanted()):
        if frame.image.to_ndarray(format="gray").mean() > 150 and frame.sound is not None:
            samples = frame.sound.samples
            distances_s.append((samples.size - int(np.abs(samples).argmax())) / RATE_HZ)
    return distances_s


@pytest.mark.parametrize("start_s", [0.0, 10.0, 95442.2])
def test_a_clock_that_starts_late_or_wraps_moves_sound_and_pictures_alike(
    tmp_path: Path, start_s: float
) -> None:
    """The 33-bit clock wraps at 95443.7 s: within the last one."""
    path = transport_stream(tmp_path / "a.ts", start_s, seconds=2.0)
    frames = list(decode_steps(path, 25.0))
    assert frames[0].time_s == pytest.approx(0.0, abs=0.1) and len(frames) == 50
    assert [frame.restarted for frame in frames].count(True) == 0
    steps = [after.time_s - before.time_s for before, after in pairwise(frames)]
    assert steps == pytest.approx([0.04] * 49, abs=1e-3)
    assert from_clicks_to_flashes_s(path) == pytest.approx([0.2], abs=0.03)


def test_sound_stays_with_its_pictures_where_streams_are_joined(tmp_path: Path) -> None:
    part = write_film(tmp_path / "a.ts", 2, [(0, clicks(2, 1.0))], codec="aac", flashes=[30])
    joined = tmp_path / "joined.ts"
    joined.write_bytes(part.read_bytes() * 3)
    assert from_clicks_to_flashes_s(joined) == pytest.approx([0.2] * 3, abs=0.03)


def test_two_transport_streams_joined(tmp_path: Path) -> None:
    part = write_film(tmp_path / "a.ts", 2, [(0, clicks(2, 0.5))], codec="aac")
    joined = tmp_path / "joined.ts"
    joined.write_bytes(part.read_bytes() * 2)
    for needed in (25.0, wanted()):
        frames = list(decode_steps(joined, needed))
        assert all(after.time_s > before.time_s for before, after in pairwise(frames))
        assert [frame.restarted for frame in frames].count(True) == 1
        assert frames[-1].time_s == pytest.approx(3.96, abs=0.1)
    heard = [frame.sound for frame in frames if frame.sound is not None and frame.sound.absent is None]
    assert len(heard) > len(frames) // 2 and heard[0].rate_hz == RATE_HZ
