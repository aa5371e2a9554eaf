"""A policy as every exporter writes it down: one step, its state and all that it is told as plain tensors."""

from __future__ import annotations

from torch import Tensor, nn

from models.policies.policy import StepPolicy
from runtimes.spec import ANSWER, PRESENT, PRICE


class PolicyGraph(nn.Module):
    """The policy with its state, and all that it is told, as explicit inputs and outputs."""

    def __init__(self, policy: StepPolicy) -> None:
        super().__init__()
        self.policy = policy

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """Pixels by view, then what ``told_inputs`` names, then the state."""
        policy, views = self.policy, self.policy.num_views
        told = dict(zip(told_inputs(policy), inputs[views:], strict=False))
        state = policy.initial_state(1)._make(inputs[views + len(told) :])
        features = policy.embed(*inputs[:views])
        joined = policy.join(features, told.get(PRESENT))
        output = policy.advance(joined, policy.tell(told[PRICE], told.get(ANSWER)), state)
        return (output.scores, *policy.head_logits(features), *output.state)


def told_inputs(policy: StepPolicy) -> tuple[str, ...]:
    """What a policy's graph is told beside its views and its state, by the names of its inputs."""
    presence = (PRESENT,) if policy.num_groups > 1 else ()
    return (*presence, PRICE, *((ANSWER,) if policy.recalls else ()))
