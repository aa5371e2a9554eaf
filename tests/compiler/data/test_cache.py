from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from errno import ENOSPC
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from compiler.data import Clip, ClipCache, ClipSet, choose_rate_hz, find_clips
from compiler.data.synthetic.rendering import render_clip
from compiler.errors import DataError
from runtimes.errors import AdaptiveVideoError
from runtimes.spec import Steps, View
from sdk.media import StreamRequirements, ViewRenderer, open_source, renderer
from tests.compiler.data.clip_files import write_data_set
from tests.sdk.media.sounding import noise, write_film
from tests.sdk.media.videos import write_video

VIEWS = (View(name="small", size=16), View(name="large", size=48, resize="bilinear"))


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> ClipSet:
    return find_clips(write_data_set(tmp_path_factory.mktemp("set")))


def build(clips: ClipSet, root: Path, **changed: Any) -> ClipCache:
    settings: dict[str, Any] = {"views": VIEWS, "rate_hz": 4.0, "clip_steps": 12} | changed
    return ClipCache.build(clips, root=root, **settings)


def test_pixels_are_those_of_the_device(clips: ClipSet, tmp_path: Path) -> None:
    cache = build(clips, tmp_path)
    for number, clip in enumerate(cache.clips):
        with open_source(clip.path, rate_hz=4.0) as source:
            frames = list(source)
        assert cache.times(number) == tuple(frame.time_s for frame in frames)
        for view in VIEWS:
            renderer = ViewRenderer(view)
            seen = np.concatenate([renderer.render(frame) for frame in frames])
            assert np.array_equal(cache.frames(number, view.name), seen)


def test_describes_its_clips(clips: ClipSet, tmp_path: Path) -> None:
    cache = build(clips, tmp_path)
    assert cache.clips == clips.clips
    assert cache.labels == ("a", "b")
    assert cache.fingerprint == clips.fingerprint
    assert [cache.target(number) for number in cache.split("val")] == [0, 0, 0, 1, 1, 1]
    assert sorted(cache.split("train") + cache.split("val")) == list(range(12))
    assert (cache.rejected, cache.cut_clips) == ([], 0)
    frames = cache.frames(0, "small")
    assert frames.shape == (cache.steps(0), 16, 16, 3) == (12, 16, 16, 3)
    assert not frames.flags.writeable


def test_long_clips_are_cut_and_counted(clips: ClipSet, tmp_path: Path) -> None:
    cache = build(clips, tmp_path, clip_steps=5)
    assert cache.cut_clips == 12
    assert {cache.steps(number) for number in range(12)} == {5}
    assert np.array_equal(cache.frames(3, "large"), build(clips, tmp_path).frames(3, "large")[:5])


def test_is_built_once_and_anew_after_any_change(clips: ClipSet, tmp_path: Path) -> None:
    calls: list[tuple[int, int]] = []

    def progress(done: int, total: int) -> None:
        calls.append((done, total))

    first = build(clips, tmp_path, progress=progress)
    assert calls == [(done, 12) for done in range(1, 13)]
    assert build(clips, tmp_path, progress=progress).folder == first.folder
    assert len(calls) == 12
    others = [
        build(clips, tmp_path, **changed)
        for changed in ({"rate_hz": 2.0}, {"clip_steps": 3}, {"views": VIEWS[:1]})
    ]
    os.utime(clips.clips[0].path, ns=(1, 1))
    others.append(build(clips, tmp_path))
    assert len({first.folder, *(cache.folder for cache in others)}) == 5


def test_undecodable_clips_are_left_out_and_named(tmp_path: Path) -> None:
    root = write_data_set(tmp_path / "set", per_class=5, frames=4)
    bad = root / "train" / "b" / "3.mp4"
    bad.write_bytes(b"not a video")
    cache = build(find_clips(root), tmp_path)
    assert [(path.name, reason) for path, reason in cache.rejected] == [
        ("3.mp4", "invalid data found when processing input")
    ]
    assert len(cache.clips) == 19
    last = cache.frames(18, "small")
    assert last.shape[0] == cache.steps(18) == 2
    for name in ("0.mp4", "1.mp4"):
        (root / "val" / "b" / name).write_bytes(b"")
    with pytest.raises(DataError, match="3 of 20 clips cannot be used"):
        build(find_clips(root), tmp_path)


