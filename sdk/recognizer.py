"""The recognizer an app holds: give it a bundle and a source, and take recognitions as they come."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, Self

import av
import numpy as np
from numpy.typing import NDArray

from runtimes.bundle import Bundle
from runtimes.device import device_name
from runtimes.engines.engine import Engine, GraphDeclaration, open_engine
from runtimes.errors import ArgumentError
from sdk.budget.budget import Budget
from sdk.decisions.points.front_choice import FrontChoice
from sdk.decisions.step_pipeline import Pipeline
from sdk.decisions.watch import Watch
from sdk.errors import BusyError, require_whole
from sdk.media.frames import Frame
from sdk.media.requirements import StreamRequirements
from sdk.media.sources.live import paced_frames
from sdk.media.sources.probe import stated_steps
from sdk.media.sources.pushed import SOUND_RATE_HZ, PushedMedia
from sdk.media.sources.source import Source, TimedImages, open_source
from sdk.media.steps import StepPicker, decode_steps
from sdk.power import Meter
from sdk.recording.decision_log import DecisionLog
from sdk.results import ClipRecognition, Recognition
from sdk.streaming.background import BackgroundStream
from sdk.streaming.choice_settings import ChoiceSettings, require_watchable
from sdk.streaming.energy_accounting import EnergyAccounting
from sdk.streaming.sensors import Reading, Sensors
from sdk.streaming.statistics import Statistics, StatisticsSnapshot
from sdk.streaming.variant_costs import VariantCosts

AnySource = str | os.PathLike[str] | int | TimedImages
"""What ``stream`` takes, see ``sdk.media.sources.source.open_source``."""

_STOP_WAIT_S = 1.0
_LOG = logging.getLogger(__name__)


class StreamRecognizer(ChoiceSettings):
    """Recognizes one stream at a time, running at every step only what is worth its cost.

    A context manager. All ways of use give the same answers for the same frames: ``stream`` (a generator),
    ``start`` and ``stop`` (callbacks from a thread), ``step`` (the app's own frames), ``recognize`` (a clip).
    """

    _pushed: PushedMedia | None

    def __init__(
        self,
        bundle: str | Path | Bundle,
        device: str = "auto",
        *,
        variant: str | None = None,
        price: float | None = None,
        fixed: str | None = None,
        every: int = 1,
        random_seed: int | None = None,
        point: str | None = None,
        cost_share: float | None = None,
        watch: Watch | None = None,
        top: int = 5,
        threads: int | None = None,
        target: str | None = None,
        allow_fallback: bool = False,
        partial: bool = False,
        meter: Meter | None = None,
        budget: Budget | None = None,
        thermometer: Reading | None = None,
        battery: Reading | None = None,
        clock: Callable[[], float] = time.monotonic,
        log: DecisionLog | None = None,
    ) -> None:
        """Open the bundle, and the graphs that may be chosen.

        variant: one of the manifest's, e.g. ``int8``. price: moves along the variant's operating points, see
        ``price``; point: runs the one of this name (``points`` lists them); cost_share: what clips cost on
        average, see ``cost_share``; with none of them, the bundle's default, or where there is no policy and
        no budget the first option, which ``fixed`` changes. fixed: run this option at each ``every``-th step
        and no other. random_seed: choose at random. watch: lets a stream sleep for as long as nothing
        changes (schedules and stop rules; the learned policy never rests). top: how many labels each
        result lists. threads: of a branch. target: run the graphs of this one of the bundle's targets, in its
        runtime; by default of the bundle's own. partial: run without what a missing low plane would bring,
        until ``refresh`` finds it (a bundle given opened is as partial as it was opened).
        meter: what measures the energy of each step (``sdk.power``); the caller closes it.
        budget: see ``budget``; thermometer, battery: functions that give degrees Celsius, and the joules
        left, for budgets of these (by default this machine's own); where one fails, or gives no number, it is
        not known (``budget_problem`` says so). clock: the seconds that power is per.
        log: takes every decision (``sdk.recording.decision_log``).

        Raises: BundleError, EngineError, BudgetError, or AdaptiveVideoError for arguments that do not fit the
        bundle.
        """
        self._bundle = bundle if isinstance(bundle, Bundle) else Bundle.open(bundle, partial)
        self._manifest = self._bundle.manifest
        self._requirements = StreamRequirements.of(self._manifest.steps, self._manifest.views)
        self._bundle.require_target(target)
        self._target = target
        self.variant = self._bundle.variant(variant, target)
        require_whole("top", top, 1, "labels")
        self._engine = open_engine(
            self._bundle, device, target=target, allow_fallback=allow_fallback, threads=threads
        )
        table = self._bundle.costs(device_name(), self._engine.provider)
        self._costs = VariantCosts(self._bundle, self.variant, table)
        along_points = budget is not None or watch is not None
        self._chooser = self._costs.chooser(
            price, fixed, every, random_seed, point, cost_share, along_points=along_points
        )
        require_watchable(watch, self._chooser)
        absent = self._bundle.absent(target)
        front = self._manifest.front(self.variant.name)
        looks = None if front is None else front.fusion
        self._pipeline = Pipeline(
            self._manifest, self.variant, self._engine, self._chooser, top, absent, looks, watch
        )
        self._standing = self._plan = self._chooser.standing_plan
        if not callable(clock):
            raise ArgumentError(
                f"clock {clock!r}", "cannot be called", "give a function that returns seconds"
            )
        self._clock = clock
        with self._costs.complete():
            sensors = Sensors(meter, thermometer, battery)
            self._accounting = EnergyAccounting(self.variant, self._chooser, table, sensors, clock, log)
        if watch is not None and log is not None:
            log.write_watch(watch, self.rate_hz)
        if absent:
            self._accounting.set_absent_graphs(absent)
        if cost_share is not None:
            self.cost_share = cost_share
        if budget is not None:
            self.budget = budget
        _LOG.info("opened %r on %s", self._bundle, self._engine.provider)
        self._in_use = threading.Lock()
        self._background: BackgroundStream | None = None
        self._source: Source | None = None
        self._begin()

    @property
    def engine(self) -> Engine:
        """The engine that runs the graphs."""
        return self._engine

    @property
    def labels(self) -> tuple[str, ...]:
        """The classes that it tells apart."""
        return self._manifest.labels

    @property
    def rate_hz(self) -> float:
        """Steps per second of source time."""
        return self._manifest.steps.rate_hz

    @property
    def declared(self) -> tuple[GraphDeclaration, ...]:
        """What each graph really runs on."""
        return self._engine.declared

    def stream(self, source: AnySource, **source_options: Any) -> Generator[Recognition, None, None]:
        """Recognize ``source`` from its beginning: one result per step, each as soon as it is there.

        Closing the generator closes the source. ``source`` and its options are those of
        ``sdk.media.sources.source.open_source``.

        Raises: SourceError, EngineError; AdaptiveVideoError if another stream is still running.
        """
        with closing(self.stream_with_frames(source, **source_options)) as pairs:
            for _, recognition in pairs:
                yield recognition

    def stream_with_frames(
        self, source: AnySource, **source_options: Any
    ) -> Generator[tuple[Frame, Recognition], None, None]:
        """As ``stream``, with the frame that each result is about: to draw on it, or to keep it."""
        with self._exclusively(), self._opened(source, source_options) as opened:
            for frame in opened:
                yield frame, self._advance(frame, opened.dropped_since_last)

    def recognize(self, path: str | os.PathLike[str]) -> ClipRecognition:
        """Recognize one clip, a video file, from its first step to its last.

        Raises: SourceError, EngineError; AdaptiveVideoError if another stream is still running.
        """
        with self._exclusively():
            self._begin_turn()
            recognitions = self._recognized(path, self._expected_steps(path))
            if not recognitions[-1].label:  # it had fewer steps than it stated, and the look never came
                if self._turns is not None:
                    self._turns.again()
                recognitions = self._recognized(path, len(recognitions))
        return ClipRecognition.of(path, recognitions)

    def _expected_steps(self, path: str | os.PathLike[str]) -> int | None:
        """How many steps a file is to have; only the looks of operating points go by it."""
        return stated_steps(path, self._manifest.steps) if isinstance(self._chooser, FrontChoice) else None

    def _recognized(self, path: str | os.PathLike[str], steps: int | None) -> tuple[Recognition, ...]:
        """Every step of a clip that is expected to have so many."""
        self._begin()
        self._pipeline.expect_steps(steps)
        self._accounting.expect_steps(steps)
        frames = paced_frames(decode_steps(path, self._requirements), lambda: self._at_own_pace)
        return tuple(self._advance(frame) for frame in frames)

    def step(
        self,
        frame: NDArray[np.uint8] | NDArray[np.float32] | av.VideoFrame,
        time_s: float,
        *,
        sound_rate_hz: int = SOUND_RATE_HZ,
    ) -> Recognition | None:
        """Take one frame of the app's own: uint8 (H, W, 3) RGB or an ``av.VideoFrame``, and its time (s).

        Give every frame of the stream; returns None for one that is not a step: a camera has more pictures a
        second than there are steps. ::

            for image, time_s in camera:
                result = recognizer.step(image, time_s)
                if result is not None:
                    show(result.label)

        Where steps have segments, the first result comes when a whole one has passed. Sound is given
        likewise, before the frames of its time: mono float32 (n,) in [-1, 1] at ``sound_rate_hz``, which
        stays the same until ``reset`` begins anew.

        Raises: SourceError if it is neither; EngineError; AdaptiveVideoError if a stream is running.
        """
        with self._exclusively():
            if self._pushed is None:
                self._pushed = PushedMedia(self._requirements.sound_rate_hz, sound_rate_hz)
            picked = None
            for event in self._pushed.events(frame, time_s):
                picked = self._picker.take(event)
            return None if picked is None else self._advance(picked)

    def start(
        self,
        source: AnySource,
        on_result: Callable[[Recognition], None],
        on_error: Callable[[Exception], None],
        on_end: Callable[[], None] | None = None,
        **source_options: Any,
    ) -> None:
        """Recognize ``source`` in a thread of its own, until it ends or ``stop`` is called.

        ``on_error`` takes what the source or ``on_result`` raises: a source's error ends the stream, a
        callback's does not. ``on_end`` comes last, however the stream ended.

        Raises: AdaptiveVideoError if a stream is still running, or a callback cannot be called.
        """
        _require_callbacks(on_result=on_result, on_error=on_error)
        if on_end is not None:
            _require_callbacks(on_end=on_end)
        if self._in_use.locked() or (self._background and self._background.thread.is_alive()):
            raise _busy()
        stream = self.stream(source, **source_options)
        self._background = BackgroundStream(stream, on_result, on_error, on_end)
        self._background.thread.start()

    def stop(self) -> None:
        """End the stream that ``start`` began; no result comes after this. Does nothing if there is none.

        Returns within about a second even if the source hangs; its connection is then let go behind.
        """
        background, self._background = self._background, None
        if background is None:
            return
        background.stopping.set()
        source = self._source
        if source is not None:
            # Closing waits for a read that may hang, as long as its time-out; the app need not.
            threading.Thread(target=source.close, daemon=True).start()
        if background.thread is not threading.current_thread():
            background.thread.join(_STOP_WAIT_S)

    def stats(self) -> StatisticsSnapshot:
        """Latencies, rate, drops and choices since the stream began; may be asked from any thread."""
        source = self._source
        drops = {} if source is None else {str(cause): count for cause, count in source.drops.items()}
        return self._statistics.snapshot(drops, self._engine.declared, self._accounting.learned_mj)

    @property
    def missing(self) -> frozenset[str]:
        """The bundle's files that have not come yet; only a partial bundle lacks any."""
        return self._bundle.missing

    @property
    def options(self) -> tuple[str, ...]:
        """Names of the options that may be chosen now."""
        absent = self._bundle.absent(self._target)
        return tuple(option.name for option in self._chooser.options if option.graph not in absent)

    def refresh(self) -> tuple[str, ...]:
        """Look again for what a partial bundle lacked; its options may be chosen from the next step on.

        What is open stays as it is. May be called while a stream runs, best from another thread than the
        stream's: it verifies the bundle and opens graphs. Returns the names of the options that are new.

        Raises: BundleError if a file that came is altered; EngineError.
        """
        fresh = self._bundle.refresh()
        if fresh is self._bundle:
            return ()
        before = self.options
        self._engine.refresh(fresh)
        self._pipeline.set_absent_graphs(fresh.absent(self._target))
        self._accounting.set_absent_graphs(fresh.absent(self._target))
        self._bundle = fresh
        return tuple(name for name in self.options if name not in before)

    def reset(self) -> None:
        """Forget the stream so far: the policy's state, the fusion, the clock and the statistics.

        Raises: AdaptiveVideoError if a stream is running.
        """
        with self._exclusively():
            self._begin_turn()
            self._begin()

    def __repr__(self) -> str:
        return f"<StreamRecognizer {self._bundle!r}, {self.variant.name} on {self._engine.provider}>"

    def close(self) -> None:
        """Stop, and free the graphs. May be called twice."""
        self.stop()
        self._engine.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _begin(self) -> None:
        self._picker = StepPicker(self._requirements)
        self._pushed = None
        self._statistics = Statistics()
        self._accounting.begin_stream()
        self._source = None
        self._pipeline.reset()

    @property
    def _at_own_pace(self) -> bool:
        """Whether a file is taken as a camera's pictures would be: power is energy over time.

        Asked before every step, as a budget may be set while a stream runs.
        """
        return self.budget is not None and self._clock is time.monotonic

    @contextmanager
    def _exclusively(self) -> Iterator[None]:
        if not self._in_use.acquire(blocking=False):
            raise _busy()
        try:
            yield
        finally:
            self._in_use.release()

    @contextmanager
    def _opened(self, source: AnySource, options: dict[str, Any]) -> Iterator[Source]:
        self._begin_turn()
        self._begin()
        options.setdefault("own_pace", lambda: self._at_own_pace)
        with open_source(source, self._requirements, **options) as opened:
            self._source = opened
            yield opened

    def _advance(self, frame: Frame, dropped: int = 0) -> Recognition:
        """Take one step, and count what it used."""
        self._plan = self._accounting.plan_step(self._next_app_plan())
        recognition = self._pipeline.advance(frame, dropped, self._plan)
        recognition = self._accounting.finish_step(recognition, self._pipeline.trace)
        self._statistics.record_result(recognition)
        return recognition


def _require_callbacks(**callbacks: object) -> None:
    """Raises: ArgumentError for one that cannot be called."""
    for name, given in callbacks.items():
        if not callable(given):
            raise ArgumentError(f"{name} {given!r}", "cannot be called", "give a function")


def _busy() -> BusyError:
    return BusyError("recognizer", "a stream is still running", "close it, or call stop, first")
