"""One stream through a bundle's graphs: a frame in, a recognition out; what is not chosen is not run."""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping

import numpy as np
from numpy.typing import NDArray

from runtimes.engines.engine import Array, Engine
from runtimes.errors import AdaptiveVideoError
from runtimes.spec import ANSWER, LOGITS, PRESENT, PRICE, Group, Manifest, Option, Policy, Variant, View
from sdk.decisions.scheduler import Chooser, Floats, Fusion, Scheduler, StepFusion
from sdk.decisions.trace import StepTrace
from sdk.errors import SourceError
from sdk.media.frames import Frame
from sdk.media.views.renderers import Renderer, renderer
from sdk.results import ABSENT, FAILED, HELD, LATE, NOT_CHOSEN, NOTHING, RAN, Latency, Recognition

_FOR_GOOD = ("no audio track", "audio cannot be decoded", "no sound is decoded")
"""How reasons for an absence begin that hold as long as the source lasts; others may pass."""


class Pipeline:
    """Keeps what one stream remembers: the policy's state, the held steps and the fusion's window.

    Opens the graphs that its chooser may run, so that no step waits for one. Use it from one thread.
    """

    _scores: NDArray[np.float64] | None
    _best: tuple[tuple[str, float], ...]
    _absent_views: Mapping[str, str]
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
    ) -> None:
        """Leave options whose graph is ``absent`` off the offer.

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
        self._modalities = _Modalities(variant.action_space.groups)
        inputs = manifest.graph(self._policy.graph).inputs if self._policy else {}
        self._tells_presence = PRESENT in inputs
        self._no_answer = np.zeros((1, len(manifest.labels)), np.float32) if ANSWER in inputs else None
        self._zeros = _initial_state(manifest, self._policy)
        self._carried = {name: f"next_{name}" for name in self._zeros}
        self._scheduler = Scheduler(chooser)
        self._step_fusion = StepFusion(manifest.fusion, variant.action_space)
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

    def advance(self, frame: Frame, dropped: int = 0, withheld: bool = False) -> Recognition:
        """Take one step; ``withheld``: run nothing, as if a skip held it. How it went is then in ``trace``.

        Raises: EngineError if a graph cannot run.
        """
        step = _Step(frame)
        if frame.restarted:
            self._forget()
        options: tuple[Option, ...] = ()
        step.price, step.allow_skip = self._scheduler.chooser.price, self._scheduler.answered
        if self._scheduler.idle() or withheld:
            choice, precision, logits, modalities = HELD, None, None, self._modalities.held
        else:
            self._look_for_views(step)
            options = self._decide(step)
            precision = "+".join(option.precision for option in options if option.precision) or None
            choice = "+".join(option.name for option in options) or NOTHING
            logits = self._run(options, step)
            modalities = self._modalities.at(choice, options, self._absent_views, step.failures)
        scores = self._fusion.update(logits)
        if scores is not None and scores is not self._scores:
            self._scores, self._best = scores, self._ranked(scores)
        top = self._best
        self._step += 1
        latency = step.latency()
        self.trace = step.traced(options, self._absent_views, withheld, latency)
        return Recognition(
            time_s=frame.time_s,
            step=self._step - 1,
            label=top[0][0] if top else "",
            score=top[0][1] if top else 0.0,
            top=top,
            choice=choice,
            precision=precision,
            latency_ms=latency,
            dropped=dropped,
            restarted=frame.restarted,
            modalities=modalities,
            price=step.price,
        )

    def _forget(self) -> None:
        self._state = self._zeros
        self._scores = None
        self._best = ()
        self._absent_views = {}
        self._started = False
        self._scheduler.reset()
        self._fusion.reset()

    def _look_for_views(self, step: _Step) -> None:
        """Find which views this step lacks, and why.

        Raises: AdaptiveVideoError if the stream begins without what the model cannot do without.
        """
        if not self._may_lack:
            return
        reasons = {name: absent(step.frame) for name, absent in self._may_lack.items()}
        self._absent_views = {name: reason for name, reason in reasons.items() if reason is not None}
        if not self._started:
            self._started = True
            for group in self._modalities.missing(self._absent_views) if self._absent_views else ():
                why = self._modalities.reason(group, self._absent_views)
                if not group.optional and why.startswith(_FOR_GOOD):
                    reason = f"the source has none ({why})"
                    mend = "give a source that has it, or a bundle trained to do without it"
                    raise AdaptiveVideoError(f"modality {group.name}", reason, mend)

    def _decide(self, step: _Step) -> tuple[Option, ...]:
        """Run the policy, if the chooser wants it, and choose."""
        price = step.price
        if not self._scheduler.chooser.runs_policy:
            return self._scheduler.decide(None, price, self._absent_views)
        assert self._policy is not None, "only what has a policy runs it"
        before_ms = step.rendered_ms
        inputs = {name: self._policy_view(view, step) for view, name in self._policy.inputs.items()}
        step.policy_views_ms = step.rendered_ms - before_ms
        inputs[PRICE] = np.array([[price]], np.float32)
        if self._tells_presence:
            inputs[PRESENT] = self._modalities.presence(self._absent_views)
        if self._no_answer is not None:
            scores = self._scores
            inputs[ANSWER] = self._no_answer if scores is None else scores[None].astype(np.float32)
        began = time.perf_counter()
        outputs = self._graphs[self._policy.graph](**inputs, **self._state)
        step.policy_ms = (time.perf_counter() - began) * 1e3
        self._state = {name: outputs[after] for name, after in self._carried.items()}
        step.policy_outputs = outputs
        return self._scheduler.decide(outputs["scores"][0], price, self._absent_views)

    def _policy_view(self, view: str, step: _Step) -> Array:
        """A view for the policy; zeros, which it is told to ignore, where it is absent or fails."""
        rendering = self._renderers[view]
        if view not in self._absent_views:
            try:
                return step.render(rendering)
            except SourceError as error:
                if len(self._modalities.groups) == 1:
                    raise
                self._absent_views = {**self._absent_views, **self._failed_with(rendering.view, error)}
        return np.zeros(rendering.view.shape, np.uint8)

    def _failed_with(self, view: View, error: SourceError) -> dict[str, str]:
        """Every view that is made from what a view that failed is made from, sound or pictures, and why."""
        heard = view.modality == "audio"
        views = (rendering.view for rendering in self._renderers.values())
        return {v.name: f"{FAILED}: {error.reason}" for v in views if (v.modality == "audio") == heard}

    def _run(self, options: tuple[Option, ...], step: _Step) -> Floats | None:
        """Fused logits (classes,) of the chosen branches; None if all were skips, or failed."""
        answers = []
        for option in options:
            before_ms = step.rendered_ms + step.branch_ms
            if option.graph:
                try:
                    answers.append((option, self._logits(option, step)))
                except SourceError as error:
                    if len(self._modalities.groups) == 1:
                        raise
                    step.failures[self._groups[option.name].name] = f"{FAILED}: {error.reason}"
            step.option_ms.append(step.rendered_ms + step.branch_ms - before_ms)
        return self._step_fusion.fuse(answers)

    def _logits(self, option: Option, step: _Step) -> Floats:
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


def _initial_state(manifest: Manifest, policy: Policy | None) -> dict[str, Array]:
    if policy is None:
        return {}
    inputs = manifest.graph(policy.graph).inputs
    return {name: np.zeros(shape, inputs[name].dtype) for name, shape in policy.state.items()}


def _views_of(variant: Variant) -> set[str]:
    """Every view that a variant's graphs may take."""
    views = {option.view for option in variant.action_space.options if option.view}
    return views | set(variant.policy.views if variant.policy else ())


