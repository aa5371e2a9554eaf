"""Views of several pictures, of motion and of sound."""

from __future__ import annotations

import builtins
import sys
import time
from typing import Any

import av
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from runtimes.errors import AdaptiveVideoError
from runtimes.spec import View
from sdk.media import Frame, Picture, Sound, ViewRenderer, renderer
from sdk.media.absence import NO_TRACK, NOT_DECODED, Absence
from sdk.media.views.motion import FlowRenderer
from sdk.media.views.spectrogram import log_power

SIZE = 32


def image(pixels: NDArray[np.uint8]) -> av.VideoFrame:
    return av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="rgb24")


def frame_of(pictures: list[NDArray[np.uint8]], rate: float = 25.0, segment_s: float = 1.28) -> Frame:
    earlier = tuple(Picture(image(p), k / rate) for k, p in enumerate(pictures[:-1]))
    last_s = (len(pictures) - 1) / rate
    return Frame(last_s, image(pictures[-1]), 0, 0.0, 0.0, 0, segment_s=segment_s, earlier=earlier)


def flats(*levels: int) -> list[NDArray[np.uint8]]:
    return [np.full((SIZE, SIZE, 3), level, np.uint8) for level in levels]


def heard(samples: NDArray[np.float32], absent: Absence | None = None) -> Frame:
    sound = Sound(samples, 24_000, absent)
    return Frame(0.0, image(flats(0)[0]), 0, 0.0, 0.0, 0, segment_s=1.28, sound=sound)


VIEWS = [
    View(name="one", size=SIZE),
    View(name="eight", size=SIZE, frames=8),
    View(name="difference", size=SIZE, modality="rgbdiff", frames=4, stack=3),
    View(name="flow", size=SIZE, modality="flow", frames=2, stack=3),
    View(name="audio", size=64, modality="audio"),
]


@pytest.mark.parametrize("view", VIEWS, ids=lambda view: view.name)
def test_shape_and_ownership(view: View) -> None:
    if view.modality == "flow":
        pytest.importorskip("cv2", reason="optical flow needs opencv-python-headless")
    made = renderer(view)
    frame = frame_of(flats(*range(33)))
    first = made.render(frame)
    assert (first.shape, first.dtype) == (view.shape, np.uint8)
    assert first.flags.c_contiguous and first.flags.writeable
    kept = first.copy()
    first[:] = 77
    assert np.array_equal(made.render(frame), kept)
    assert made.absent(frame) == (NOT_DECODED if view.modality == "audio" else None)
    assert made.view == view


@pytest.mark.parametrize(
    "view",
    [
        View(name="x", size=16, stack=2),
        View(name="x", size=16, modality="audio", frames=2),
        View(name="x", size=16, modality="audio", stack=2),
    ],
)
def test_what_a_modality_does_not_have(view: View) -> None:
    with pytest.raises(AdaptiveVideoError, match="set frames or stack to 1"):
        renderer(view)
    with pytest.raises(ValueError, match="is flow, not rgb"):
        ViewRenderer(VIEWS[3])


def test_even_pictures_end_at_the_step() -> None:
    made = renderer(VIEWS[1])
    assert made.render(frame_of(flats(*range(33))))[:, 0, 0, 0].tolist() == [4, 8, 12, 16, 20, 24, 28, 32]
    assert made.render(frame_of(flats(9)))[:, 0, 0, 0].tolist() == [9] * 8
    single = ViewRenderer(VIEWS[0])
    frame = frame_of(flats(*range(33)))
    assert np.array_equal(made.render(frame)[-1:], single.render(frame))


@settings(max_examples=30, deadline=None)
@given(levels=st.lists(st.integers(0, 255), min_size=1, max_size=34))
def test_differences_are_exact(levels: list[int]) -> None:
    view = VIEWS[2]
    rendered = renderer(view).render(frame_of(flats(*levels)))
    times = np.arange(len(levels)) / 25
    for row in range(4):
        wanted_s = times[-1] - (3 - row) * 0.32
        last = max(0, int(np.searchsorted(times, wanted_s + 1e-3, side="right")) - 1)
        for pair in range(3):
            later, before = max(0, last - 2 + pair), max(0, last - 3 + pair)
            expected = int(np.floor((levels[later] - levels[before] + 255) / 2 + 0.5))
            assert (rendered[row, :, :, 3 * pair : 3 * pair + 3] == expected).all()


