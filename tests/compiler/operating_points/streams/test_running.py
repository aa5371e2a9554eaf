"""Points over what was answered of a stream, beside the same streams recognized."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from compiler.data.streams.labeled_streams import Event, LabeledStream
from compiler.operating_points.streams.evaluating import evaluate_streams
from compiler.operating_points.streams.running import run_point, run_schedule
from compiler.operating_points.streams.stream_answers import BACKGROUND, StreamAnswers, StreamReader
from runtimes.bundle import Bundle
from runtimes.engines.engine import open_engine
from sdk.decisions.fusion import StreamFusion
from sdk.decisions.watch import Watch
from sdk.recognizer import StreamRecognizer
from tests.runtimes.bundles import cost_table
from tests.runtimes.fixtures import bundle, isolated_cache
from tests.sdk.decisions.points.test_streams_along_points import FRONT
from tests.sdk.test_watching import encode_watched

__all__ = ["bundle", "isolated_cache"]


@pytest.fixture
def along(bundle: Bundle) -> Bundle:
    """The small bundle with operating points of its int8 variant."""
    return replace(bundle, manifest=bundle.manifest.model_copy(update={"fronts": (FRONT,)}))


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> LabeledStream:
    """Idle for eight seconds, then something comes and stays for four."""
    path = encode_watched(tmp_path_factory.mktemp("watched") / "watched.mp4")
    return LabeledStream(path, (Event(8.0, 12.0, "run"), Event(90.0, 99.0, "run")), "one")


def read(along: Bundle, stream: LabeledStream) -> StreamAnswers:
    with open_engine(along, "cpu") as engine:
        labels = along.manifest.labels
        named = replace(stream, events=tuple(replace(one, label=labels[1]) for one in stream.events))
        return StreamReader(along.manifest, along.manifest.variant("int8"), engine).read(named)


def test_steps_have_their_targets(along: Bundle, watched: LabeledStream) -> None:
    answers = read(along, watched)
    assert len(answers) == 120 and answers.events == ((80, 120, 1),) and answers.late == 1
    assert (answers.targets == 1).tolist() == [False] * 80 + [True] * 40
    assert set(answers.logits) == {"rgb224", "rgb112", "rgb84", "head"} and len(answers.readings) == 120


@pytest.fixture(scope="module")
def interrupted(tmp_path_factory: pytest.TempPathFactory) -> LabeledStream:
    """The same with ten seconds missing in the middle."""
    path = encode_watched(tmp_path_factory.mktemp("interrupted") / "watched.mp4", gap_at=50)
    return LabeledStream(path, (Event(18.0, 22.0, "run"),), "one")


@pytest.mark.parametrize("watch", [None, Watch()])
@pytest.mark.parametrize("point", [one.name for one in FRONT.points if one.looks])
def test_offline_begins_anew_after_a_gap_too(
    along: Bundle, interrupted: LabeledStream, point: str, watch: Watch | None
) -> None:
    check_offline(along, interrupted, point, watch)


@pytest.mark.parametrize("watch", [None, Watch()])
@pytest.mark.parametrize("point", [one.name for one in FRONT.points if one.looks])
def test_offline_is_what_the_stream_does(
    along: Bundle, watched: LabeledStream, point: str, watch: Watch | None
) -> None:
    check_offline(along, watched, point, watch)


@pytest.mark.parametrize("watch", [None, Watch(linger_s=2.0)])
def test_offline_remembers_for_as_long_as_the_stream(
    along: Bundle, watched: LabeledStream, watch: Watch | None
) -> None:
    """A point that looks every other step and remembers two looks."""
    often = FRONT.point("two big").model_copy(
        update={"name": "often", "looks": ("rgb224",) * 8, "memory_steps": 4}
    )
    front = FRONT.model_copy(update={"points": (*FRONT.points[:2], often, FRONT.points[-1])})
    front = front.model_copy(update={"default": "often"})
    remembering = replace(along, manifest=along.manifest.model_copy(update={"fronts": (front,)}))
    check_offline(remembering, watched, "often", watch)


@pytest.mark.parametrize("watch", [None, Watch(linger_s=2.0)])
def test_a_stream_answers_by_the_last_looks_that_its_point_remembers(
    along: Bundle, watched: LabeledStream, watch: Watch | None
) -> None:
    """Scores are those of a fusion of the last two looks, and of no more."""
    answers = read(along, watched)
    looks = ("rgb224",) * 8
    option = next(one for one in along.manifest.variant("int8").action_space.options if one.name == looks[0])
    scores = {}
    for memory in (4, None):
        often = FRONT.point("two big").model_copy(
            update={"name": "often", "looks": looks, "memory_steps": memory}
        )
        front = FRONT.model_copy(update={"points": (often, FRONT.points[-1]), "default": "often"})
        bundle = replace(along, manifest=along.manifest.model_copy(update={"fronts": (front,)}))
        with StreamRecognizer(bundle, "cpu", point="often", watch=watch) as recognizer:
            results = list(recognizer.stream(watched.path))
        fusion = StreamFusion(
            along.manifest.fusion, along.manifest.variant("int8").action_space, FRONT.fusion
        )
        known: list[float] = []
        for step, one in enumerate(results):
            if one.choice == "asleep":
                known.append(known[-1])
                continue
            if watch is not None and step == 80:
                fusion.begin_anew()
            ran = answers.together((option,), step) if one.choice == "rgb224" else []
            fused = fusion.update(ran, as_looks=True, last=memory)
            assert fused is not None
            known.append(float(fused.max()))
        assert [one.score for one in results] == pytest.approx(known, abs=1e-9)
        scores[memory] = known
    assert scores[4] != pytest.approx(scores[None], abs=1e-6)


def check_offline(along: Bundle, watched: LabeledStream, point: str, watch: Watch | None) -> None:
    (front,) = along.manifest.fronts
    with StreamRecognizer(along, "cpu", point=point, watch=watch) as recognizer:
        results = list(recognizer.stream(watched.path))
    answers = read(along, watched)
    variant, labels = along.manifest.variant("int8"), along.manifest.labels
    course = run_point(answers, along.manifest, variant, front, front.point(point), watch)
    assert [labels[said] for said in course.labels] == [one.label for one in results]
    ran = [one.choice for one in results if one.choice not in ("held", "asleep")]
    assert ["+".join(names) for names in course.ran if names] == ran
    sleeps = None if watch is None else [one.choice == "asleep" for one in results]
    assert sleeps == (None if course.asleep is None else course.asleep.tolist())


def test_a_schedule_answers_by_the_mean_of_its_last_looks(along: Bundle, watched: LabeledStream) -> None:
    answers, variant = read(along, watched), along.manifest.variant("int8")
    option = next(one for one in variant.action_space.options if one.name == "rgb224")
    course = run_schedule(answers, along.manifest, variant, (option,), 4, 2)
    assert course.ran == [("rgb224",), (), (), ()] * 30
    rows = answers.logits["rgb224"]
    for step in (0, 3, 4, 83, 119):
        last = step // 4 * 4
        mean = rows[last] if last == 0 else rows[last].astype(np.float64) + rows[last - 4]
        assert course.labels[step] == mean.argmax()


def test_absent_views_answer_nothing(along: Bundle, watched: LabeledStream) -> None:
    answers, variant = read(along, watched), along.manifest.variant("int8")
    rows = {name: logits.copy() for name, logits in answers.logits.items()}
    for logits in rows.values():
        logits[:40] = np.nan
    blind = replace(answers, logits=rows)
    option = next(one for one in variant.action_space.options if one.name == "rgb224")
    course = run_schedule(blind, along.manifest, variant, (option,), 1, 1)
    assert (course.labels[:40] == BACKGROUND).all() and course.ran == [()] * 40 + [("rgb224",)] * 80


def test_side_by_side(along: Bundle, watched: LabeledStream) -> None:
    """Asleep, a point that looks twice takes less than awake, signals included."""
    answers = read(along, watched)
    found = evaluate_streams([answers], along.manifest, FRONT, cost_table("bench"), Watch(), 0.01)
    assert {one.kind for one in found.outcomes} == {"schedule", "point", "asleep"}
    assert found.steps == 120 and found.events == 1 and found.idle == pytest.approx(2 / 3) and found.late == 1
    spent = {(one.name, one.kind): one.ms for one in found.outcomes}
    assert spent["two big", "asleep"] < 0.5 * spent["two big", "point"]
    idle = {(one.name, one.kind): one.idle_ms for one in found.outcomes}
    assert idle["two big", "asleep"] < spent["two big", "asleep"], "most of its looks are at the event"
    assert idle["two big", "point"] == pytest.approx(spent["two big", "point"], rel=0.1)
    asleep = next(one for one in found.of_kind("asleep") if one.name == "two big")
    assert asleep.scores.false_wakings == 0, "it wakes when something comes, and no other time"
    assert all(np.isnan(one.scores.false_wakings) for one in found.of_kind("schedule"))
    costs = [one.ms for one in found.of_kind("schedule")]
    assert costs == sorted(costs) and found.dense.ms == max(costs)
    cheapest = found.cheapest("schedule", found.aim)
    assert cheapest is not None and cheapest.scores.accuracy >= found.aim
    assert found.difference(cheapest, cheapest) == (0.0, 0.0, 0.0)
    for missed in (0.0, 0.5, 1.0):
        fitting = [one for one in found.of_kind("asleep") if one.scores.missed <= missed]
        assert found.cheapest("asleep", 0.0, missed) == (fitting[0] if fitting else None)
