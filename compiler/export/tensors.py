"""What a manifest says of a network's inputs and outputs."""

from __future__ import annotations

import torch

from compiler.bundle_plan import Network
from compiler.export.policies import policy_of
from compiler.export.policy_graph import PolicyGraph, example_inputs
from models.policies.policy import StepPolicy
from runtimes.spec import LOGITS, Tensor, View


def input_tensors(network: Network) -> dict[str, Tensor]:
    """The uint8 frames of its views, then what a policy is conditioned on, then its state, by name."""
    if not isinstance(network.module, StepPolicy):
        sizes = {view.size for view in network.views}
        return {"frame": _frames(network.view, fixed=len(sizes) == 1)}
    inputs = policy_of(network).inputs
    frames = {inputs[view.name]: _frames(view) for view in network.views}
    return frames | {name: _floats(value) for name, value in example_inputs(network.module).items()}


def output_tensors(network: Network) -> dict[str, Tensor]:
    """Float scores, the heads' logits and the next state of a policy; a branch's logits."""
    pixels = [torch.zeros(v.frames, v.channels, v.size, v.size) for v in network.views]
    with torch.no_grad():
        if not isinstance(network.module, StepPolicy):
            return {LOGITS: _floats(network.module(pixels[0]))}
        outputs = PolicyGraph(network.module)(*pixels, *example_inputs(network.module).values())
    state = [f"next_{name}" for name in network.module.initial_state(1)._fields]
    return dict(zip(("scores", *network.heads.values(), *state), map(_floats, outputs), strict=True))


def _frames(view: View, fixed: bool = True) -> Tensor:
    side = view.size if fixed else None
    return Tensor(dtype="uint8", shape=(view.frames, side, side, view.channels))


def _floats(value: torch.Tensor) -> Tensor:
    return Tensor(dtype="float32", shape=tuple(value.shape))
