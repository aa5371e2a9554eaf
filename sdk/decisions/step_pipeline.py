"""One stream through a bundle's graphs: a frame in, a recognition out; what is not chosen is not run."""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping

import numpy as np
from numpy.typing import NDArray

from runtimes.engines.engine import Array, Engine
from runtimes.spec import LOGITS, LookFusion, Manifest, Option, Variant, View, policy_inputs
from sdk.decisions.choosers import Chooser
from sdk.decisions.decision import Observation, Plan
from sdk.decisions.decision_loop import DecisionLoop
from sdk.decisions.fusion import Floats, StreamFusion
from sdk.decisions.modality_outcomes import ModalityOutcomes
from sdk.decisions.policy_feed import PolicyContext, initial_state, policy_feed
from sdk.decisions.step_run import StepRun
from sdk.decisions.trace import StepTrace
from sdk.decisions.watch import StreamWatch, Watch
from sdk.errors import ModalityError, SourceError
from sdk.media.absence import Absence, failure
from sdk.media.frames import Frame
from sdk.media.signals.signals import NO_SIGNALS, SignalReading, StreamSignals
from sdk.media.views.renderers import renderer
from sdk.results import Recognition


class Pipeline:
    """Keeps what one stream remembers: the policy's state, the held steps and the fusion's window.

    Opens the graphs that its chooser may run, so that no step waits for one. Use it from one thread.
    """

    _scores: NDArray[np.float64] | None
    _best: tuple[tuple[str, float], ...]
    _absent_views: Mapping[str, Absence]
    trace: StepTrace
    """How the last step was decided."""

    def __init__(
        self,
        manifest: Manifest,
        variant: Variant,
        engine: Engine,
        chooser: Chooser,
        top: int,
        absent: Collection[str] = (),
        looks: LookFusion | None = None,
        watch: Watch | None = None,
    ) -> None:
        """Options whose graph is ``absent`` are not chosen. ``looks``: how a chooser's looks are fused.

        ``watch``: lets a stream at rest sleep until something changes.

        Raises: EngineError if a graph does not open; AdaptiveVideoError if too little is there to run.
        """
        self._engine = engine
        self._policy = variant.policy
        self._variant = variant
        self._labels = manifest.labels
        self._top = min(top, len(manifest.labels))
        used = _views_of(variant)
        self._renderers = {view.name: renderer(view) for view in manifest.views if view.name in used}
        # Of pictures alone nothing can be absent: a picture is what makes a step.
        several = len(variant.action_space.groups) > 1
        self._may_lack = {
            name: rendering.absent
            for name, rendering in self._renderers.items()
            if several or rendering.view.modality != "rgb"
        }
        self._groups = {o.name: group for group in variant.action_space.groups for o in group.options}
        self._heads = variant.head_outputs
        self._modalities = ModalityOutcomes(variant.action_space.groups)
        inputs = manifest.graph(self._policy.graph).inputs if self._policy else {}
        self._inputs = policy_inputs(self._policy, inputs) if self._policy else ()
        self._zeros = initial_state(self._inputs)
        self._carried = {name: f"next_{name}" for name in self._zeros}
        steps = manifest.steps
        self._signals, self._step_s = None if watch is None else StreamSignals(), 1 / steps.rate_hz
        self._loop = DecisionLoop(chooser, None if watch is None else StreamWatch(watch, steps.rate_hz))
        self._fusion = StreamFusion(manifest.fusion, variant.action_space, looks)
        self.set_absent_graphs(absent)
        self.reset()

    def set_absent_graphs(self, absent: Collection[str]) -> None:
        """From the next step on, choose among all options but those whose graph is ``absent``.

        Graphs are opened first, in the caller's thread, which may be another than the stream's.

        Raises: EngineError if a graph does not open; AdaptiveVideoError if too little is there to run.
        """
        chooser = self._loop.chooser
        names = {option.graph for option in chooser.options if option.graph}.difference(absent)
        if chooser.may_run_policy and self._policy is not None:
            names.add(self._policy.graph)
        self._graphs = {name: self._engine.graph(name) for name in sorted(names)}
        chooser.set_absent_graphs(absent)

    def reset(self) -> None:
        """Begin a new stream."""
        self._step = 0
        self._loop.reset()
        self._forget()

    def expect_steps(self, steps: int | None) -> None:
        """The stream that has begun is a clip of so many steps; None: its end is not known."""
        self._loop.expect_steps(steps)

    def open(self, option: Option) -> None:
        """Open what an option runs, if it is not open yet. Raises: EngineError."""
        if option.graph is not None and option.graph not in self._graphs:
            self._graphs[option.graph] = self._engine.graph(option.graph)

    def advance(self, frame: Frame, dropped: int = 0, plan: Plan | None = None) -> Recognition:
        """Take one step by a plan, by default the chooser's own. How it went is then in ``trace``.

        Raises: EngineError if a graph cannot run.
        """
        step = StepRun(frame)
        if frame.restarted:
            self._forget()
        plan, answer = plan or self._loop.chooser.standing_plan, self._scores
        signals = None
        if self._signals is not None:
            signals = self._signals.measure(SignalReading.of(frame, self._step_s))
        decision = self._loop.step(
            lambda plan: self._observe(plan, step), plan, answer, signals or NO_SIGNALS
        )
        if decision.anew:
            self._fusion.begin_anew()
        if self._signals is not None and decision.options:
            self._signals.mark_look()
        answers = self._run(decision.options, step)
        modalities = self._modalities.at(decision, self._absent_views, step.failures)
        scores = self._scores  # asleep, the answer stands, and what it was fused from grows no older
        if not decision.asleep:
            chooser = self._loop.chooser
            scores = self._fusion.update(answers, as_looks=chooser.fuses_looks, last=chooser.memory_steps)
        if scores is not None and scores is not self._scores:
            self._scores, self._best = scores, self._ranked(scores)
        top = self._best
        self._step += 1
        latency = step.latency()
        self.trace = step.trace(decision, self._absent_views, latency, plan.point, answer, signals)
        return Recognition(
            time_s=frame.time_s,
            step=self._step - 1,
            label=top[0][0] if top else "",
            score=top[0][1] if top else 0.0,
            top=top,
            choice=decision.name,
            precision="+".join(o.precision for o in decision.options if o.precision) or None,
            latency_ms=latency,
            dropped=dropped,
            restarted=frame.restarted,
            modalities=modalities,
            price=decision.price,
            point=plan.point,
            source_time_s=frame.source_time_s,
        )

    def _forget(self) -> None:
        self._state = self._zeros
        self._scores = None
        self._best = ()
        self._absent_views = {}
        self._started = False
        self._loop.restart()
        self._fusion.reset()
        if self._signals is not None:
            self._signals.reset()

    def _look_for_views(self, step: StepRun) -> None:
        """Find which views this step lacks, and why.

        Raises: AdaptiveVideoError if the stream begins without what the model cannot do without.
        """
        if not self._may_lack:
            return
        absences = {name: absent(step.frame) for name, absent in self._may_lack.items()}
        self._absent_views = {name: absence for name, absence in absences.items() if absence is not None}
        if not self._started:
            self._started = True
            for group in self._modalities.missing(self._absent_views) if self._absent_views else ():
                absence = self._modalities.absence(group, self._absent_views)
                if not group.optional and absence.permanent:
                    reason = f"the source has none ({absence.reason})"
                    fix = "give a source that has it, or a bundle trained to do without it"
                    raise ModalityError(f"modality {group.name}", reason, fix)

    def _observe(self, plan: Plan, step: StepRun) -> Observation:
        """What a step is decided in view of; runs the policy, if the chooser wants it."""
        self._look_for_views(step)
        if not self._loop.chooser.runs_policy:
            return Observation(None, self._absent_views)
        assert self._policy is not None, "only what has a policy runs it"
        views = {view: self._policy_view(view, step) for view in self._policy.views}
        step.policy_views_ms = step.rendered_ms
        present = self._modalities.presence(self._absent_views)
        context = PolicyContext(plan.price, views.__getitem__, present, self._scores, self._state)
        feed = policy_feed(self._inputs, context)
        began = time.perf_counter()
        outputs = self._graphs[self._policy.graph](**feed)
        step.policy_ms = (time.perf_counter() - began) * 1e3
        self._state = {name: outputs[after] for name, after in self._carried.items()}
        step.policy_outputs = outputs
        return Observation(outputs["scores"][0], self._absent_views)

    def _policy_view(self, view: str, step: StepRun) -> Array:
        """A view for the policy; zeros, which its input of presence says, where it is absent or fails."""
        rendering = self._renderers[view]
        if view not in self._absent_views:
            try:
                return step.render(rendering)
            except SourceError as error:
                if len(self._modalities.groups) == 1:
                    raise
                self._absent_views = {**self._absent_views, **self._failed_with(rendering.view, error)}
        return np.zeros(rendering.view.shape, np.uint8)

    def _failed_with(self, view: View, error: SourceError) -> dict[str, Absence]:
        """Every view that is made from what a view that failed is made from, sound or pictures, and why."""
        heard = view.modality == "audio"
        views = (rendering.view for rendering in self._renderers.values())
        absence = failure(error.reason)
        return {v.name: absence for v in views if (v.modality == "audio") == heard}

    def _run(self, options: tuple[Option, ...], step: StepRun) -> list[tuple[Option, Floats]]:
        """Logits (classes,) of the chosen branches; none of skips, and of what failed."""
        answers = []
        for option in options:
            before_ms = step.rendered_ms + step.branch_ms
            if option.graph:
                try:
                    answers.append((option, self._logits(option, step)))
                except SourceError as error:
                    if len(self._modalities.groups) == 1:
                        raise
                    step.failures[self._groups[option.name].name] = failure(error.reason)
            step.option_ms.append(step.rendered_ms + step.branch_ms - before_ms)
        return answers

    def _logits(self, option: Option, step: StepRun) -> Floats:
        if self._variant.is_head(option):
            return step.policy_outputs[self._heads[option.name]][0]
        assert option.graph is not None and option.view is not None, "a branch has both"
        pixels = step.render(self._renderers[option.view])
        began = time.perf_counter()
        outputs = self._graphs[option.graph](frame=pixels)
        step.branch_ms += (time.perf_counter() - began) * 1e3
        return outputs[LOGITS][0]

    def _ranked(self, scores: NDArray[np.float64]) -> tuple[tuple[str, float], ...]:
        """The best labels with their scores, best first; ties go to the earlier label."""
        left, best = scores.copy(), []
        for _ in range(self._top):
            index = int(left.argmax())
            best.append((self._labels[index], float(left[index])))
            left[index] = -1.0
        return tuple(best)


def _views_of(variant: Variant) -> set[str]:
    """Every view that a variant's graphs may take."""
    views = {option.view for option in variant.action_space.options if option.view}
    return views | set(variant.policy.views if variant.policy else ())
