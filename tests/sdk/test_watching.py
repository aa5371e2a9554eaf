"""Streams that sleep: what runs, what is answered, what is logged; from pushed and from encoded pictures."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from numpy.typing import NDArray

from runtimes.bundle import Bundle
from runtimes.errors import ArgumentError
from sdk.budget.budget import Budget
from sdk.decisions.watch import Watch
from sdk.power import ModeledMeter
from sdk.recognizer import StreamRecognizer
from sdk.recording.decision_log import DecisionLog
from sdk.recording.replay import replay
from sdk.results import Recognition
from tests.sdk.decisions.points.test_streams_along_points import FRONT, without_policy

RATE_HZ = 10


@pytest.fixture
def along(bundle: Bundle) -> Bundle:
    """The small bundle with operating points of its int8 variant."""
    return replace(bundle, manifest=bundle.manifest.model_copy(update={"fronts": (FRONT,)}))


def scene(object_at: int | None, random: np.random.Generator) -> NDArray[np.uint8]:
    """A gradient with the noise of a sensor, and maybe something bright in it."""
    picture = np.tile(np.linspace(40, 160, 128)[None, :, None], (96, 1, 3))
    if object_at is not None:
        picture[20:60, object_at : object_at + 30] = 240
    return np.clip(picture + random.normal(0, 1, picture.shape), 0, 255).astype(np.uint8)


def pictures(objects: list[int | None]) -> list[NDArray[np.uint8]]:
    random = np.random.default_rng(0)
    return [scene(one, random) for one in objects]


def idle_then_busy() -> list[int | None]:
    """Eighty idle steps, something that comes in, and stays for forty."""
    return [None] * 80 + [50] * 40


def encode_watched(path: Path, gap_at: int | None = None) -> Path:
    """The same as H.264 at a low bit rate, with a key frame every two seconds; ten are missing at a gap."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=RATE_HZ, options={"g": "20"})
        stream.width, stream.height, stream.pix_fmt, stream.bit_rate = 128, 96, "yuv420p", 60_000
        for place, picture in enumerate(pictures(idle_then_busy())):
            image = av.VideoFrame.from_ndarray(picture, format="rgb24")
            image.pts = place + (0 if gap_at is None or place < gap_at else 10 * RATE_HZ)
            image.time_base = Fraction(1, RATE_HZ)
            container.mux(stream.encode(image))
        container.mux(stream.encode())
    return path


def looked(results: list[Recognition]) -> list[int]:
    return [place for place, one in enumerate(results) if one.choice not in ("asleep", "held")]


def test_nothing_runs_while_nothing_happens(along: Bundle, tmp_path: Path) -> None:
    frames = [(one, place / RATE_HZ) for place, one in enumerate(pictures(idle_then_busy()))]
    with (
        DecisionLog(tmp_path / "log.jsonl", {}) as log,
        StreamRecognizer(along, "cpu", point="two big", watch=Watch(), log=log) as recognizer,
    ):
        results = list(recognizer.stream(frames))
        stats = recognizer.stats()
    assert looked(results) == [0, 8, 80, 88], "two looks when it begins, two when something comes"
    assert stats.graph_runs["net-int8"] == 4 and stats.graph_runs.get("policy", 0) == 0
    assert results[60].choice == "asleep" and set(results[60].modalities.values()) == {"asleep"}
    assert results[60].label == results[8].label and results[60].score == results[8].score
    steps = list(replay(tmp_path / "log.jsonl"))
    assert len(steps) == 120 and all(step.same for step in steps)


def test_the_answer_begins_anew_when_it_wakes(along: Bundle) -> None:
    """What it says of the object is what a stream says that begins with it."""
    busy = idle_then_busy()
    frames = pictures(busy)
    with StreamRecognizer(along, "cpu", point="two big", watch=Watch()) as recognizer:
        woken = list(recognizer.stream([(one, place / RATE_HZ) for place, one in enumerate(frames)]))
        fresh = list(recognizer.stream([(one, place / RATE_HZ) for place, one in enumerate(frames[80:])]))
    assert [one.top for one in woken[80:]] == [one.top for one in fresh]
    assert woken[79].top != woken[80].top


