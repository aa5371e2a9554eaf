from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path

import av
import numpy as np
import pytest
from numpy.typing import NDArray

from compiler.data import choose_rate_hz, find_clips
from compiler.data.synthetic.built_in import (
    AUDIBLE_CLASSES,
    CLASSES,
    FINE_CLASSES,
    SILENT_CLASSES,
    VISIBLE_CLASSES,
    default_root,
    make_clips,
)
from compiler.data.synthetic.scenes import draw_frames, draw_timeline
from compiler.data.synthetic.sounds import SAMPLE_RATE_HZ, TONES_HZ, make_sound
from compiler.errors import DataError
from runtimes.spec import View
from sdk.media import ViewRenderer, decode_steps


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_clips(tmp_path_factory.mktemp("made"), train_clips=2, val_clips=1)


def digests(root: Path) -> dict[str, str]:
    return {
        path.relative_to(root).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(root.rglob("*.mp4"))
    }


def test_is_a_data_set(root: Path) -> None:
    clips = find_clips(root)
    assert clips.labels == tuple(sorted(CLASSES))
    assert (len(clips.split("train")), len(clips.split("val"))) == (20, 10)
    assert choose_rate_hz(clips, 16) == 4.0
    assert find_clips(root, classes=VISIBLE_CLASSES).labels == tuple(sorted(VISIBLE_CLASSES))


def test_clips_are_real_video_with_sound(root: Path) -> None:
    for path in root.rglob("*.mp4"):
        with av.open(str(path)) as container:
            video, audio = container.streams.video[0], container.streams.audio[0]
            assert (video.codec_context.name, video.codec_context.pix_fmt) == ("h264", "yuv420p")
            assert (video.width, video.height, video.frames, float(video.average_rate)) == (320, 240, 32, 8.0)
            assert (audio.codec_context.name, audio.rate, audio.channels) == ("aac", 24000, 1)
            assert float(audio.duration * audio.time_base) == pytest.approx(4, abs=0.1)


def test_one_seed_gives_one_data_set(root: Path, tmp_path: Path) -> None:
    again = make_clips(tmp_path, train_clips=2, val_clips=1, classes=CLASSES[3:5])
    same = digests(again)
    assert len(same) == 6
    assert same.items() <= digests(root).items()
    other = make_clips(tmp_path, seed=1, train_clips=2, val_clips=1, classes=CLASSES[3:5])
    assert not set(same.values()) & set(digests(other).values())


