"""What a manifest says of a network's inputs and outputs."""

from __future__ import annotations

import torch

from compiler.bundle_plan import Network
from compiler.export.policies import policy_of
from compiler.export.policy_graph import PolicyGraph, told_inputs
from models.policies.policy import StepPolicy
from runtimes.spec import ANSWER, LOGITS, PRESENT, PRICE, Tensor, View


def input_tensors(network: Network) -> dict[str, Tensor]:
    """The uint8 frames of its views, then what a policy is told, then its state, by name."""
    if not isinstance(network.module, StepPolicy):
        sizes = {view.size for view in network.views}
        return {"frame": _frames(network.view, fixed=len(sizes) == 1)}
    inputs = policy_of(network).inputs
    frames = {inputs[view.name]: _frames(view) for view in network.views}
    return frames | {name: _floats(value) for name, value in _told(network.module).items()}


def output_tensors(network: Network) -> dict[str, Tensor]:
    """Float scores, the heads' logits and the next state of a policy; a branch's logits."""
    pixels = [torch.zeros(v.frames, v.channels, v.size, v.size) for v in network.views]
    with torch.no_grad():
        if not isinstance(network.module, StepPolicy):
            return {LOGITS: _floats(network.module(pixels[0]))}
        told = _told(network.module)
        said = PolicyGraph(network.module)(*pixels, *told.values())
    state = [f"next_{name}" for name in network.module.initial_state(1)._fields]
    return dict(zip(("scores", *network.heads.values(), *state), map(_floats, said), strict=True))


def _told(policy: StepPolicy) -> dict[str, torch.Tensor]:
    """Examples of what a policy is told, and of its state."""
    told = {
        PRESENT: torch.ones(1, policy.num_groups),
        PRICE: torch.zeros(1, 1),
        ANSWER: torch.zeros(1, policy.recalls),
    }
    return {name: told[name] for name in told_inputs(policy)} | policy.initial_state(1)._asdict()


def _frames(view: View, fixed: bool = True) -> Tensor:
    side = view.size if fixed else None
    return Tensor(dtype="uint8", shape=(view.frames, side, side, view.channels))


def _floats(value: torch.Tensor) -> Tensor:
    return Tensor(dtype="float32", shape=tuple(value.shape))