def test_full_disk_leaves_no_half_cache(
    clips: ClipSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class FullDisk:
        def __enter__(self) -> FullDisk:
            return self

        def __exit__(self, *_: object) -> None:
            return None

        def write(self, _: object) -> int:
            raise OSError(ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "open", lambda *_args, **_options: FullDisk())
    with pytest.raises(DataError, match=r"disk is full; free some space"):
        build(clips, tmp_path)
    assert list(tmp_path.iterdir()) == []
    monkeypatch.undo()
    assert len(build(clips, tmp_path).clips) == 12


def test_interrupted_build_leaves_nothing(clips: ClipSet, tmp_path: Path) -> None:
    def interrupt(done: int, _: int) -> None:
        if done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build(clips, tmp_path, progress=interrupt)
    assert list(tmp_path.iterdir()) == []


def test_two_builders_at_once_share_one_cache(clips: ClipSet, tmp_path: Path) -> None:
    with ThreadPoolExecutor(2) as pool:
        caches = list(pool.map(lambda _: build(clips, tmp_path), range(2)))
    assert caches[0].folder == caches[1].folder
    assert list(tmp_path.iterdir()) == [caches[0].folder]


def test_root_that_cannot_be_a_folder(clips: ClipSet, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match="cannot be written"):
        build(clips, tmp_path / "file" / "cache")


def rate_of(tmp_path: Path, clip_steps: int, **video: int) -> float:
    return choose_rate_hz(find_clips(write_data_set(tmp_path, per_class=1, **video)), clip_steps)


@pytest.mark.parametrize(
    ("frames", "fps", "clip_steps", "expected"),
    [(16, 4, 16, 4.0), (32, 8, 16, 4.0), (8, 4, 16, 4.0), (75, 25, 16, 5.333)],
)
def test_rate_fits_the_clips(tmp_path: Path, frames: int, fps: int, clip_steps: int, expected: float) -> None:
    assert rate_of(tmp_path, clip_steps, frames=frames, rate=fps) == expected


def test_rate_leaves_the_longest_tenth_aside(tmp_path: Path) -> None:
    root = write_data_set(tmp_path, per_class=5, frames=16)
    write_video(root / "val" / "b" / "0.mp4", frames=160)
    assert choose_rate_hz(find_clips(root), 16) == 8.0


def test_rate_of_real_clips(real_data: Callable[[str], Path]) -> None:
    assert choose_rate_hz(find_clips(real_data("ucf101_six")), 16) == 4.0


SEGMENT_S = 0.64
MODALITIES = (
    View(name="now", size=16),
    View(name="several", size=24, frames=4),
    View(name="difference", size=16, modality="rgbdiff", frames=2, stack=2),
    View(name="flow", size=16, modality="flow", frames=2, stack=2),
    View(name="audio", size=64, modality="audio"),
)


def test_every_modality_is_what_streaming_renders(tmp_path: Path) -> None:
    pytest.importorskip("cv2", reason="optical flow needs opencv-python-headless")
    for split in ("train", "val"):
        for label, pieces in (("heard", [(0.0, noise(1))]), ("mute", None)):
            (tmp_path / "set" / split / label).mkdir(parents=True)
            for number in range(2):
                path = tmp_path / "set" / split / label / f"{number}.mp4"
                write_film(path, 2, pieces, flashes=range(number, 50, 3), codec="aac")
    clips = find_clips(tmp_path / "set")
    cache = build(clips, tmp_path, views=MODALITIES, segment_s=SEGMENT_S)
    wanted = StreamRequirements.of(Steps(rate_hz=4.0, clip_steps=12, segment_s=SEGMENT_S), MODALITIES)
    assert (cache.segment_s, cache.views) == (SEGMENT_S, MODALITIES)
    for number, clip in enumerate(cache.clips):
        with open_source(clip.path, wanted) as source:
            frames = list(source)
        for view in MODALITIES:
            shape = (16, 16, 3) if view.name == "now" else view.shape
            made = renderer(view)
            seen = np.stack([made.render(frame).reshape(shape) for frame in frames])
            assert np.array_equal(cache.frames(number, view.name), seen)
            missing = [made.absent(frame) is not None for frame in frames]
            assert cache.absent(number, view.name).tolist() == missing
            assert any(missing) == (view.name == "audio")
        silent = cache.absent(number, "audio")
        assert silent.all() == (clip.label == "mute")
        assert not cache.frames(number, "audio")[silent].any()
        assert not cache.absent(number, "rgb").any()
    with pytest.raises(KeyError):
        cache.absent(0, "smell")
    assert build(clips, tmp_path, views=MODALITIES, segment_s=0.5).folder != cache.folder


def test_a_clip_shorter_than_a_segment_has_one_step(tmp_path: Path) -> None:
    path = write_film(tmp_path / "short.mp4", 0.4, [(0.0, noise(0.4))], flashes=range(0, 10, 3), codec="aac")
    views = [MODALITIES[1], MODALITIES[4]]
    steps = Steps(rate_hz=4.0, clip_steps=12, segment_s=SEGMENT_S)
    rendered = render_clip(Clip(path, "heard", "one", "train"), views, steps)
    with open_source(path, StreamRequirements.of(steps, views)) as source:
        (frame,) = source
    assert rendered.times == (frame.time_s,) == (0.36,)
    assert rendered.absent == ((), ())
    for view, pixels in zip(views, rendered.pixels, strict=True):
        assert np.array_equal(pixels[0], renderer(view).render(frame).reshape(view.shape))
        assert pixels.any()


def test_a_view_that_needs_a_segment(clips: ClipSet, tmp_path: Path) -> None:
    with pytest.raises(AdaptiveVideoError, match="needs a segment"):
        build(clips, tmp_path, views=MODALITIES[1:2])


def test_speech_of_real_clips(real_data: Callable[[str], Path]) -> None:
    path = sorted(real_data("grid_digits").rglob("*.mp4"))[0]
    views = [MODALITIES[1], View(name="audio", size=256, modality="audio")]
    clip = Clip(path, "digit", "one", "train")
    rendered = render_clip(clip, views, Steps(rate_hz=0.78125, clip_steps=3, segment_s=1.28))
    assert rendered.absent == ((), ())
    assert [pixels.shape for pixels in rendered.pixels] == [(2, 4, 24, 24, 3), (2, 1, 256, 256, 1)]
    assert rendered.pixels[1][1].std() > 20