def test_complete_data_set_is_left_alone_and_an_incomplete_one_never_appears(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("compiler.data.synthetic.built_in.write_clip", fail)
    assert make_clips(root.parent, train_clips=2, val_clips=1) == root
    with pytest.raises(DataError, match="disk is full"):
        make_clips(tmp_path, train_clips=1, val_clips=1)
    assert list(tmp_path.iterdir()) == []


def test_default_root_follows_the_users_cache_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("ADAPTIVE_VIDEO_CACHE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert default_root() == tmp_path / "adaptive-video" / "synthetic"


def test_unknown_class(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="hexagon"):
        make_clips(tmp_path, classes=("disc", "hexagon"))


def test_timelines_have_empty_stretches_and_a_long_visible_one() -> None:
    for seed in range(300):
        timeline = draw_timeline(np.random.default_rng(seed), empty=False)
        visible = timeline.visible
        assert visible.size == timeline.still.size == 32
        assert 0.4 <= 1 - visible.mean() <= 0.6
        runs = "".join("v" if seen else " " for seen in visible).split()
        assert max(map(len, runs)) >= 8
    assert not draw_timeline(np.random.default_rng(0), empty=True).visible.any()


def test_still_frames_repeat() -> None:
    rng = np.random.default_rng(3)
    timeline = draw_timeline(rng, empty=False)
    frames = [frame.copy() for frame in draw_frames(rng, "disc", timeline)]
    assert timeline.still.any()
    for number in range(1, 32):
        repeated = np.array_equal(frames[number], frames[number - 1])
        assert repeated == timeline.still[number]


def test_audible_classes_show_nothing_and_sound_apart() -> None:
    visible = np.zeros(32, np.bool_)
    rng = np.random.default_rng(0)
    loud = {label: make_sound(rng, label, visible, 8).std() for label in ("square", *AUDIBLE_CLASSES)}
    assert loud["square"] < 0.02 < min(loud[label] for label in AUDIBLE_CLASSES)


def test_some_classes_are_told_only_by_sound_and_some_only_by_pictures() -> None:
    """From the same random numbers, audible classes show the same and silent classes sound the same."""
    assert set(SILENT_CLASSES) == set(VISIBLE_CLASSES) - set(TONES_HZ)
    assert set(SILENT_CLASSES).isdisjoint(AUDIBLE_CLASSES)
    empty = draw_timeline(np.random.default_rng(0), empty=True)
    shown = {
        label: np.stack([f.copy() for f in draw_frames(np.random.default_rng(1), label, empty)])
        for label in AUDIBLE_CLASSES
    }
    assert np.array_equal(*shown.values())
    visible = np.arange(32) < 16
    sounds = [make_sound(np.random.default_rng(1), label, visible, 8) for label in SILENT_CLASSES]
    assert all(np.array_equal(sounds[0], sound) for sound in sounds)
    heard = [make_sound(np.random.default_rng(1), label, visible, 8) for label in AUDIBLE_CLASSES]
    assert not np.array_equal(*heard)


def test_tones_sound_only_while_the_object_is_seen() -> None:
    visible = np.arange(32) < 16
    for label, tone_hz in TONES_HZ.items():
        sound = make_sound(np.random.default_rng(0), label, visible, 8)
        assert sound.shape == (4 * SAMPLE_RATE_HZ,)
        first, second = np.split(sound, 2)
        assert second.std() < 0.02
        assert np.abs(np.fft.rfft(first)).argmax() / 2 == tone_hz


@pytest.mark.slow
def test_only_larger_views_tell_the_fine_classes(tmp_path: Path) -> None:
    """A linear classifier of spectral energies by direction, which knows where to look: perfect at 168 px
    and up; below, it finds traces that no small network learns."""
    root = make_clips(tmp_path, train_clips=10, val_clips=6, classes=FINE_CLASSES)
    clips = find_clips(root)
    accuracies = {}
    for size in (84, 112, 168, 224):
        view = View(name="view", size=size)
        train, val = (_features(view, clips.split(split)) for split in ("train", "val"))  # type: ignore[arg-type]
        accuracies[size] = _accuracy(*train, *val)
    assert accuracies[224] > 0.95
    assert accuracies[168] > 0.9
    assert accuracies[112] < 0.85
    assert accuracies[84] < 0.65


def _features(view: View, clips) -> tuple[NDArray[np.float64], NDArray[np.int64]]:  # type: ignore[no-untyped-def]
    """Direction energies of the gray disc in every frame that shows it, and the class of each."""
    renderer = ViewRenderer(view)
    rows, labels = [], []
    for clip in clips:
        for frame in decode_steps(clip.path, 4):
            patch = _disc_patch(renderer.render(frame)[0], view.size)
            if patch is not None:
                rows.append(_direction_energies(patch))
                labels.append(FINE_CLASSES.index(clip.label))
    return np.stack(rows), np.array(labels)


def _disc_patch(pixels: NDArray[np.uint8], size: int) -> NDArray[np.float64] | None:
    """A square within the disc, found as where neighboring pixels differ most."""
    gray = pixels.mean(2)
    rough = np.abs(np.diff(gray, axis=0))[:, 1:] + np.abs(np.diff(gray, axis=1))[1:]
    found = np.argwhere(rough > 12)
    if len(found) < 0.1 * size**2:
        return None
    reach = int(0.17 * size)
    y, x = np.clip(np.median(found, axis=0).astype(int), reach, size - reach)
    return gray[y - reach : y + reach, x - reach : x + reach]


def _direction_energies(patch: NDArray[np.float64]) -> NDArray[np.float64]:
    window = np.hanning(patch.shape[0])
    spectrum = np.abs(np.fft.fft2((patch - patch.mean()) * window[:, None] * window[None], (64, 64))) ** 2
    bands = _bands()
    sums = np.bincount(bands, spectrum.ravel(), 48)[8:]
    return np.log(sums / np.maximum(np.bincount(bands, minlength=48)[8:], 1) + 1)


@cache
def _bands() -> NDArray[np.int64]:
    """For each of 64 x 64 frequencies: 8 x its band of magnitude + its band of direction."""
    frequency = np.fft.fftfreq(64)
    radius = np.hypot(frequency[:, None], frequency[None])
    angle = np.arctan2(frequency[:, None], frequency[None]) % np.pi
    bands = np.digitize(radius, [0.1, 0.2, 0.3, 0.4, 0.5]) * 8 + (angle / np.pi * 8 + 0.5).astype(int) % 8
    return bands.ravel()


def _accuracy(
    train: NDArray[np.float64],
    train_labels: NDArray[np.int64],
    val: NDArray[np.float64],
    val_labels: NDArray[np.int64],
) -> float:
    """Of ridge regression to one-hot labels."""
    mean, deviation = train.mean(0), train.std(0)
    x, y = (np.c_[(rows - mean) / deviation, np.ones(len(rows))] for rows in (train, val))
    weights = np.linalg.solve(x.T @ x + 3 * np.eye(x.shape[1]), x.T @ np.eye(4)[train_labels])
    return float(((y @ weights).argmax(1) == val_labels).mean())
