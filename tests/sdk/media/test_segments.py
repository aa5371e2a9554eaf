from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from runtimes.errors import AdaptiveVideoError
from runtimes.spec import Steps, View
from sdk.media import Frame, Picture, StreamRequirements, decode_steps, open_source
from sdk.media.absence import SOUND_ENDED, SOUND_IS_LATE, SOUND_NOT_BEGUN, Absence
from sdk.media.frames import NoSound, SoundChunk
from sdk.media.segments import SoundMemory, evenly_spaced
from sdk.media.steps import StepPicker
from tests.sdk.media.sounding import write_film
from tests.sdk.media.videos import gradient

RATE_HZ = 8000
RGB = View(name="rgb", size=16, frames=8)
AUDIO = View(name="audio", size=64, modality="audio")
MOTION = View(name="motion", size=16, modality="rgbdiff", frames=4, stack=2)


def test_what_views_want() -> None:
    steps = Steps(rate_hz=2, clip_steps=4, segment_s=1.28)
    single = View(name="single", size=16)
    assert StreamRequirements.of(Steps(rate_hz=2, clip_steps=4), [single]) == StreamRequirements(2)
    assert StreamRequirements.of(steps, [single, RGB]) == StreamRequirements(2, 1.28, frames=(8,))
    needed = StreamRequirements.of(steps, [RGB, MOTION, AUDIO])
    assert needed == StreamRequirements(2, 1.28, (4, 8), True, 24000)
    for view in (RGB, AUDIO, MOTION):
        with pytest.raises(AdaptiveVideoError, match=f"view {view.name}: needs a segment"):
            StreamRequirements.of(Steps(rate_hz=2, clip_steps=4), [view])
    with pytest.raises(AdaptiveVideoError, match="more windows than"):
        StreamRequirements.of(Steps(rate_hz=2, clip_steps=4, segment_s=0.002), [AUDIO])
    other = AUDIO.model_copy(update={"name": "other", "sample_rate": 16000})
    with pytest.raises(AdaptiveVideoError, match="different rates"):
        StreamRequirements.of(steps, [AUDIO, other])
    for wrong in ({"segment_s": -1.0}, {"frames": (2,)}, {"segment_s": float("nan")}):
        with pytest.raises(ValueError, match="segment_s"):
            StreamRequirements(2, **wrong)  # type: ignore[arg-type]


def pictures(times: list[float]) -> list[Picture]:
    return [Picture(None, time_s) for time_s in times]  # type: ignore[arg-type]


def segments(
    wanted: StreamRequirements, times: list[float], monkeypatch: pytest.MonkeyPatch
) -> list[list[float]]:
    monkeypatch.setattr("sdk.media.steps.upright_rotation", lambda _: 0)
    frames = StepPicker(wanted).frames(iter(pictures(times)))
    return [[*(picture.time_s for picture in frame.earlier), frame.time_s] for frame in frames]


@settings(max_examples=80, deadline=None)
@given(
    rate=st.sampled_from([7.0, 10.0, 23.976, 25.0, 29.97, 60.0]),
    step_rate=st.sampled_from([0.5, 0.78125, 1.0, 2.0, 3.3]),
    segment_s=st.floats(0.3, 3),
    counts=st.lists(st.integers(2, 12), min_size=1, max_size=2, unique=True),
    rounding=st.sampled_from([0.0, 1e-3]),
    seconds=st.one_of(st.just(8.0), st.floats(0.1, 4)),
)
def test_the_pictures_kept_are_those_that_choosing_among_all_would_choose(
    rate: float, step_rate: float, segment_s: float, counts: list[int], rounding: float, seconds: float
) -> None:
    times = [k / rate for k in range(max(1, int(rate * seconds)))]
    if rounding:
        times = [round(time_s, 3) for time_s in times]
    has_a_segment = times[-1] >= segment_s
    assume(has_a_segment or len(times) <= 64)
    with pytest.MonkeyPatch.context() as patch:
        needed = StreamRequirements(step_rate, segment_s, tuple(counts))
        few = segments(needed, times, patch)
        every = segments(replace(needed, consecutive=True), times, patch)
    for kept, all_of_them in zip(few, every, strict=True):
        for count in counts:
            chosen, right = (
                [times[place] for place in evenly_spaced(np.array(times), count, segment_s)]
                for times in (kept, all_of_them)
            )
            assert chosen == right
        assert all_of_them[0] >= kept[-1] - segment_s - 2e-3
    assert few
    if len(counts) == 1 and segment_s < 1 / step_rate and has_a_segment:
        assert max(map(len, few)) <= 3 * counts[0] + 3


