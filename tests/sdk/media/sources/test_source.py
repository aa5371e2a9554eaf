from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import av
import numpy as np
import pytest

from runtimes.spec import View
from sdk.errors import SourceError, SourceErrorCode
from sdk.media import Frame, Reconnect, ViewRenderer, decode_steps, open_source
from tests.sdk.media.servers import NOT_FOUND, OK, UNAUTHORIZED, Answer, serving
from tests.sdk.media.videos import gradient, write_video

SOON = Reconnect(limit=2, first_s=0.02, longest_s=0.05)


@pytest.fixture(autouse=True)
def _nothing_leaks() -> Iterator[None]:
    """Every source in this file must give back its thread and its descriptors."""

    def held() -> tuple[int, int]:
        return threading.active_count(), len(os.listdir("/proc/self/fd"))

    threads, descriptors = held()
    yield
    # A thread that has ended may not have gone yet where others want the processor.
    deadline = time.monotonic() + 5
    while (held()[0] > threads or held()[1] > descriptors) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert held()[0] <= threads
    assert held()[1] <= descriptors


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_video(tmp_path_factory.mktemp("clips") / "clip.mp4")


@pytest.fixture(scope="module")
def transport_stream(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return write_video(tmp_path_factory.mktemp("clips") / "clip.ts", frames=32).read_bytes()


def code_of(source: object, **options: object) -> SourceErrorCode:
    with pytest.raises(SourceError) as caught:
        list(open_source(source, rate_hz=8, **options))  # type: ignore[arg-type]
    assert "secret" not in str(caught.value)
    return caught.value.code


def test_file_gives_every_step_with_its_time(clip: Path) -> None:
    with open_source(clip, rate_hz=4) as source:
        frames = list(source)
    assert [frame.time_s for frame in frames] == [k / 4 for k in range(12)]
    assert [frame.index for frame in frames] == list(range(0, 24, 2))
    assert not any(frame.restarted for frame in frames)
    assert all(frame.decode_ms > 0 for frame in frames)
    assert sum(source.drops.values()) == source.dropped_since_last == 0


def test_slow_consumer_loses_nothing_of_a_file(clip: Path) -> None:
    with open_source(str(clip), rate_hz=8, queue_size=1, max_staleness_s=0) as source:
        count = 0
        for _ in source:
            time.sleep(0.005)
            count += 1
    assert count == 24


def test_source_and_training_see_the_same_pixels(clip: Path) -> None:
    renderer = ViewRenderer(View(name="view", size=48))
    trained = [(f.time_s, renderer.render(f)) for f in decode_steps(clip, 3)]
    lived = [(f.time_s, renderer.render(f)) for f in open_source(clip, rate_hz=3)]
    assert [time_s for time_s, _ in trained] == [time_s for time_s, _ in lived]
    assert all(np.array_equal(a, b) for (_, a), (_, b) in zip(trained, lived, strict=True))


def test_file_address_with_odd_name(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a b:c%41.mp4", frames=4)
    assert len(list(open_source(path, rate_hz=8))) == 4
    assert len(list(open_source(f"file://{tmp_path}/a%20b:c%2541.mp4", rate_hz=8))) == 4


@pytest.mark.parametrize("rotation", [0, 90, 180, -90])
def test_rotated_file_is_upright(tmp_path: Path, rotation: int) -> None:
    upright = gradient(64, 64)
    stored = np.ascontiguousarray(np.rot90(upright, -rotation // 90))
    path = write_video(tmp_path / "turned.mp4", frames=2, size=(64, 64), rotation=rotation, pixels=stored)
    frame = next(decode_steps(path, 8))
    shown = ViewRenderer(View(name="view", size=64)).render(frame)[0]
    assert np.abs(shown.astype(int) - upright).mean() < 6


def test_size_change_is_followed(tmp_path: Path) -> None:
    parts = [write_video(tmp_path / f"{width}.h264", frames=8, size=(width, 64)) for width in (96, 128)]
    path = tmp_path / "both.h264"
    path.write_bytes(b"".join(part.read_bytes() for part in parts))
    frames = list(decode_steps(path, 100))
    assert [frame.image.width for frame in frames] == [96] * 8 + [128] * 8
    renderer = ViewRenderer(View(name="view", size=32))
    assert all(renderer.render(frame).shape == (1, 32, 32, 3) for frame in frames)


def test_gap_in_time_is_marked(tmp_path: Path) -> None:
    path = write_video(tmp_path / "gap.mkv", frames=6, times=[0, 125, 250, 9000, 9125, 9250])
    marks = [frame.restarted for frame in open_source(path, rate_hz=8)]
    assert marks == [False, False, False, True, False, False]


def test_damaged_packets_are_skipped_and_counted(tmp_path: Path) -> None:
    path = write_video(tmp_path / "damaged.h264", frames=60, gop=5)
    content = bytearray(path.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 1500] = os.urandom(1500)
    path.write_bytes(content)
    frames = list(open_source(path, rate_hz=100))
    assert 40 <= len(frames) <= 60


def test_truncated_file_gives_what_it_has(tmp_path: Path) -> None:
    whole = write_video(tmp_path / "whole.mkv", frames=48)
    cut = tmp_path / "cut.mkv"
    cut.write_bytes(whole.read_bytes()[: whole.stat().st_size * 2 // 3])
    assert 20 < len(list(open_source(cut, rate_hz=8))) < 48


def test_iterables_of_arrays_and_frames() -> None:
    arrays = ((gradient(20, 30), k / 10) for k in range(20))
    with open_source(arrays, rate_hz=5) as source:
        assert [frame.time_s for frame in source] == [k / 5 for k in range(10)]
    frames = [(av.VideoFrame.from_ndarray(gradient(20, 30)[:, ::-1].copy(), format="rgb24"), 3.0)]
    assert [frame.index for frame in open_source(frames, rate_hz=5)] == [0]


@pytest.mark.parametrize(
    "item",
    [
        (np.zeros((4, 4, 3), np.float32), 0.0),
        (np.zeros((4, 4), np.uint8), 0.0),
        (np.zeros((0, 4, 3), np.uint8), 0.0),
        (np.zeros((4, 4, 3), np.uint8), float("nan")),
    ],
)
def test_bad_pushed_frames(item: object) -> None:
    assert code_of([item]) is SourceErrorCode.BAD_FRAME


def test_error_comes_after_the_frames_before_it(transport_stream: bytes) -> None:
    frames: list[Frame] = []
    with serving([Answer(OK + transport_stream), Answer(UNAUTHORIZED)]) as address:
        source = open_source(address, rate_hz=8, reconnect=SOON, max_staleness_s=9, queue_size=99)
        with pytest.raises(SourceError) as caught:
            for frame in source:
                frames.append(frame)
    assert len(frames) == 32
    assert caught.value.code is SourceErrorCode.AUTH_FAILED


@pytest.mark.parametrize(
    ("source", "code"),
    [
        ("ftp://camera/x", SourceErrorCode.UNKNOWN_SCHEME),
        ("no/such/clip.mp4", SourceErrorCode.NOT_FOUND),
        ("file:///no/such/clip.mp4", SourceErrorCode.NOT_FOUND),
        ("camera:97", SourceErrorCode.NOT_FOUND),
        ("camera:front", SourceErrorCode.NOT_FOUND),
        ("v4l2://../../etc/passwd", SourceErrorCode.BAD_ADDRESS),
        ("test://?size=0x3", SourceErrorCode.BAD_ADDRESS),
        ("test://?pattern=movie=/etc/passwd", SourceErrorCode.BAD_ADDRESS),
        ("test://?pattern=nosuchpattern&live=0", SourceErrorCode.BAD_ADDRESS),
        ("test://?color=red", SourceErrorCode.BAD_ADDRESS),
        ("http://user:secret@127.0.0.1:9/x", SourceErrorCode.CONNECTION_FAILED),
        ("rtsp://user:secret@127.0.0.1:9/x", SourceErrorCode.CONNECTION_FAILED),
    ],
)
def test_what_cannot_be_opened(source: str, code: SourceErrorCode) -> None:
    assert code_of(source) is code


def test_unknown_scheme_names_the_known_ones() -> None:
    with pytest.raises(SourceError, match=r"rtsp://.*test://"):
        open_source("gopher://x", rate_hz=1)


def test_folder_text_and_sound_are_no_videos(tmp_path: Path) -> None:
    text = tmp_path / "notes.mp4"
    text.write_text("not a video")
    sound = tmp_path / "sound.mp4"
    with av.open(str(sound), "w") as container:
        stream = container.add_stream("aac", rate=24000, layout="mono")
        samples = av.AudioFrame.from_ndarray(np.zeros((1, 4800), np.float32), format="fltp", layout="mono")
        samples.sample_rate = 24000
        container.mux(stream.encode(samples))
        container.mux(stream.encode(None))
    assert code_of(tmp_path) is SourceErrorCode.NOT_A_VIDEO
    assert code_of(text) is SourceErrorCode.NOT_A_VIDEO
    assert code_of(sound) is SourceErrorCode.NO_VIDEO_STREAM


def test_test_pattern_as_fast_as_possible() -> None:
    frames = list(open_source("test://?size=64x48&rate=10&duration=3&live=0&pattern=smptebars", rate_hz=5))
    assert len(frames) == 15
    assert (frames[0].image.width, frames[0].image.height) == (64, 48)


def test_live_pattern_keeps_pace_and_time() -> None:
    began = time.monotonic()
    frames = list(open_source("test://?size=64x48&rate=20&duration=0.6", rate_hz=20))
    assert len(frames) == 12
    assert 0.4 < time.monotonic() - began < 3


def test_live_drops_are_counted_and_the_newest_kept() -> None:
    with open_source("test://?size=64x48&rate=100", rate_hz=100, queue_size=2) as source:
        frames = iter(source)
        first = next(frames)
        time.sleep(0.4)
        second = next(frames)
        drops = source.drops["queue_full"] + source.drops["stale"]
    assert second.time_s > first.time_s + 0.2
    assert drops >= 20
    assert source.dropped_since_last >= drops
    assert source.dropped_since_last == 0


def test_stale_live_frames_are_skipped() -> None:
    with open_source("test://?size=64x48&rate=50", rate_hz=50, queue_size=40, max_staleness_s=0.1) as source:
        frames = iter(source)
        next(frames)
        time.sleep(0.5)
        assert next(frames).queue_ms < 250
        assert source.drops["stale"] > 5
        assert source.drops["queue_full"] == 0


def test_closing_ends_the_thread_promptly(clip: Path) -> None:
    for address in ("test://?rate=0.1&size=64x48", "test://?live=0&size=64x48", str(clip)):
        with open_source(address, rate_hz=1000, queue_size=1) as source:
            next(iter(source))
            time.sleep(0.05)
            began = time.monotonic()
        assert time.monotonic() - began < 0.5
        source.close()
        assert list(source) == []


def test_never_started_source_closes(clip: Path) -> None:
    open_source(clip, rate_hz=1).close()


def test_reconnects_and_marks_the_restart(transport_stream: bytes) -> None:
    answers = [Answer(OK + transport_stream), Answer(NOT_FOUND), Answer(OK + transport_stream)]
    marks: list[bool] = []
    with serving(answers) as address, pytest.raises(SourceError) as caught:
        for frame in open_source(address, rate_hz=8, reconnect=SOON, queue_size=99, max_staleness_s=9):
            marks.append(frame.restarted)
    assert marks == [False] * 32 + [True] + [False] * 31
    assert caught.value.code is SourceErrorCode.LOST
    assert "secret" not in str(caught.value)


def test_closing_ends_a_blocked_read(transport_stream: bytes) -> None:
    with serving([Answer(OK + transport_stream, hangs=True)]) as address:
        with open_source(address, rate_hz=8, read_timeout_s=0.5) as source:
            next(iter(source))
            began = time.monotonic()
        assert time.monotonic() - began < 1


def test_http_file_with_a_known_length_simply_ends(tmp_path: Path) -> None:
    content = write_video(tmp_path / "clip.mkv").read_bytes()
    header = OK.replace(b"\r\n\r\n", b"\r\nContent-Length: %d\r\n\r\n" % len(content))
    with serving([Answer(header + content)]) as address:
        assert len(list(open_source(address, rate_hz=8, queue_size=1))) == 24


def test_closing_wakes_a_waiting_consumer() -> None:
    source = open_source("test://?size=64x48&rate=0.2", rate_hz=30)
    closing = threading.Timer(0.2, source.close)
    closing.start()
    assert len(list(source)) == 1
    closing.join()  # its own thread is not to be taken for a leak


def test_refused_password_is_not_tried_again(transport_stream: bytes) -> None:
    with serving([Answer(OK + transport_stream), Answer(UNAUTHORIZED)]) as address:
        assert code_of(address, reconnect=SOON) is SourceErrorCode.AUTH_FAILED
    with serving([Answer(UNAUTHORIZED)]) as address:
        assert code_of(address) is SourceErrorCode.AUTH_FAILED
    with serving([Answer(NOT_FOUND)]) as address:
        assert code_of(address) is SourceErrorCode.NOT_FOUND


def test_silent_server_times_out_and_can_be_closed() -> None:
    with serving([Answer(b"", hangs=True), Answer(b"", hangs=True)]) as address:
        began = time.monotonic()
        assert code_of(address, open_timeout_s=0.3, reconnect=SOON) is SourceErrorCode.TIMEOUT
        with open_source(address, rate_hz=1, open_timeout_s=0.5, read_timeout_s=0.5):
            time.sleep(0.1)
    assert time.monotonic() - began < 2


def test_hard_videos_end_as_frames_or_one_typed_error(real_data) -> None:  # type: ignore[no-untyped-def]
    renderer = ViewRenderer(View(name="view", size=84))
    for path in sorted(real_data("hard_videos").iterdir()):
        began = time.monotonic()
        try:
            with open_source(path, rate_hz=8) as source:
                frames = [renderer.render(frame) for frame in source]
            assert frames, path.name
        except SourceError as error:
            assert path.name in str(error)
        assert time.monotonic() - began < 5, path.name
