from __future__ import annotations

import itertools
import time
from collections.abc import Iterator
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import av
import numpy as np
import psutil
import pytest

from sdk.errors import SourceError, SourceErrorCode
from sdk.media import Frame, Reconnect, StreamRequirements, decode_steps, open_source
from sdk.media.absence import SOUND_ENDED, SOUND_IS_LATE
from sdk.media.audio.lookahead import LookAhead
from sdk.media.audio.microphone import Microphone
from sdk.media.frames import NoSound
from sdk.media.sources.addresses import parse_address
from sdk.media.sources.decoder import Decoder
from tests.sdk.media.servers import OK, Answer, serving
from tests.sdk.media.sounding import RATE_HZ, clicks, noise, write_film
from tests.sdk.media.videos import gradient, write_video

SEGMENT_S = 0.64


def wanted(rate_hz: float = 25.0, segment_s: float = SEGMENT_S) -> StreamRequirements:
    return StreamRequirements(rate_hz, segment_s, sound_rate_hz=RATE_HZ)


def heard(frame: Frame) -> tuple[bool, float]:
    """Whether there is sound in the frame's segment, and the time of its first loud sample."""
    assert frame.sound is not None
    loud = np.flatnonzero(np.abs(frame.sound.samples) > 0.2)
    first_s = frame.time_s - frame.sound.samples.size / RATE_HZ
    return loud.size > 0, first_s + loud[0] / RATE_HZ if loud.size else 0.0


def absent(frames: list[Frame]) -> dict[str | None, list[float]]:
    """The steps' times, by why their sound is absent."""
    times: dict[str | None, list[float]] = {}
    for frame in frames:
        assert frame.sound is not None
        times.setdefault(frame.sound.absent and frame.sound.absent.reason, []).append(frame.time_s)
        expected = 0 if frame.sound.absent else round(SEGMENT_S * RATE_HZ)
        assert frame.sound.samples.shape == (expected,)
        assert frame.sound.samples.dtype == np.float32
    return times


@pytest.mark.parametrize(
    ("name", "codec", "sound_rate"),
    [
        ("a.mkv", "pcm_s16le", 24000),
        ("a.mov", "pcm_s16le", 44100),
        ("a.mp4", "aac", 24000),
        ("a.mkv", "aac", 48000),
        ("a.ts", "aac", 24000),
        ("a.mkv", "libopus", 48000),
        ("a.flv", "aac", 44100),
    ],
)
def test_a_click_is_heard_when_its_flash_is_seen(
    tmp_path: Path, name: str, codec: str, sound_rate: int
) -> None:
    sound = clicks(3, 1.0, rate_hz=sound_rate)
    path = write_film(tmp_path / name, 3, [(0, sound)], flashes=[25], codec=codec, sound_rate=sound_rate)
    frames = list(decode_steps(path, wanted()))
    bright = [frame.time_s for frame in frames if frame.image.to_ndarray(format="gray").mean() > 128]
    assert len(bright) == 1
    after = [frame for frame in frames if bright[0] + 0.1 < frame.time_s < bright[0] + 0.6]
    assert len(after) > 8
    block_s = 1.5e-3 if codec == "pcm_s16le" else 6e-3  # what lossy codecs smear a click by
    for frame in after:
        there, time_s = heard(frame)
        assert there
        assert abs(time_s - bright[0]) < block_s
    before = [frame for frame in frames if frame.time_s < bright[0] - 0.05]
    assert not any(heard(frame)[0] for frame in before)


def test_streams_that_start_apart(tmp_path: Path) -> None:
    late_sound = write_film(tmp_path / "a.mkv", 3, [(1.5, clicks(1.5, 0.2))])
    times = absent(frames := list(decode_steps(late_sound, wanted())))
    assert times["the sound has not begun"] == pytest.approx(np.arange(0.64, 1.5, 0.04), abs=0.021)
    assert heard(frames[29]) == (True, pytest.approx(1.7, abs=1e-3))
    late_video = write_film(tmp_path / "b.mkv", 1, [(0, clicks(3, 2.3))], start_s=2.0)
    frames = list(decode_steps(late_video, wanted()))
    assert frames[0].time_s == 2.64
    assert heard(frames[0]) == (True, pytest.approx(2.3, abs=1e-3))
    short_video = write_film(tmp_path / "c.mkv", 0.4, [(0, clicks(3, 1.8))], start_s=2.0)
    (frame,) = decode_steps(short_video, wanted())
    assert frame.time_s == 2.36
    assert heard(frame) == (True, pytest.approx(1.8, abs=1e-3))