def test_even_spacing_ends_at_the_step_and_repeats_the_earliest() -> None:
    times = np.arange(33) * 0.04
    assert evenly_spaced(times, 8, 1.28) == [4, 8, 12, 16, 20, 24, 28, 32]
    assert evenly_spaced(times[:10], 8, 1.28) == [0, 0, 0, 0, 0, 1, 5, 9]
    assert evenly_spaced(times[:1], 3, 1.28) == [0, 0, 0]
    assert evenly_spaced(times, 1, 1.28) == [32]


def test_pictures_of_a_film(tmp_path: Path) -> None:
    path = write_film(tmp_path / "a.mkv", 4)
    frames = list(decode_steps(path, StreamRequirements(1, 1.0, (2,), consecutive=True)))
    assert [frame.time_s for frame in frames] == [1, 2, 3]
    assert [len(frame.earlier) for frame in frames] == [25, 25, 25]
    assert [p.time_s for p in frames[1].earlier] == pytest.approx([1 + k / 25 for k in range(25)])
    few = list(decode_steps(path, StreamRequirements(1, 1.0, (2,))))
    assert max(len(frame.earlier) for frame in few) <= 6
    assert {frame.segment_s for frame in few} == {1.0}


def picked(times: list[float], monkeypatch: pytest.MonkeyPatch) -> list[tuple[list[float], bool]]:
    """The times of each segment's pictures at ten steps a second, and whether the step is marked."""
    monkeypatch.setattr("sdk.media.steps.upright_rotation", lambda _: 0)
    frames = StepPicker(StreamRequirements(10, 0.2, (2,), consecutive=True)).frames(iter(pictures(times)))
    return [([*(p.time_s for p in frame.earlier), frame.time_s], frame.restarted) for frame in frames]


def test_nothing_of_before_a_gap(monkeypatch: pytest.MonkeyPatch) -> None:
    first = [([0.0, 0.1, 0.2], False), ([0.1, 0.2, 0.3], False)]
    for late in (9.0, 9.1, 9.2, 9.3), (-9.0, -8.9, -8.8, -8.7):
        second = [(list(late[:3]), True), (list(late[1:]), False)]
        assert picked([0.0, 0.1, 0.2, 0.3, *late], monkeypatch) == first + second


def test_a_stretch_too_short_for_a_step(monkeypatch: pytest.MonkeyPatch) -> None:
    """Before a gap it has none; at the end its last picture is one, with what there is of a segment."""
    assert picked([0.0, 0.1, 9.0, 9.1, 9.2], monkeypatch) == [([9.0, 9.1, 9.2], True)]
    assert picked([0.0, 0.1, 0.2, 9.0, 9.1], monkeypatch)[1:] == [([9.0, 9.1], True)]
    assert picked([0.0, 0.1, 0.05], monkeypatch) == [([0.0, 0.1], False)]
    assert picked([5.0], monkeypatch) == [([5.0], False)]
    assert picked([], monkeypatch) == []


def test_a_restart_begins_a_stretch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sdk.media.steps.upright_rotation", lambda _: 0)
    picker = StepPicker(StreamRequirements(10, 0.2, (2,), consecutive=True))
    assert not list(map(picker.take, pictures([0.0, 0.1])))[-1]
    picker.restart()
    assert picker.finish() is None
    *none, frame = map(picker.take, pictures([0.0, 0.1, 0.2]))
    assert none == [None, None]
    assert frame is not None and frame.restarted and [p.time_s for p in frame.earlier] == [0.0, 0.1]
    assert picker.finish() is None


@pytest.mark.parametrize(
    ("pictures_of_film", "expected"),
    [
        (1, [0.0]),
        (10, [0.36]),
        (25, [0.96]),
        (26, [1.0]),
        (38, [1.0]),
        (39, [1.0, 1.52]),
        (63, [1.0, 1.52, 2.0]),
    ],
)
def test_all_ways_agree_on_the_steps(tmp_path: Path, pictures_of_film: int, expected: list[float]) -> None:
    path = write_film(tmp_path / "a.mkv", pictures_of_film / 25)
    wanted = StreamRequirements(2, 1.0, (4,))
    pushed = [(gradient(20, 20), k / 25) for k in range(pictures_of_film)]
    decoded = list(decode_steps(path, wanted))
    assert [frame.time_s for frame in decoded] == expected
    assert not any(frame.restarted for frame in decoded)

    def seen(frames: Iterable[Frame]) -> list[tuple[float, int, list[float]]]:
        return [(frame.time_s, frame.index, [p.time_s for p in frame.earlier]) for frame in frames]

    assert seen(open_source(path, wanted)) == seen(open_source(pushed, wanted)) == seen(decoded)
    assert seen(decode_steps(path, wanted, 1)) == seen(decoded[:1])


