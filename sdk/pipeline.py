"""One stream through a bundle's graphs: a frame in, a recognition out; what is not chosen is not run."""

from __future__ import annotations

import time
from collections.abc import Collection

import numpy as np
from numpy.typing import NDArray

from runtimes.engine import Array, Engine
from runtimes.spec import Manifest, Option, Policy, Variant
from sdk.media.frames import Frame
from sdk.media.views import ViewRenderer
from sdk.results import HELD, Latency, Recognition
from sdk.scheduler import Chooser, Floats, Fusion, Scheduler


class Pipeline:
    """Keeps what one stream remembers: the policy's state, the held steps and the fusion's window.

    Opens the graphs that its chooser may run, so that no step waits for one. Use it from one thread.
    """

    _scores: NDArray[np.float64] | None
    _best: tuple[tuple[str, float], ...]

    def __init__(
        self,
        manifest: Manifest,
        variant: Variant,
        engine: Engine,
        chooser: Chooser,
        top: int,
        absent: Collection[str] = (),
    ) -> None:
        """Leave options whose graph is ``absent`` off the offer.

        Raises: EngineError if a graph does not open; AdaptiveVideoError if too little is there to run.
        """
        self._engine = engine
        self._policy = variant.policy
        self._variant = variant
        self._labels = manifest.labels
        self._top = min(top, len(manifest.labels))
        self._renderers = {view.name: ViewRenderer(view) for view in manifest.views}
        self._zeros = _initial_state(manifest, self._policy)
        self._carried = {name: f"next_{name}" for name in self._zeros}
        self._scheduler = Scheduler(chooser)
        self._fusion = Fusion(manifest.fusion.window)
        self.offer(absent)
        self.reset()

    def offer(self, absent: Collection[str]) -> None:
        """From the next step on, offer all options but those whose graph is ``absent``.

        Graphs are opened first, in the caller's thread, which may be another than the stream's.

        Raises: EngineError if a graph does not open; AdaptiveVideoError if too little is there to run.
        """
        chooser = self._scheduler.chooser
        names = {option.graph for option in chooser.options if option.graph}.difference(absent)
        if chooser.runs_policy and self._policy is not None:
            names.add(self._policy.graph)
        self._graphs = {name: self._engine.graph(name) for name in sorted(names)}
        chooser.offer(absent)

    def reset(self) -> None:
        """Begin a new stream."""
        self._step = 0
        self._forget()

    def open(self, option: Option) -> None:
        """Open what an option runs, if it is not open yet. Raises: EngineError."""
        if option.graph is not None and option.graph not in self._graphs:
            self._graphs[option.graph] = self._engine.graph(option.graph)

    def advance(self, frame: Frame, dropped: int = 0) -> Recognition:
        """Take one step. Raises: EngineError if a graph cannot run."""
        step = _Step(frame)
        if frame.restarted:
            self._forget()
        if self._scheduler.idle():
            choice, precision, logits = HELD, None, None
        else:
            options = self._decide(step)
            precision = "+".join(option.precision for option in options if option.precision) or None
            choice = "+".join(option.name for option in options)
            logits = self._run(options, step)
        scores = self._fusion.update(logits)
        assert scores is not None, "the scheduler offers no skip before the first output"
        if scores is not self._scores:
            self._scores, self._best = scores, self._ranked(scores)
        top = self._best
        self._step += 1
        return Recognition(
            time_s=frame.time_s,
            step=self._step - 1,
            label=top[0][0],
            score=top[0][1],
            top=top,
            choice=choice,
            precision=precision,
            latency_ms=step.latency(),
            dropped=dropped,
            restarted=frame.restarted,
        )

    def _forget(self) -> None:
        self._state = self._zeros
        self._scores = None
        self._scheduler.reset()
        self._fusion.reset()

    def _decide(self, step: _Step) -> tuple[Option, ...]:
        """Run the policy, if the chooser wants it, and choose."""
        if not self._scheduler.chooser.runs_policy:
            return self._scheduler.decide(None)
        assert self._policy is not None, "only what has a policy runs it"
        pixels = step.render(self._renderers[self._policy.view])
        began = time.perf_counter()
        outputs = self._graphs[self._policy.graph](frame=pixels, **self._state)
        step.policy_ms = (time.perf_counter() - began) * 1e3
        self._state = {name: outputs[after] for name, after in self._carried.items()}
        step.policy_outputs = outputs
        return self._scheduler.decide(outputs["scores"][0])

    def _run(self, options: tuple[Option, ...], step: _Step) -> Floats | None:
        """Mean logits (classes,) of the chosen branches; None if all were skips."""
        logits = [self._logits(option, step) for option in options if option.graph]
        if not logits:
            return None
        return logits[0] if len(logits) == 1 else np.mean(logits, axis=0, dtype=np.float64)

    def _logits(self, option: Option, step: _Step) -> Floats:
        if self._variant.is_head(option):
            return step.policy_outputs["logits"][0]
        assert option.graph is not None and option.view is not None, "a branch has both"
        pixels = step.render(self._renderers[option.view])
        began = time.perf_counter()
        outputs = self._graphs[option.graph](frame=pixels)
        step.branch_ms += (time.perf_counter() - began) * 1e3
        return outputs["logits"][0]

    def _ranked(self, scores: NDArray[np.float64]) -> tuple[tuple[str, float], ...]:
        """The best labels with their scores, best first; ties go to the earlier label."""
        left, best = scores.copy(), []
        for _ in range(self._top):
            index = int(left.argmax())
            best.append((self._labels[index], float(left[index])))
            left[index] = -1.0
        return tuple(best)


def _initial_state(manifest: Manifest, policy: Policy | None) -> dict[str, Array]:
    if policy is None:
        return {}
    inputs = manifest.graph(policy.graph).inputs
    return {name: np.zeros(shape, inputs[name].dtype) for name, shape in policy.state.items()}


class _Step:
    """What one step has rendered, run and spent so far."""

    def __init__(self, frame: Frame) -> None:
        self._frame = frame
        self._queue_ms = frame.queue_ms
        self._began = time.perf_counter()
        self._pixels: dict[str, NDArray[np.uint8]] = {}
        self._resize_ms = 0.0
        self.policy_ms = 0.0
        self.branch_ms = 0.0
        self.policy_outputs: dict[str, Array] = {}

    def render(self, renderer: ViewRenderer) -> NDArray[np.uint8]:
        """The step's frame in one view, (1, size, size, 3); rendered once however many graphs want it."""
        name = renderer.view.name
        if name not in self._pixels:
            began = time.perf_counter()
            self._pixels[name] = renderer.render(self._frame)
            self._resize_ms += (time.perf_counter() - began) * 1e3
        return self._pixels[name]

    def latency(self) -> Latency:
        """Where the time went until now."""
        spent = (time.perf_counter() - self._began) * 1e3
        return Latency(
            queue=self._queue_ms,
            decode=self._frame.decode_ms,
            resize=self._resize_ms,
            policy=self.policy_ms,
            branch=self.branch_ms,
            post=spent - self._resize_ms - self.policy_ms - self.branch_ms,
            total=self._frame.decode_ms + spent,
        )
