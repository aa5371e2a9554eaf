"""Variants: a policy, the options it chooses among, and how answers are fused."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from runtimes.spec.action_space import ActionSpace, Option
from runtimes.spec.base import Name, Spec
from runtimes.spec.graphs import Tensor

PRESENT = "present"
"""The input that says which of several groups are there."""
PRICE = "price"
"""The input for the price."""
ANSWER = "answer"
"""The input for the stream's answer so far, of a policy that recalls it."""
LOGITS = "logits"
"""The output of branches, and of a policy with one head."""


class Policy(Spec):
    """The graph that sees the cheap views and its own state, and scores every option.

    Inputs: its view as ``frame``, or several views by their names; each state by name, zeros at the start of
    a stream; ``present`` float (1, groups) if there are several groups, 0 for one whose views are absent;
    ``price`` float (1, 1); ``answer`` float (1, classes) if it recalls the stream's answer: its scores after
    the step before, zeros while there is none.
    Outputs: ``scores`` (1, number of options), ``next_<state>`` for each state, and for each group of
    ``heads`` (by name) the output of that name, ``logits`` (1, classes) of the policy's own.
    """

    graph: Name
    views: Annotated[tuple[Name, ...], Field(min_length=1)]
    state: dict[Name, tuple[int, ...]]
    heads: dict[Name, Name] = {}

    @property
    def inputs(self) -> dict[str, str]:
        """The graph's input for each view."""
        return {view: "frame" if len(self.views) == 1 else view for view in self.views}


InputSource = Literal["view", "presence", "price", "answer", "state"]
"""What an input of a policy is fed from."""

_CONDITIONING: dict[str, InputSource] = {PRESENT: "presence", PRICE: "price", ANSWER: "answer"}


class PolicyInput(Spec):
    """One input of a policy's graph: its name, what it takes, and what it is fed from.

    ``view``: the view that is rendered into it, if its source is one.
    """

    name: Name
    shape: tuple[int | None, ...]
    dtype: str
    source: InputSource
    view: Name | None = None


def policy_inputs(policy: Policy, tensors: Mapping[str, Tensor]) -> tuple[PolicyInput, ...]:
    """What the policy's graph takes, in its own order; ``tensors``: its inputs as the manifest has them.

    Raises: ValueError for an input that nothing here can feed.
    """
    views = {name: view for view, name in policy.inputs.items()}
    return tuple(
        PolicyInput(
            name=name,
            shape=tensor.shape,
            dtype=tensor.dtype,
            source=_input_source(name, policy, views),
            view=views.get(name),
        )
        for name, tensor in tensors.items()
    )


def _input_source(name: str, policy: Policy, views: Mapping[str, str]) -> InputSource:
    if name in views:
        return "view"
    if name in policy.state:
        return "state"
    if name not in _CONDITIONING:
        raise ValueError(f"policy {policy.graph}: input {name} is not a view, a state or a known condition")
    return _CONDITIONING[name]


class PriceResponse(Spec):
    """How a policy's scores change with its price input, on average over clips.

    ``scores``: for each of the rising ``prices`` each option's mean score, less that at the first price.
    """

    prices: tuple[Annotated[float, Field(ge=0)], ...]
    scores: tuple[tuple[float, ...], ...]

    @model_validator(mode="after")
    def _rows_and_order(self) -> Self:
        if len(self.scores) != len(self.prices) or len({len(row) for row in self.scores}) != 1:
            raise ValueError("a price response needs a row of the same length for every price")
        if any(after <= before for before, after in pairwise(self.prices)):
            raise ValueError("the prices of a price response must rise")
        return self


class Variant(Spec):
    """One runnable choice of policy graph and action space, e.g. everything in int8.

    Without a policy the app chooses the option, and the first is where it starts. ``response``: what a budget
    expects of the policy at other prices; None: its scores are taken to be the same at all.
    """

    name: Name
    policy: Policy | None
    action_space: ActionSpace
    price: Annotated[float, Field(ge=0)] = 0.0
    """The price to start with: the score that the most expensive option must earn more than a zero-cost
    one.
    """
    response: PriceResponse | None = None

    @model_validator(mode="after")
    def _response_of_all_options(self) -> Self:
        options = len(self.action_space.options)
        if self.response is not None and len(self.response.scores[0]) != options:
            raise ValueError(f"variant {self.name}: the price response is not of its {options} options")
        return self

    @model_validator(mode="after")
    def _no_head_without_policy(self) -> Self:
        if self.policy is None and any(option.skip for option in self.action_space.options):
            raise ValueError(f"variant {self.name}: skips need a policy")
        for group in self.action_space.groups:
            if any(map(self.is_head, group.options)) and group.name not in getattr(self.policy, "heads", ()):
                raise ValueError(f"variant {self.name}: the policy has no head for group {group.name}")
        return self

    @property
    def graphs(self) -> frozenset[str]:
        """The graphs that it runs, by name."""
        policy = [self.policy.graph] if self.policy else []
        return frozenset([*policy, *(option.graph for option in self.action_space.options if option.graph)])

    def is_head(self, option: Option) -> bool:
        """Whether an option is the policy's own head, which costs nothing more."""
        return self.policy is not None and option.graph == self.policy.graph

    @property
    def head_outputs(self) -> dict[str, str]:
        """For each option that is the policy's own head, which of its graph's outputs has the logits."""
        heads = {} if self.policy is None else self.policy.heads
        return {
            option.name: heads[group.name]
            for group in self.action_space.groups
            for option in group.options
            if self.is_head(option)
        }


class Fusion(Spec):
    """How branch outputs become scores: softmax of the mean of the logits of the last ``window`` steps.

    A step's logits are the sum of those of the groups that ran, each times its group's entry in ``weights``
    (1 without weights), divided by the sum of these weights if ``renormalised``.
    """

    kind: Literal["mean_logits"] = "mean_logits"
    window: Annotated[int, Field(ge=1)] = 16
    weights: dict[Name, Annotated[float, Field(gt=0)]] = {}
    renormalised: bool = True


class Steps(Spec):
    """The policy's clock: ``rate_hz`` steps per second of source time; trained on clips of ``clip_steps``.

    A step sees the ``segment_s`` seconds that end at it (0: its own frame alone). The first is due
    ``segment_s`` after the first frame, or is the last frame of a clip shorter than that.
    """

    rate_hz: Annotated[float, Field(gt=0, le=1000)]
    clip_steps: Annotated[int, Field(ge=1)]
    segment_s: Annotated[float, Field(ge=0, le=60)] = 0.0
