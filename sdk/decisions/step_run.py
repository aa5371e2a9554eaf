"""One step while it runs: what it has rendered, and where its time goes."""

from __future__ import annotations

import time
from collections.abc import Collection

import numpy as np
from numpy.typing import NDArray

from runtimes.engines.engine import Array
from sdk.decisions.decision import Decision
from sdk.decisions.trace import StepTrace
from sdk.media.absence import Absence
from sdk.media.frames import Frame
from sdk.media.signals.signals import Signals
from sdk.media.views.renderers import Renderer
from sdk.results import Latency


class StepRun:
    """What one step has rendered, run and taken so far."""

    def __init__(self, frame: Frame) -> None:
        self.frame = frame
        self.failures: dict[str, Absence] = {}
        self._queue_ms = frame.queue_ms
        self._began = time.perf_counter()
        self._pixels: dict[str, NDArray[np.uint8]] = {}
        self.rendered_ms = 0.0
        self.policy_views_ms = 0.0
        self.policy_ms = 0.0
        self.branch_ms = 0.0
        self.option_ms: list[float] = []
        self.policy_outputs: dict[str, Array] = {}

    def render(self, rendering: Renderer) -> NDArray[np.uint8]:
        """The step in one view, uint8 of its shape; rendered once however many graphs want it."""
        name = rendering.view.name
        if name not in self._pixels:
            began = time.perf_counter()
            self._pixels[name] = rendering.render(self.frame)
            self.rendered_ms += (time.perf_counter() - began) * 1e3
        return self._pixels[name]

    def trace(
        self,
        decision: Decision,
        absent_views: Collection[str],
        latency: Latency,
        point: str | None,
        answer: NDArray[np.floating] | None,
        signals: Signals | None,
    ) -> StepTrace:
        """What the step decided and what that took."""
        scores = self.policy_outputs.get("scores")
        return StepTrace(
            decision=decision,
            scores=None if scores is None else scores[0],
            absent_views=absent_views,
            policy_ms=self.policy_views_ms + self.policy_ms,
            option_ms=tuple(self.option_ms),
            step_ms=latency.total - latency.decode,
            point=point,
            answer=answer,
            signals=signals,
        )

    def latency(self) -> Latency:
        """Where the time went until now."""
        spent = (time.perf_counter() - self._began) * 1e3
        return Latency(
            queue=self._queue_ms,
            decode=self.frame.decode_ms,
            resize=self.rendered_ms,
            policy=self.policy_ms,
            branch=self.branch_ms,
            post=spent - self.rendered_ms - self.policy_ms - self.branch_ms,
            total=self.frame.decode_ms + spent,
        )
