"""Streams, steps, clips and callbacks give the same answers, and run only what was chosen."""

from __future__ import annotations

import threading
import time
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path

import av
import numpy as np
import pytest
from numpy.typing import NDArray

from runtimes.bundle import Bundle
from runtimes.engines.engine import open_engine
from runtimes.errors import AdaptiveVideoError, EngineError
from runtimes.spec import Option
from sdk.decisions.decision import Context, Decision, Plan
from sdk.decisions.fusion import Floats
from sdk.decisions.step_pipeline import Pipeline
from sdk.errors import SourceError
from sdk.media.frames import Frame
from sdk.media.views.pixels import ViewRenderer
from sdk.recognizer import StreamRecognizer
from sdk.results import Recognition
from tests.runtimes.bundles import LABELS
from tests.sdk.films import BRIGHT, DARK, MIDDLE, encode, film, flat

LEVELS = [BRIGHT] * 2 + [DARK] * 6 + [MIDDLE] * 4
CHOICES = [
    "rgb224",
    "rgb224",
    "skip4",
    "held",
    "held",
    "held",
    "skip4",
    "held",
    "held",
    "held",
    "rgb112",
    "rgb112",
]


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    levels = [level for level in (*LEVELS, *LEVELS) for _ in range(3)]
    return encode(tmp_path_factory.mktemp("clip") / "clip.mp4", levels)


def answers(recognitions: Iterable[Recognition]) -> list[tuple[object, ...]]:
    """All of each result but its timing."""
    return [(r.time_s, r.step, r.top, r.choice, r.restarted) for r in recognitions]


def test_choices_follow_the_policy(bundle: Bundle) -> None:
    with StreamRecognizer(bundle, "cpu") as recognizer:
        results = list(recognizer.stream(film(LEVELS)))
    assert [result.choice for result in results] == CHOICES
    assert [result.step for result in results] == list(range(len(LEVELS)))
    assert all(result.label in LABELS and 0 < result.score <= 1 for result in results)


def test_what_is_not_chosen_is_not_run(bundle: Bundle) -> None:
    with StreamRecognizer(bundle, "cpu") as recognizer:
        results = list(recognizer.stream(film(LEVELS)))
        stats = recognizer.stats()
    # 2 bright, 2 skips and 2 middle ones decide; only the bright and the middle ones run a branch.
    assert stats.graph_runs == {"net-int8": 4, "policy": 6}
    held = [result.latency_ms for result in results if result.choice == "held"]
    assert all(spent.resize == spent.policy == spent.branch == 0 for spent in held)


class Script:
    """Decisions as written down beforehand."""

    kind, standing_plan = "scripted", Plan()
    runs_policy = may_run_policy = True
    fuses_looks, memory_steps = False, None

    def __init__(self, *decisions: Decision) -> None:
        self.options: tuple[Option, ...] = tuple({o.name: o for d in decisions for o in d.options}.values())
        self._decisions = decisions
        self.reset()

    def decide(self, scores: Floats | None, plan: Plan, context: Context) -> Decision:
        return next(self._left)

    def steps_to_wait(self, plan: Plan, answer: Floats | None, since: int | None = None) -> int:
        return 0

    def expect_steps(self, steps: int | None) -> None:
        assert steps is None

    def set_absent_graphs(self, absent: Collection[str]) -> None:
        assert not absent

    def reset(self) -> None:
        self._left = iter(self._decisions)