def test_an_encoded_stream_sleeps_too(along: Bundle, tmp_path: Path) -> None:
    """Through H.264 at a bit rate at which its groups of pictures show."""
    path = encode_watched(tmp_path / "watched.mp4")
    with StreamRecognizer(along, "cpu", point="one small", watch=Watch()) as recognizer:
        results = list(recognizer.stream(path))
    assert looked(results) == [0, 80]


def test_the_guard_looks_without_a_signal(along: Bundle) -> None:
    frames = [(one, place / RATE_HZ) for place, one in enumerate(pictures([None] * 100))]
    with StreamRecognizer(along, "cpu", point="one small", watch=Watch(longest_s=3.0)) as recognizer:
        assert looked(list(recognizer.stream(frames))) == [0, 30, 60, 90]


def test_a_budget_moves_along_points_that_sleep(along: Bundle, tmp_path: Path) -> None:
    """Asleep it takes next to nothing, so that the best point is within the budget; it replays."""
    now = iter(np.arange(10_000) / RATE_HZ)
    frames = [(one, place / RATE_HZ) for place, one in enumerate(pictures([None, 50] * 60))]
    with (
        DecisionLog(tmp_path / "log.jsonl", {}) as log,
        ModeledMeter(idle_w=1.0) as meter,
        StreamRecognizer(
            along,
            "cpu",
            watch=Watch(),
            meter=meter,
            budget=Budget(watts=5.0),
            clock=lambda: float(next(now)),
            log=log,
        ) as recognizer,
    ):
        results = list(recognizer.stream(frames))
    assert {"asleep"} < {one.choice for one in results}
    assert all(step.same for step in replay(tmp_path / "log.jsonl"))


def test_what_cannot_be_watched(along: Bundle, bundle: Bundle) -> None:
    with pytest.raises(ArgumentError, match="watch: only operating points rest"):
        StreamRecognizer(bundle, "cpu", watch=Watch())
    with pytest.raises(ArgumentError, match="watch: only operating points rest"):
        StreamRecognizer(along, "cpu", fixed="rgb224", watch=Watch())
    with pytest.raises(ArgumentError, match="is not a Watch"):
        StreamRecognizer(along, "cpu", watch=True)  # type: ignore[arg-type]


def test_the_learned_policy_never_rests(along: Bundle) -> None:
    frames = [(one, place / RATE_HZ) for place, one in enumerate(pictures([None] * 30))]
    with StreamRecognizer(along, "cpu", point="policy at 0.5", watch=Watch()) as recognizer:
        assert "asleep" not in {one.choice for one in recognizer.stream(frames)}


def test_another_point_that_never_rests_ends_the_sleep(along: Bundle) -> None:
    frames = [(one, place / RATE_HZ) for place, one in enumerate(pictures([None] * 40))]
    with StreamRecognizer(along, "cpu", point="one small", watch=Watch()) as recognizer:
        results = []
        for result in recognizer.stream(frames):
            results.append(result)
            if result.step == 20:
                recognizer.point = "policy at 0.5"
    assert results[20].choice == "asleep" and "asleep" not in {one.choice for one in results[21:]}


def test_a_clip_is_looked_at_as_ever(along: Bundle, tmp_path: Path) -> None:
    """Of more steps than the bundle's clips too: what is asked for is an answer of all of it."""
    path = encode_watched(tmp_path / "watched.mp4")
    with StreamRecognizer(along, "cpu", point="two big", watch=Watch()) as recognizer:
        watched = recognizer.recognize(path)
    with StreamRecognizer(along, "cpu", point="two big") as recognizer:
        assert watched.top == recognizer.recognize(path).top
    assert "asleep" not in {one.choice for one in watched.recognitions}


def test_a_variant_without_a_policy_sleeps_too(bundle: Bundle) -> None:
    """A watch alone is enough to go along its points."""
    frames = [(one, place / RATE_HZ) for place, one in enumerate(pictures(idle_then_busy()))]
    with StreamRecognizer(without_policy(bundle), "cpu", watch=Watch()) as recognizer:
        assert looked(list(recognizer.stream(frames))) == [0, 8, 80, 88]