def test_a_short_gap_is_silence_and_jitter_is_none(tmp_path: Path) -> None:
    pieces = [(0, noise(1)), (1.2, noise(0.8)), (2.005, noise(0.5)), (2.497, noise(0.5))]
    frames = list(decode_steps(write_film(tmp_path / "a.mkv", 3, pieces), wanted()))
    assert set(absent(frames)) == {None}
    sound = frames[21].sound  # up to 1.48 s
    assert sound is not None and frames[21].time_s == 1.48
    silent = sound.samples[round(0.16 * RATE_HZ) + 30 : round(0.36 * RATE_HZ) - 30]
    assert not silent.any()
    assert np.abs(sound.samples[round(0.36 * RATE_HZ) + 30 :]).mean() > 0.1
    last = frames[54].sound
    assert last is not None
    quiet = np.convolve(np.abs(last.samples) < 1e-4, np.ones(40), "valid")
    assert quiet.max() < 40, "small jitter left holes"


def test_sound_that_ends_and_returns(tmp_path: Path) -> None:
    path = write_film(tmp_path / "a.mkv", 6, [(0, noise(1)), (4, noise(1))])
    times = absent(list(decode_steps(path, wanted(5))))
    assert times["the sound ended"] == pytest.approx([1.44 + k / 5 for k in range(13)] + [5.44, 5.64, 5.84])
    assert len(times[None]) == 11
    with open_source(path, wanted(5)) as source:
        assert absent(list(source)) == times


def test_no_track_and_no_sense(tmp_path: Path) -> None:
    mute = absent(list(decode_steps(write_video(tmp_path / "mute.mp4"), wanted(8))))
    assert list(mute) == ["no audio track"]
    path = write_film(tmp_path / "a.mkv", 2, [(0, noise(2))], codec="aac", garbled=True)
    frames = list(decode_steps(path, wanted(5)))
    assert len(frames) == 7
    (reason,) = absent(frames)
    assert reason is not None and reason.startswith("audio cannot be decoded: ")
    unknown = tmp_path / "unknown.mkv"
    whole = write_film(tmp_path / "b.mkv", 1, [(0, noise(1))], codec="aac").read_bytes()
    assert whole.count(b"A_AAC") == 1
    unknown.write_bytes(whole.replace(b"A_AAC", b"A_QQQ"))
    assert list(absent(list(decode_steps(unknown, wanted(5))))) == [
        "audio cannot be decoded: its codec is unknown"
    ]


def test_stereo_is_averaged(tmp_path: Path) -> None:
    left = np.concatenate([clicks(2, 1.0), np.zeros((1, 2 * RATE_HZ), np.float32)])
    frames = list(decode_steps(write_film(tmp_path / "a.mkv", 2, [(0, left)], layout="stereo"), wanted()))
    sound = frames[14].sound
    assert sound is not None
    assert sound.samples.max() == pytest.approx(0.4, abs=0.01)


def test_the_best_of_two_tracks(tmp_path: Path) -> None:
    path = tmp_path / "two.mkv"
    with av.open(str(path), "w") as container:
        streams = [container.add_stream("pcm_s16le", rate=24000, layout=name) for name in ("mono", "stereo")]
        video = container.add_stream("libx264", rate=5)
        video.width, video.height, video.pix_fmt = 64, 48, "yuv420p"
        for k in range(10):
            image = av.VideoFrame.from_ndarray(gradient(48, 64, k), format="rgb24")
            container.mux(video.encode(image))
            for stream, level in zip(streams, (0, 8000), strict=True):
                samples = np.full((1, 4800 * stream.channels), level, np.int16)
                frame = av.AudioFrame.from_ndarray(samples, format="s16", layout=stream.layout.name)
                frame.sample_rate, frame.pts = 24000, 4800 * k
                container.mux(stream.encode(frame))
        container.mux(video.encode(None))
    sound = list(decode_steps(path, wanted(5)))[-1].sound
    assert sound is not None and sound.samples.max() == pytest.approx(8000 / 32768, abs=1e-3)


