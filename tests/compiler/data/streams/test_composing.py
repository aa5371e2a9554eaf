"""Composed streams: as idle as asked for, their events where the listing says, the same each time."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from compiler.data.clips import ClipSet, find_evaluated_clips
from compiler.data.streams.clip_media import read_clip
from compiler.data.streams.composing import Composition, compose_streams
from compiler.data.streams.labeled_streams import StreamSet, find_streams
from compiler.data.streams.sensor_noise import noise_of
from compiler.data.synthetic.built_in import make_clips
from compiler.errors import DataError
from runtimes.errors import ArgumentError
from sdk.media.signals.block_luma import block_luma
from sdk.media.steps import decode_steps
from tests.compiler.data.clip_files import write_data_set
from tests.sdk.media.videos import gradient, write_video

LABELS = ("a", "b")


@pytest.fixture
def clips(tmp_path: Path) -> ClipSet:
    """Six clips of 24 pictures at 8 a second, three seconds each."""
    return find_evaluated_clips(write_data_set(tmp_path / "set"), LABELS)


def composed(found: ClipSet, root: Path, /, **how: float) -> StreamSet:
    return find_streams(compose_streams(found, Composition(**how), root), LABELS)  # type: ignore[arg-type]


@pytest.mark.parametrize("idle", [0.0, 0.5, 0.9])
def test_as_idle_as_asked_for(clips: ClipSet, tmp_path: Path, idle: float) -> None:
    found = composed(clips, tmp_path, idle=idle, streams=2, clips=3)
    assert [len(stream.events) for stream in found.streams] == [3, 3] and found.overlaps == 0
    for stream in found.streams:
        with av.open(str(stream.path)) as container:
            length_s = float(container.duration) / av.time_base
        busy_s = sum(event.end_s - event.start_s for event in stream.events)
        assert busy_s == pytest.approx(9.0, abs=0.01)
        assert 1 - busy_s / length_s == pytest.approx(idle, abs=0.03)
        assert stream.events[-1].end_s <= length_s + 0.01


def test_every_clip_comes_as_often(clips: ClipSet, tmp_path: Path) -> None:
    found = composed(clips, tmp_path, idle=0.2, streams=4, clips=3)
    labels = [event.label for stream in found.streams for event in stream.events]
    assert labels.count("a") == labels.count("b") == 6


def test_the_same_each_time_and_kept(clips: ClipSet, tmp_path: Path) -> None:
    one, other = (composed(clips, tmp_path / name, streams=1, clips=2) for name in ("one", "other"))
    assert one.streams[0].path.read_bytes() == other.streams[0].path.read_bytes()
    made = one.streams[0].path.stat().st_mtime_ns
    assert composed(clips, tmp_path / "one", streams=1, clips=2).streams[0].path.stat().st_mtime_ns == made
    another = composed(clips, tmp_path / "one", streams=1, clips=2, seed=1)
    assert another.streams[0].path.read_bytes() != one.streams[0].path.read_bytes()


def test_nothing_moves_in_the_background(clips: ClipSet, tmp_path: Path) -> None:
    """Blocks of luma stay within noise between events, and jump where one begins."""
    (stream,) = composed(clips, tmp_path, idle=0.8, streams=1, clips=2).streams
    frames = list(decode_steps(stream.path, 8.0))
    luma = np.stack([block_luma(frame.image) for frame in frames])
    times = np.array([frame.time_s for frame in frames])
    motion = np.abs(np.diff(luma, axis=0)).max(axis=1)
    events = stream.events
    idle = (times[1:] > events[0].end_s + 0.3) & (times[1:] < events[1].start_s - 0.1)
    begins = int(np.argmin(np.abs(times - events[1].start_s)))
    assert np.median(motion[idle]) < 0.5, "but for what a key frame changes"
    assert motion[idle].max() < motion[begins - 1]


def test_a_slow_onset_comes_in_by_and_by(tmp_path: Path) -> None:
    """Of a picture that is the one before upside down."""
    for label, pixels in (("a", gradient(64, 96)), ("b", gradient(64, 96)[::-1].copy())):
        (tmp_path / "set" / label).mkdir(parents=True)
        write_video(tmp_path / "set" / label / "one.mp4", pixels=pixels)
    clips = find_evaluated_clips(tmp_path / "set", LABELS, "all")
    (cut,), (slow,) = (
        composed(clips, tmp_path, idle=0.5, streams=1, clips=2, onset_s=onset_s).streams
        for onset_s in (0.0, 1.5)
    )
    assert cut.events == slow.events
    jumps = []
    for stream in (cut, slow):
        frames = list(decode_steps(stream.path, 8.0))
        luma = np.stack([block_luma(frame.image) for frame in frames])
        place = int(np.argmin([abs(frame.time_s - stream.events[1].start_s) for frame in frames]))
        jumps.append(np.abs(luma[place] - luma[place - 1]).max())
    assert jumps[1] < 0.5 * jumps[0]


def test_sound_comes_with_its_event_and_is_quiet_between(tmp_path: Path) -> None:
    built = make_clips(tmp_path / "clips", train_clips=1, val_clips=1, classes=("disc", "square"))
    clips = find_evaluated_clips(built, ("disc", "square"))
    listing = compose_streams(clips, Composition(idle=0.6, streams=1, clips=2), tmp_path)
    (stream,) = find_streams(listing, ("disc", "square")).streams
    media = read_clip(stream.path, 16000)
    assert media.sound is not None
    length_s = len(media.sound) / 16000
    assert length_s == pytest.approx(media.duration_s, abs=0.2)
    first, second = stream.events

    def loudness(start_s: float, end_s: float) -> float:
        return float(media.sound[round(start_s * 16000) : round(end_s * 16000)].std())  # type: ignore[index]

    heard = max(loudness(event.start_s, event.end_s) for event in (first, second))
    assert loudness(first.end_s + 0.2, second.start_s - 0.2) <= heard


@pytest.mark.parametrize("sigma", [0.5, 2.0, 6.0])
def test_noise_is_measured(sigma: float) -> None:
    random = np.random.default_rng(0)
    slope = np.tile(np.linspace(60, 180, 160)[None, :, None], (120, 1, 3))
    slope[40:80, 50:90] = 200  # an edge is no noise
    noisy = np.clip(slope + random.normal(0, sigma, (120, 160, 1)), 0, 255).astype(np.uint8)
    assert noise_of(noisy) == pytest.approx(np.hypot(sigma, 0.29), rel=0.15)


def test_noise_of_pictures_too_small_to_have_any() -> None:
    assert noise_of(np.zeros((2, 2, 3), np.uint8)) == 0.0


def test_compositions_in_words() -> None:
    assert Composition.parse("idle=0.95, streams=3,onset_s=1") == Composition(0.95, 3, onset_s=1.0)
    assert Composition.parse("") == Composition()


@pytest.mark.parametrize(
    "text",
    [
        "idle",
        "idle=",
        "idle=x",
        "idle=1",
        "idle=-0.1",
        "idle=nan",
        "streams=0",
        "streams=1.5",
        "who=1",
        "idle=0.1,idle=0.2",
        "crf=60",
    ],
)
def test_words_that_make_no_composition(text: str) -> None:
    with pytest.raises(ArgumentError, match="--compose-streams"):
        Composition.parse(text)


def test_clips_that_cannot_be_read_are_left_out_up_to_a_tenth(clips: ClipSet, tmp_path: Path) -> None:
    broken = clips.clips[2].path
    broken.write_bytes(b"no video")
    with pytest.raises(DataError, match="1 of 6 clips cannot be read"):
        compose_streams(clips, Composition(streams=2, clips=6), tmp_path)
    assert not list(tmp_path.glob("composed-*")) and not list(tmp_path.glob(".composed-*"))
    many = replace(clips, clips=clips.clips * 4)
    some = replace(many, clips=(*many.clips[:2], *many.clips[3:8], *many.clips[9:14], *many.clips[15:]))
    found: list[Path] = []
    compose_streams(
        some, Composition(streams=2, clips=12), tmp_path, left_out=lambda path, _: found.append(path)
    )
    assert found == [broken]


@pytest.mark.parametrize("size", [(2, 2), (50, 31), (16, 90)])
def test_clips_of_any_size_make_streams_of_their_own(tmp_path: Path, size: tuple[int, int]) -> None:
    images = tmp_path / "set"
    for label in LABELS:
        (images / label).mkdir(parents=True)
        pixels = np.full((size[1], size[0], 3), 90, np.uint8)
        Image.fromarray(pixels[: max(1, size[1] - 1)]).save(images / label / "one.png")
    clips = find_evaluated_clips(images, LABELS, "all")
    (stream,) = composed(clips, tmp_path, idle=0.5, streams=1, clips=2).streams
    assert len(list(decode_steps(stream.path, 4.0))) == 16


def test_a_clip_that_changes_its_size_is_of_its_first(tmp_path: Path) -> None:
    path = tmp_path / "changing.ts"
    with path.open("wb") as file:
        for size in ((64, 48), (96, 64)):
            part = write_video(tmp_path / f"{size[0]}.ts", frames=8, size=size)
            file.write(part.read_bytes())
    media = read_clip(path, 16000)
    assert {frame.shape for frame in media.frames} == {(48, 64, 3)} and len(media.frames) > 8