def chunk(start: int, count: int, level: float = 1.0) -> SoundChunk:
    return SoundChunk(np.full(count, level, np.float32), start / RATE_HZ)


@settings(max_examples=60, deadline=None)
@given(
    starts=st.lists(st.integers(-4000, 40_000), min_size=1, max_size=12),
    count=st.integers(1, 4000),
    step=st.integers(0, 40_000),
    later=st.floats(-1, 1, width=32),
)
def test_nothing_after_a_step_is_in_its_sound(starts: list[int], count: int, step: int, later: float) -> None:
    """Whatever comes, and in what order: changing what lies after the step changes nothing."""
    results = []
    for level in (0.0, later):
        memory = SoundMemory(RATE_HZ, 0.5)
        memory.begin(0.0, after_gap=False)
        for start in starts:
            times = start + np.arange(count)
            # Jitter up to 20 ms joins what is there, so what is moved counts by where it comes to lie.
            samples = np.where(times < step - 0.02 * RATE_HZ * len(starts), 0.5, 0.0).astype(np.float32)
            samples[times >= step + 0.02 * RATE_HZ * len(starts)] = level
            memory.add(SoundChunk(samples, start / RATE_HZ))
        results.append(memory.segment(step / RATE_HZ))
    first, second = results
    assert first.absent == second.absent
    assert np.array_equal(first.samples, second.samples)


def test_exact_places_gaps_and_overlaps() -> None:
    memory = SoundMemory(RATE_HZ, 0.5)
    memory.add(chunk(0, 4000, 0.1))
    memory.add(chunk(3000, 2000, 0.2))  # a quarter of a second over: cut
    memory.add(chunk(5100, 1000, 0.3))  # 12 ms off: joined
    memory.add(chunk(7000, 1000, 0.4))  # 112 ms off: silence between
    sound = memory.segment(8000 / RATE_HZ)
    levels = [(0.2, 1000), (0.3, 1000), (0.0, 1000), (0.4, 1000)]
    expected = np.concatenate([np.full(count, level, np.float32) for level, count in levels])
    assert np.array_equal(sound.samples, expected)
    assert (sound.rate_hz, sound.absent) == (RATE_HZ, None)


@pytest.mark.parametrize("drift", [0.99, 1.0, 1.01])
def test_a_drifting_clock_is_followed(drift: float) -> None:
    memory = SoundMemory(RATE_HZ, 0.5)
    for number in range(1000):
        start = number * 400 * drift
        samples = np.zeros(400, np.float32)
        samples[0] = 1 + number
        memory.add(SoundChunk(samples, start / RATE_HZ))
    sound = memory.segment(1000 * 400 * drift / RATE_HZ)
    assert sound.absent is None
    for place in np.flatnonzero(sound.samples):
        number = sound.samples[place] - 1
        at_s = 1000 * 400 * drift / RATE_HZ - (sound.samples.size - place) / RATE_HZ
        assert abs(at_s - number * 400 * drift / RATE_HZ) <= 0.0202


def test_time_that_jumps_back_begins_anew() -> None:
    memory = SoundMemory(RATE_HZ, 0.5)
    memory.add(chunk(800_000, 4000, 0.5))
    memory.add(chunk(0, 4000, 0.25))
    assert memory.segment(0.5).samples.min() == 0.25


def test_reasons() -> None:
    memory = SoundMemory(RATE_HZ, 0.5)
    memory.begin(0.0, after_gap=False)
    assert memory.segment(0.1).absent is None
    assert memory.segment(0.5).absent == SOUND_NOT_BEGUN
    memory.add(NoSound(Absence("audio cannot be decoded: x")))
    assert memory.segment(0.6).absent == Absence("audio cannot be decoded: x")
    memory.add(chunk(8000, 8000))
    assert memory.segment(0.9).absent == SOUND_NOT_BEGUN
    assert memory.segment(2.2).absent is None
    assert memory.segment(2.3).absent == SOUND_ENDED
    memory.add(NoSound(SOUND_IS_LATE, at_once=True))
    assert memory.segment(2.0).absent == SOUND_IS_LATE


def test_sound_far_ahead_is_bounded() -> None:
    memory = SoundMemory(RATE_HZ, 0.5)
    for number in range(200):
        memory.add(chunk(number * RATE_HZ, RATE_HZ))
    assert len(memory._chunks) <= 32