class _Modalities:
    """Which groups can be chosen at a step, and what became of each.

    What most steps say is put together once: later it is only looked up.
    """

    def __init__(self, groups: tuple[Group, ...]) -> None:
        self.groups = groups
        self.held: Mapping[str, str] = {group.name: HELD for group in groups}
        self._all_present = np.ones((1, len(groups)), np.float32)
        self._said: dict[str, Mapping[str, str]] = {}

    def missing(self, absent_views: Collection[str]) -> list[Group]:
        """The groups whose views are all absent."""
        return [
            group
            for group in self.groups
            if all(option.view in absent_views for option in group.options if option.graph)
        ]

    def reason(self, group: Group, absent_views: Mapping[str, str]) -> str:
        """Why the views of a group are absent."""
        return next(absent_views[o.view] for o in group.options if o.view and o.view in absent_views)

    def presence(self, absent_views: Collection[str]) -> NDArray[np.float32]:
        """What a policy is told: (1, groups), 0 for those that are missing."""
        if not absent_views:
            return self._all_present
        missing = self.missing(absent_views)
        return np.array([[group not in missing for group in self.groups]], np.float32)

    def at(
        self,
        choice: str,
        options: tuple[Option, ...],
        absent_views: Mapping[str, str],
        failures: Mapping[str, str],
    ) -> Mapping[str, str]:
        """What became of each group, by its name; ``choice`` names the ``options``."""
        if not absent_views and not failures:
            # By name: to hash an option is to hash all that it says.
            if choice not in self._said:
                self._said[choice] = self._outcomes(options)
            return self._said[choice]
        missing = {group.name: self.reason(group, absent_views) for group in self.missing(absent_views)}
        absent = {
            name: reason if reason == LATE or reason.startswith(FAILED) else f"{ABSENT}: {reason}"
            for name, reason in missing.items()
        }
        return {**self._outcomes(options), **absent, **failures}

    def _outcomes(self, options: tuple[Option, ...]) -> dict[str, str]:
        return {
            group.name: RAN if any(o in options for o in group.options if o.graph) else NOT_CHOSEN
            for group in self.groups
        }


class _Step:
    """What one step has rendered, run and spent so far."""

    def __init__(self, frame: Frame) -> None:
        self.frame = frame
        self.failures: dict[str, str] = {}
        self._queue_ms = frame.queue_ms
        self._began = time.perf_counter()
        self._pixels: dict[str, NDArray[np.uint8]] = {}
        self.price, self.allow_skip = 0.0, False
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

    def traced(
        self, options: tuple[Option, ...], absent_views: Collection[str], withheld: bool, latency: Latency
    ) -> StepTrace:
        """How it was decided to run ``options``."""
        scores = self.policy_outputs.get("scores")
        return StepTrace(
            scores=None if scores is None else scores[0],
            price=self.price,
            allow_skip=self.allow_skip,
            absent_views=absent_views,
            options=options,
            withheld=withheld,
            policy_ms=self.policy_views_ms + self.policy_ms,
            option_ms=tuple(self.option_ms),
            step_ms=latency.total - latency.decode,
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