def test_rate_and_layout_may_change_midway(tmp_path: Path) -> None:
    first = write_film(
        tmp_path / "a.ts", 2, [(0, noise(2, 48000, 2))], codec="aac", sound_rate=48000, layout="stereo"
    )
    second = write_film(tmp_path / "b.ts", 2, [(2, clicks(2, 0.9))], start_s=2, flashes=[22], codec="aac")
    both = tmp_path / "both.ts"
    both.write_bytes(first.read_bytes() + second.read_bytes())
    frames = list(decode_steps(both, wanted()))
    assert len(frames) >= 82
    assert set(absent(frames)) == {None}
    flash = next(i for i, f in enumerate(frames) if f.image.to_ndarray(format="gray").mean() > 128)
    for frame in frames[flash + 3 : flash + 12]:
        loud = np.abs(frame.sound.samples) > 0.25  # type: ignore[union-attr]
        loud[: -round((frame.time_s - frames[flash].time_s + 0.2) * RATE_HZ)] = False
        at_s = frame.time_s + (np.flatnonzero(loud)[0] - loud.size) / RATE_HZ
        # A few ms of each encoding's priming may be lost where the two are joined.
        assert at_s == pytest.approx(frames[flash].time_s, abs=0.022)


def test_a_gap_of_the_stream_is_forgotten(tmp_path: Path) -> None:
    path = tmp_path / "a.mkv"
    write_film(path, 1, [(0, noise(30))])
    later = write_film(tmp_path / "b.mkv", 1, [(0, noise(30))], start_s=20)
    first = next(decode_steps(later, wanted(1)))
    assert np.abs(first.sound.samples).mean() > 0.1  # type: ignore[union-attr]
    shown = [(gradient(20, 20), time_s) for time_s in (0.2, 0.9, 9.5, 9.9)]
    pairs = [(noise(1)[0], 0.0), *shown[:2], (noise(1)[0], 9.0), *shown[2:]]
    with open_source(pairs, wanted()) as source:
        frames = list(source)
    assert [(frame.time_s, frame.restarted) for frame in frames] == [(0.9, False), (9.9, True)]
    samples = frames[1].sound.samples  # type: ignore[union-attr]
    before = samples.size - round(0.4 * RATE_HZ)
    assert not samples[:before].any()
    assert np.abs(samples[before:]).mean() > 0.1


def test_pushed_sound_of_another_rate() -> None:
    for rate_hz in (24000, 16000):
        sound = clicks(1, 0.3, rate_hz=rate_hz)[0]
        blocks = [(sound[first : first + 800], first / rate_hz) for first in range(0, rate_hz, 800)]
        pairs = sorted([*blocks, *((gradient(20, 20), k / 10) for k in range(11))], key=lambda p: p[1])
        with open_source(pairs, wanted(10), sound_rate_hz=rate_hz) as source:
            frames = list(source)
        assert [frame.time_s for frame in frames] == [0.7, 0.8, 0.9, 1.0]
        assert heard(frames[1]) == (True, pytest.approx(0.3, abs=2e-3))
        assert heard(frames[3])[0] is False


def test_pushed_without_sound_or_with_bad_sound() -> None:
    with open_source([(gradient(20, 20), 0.0)], wanted()) as source:
        assert list(absent(list(source))) == ["no sound was pushed"]
    assert len(list(open_source([(np.zeros(9, np.float32), 0.0), (gradient(20, 20), 0.0)], rate_hz=1))) == 1
    for bad in (np.zeros(9), np.full(9, np.nan, np.float32), np.zeros(9, np.int16)):
        with pytest.raises(SourceError) as caught:
            list(open_source([(bad, 0.0)], wanted()))
        assert caught.value.code is SourceErrorCode.BAD_FRAME


