"""What a policy's graph is fed with at a step, by the inputs that it declares."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from runtimes.engines.engine import Array
from runtimes.spec import InputSource, PolicyInput


@dataclass(frozen=True, slots=True)
class PolicyContext:
    """What there is to feed a policy with.

    ``view``: gives a view's pixels, uint8 of its shape, by its name. ``present``: for each group whether its
    views are there. ``answer`` (classes,): the stream's scores so far, None while there are none. ``state``:
    what the policy's state is after its last run, by the names of its inputs.
    """

    price: float
    view: Callable[[str], Array]
    present: Sequence[bool]
    answer: NDArray[np.floating] | None
    state: Mapping[str, Array]


def policy_feed(inputs: Sequence[PolicyInput], context: PolicyContext) -> dict[str, Array]:
    """The arrays of all ``inputs`` by name."""
    return {entry.name: _FEEDS[entry.source](entry, context) for entry in inputs}


def initial_state(inputs: Sequence[PolicyInput]) -> dict[str, Array]:
    """The state at the start of a stream: zeros."""
    return {entry.name: _zeros(entry) for entry in inputs if entry.source == "state"}


def _zeros(entry: PolicyInput) -> Array:
    return np.zeros([side or 1 for side in entry.shape], entry.dtype)


def _view(entry: PolicyInput, context: PolicyContext) -> Array:
    assert entry.view is not None, "an input of a view names it"
    return context.view(entry.view)


def _answer(entry: PolicyInput, context: PolicyContext) -> Array:
    return _zeros(entry) if context.answer is None else context.answer[None].astype(np.float32)


_FEEDS: dict[InputSource, Callable[[PolicyInput, PolicyContext], Array]] = {
    "view": _view,
    "presence": lambda entry, context: np.array([context.present], np.float32),
    "price": lambda entry, context: np.array([[context.price]], np.float32),
    "answer": _answer,
    "state": lambda entry, context: context.state[entry.name],
}
