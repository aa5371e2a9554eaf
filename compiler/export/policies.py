"""What a manifest says of a policy."""

from __future__ import annotations

from compiler.bundle_plan import Network
from models.policies.policy import StepPolicy
from runtimes.spec import Policy


def policy_of(network: Network) -> Policy:
    """Its graph, views, state and heads."""
    assert isinstance(network.module, StepPolicy)
    state = network.module.initial_state(1)
    shapes = {name: tuple(part.shape) for name, part in zip(state._fields, state, strict=True)}
    views = tuple(view.name for view in network.views)
    return Policy(graph=network.graph, views=views, state=shapes, heads=dict(network.heads))