def test_nothing_is_decoded_that_is_not_wanted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise AssertionError("sound was opened")

    monkeypatch.setattr("sdk.media.sources.decoder.open_sound", fail)
    path = write_film(tmp_path / "a.mkv", 2, [(0, noise(2))])
    frames = list(decode_steps(path, 25))
    assert len(frames) == 50
    assert all(f.sound is None and f.earlier == () and f.segment_s == 0 for f in frames)
    with pytest.raises(AssertionError):
        list(decode_steps(path, wanted()))


def test_test_pattern_beeps_each_second() -> None:
    with open_source("test://?size=64x48&rate=25&duration=3&live=0", wanted()) as source:
        frames = list(source)
    assert len(frames) == 59
    assert set(absent(frames)) == {None}
    for frame in frames[14:34]:
        samples = frame.sound.samples  # type: ignore[union-attr]
        loud = np.flatnonzero(np.abs(samples) > 1.2 * np.abs(samples[-100:]).max())
        if loud.size:
            assert frame.time_s - (samples.size - loud[0]) / RATE_HZ == pytest.approx(1.0, abs=2e-3)
    with open_source("test://?size=64x48&rate=25&duration=1&live=0&sound=0", wanted()) as source:
        assert list(absent(list(source))) == ["no audio track"]


def test_live_network_stream_has_sound_and_reconnects(tmp_path: Path) -> None:
    path = write_film(tmp_path / "a.ts", 2, [(0, noise(2))], codec="aac")
    answers = [Answer(OK + path.read_bytes()), Answer(OK + path.read_bytes())]
    frames: list[Frame] = []
    soon = Reconnect(limit=1, first_s=0.02, longest_s=0.05)
    with serving(answers) as address, pytest.raises(SourceError):
        for frame in open_source(address, wanted(), reconnect=soon, queue_size=200, max_staleness_s=9):
            frames.append(frame)
    again = [frame.restarted for frame in frames].index(True)
    assert len(frames) >= 66
    assert None in absent(frames[:again]) and None in absent(frames[again:])
    assert frames[again].source_time_s == frames[0].source_time_s
    assert all(a.time_s < b.time_s for a, b in pairwise(frames))
    first, anew = (frame.sound.samples for frame in (frames[0], frames[again]))  # type: ignore[union-attr]
    assert np.array_equal(first, anew)


def test_a_live_stream_lost_before_its_first_step_gives_its_last_picture(tmp_path: Path) -> None:
    path = write_film(tmp_path / "a.ts", 0.4, [(0, noise(0.4))], codec="aac")
    content = OK + path.read_bytes()
    frames: list[Frame] = []
    soon = Reconnect(limit=1, first_s=0.02, longest_s=0.05)
    with serving([Answer(content), Answer(content)]) as address, pytest.raises(SourceError) as caught:
        for frame in open_source(address, wanted(), reconnect=soon, max_staleness_s=9):
            frames.append(frame)
    assert caught.value.code is SourceErrorCode.LOST
    times = [frame.source_time_s for frame in decode_steps(path, wanted())]
    assert [(frame.source_time_s, frame.restarted) for frame in frames] == [(times[-1], True)]


def packet(time_s: float) -> av.Packet:
    made = av.Packet(b"x")
    made.pts, made.time_base = round(time_s * 1000), Fraction(1, 1000)
    return made


def test_look_ahead_in_a_file_waits_for_two_seconds_of_video() -> None:
    ahead = LookAhead(live=False)
    for k in range(20):
        ahead.hold(packet(k / 10))
        assert not list(ahead.leaving())
    ahead.heard(0.5)
    assert [item.pts for item in ahead.leaving()] == [0, 100, 200, 300, 400, 500]  # type: ignore[union-attr]
    ahead.hold(packet(2.65))
    assert [item.pts for item in ahead.leaving()] == [600]  # type: ignore[union-attr]
    assert len(list(ahead.rest())) == 14