def test_differences_scale_each_picture_once(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[object] = []
    made: Any = renderer(VIEWS[2].model_copy(update={"stack": 8}))
    square = made._scaler.square
    monkeypatch.setattr(made._scaler, "square", lambda image: calls.append(image) or square(image))
    made.render(frame_of(flats(*range(33))))
    assert len(calls) == len(set(map(id, calls))) == 33


def test_flow_follows_a_shift() -> None:
    pytest.importorskip("cv2", reason="optical flow needs opencv-python-headless")
    coarse = np.random.default_rng(0).integers(0, 255, (20, 20, 3)).astype(np.uint8)
    picture = np.kron(coarse, np.ones((8, 8, 1), np.uint8))[:, :, :]
    view = View(name="flow", size=128, modality="flow", frames=1, stack=2)
    pictures = [np.roll(picture, (3 * k, 5 * k), (0, 1))[16:144, 16:144] for k in range(3)]
    rendered = renderer(view).render(frame_of(pictures, segment_s=0.08))
    assert rendered.shape == (1, 128, 128, 4)
    inner = np.median(rendered[0, 30:-30, 30:-30].reshape(-1, 4), axis=0)
    across, down = np.floor(25 / 40 * 255 + 0.5), np.floor(23 / 40 * 255 + 0.5)
    assert np.abs(inner - [across, down, across, down]).max() <= 2
    still = renderer(view).render(frame_of([pictures[0]] * 3, segment_s=0.08))
    assert (still == 128).all()


def test_flow_without_opencv(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without(name: str, *args: Any, **options: Any) -> Any:
        if name == "cv2":
            raise ImportError(name)
        return real(name, *args, **options)

    monkeypatch.delitem(sys.modules, "cv2", raising=False)
    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(AdaptiveVideoError, match=r"pip install '\.\[flow\]'"):
        renderer(VIEWS[3])


def test_other_flow_methods() -> None:
    cv2 = pytest.importorskip("cv2", reason="optical flow needs opencv-python-headless")
    with pytest.raises(AdaptiveVideoError, match="use dis or tvl1"):
        FlowRenderer(VIEWS[3], "farneback")
    if hasattr(cv2, "optflow"):
        assert FlowRenderer(VIEWS[3], "tvl1").render(frame_of(flats(1, 2, 3))).shape == VIEWS[3].shape
    else:
        with pytest.raises(AdaptiveVideoError, match="contrib"):
            FlowRenderer(VIEWS[3], "tvl1")


@pytest.mark.parametrize(
    ("size", "count"), [(256, 30_720), (128, 30_720), (64, 30_720), (64, 6400), (96, 12_345)]
)
def test_spectrogram_is_the_textbooks(size: int, count: int) -> None:
    samples = np.random.default_rng(0).standard_normal(count).astype(np.float32)
    samples[: count // 2] *= 0.01
    window = min(2 * count // size, 2 * size - 1)
    hann = 0.5 - 0.5 * np.cos(2 * np.pi * (np.arange(window) + 0.5) / window)
    padded = np.concatenate([np.zeros(window), samples.astype(np.float64)])
    for column, row in enumerate(log_power(samples, size)):
        end = round((column + 1) * count / size)
        spectrum = np.fft.rfft(padded[end : end + window] * hann, 2 * size - 1)
        assert np.abs(row - np.log(np.abs(spectrum) ** 2 + 1e-6)).max() < 2e-2


@pytest.mark.parametrize("size", [96, 128, 256])
def test_spectrogram_is_made_in_the_callers_thread_alone(size: int) -> None:
    samples = np.random.default_rng(0).standard_normal(30_720).astype(np.float32)
    log_power(samples, size)
    own, all_threads = time.thread_time(), time.process_time()
    for _ in range(50):
        log_power(samples, size)
    own, all_threads = time.thread_time() - own, time.process_time() - all_threads
    assert all_threads < 1.2 * own


def test_a_tone_is_a_row_and_silence_is_dark() -> None:
    view = View(name="audio", size=256, modality="audio")
    times = np.arange(30_720) / 24_000
    samples = np.sin(2 * np.pi * 3000 * times).astype(np.float32)
    samples[: 30_720 // 2] = 0
    rendered = renderer(view).render(heard(samples))[0, :, :, 0]
    assert set(rendered[:, 140:].argmax(0)) == {round(3000 / 24_000 * 511)}
    assert rendered[:, :128].max() <= 2
    assert 225 < rendered.max() < 240


@pytest.mark.parametrize("level", [0.0, 1.0, -1.0, 1e6])
def test_any_level_has_its_place(level: float) -> None:
    view = View(name="audio", size=64, modality="audio")
    rendered = renderer(view).render(heard(np.full(30_720, level, np.float32)))
    assert rendered.max() == (2 if level == 0 else 255 if abs(level) > 1 else rendered.max())


def test_absent_sound_is_zeros() -> None:
    made = renderer(VIEWS[4])
    frame = heard(np.zeros(0, np.float32), NO_TRACK)
    assert made.absent(frame) == NO_TRACK
    assert not made.render(frame).any()
