"""Everything that may run, run at every step of a stream: what points and schedules are then looked up in."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from compiler.data.streams.labeled_streams import LabeledStream
from runtimes.engines.engine import Array, Engine
from runtimes.spec import LOGITS, Manifest, Option, Variant, policy_inputs
from sdk.decisions.policy_feed import PolicyContext, initial_state, policy_feed
from sdk.media.frames import Frame
from sdk.media.requirements import StreamRequirements
from sdk.media.signals.signals import SignalReading, StreamSignals
from sdk.media.steps import decode_steps
from sdk.media.views.renderers import Renderer, renderer

_TIMED_STEPS = 256
_ROUNDING_S = 0.5
"""By which an event may reach beyond its stream: containers round, and the last step ends somewhere."""
BACKGROUND = -1
"""The target of a step outside all events."""


@dataclass(frozen=True)
class StreamAnswers:
    """One stream, step by step.

    ``logits``: by option (steps, classes), not a number where its view is absent. ``readings`` of its
    signals, with each step's time. ``restarted`` (steps,): whether what was before says nothing about it.
    ``targets`` (steps,): the class, or ``BACKGROUND``. ``events``: (first step, step after the last, class)
    of those that have a step. ``late``: events that lie beyond its end. ``group``: of streams that belong
    together.
    """

    logits: Mapping[str, NDArray[np.float32]]
    readings: tuple[SignalReading, ...]
    restarted: NDArray[np.bool_]
    targets: NDArray[np.int64]
    events: tuple[tuple[int, int, int], ...]
    late: int
    group: str

    def __len__(self) -> int:
        return len(self.targets)

    @property
    def times(self) -> NDArray[np.float64]:
        """Seconds of each step (steps,)."""
        return np.array([reading.time_s for reading in self.readings])

    @property
    def duration_s(self) -> float:
        """Seconds from the first step to the end of the last."""
        return duration_s(self.times)

    def together(self, options: Sequence[Option], step: int) -> list[tuple[Option, NDArray[np.floating]]]:
        """Each with its logits (classes,) at a step, as far as their views are there."""
        rows = ((option, self.logits[option.name][step]) for option in options)
        return [(option, row) for option, row in rows if not np.isnan(row[0])]


def duration_s(times: NDArray[np.float64]) -> float:
    """Seconds of steps at ``times`` (steps,), the last one as long as most are."""
    if len(times) < 2:
        return float(len(times))
    return float(times[-1] - times[0] + np.median(np.diff(times)))


class StreamReader:
    """Runs every branch of a variant, and the heads of its policy, at every step of streams."""

    def __init__(self, manifest: Manifest, variant: Variant, engine: Engine) -> None:
        self._manifest, self._engine = manifest, engine
        self._requirements = StreamRequirements.of(manifest.steps, manifest.views)
        self._variant, self._policy = variant, variant.policy
        self._options = [option for option in variant.action_space.options if option.graph]
        self._renderers = {view.name: renderer(view) for view in manifest.views}
        self._shapes = {view.name: view.shape for view in manifest.views}
        self._heads = variant.head_outputs
        self._inputs = (
            policy_inputs(self._policy, manifest.graph(self._policy.graph).inputs) if self._policy else ()
        )

    def read(self, stream: LabeledStream) -> StreamAnswers:
        """Decode one stream and run everything. Raises: SourceError, EngineError."""
        logits: dict[str, list[NDArray[np.float32]]] = {option.name: [] for option in self._options}
        readings, restarted = [], []
        for frame in decode_steps(stream.path, self._requirements):
            readings.append(SignalReading.of(frame, 1 / self._manifest.steps.rate_hz))
            for name, row in self._run_all(frame):
                logits[name].append(row)
            restarted.append(frame.restarted)
        times = np.array([reading.time_s for reading in readings])
        targets, events = self._targets(stream, times)
        ends_s = times[0] + duration_s(times) if readings else 0.0
        return StreamAnswers(
            {name: np.array(rows, np.float32) for name, rows in logits.items()},
            tuple(readings),
            np.array(restarted, np.bool_),
            targets,
            events,
            sum(event.end_s > ends_s + _ROUNDING_S for event in stream.events),
            stream.group,
        )

    def signal_ms(self, stream: LabeledStream) -> float:
        """What the signals of a step take, the median of those at the beginning of a stream.

        Nothing else runs meanwhile but the decoder, as while a stream sleeps. Raises: SourceError.
        """
        signals, taken = StreamSignals(), []
        for frame in decode_steps(stream.path, self._requirements, _TIMED_STEPS):
            began = time.perf_counter()
            signals.measure(SignalReading.of(frame, 1 / self._manifest.steps.rate_hz))
            taken.append((time.perf_counter() - began) * 1e3)
        return float(np.median(taken))

    def _targets(
        self, stream: LabeledStream, times: NDArray[np.float64]
    ) -> tuple[NDArray[np.int64], tuple[tuple[int, int, int], ...]]:
        targets = np.full(len(times), BACKGROUND, np.int64)
        events = []
        for event in stream.events:
            first, after = np.searchsorted(times, (event.start_s, event.end_s))
            if first < after:
                label = self._manifest.labels.index(event.label)
                targets[first:after] = label
                events.append((int(first), int(after), label))
        return targets, tuple(events)

    def _run_all(self, frame: Frame) -> Iterator[tuple[str, NDArray[np.float32]]]:
        """(option, logits) of all options at a step."""
        there = {name: one for name, one in self._renderers.items() if one.absent(frame) is None}
        pixels = _Rendered(frame, there, self._shapes)
        heads = self._run_policy(pixels)
        for option in self._options:
            assert option.graph is not None and option.view is not None, "a branch has both"
            if option.view not in there:
                yield option.name, np.full(len(self._manifest.labels), np.nan, np.float32)
            elif self._variant.is_head(option):
                yield option.name, np.asarray(heads[self._heads[option.name]][0], np.float32)
            else:
                answer = self._engine.graph(option.graph)(frame=pixels[option.view])[LOGITS][0]
                yield option.name, np.asarray(answer, np.float32)

    def _run_policy(self, pixels: _Rendered) -> Mapping[str, Array]:
        """Its outputs at a step that it sees first, if it has heads of its own."""
        if self._policy is None or not self._heads:
            return {}
        groups = self._variant.action_space.groups
        present = [
            any(option.view in pixels.there for option in group.options if option.graph) for group in groups
        ]
        context = PolicyContext(0.0, pixels.__getitem__, present, None, initial_state(self._inputs))
        return self._engine.graph(self._policy.graph)(**policy_feed(self._inputs, context))


class _Rendered:
    """A step's views, each rendered once; zeros for those that are absent."""

    def __init__(
        self, frame: Frame, there: Mapping[str, Renderer], shapes: Mapping[str, tuple[int, ...]]
    ) -> None:
        self._frame, self.there, self._shapes = frame, there, shapes
        self._pixels: dict[str, NDArray[np.uint8]] = {}

    def __getitem__(self, view: str) -> NDArray[np.uint8]:
        if view not in self._pixels:
            if view in self.there:
                self._pixels[view] = self.there[view].render(self._frame)
            else:
                self._pixels[view] = np.zeros(self._shapes[view], np.uint8)
        return self._pixels[view]