def test_look_ahead_live_waits_for_a_moment_and_says_so() -> None:
    ahead = LookAhead(live=True)
    ahead.hold(packet(0.0))
    assert list(ahead.leaving()) == []
    time.sleep(0.32)
    late, item = ahead.leaving()
    assert (late, item.pts) == (NoSound(SOUND_IS_LATE, at_once=True), 0)  # type: ignore[union-attr]
    ahead.heard(1.0)
    ahead.hold(packet(1.0))
    assert [item.pts for item in ahead.leaving()] == [1000]  # type: ignore[union-attr]
    ahead.hold(packet(3.5))
    ended, item = ahead.leaving()
    assert ended == NoSound(SOUND_ENDED)


def test_look_ahead_live_without_any_sound() -> None:
    ahead = LookAhead(live=True)
    for time_s in (0.0, 1.0, 2.5):
        ahead.hold(packet(time_s))
    told = [item for item in ahead.leaving() if isinstance(item, NoSound)]
    assert [item.absence.reason for item in told] == ["late", "late", "the sound has not begun"]


@pytest.mark.parametrize(("packets_read", "steps"), [(30, 14), (5, 1)])
def test_a_fault_comes_after_the_pictures_that_waited(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, packets_read: int, steps: int
) -> None:
    path = write_film(tmp_path / "a.mkv", 2, [(5, noise(0.1))])
    frames: list[Frame] = []
    packets = Decoder._packets

    def failing(self: Decoder, *streams: object) -> Iterator[object]:
        yield from itertools.islice(packets(self, *streams), packets_read)  # type: ignore[arg-type]
        raise SourceError(path, "lost", "fix it", SourceErrorCode.LOST)

    monkeypatch.setattr(Decoder, "_packets", failing)
    with pytest.raises(SourceError, match="lost"):
        for frame in decode_steps(path, wanted()):
            frames.append(frame)
    assert len(frames) == steps


def test_microphone_addresses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for text, code in (
        ("camera:97+mic:default", SourceErrorCode.NOT_FOUND),
        ("camera:97+mic:", SourceErrorCode.BAD_ADDRESS),
        ("camera:97+mic:/etc/passwd", SourceErrorCode.BAD_ADDRESS),
    ):
        with pytest.raises(SourceError) as caught:
            parse_address(text)
        assert caught.value.code is code
    monkeypatch.setattr(Path, "exists", lambda _: True)
    address = parse_address("camera:0+mic:hw:1,0?rate=30")
    assert (address.url, address.microphone) == ("/dev/video0", "hw:1,0")
    assert address.options == {"framerate": "30", "ts": "abs"}
    assert parse_address("camera:0").microphone is None


def test_a_microphone_that_is_not_there_is_told() -> None:
    microphone = Microphone("no_such_device", RATE_HZ, 1.0)
    try:
        (told,) = microphone.heard_until(0.0)
        assert isinstance(told, NoSound) and told.absence.reason.startswith(
            "the microphone no_such_device is lost: "
        )
    finally:
        microphone.close()


def test_hard_videos_with_sound_wanted(real_data) -> None:  # type: ignore[no-untyped-def]
    needs = StreamRequirements(2.0, 1.28, frames=(8,), consecutive=True, sound_rate_hz=RATE_HZ)
    for path in sorted(real_data("hard_videos").iterdir()):
        began = time.monotonic()
        try:
            with open_source(path, needs) as source:
                assert all(frame.sound is not None for frame in source), path.name
        except SourceError as error:
            assert path.name in str(error)
        assert time.monotonic() - began < 20, path.name


def test_memory_stays_flat() -> None:
    needs = StreamRequirements(25.0, 1.28, frames=(8,), consecutive=True, sound_rate_hz=RATE_HZ)
    process = psutil.Process()
    with open_source("test://?size=160x120&rate=25&live=0", needs) as source:
        frames = iter(source)
        for _ in itertools.islice(frames, 500):
            pass
        before = process.memory_info().rss
        assert all(len(frame.earlier) == 32 for frame in itertools.islice(frames, 2500))
    assert process.memory_info().rss - before < 12 * 2**20
