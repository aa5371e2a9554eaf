"""What a manifest, and every exporter, says of a policy."""

from __future__ import annotations

from compiler.bundle_plan import Network
from models.policies.policy import StepPolicy
from runtimes.spec import Policy, View


def policy_of(network: Network) -> Policy:
    """Its graph, views, state and heads."""
    assert isinstance(network.module, StepPolicy)
    state = network.module.initial_state(1)
    shapes = {name: tuple(part.shape) for name, part in zip(state._fields, state, strict=True)}
    views = tuple(view.name for view in network.views)
    return Policy(graph=network.graph, views=views, state=shapes, heads=dict(network.heads))


def policy_views(network: Network) -> dict[str, View]:
    """Its views by the inputs that take them."""
    inputs = policy_of(network).inputs
    return {inputs[view.name]: view for view in network.views}