def test_a_view_is_rendered_once_for_policy_and_branch(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    rendered: list[str] = []
    render = ViewRenderer.render

    def counting(renderer: ViewRenderer, frame: Frame) -> NDArray[np.uint8]:
        rendered.append(renderer.view.name)
        return render(renderer, frame)

    monkeypatch.setattr(ViewRenderer, "render", counting)
    variant = bundle.manifest.variant()
    options = {option.name: option for option in variant.action_space.options}
    script = Script(Decision((options["rgb84"],), 0), Decision((options["rgb112"],), 0))
    with open_engine(bundle, "cpu") as engine:
        pipeline = Pipeline(bundle.manifest, variant, engine, script, top=5)
        image = av.VideoFrame.from_ndarray(flat(BRIGHT), format="rgb24")
        for step in range(2):
            pipeline.advance(Frame(step / 10, image, 0, 0.0, 0.0, step))
        assert {entry.graph: entry.runs for entry in engine.declared} == {"policy": 2, "net-int8": 2}
    assert rendered == ["rgb84", "rgb84", "rgb112"]


def test_state_is_held_through_a_skip(bundle: Bundle) -> None:
    variant = bundle.manifest.variant()
    options = {option.name: option for option in variant.action_space.options}
    head, skip = Decision((options["head"],), 0), Decision((options["skip4"],), 3)
    with open_engine(bundle, "cpu") as engine:
        manifest = bundle.manifest.model_copy(
            update={"fusion": bundle.manifest.fusion.model_copy(update={"window": 1})}
        )
        pipeline = Pipeline(manifest, variant, engine, Script(head, skip, head), top=5)
        image = av.VideoFrame.from_ndarray(flat(BRIGHT), format="rgb24")
        results = [pipeline.advance(Frame(step / 10, image, 0, 0.0, 0.0, step)) for step in range(6)]
    # h counts the policy's runs before this one: 0 at the first head, 2 (head, skip) at the second.
    assert dict(results[0].top) == pytest.approx(head_scores(runs_before=0), abs=1e-4)
    assert dict(results[5].top) == pytest.approx(head_scores(runs_before=2), abs=1e-4)


def head_scores(runs_before: int) -> dict[str, float]:
    """What the policy's own head says to a white frame."""
    logits = np.array([1, -1, 2, 0, 0.5]) + 8 * runs_before * np.arange(5) / 100
    powers = np.exp(logits)
    return dict(zip(LABELS, (powers / powers.sum()).tolist(), strict=True))


def test_every_way_of_use_gives_the_same(bundle: Bundle, clip: Path) -> None:
    with StreamRecognizer(bundle, "cpu") as recognizer:
        streamed = list(recognizer.stream(clip))
        whole = recognizer.recognize(clip)
        recognizer.reset()
        with av.open(str(clip)) as container:
            stepped = [recognizer.step(image, image.time) for image in container.decode(video=0)]
        called = run_in_background(recognizer, clip)
    assert len(streamed) == 24
    assert {"rgb224", "rgb112", "skip4", "held"} == {result.choice for result in streamed}
    assert answers(streamed) == answers(whole.recognitions) == answers(called)
    assert answers(streamed) == answers(result for result in stepped if result is not None)
    assert (whole.label, whole.score, whole.steps) == (streamed[-1].label, streamed[-1].score, 24)
    assert sum(whole.choices.values()) == 24
    assert whole.to_json()["path"] == str(clip)


def run_in_background(recognizer: StreamRecognizer, source: str | Path) -> list[Recognition]:
    results: list[Recognition] = []
    errors: list[Exception] = []
    ended = threading.Event()
    recognizer.start(source, results.append, errors.append, ended.set)
    assert ended.wait(20)
    recognizer.stop()
    assert errors == []
    return results


@pytest.mark.parametrize("arguments", [{}, {"random_seed": 1}, {"fixed": "head", "every": 2}])
def test_the_same_stream_twice_gives_the_same(
    bundle: Bundle, clip: Path, arguments: dict[str, object]
) -> None:
    with StreamRecognizer(bundle, "cpu", **arguments) as recognizer:  # type: ignore[arg-type]
        assert answers(recognizer.stream(clip)) == answers(recognizer.stream(clip))


def test_a_gap_begins_anew(bundle: Bundle) -> None:
    before, after = film([BRIGHT, BRIGHT, DARK]), film([MIDDLE, MIDDLE])
    late = [(image, time_s + 60) for image, time_s in after]
    with StreamRecognizer(bundle, "cpu") as recognizer:
        through = list(recognizer.stream([*before, *late]))
        fresh = list(recognizer.stream(after))
    assert [result.restarted for result in through] == [False, False, False, True, False]
    assert [result.top for result in through[3:]] == [result.top for result in fresh]
    assert [result.choice for result in through[2:]] == ["skip4", "rgb112", "rgb112"]
    assert through[-1].step == 4


def test_reset_forgets(bundle: Bundle) -> None:
    with StreamRecognizer(bundle, "cpu") as recognizer:
        first = recognizer.step(flat(MIDDLE), 0.0)
        recognizer.step(flat(BRIGHT), 0.1)
        recognizer.reset()
        again = recognizer.step(flat(MIDDLE), 0.0)
        assert recognizer.stats().steps == 1
    assert first is not None and again is not None
    assert answers([first]) == answers([again])


def test_step_takes_only_the_clocks_frames(bundle: Bundle) -> None:
    with StreamRecognizer(bundle, "cpu") as recognizer:
        taken = [recognizer.step(flat(BRIGHT), index / 30) is not None for index in range(7)]
    assert taken == [True, False, False, True, False, False, True]


def test_sound_is_passed_over_where_no_view_is_made_of_it(bundle: Bundle) -> None:
    with StreamRecognizer(bundle, "cpu") as recognizer:
        assert recognizer.step(np.zeros(2400, np.float32), 0.0) is None
        assert recognizer.step(flat(BRIGHT), 0.0) is not None
        assert recognizer.stats().steps == 1


def test_step_refuses_what_is_no_picture(bundle: Bundle) -> None:
    with StreamRecognizer(bundle, "cpu") as recognizer, pytest.raises(SourceError, match="uint8"):
        recognizer.step(flat(BRIGHT).astype(np.float32), 0.0)


@pytest.mark.parametrize(
    "arguments",
    [
        {"variant": "fp64"},
        {"fixed": "rgb999"},
        {"fixed": "rgb224", "random_seed": 1},
        {"fixed": "rgb224", "price": 1.0},
        {"top": 0},
        {"random_seed": 1, "every": 2},
        {"device": "npu"},
    ],
)
def test_arguments_that_do_not_fit(bundle: Bundle, arguments: dict[str, object]) -> None:
    with pytest.raises(AdaptiveVideoError):
        StreamRecognizer(bundle, **arguments)  # type: ignore[arg-type]


def test_closing_the_generator_closes_the_source(bundle: Bundle) -> None:
    with StreamRecognizer(bundle, "cpu") as recognizer:
        stream = recognizer.stream("test://?live=0")
        next(stream)
        with pytest.raises(AdaptiveVideoError, match="still running"):
            recognizer.recognize("test://?duration=1")
        stream.close()
        assert not [thread for thread in threading.enumerate() if thread.name.startswith("decode")]
        assert recognizer.recognize("test://?duration=1").steps == 10


def test_a_missing_file_is_a_source_error(bundle: Bundle) -> None:
    with StreamRecognizer(bundle, "cpu") as recognizer:
        with pytest.raises(SourceError, match="no such file"):
            next(recognizer.stream("missing.mp4"))
        with pytest.raises(SourceError, match="no such file"):
            recognizer.recognize("missing.mp4")


def test_stop_is_prompt_and_final(bundle: Bundle) -> None:
    results: list[Recognition] = []
    first, ended = threading.Event(), threading.Event()

    def keep(recognition: Recognition) -> None:
        results.append(recognition)
        first.set()

    with StreamRecognizer(bundle, "cpu") as recognizer:
        recognizer.start("test://", keep, pytest.fail, ended.set)
        assert first.wait(10)
        with pytest.raises(AdaptiveVideoError, match="still running"):
            recognizer.start("test://", keep, pytest.fail)
        began = time.monotonic()
        recognizer.stop()
        assert time.monotonic() - began < 1.5
        count = len(results)
        assert ended.wait(5)
        time.sleep(0.3)
        assert len(results) == count
        recognizer.stop()
        assert len(run_in_background(recognizer, "test://?duration=1&live=0")) == 10


def test_stop_does_not_wait_for_a_source_that_hangs(bundle: Bundle) -> None:
    first, release = threading.Event(), threading.Event()

    def hanging() -> Iterator[tuple[NDArray[np.uint8], float]]:
        yield flat(BRIGHT), 0.0
        release.wait(20)

    with StreamRecognizer(bundle, "cpu") as recognizer:
        recognizer.start(hanging(), lambda _: first.set(), pytest.fail)
        assert first.wait(10)
        began = time.monotonic()
        recognizer.stop()
        assert time.monotonic() - began < 1.5
        release.set()


def test_reset_is_refused_while_a_stream_runs(bundle: Bundle) -> None:
    with StreamRecognizer(bundle, "cpu") as recognizer:
        stream = recognizer.stream(film([BRIGHT] * 3))
        next(stream)
        with pytest.raises(AdaptiveVideoError, match="still running"):
            recognizer.reset()
        stream.close()
        recognizer.reset()


def test_stop_from_a_callback(bundle: Bundle) -> None:
    results: list[Recognition] = []
    ended = threading.Event()
    with StreamRecognizer(bundle, "cpu") as recognizer:

        def keep(recognition: Recognition) -> None:
            results.append(recognition)
            recognizer.stop()

        recognizer.start("test://?live=0", keep, pytest.fail, ended.set)
        assert ended.wait(10)
    assert len(results) == 1


def test_what_a_callback_raises_goes_to_on_error(bundle: Bundle) -> None:
    errors: list[Exception] = []
    ended = threading.Event()

    def fail(recognition: Recognition) -> None:
        raise RuntimeError(f"step {recognition.step}")

    with StreamRecognizer(bundle, "cpu") as recognizer:
        recognizer.start(film([BRIGHT] * 3), fail, errors.append, ended.set)
        assert ended.wait(10)
    assert [str(error) for error in errors] == ["step 0", "step 1", "step 2"]


def test_a_source_that_fails_goes_to_on_error(bundle: Bundle, tmp_path: Path) -> None:
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(bytes(1000))
    errors: list[Exception] = []
    ended = threading.Event()
    with StreamRecognizer(bundle, "cpu") as recognizer:
        recognizer.start(broken, lambda _: None, errors.append, ended.set)
        assert ended.wait(10)
    assert [type(error) for error in errors] == [SourceError]


def test_closing_frees_the_graphs(bundle: Bundle) -> None:
    with StreamRecognizer(bundle, "cpu") as recognizer:
        recognizer.step(flat(BRIGHT), 0.0)
    assert recognizer.stats().graph_runs == {"net-int8": 1, "policy": 1}
    with pytest.raises(EngineError, match="closed"):
        recognizer.step(flat(BRIGHT), 1.0)
    recognizer.close()


def test_results_are_plain_json(bundle: Bundle) -> None:
    with StreamRecognizer(bundle, "cpu", top=2) as recognizer:
        result = next(recognizer.stream(film([BRIGHT]))).to_json()
    assert len(result["top"]) == 2
    assert set(result["latency_ms"]) == {"queue", "decode", "resize", "policy", "branch", "post", "total"}


def test_python_adds_little_to_a_step(bundle: Bundle) -> None:
    with StreamRecognizer(bundle, "cpu") as recognizer:
        results = list(recognizer.stream(film([BRIGHT] * 300)))
    # Far above what it takes (0.06 ms), so that only a real mistake fails on a busy machine.
    assert np.median([result.latency_ms.post for result in results]) < 0.5
