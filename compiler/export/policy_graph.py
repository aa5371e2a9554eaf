"""A policy as every exporter writes it down: one step, its state and its conditions as plain tensors."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from models.policies.policy import StepPolicy
from runtimes.spec import ANSWER, PRESENT, PRICE


class PolicyGraph(nn.Module):
    """The policy with its state and conditions as explicit inputs and outputs."""

    def __init__(self, policy: StepPolicy) -> None:
        super().__init__()
        self.policy = policy

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """Pixels by view, then the inputs that ``example_inputs`` names."""
        policy, views = self.policy, self.policy.num_views
        conditions = dict(zip(condition_names(policy), inputs[views:], strict=False))
        state = policy.initial_state(1)._make(inputs[views + len(conditions) :])
        features = policy.embed(*inputs[:views])
        joined = policy.join(features, conditions.get(PRESENT))
        output = policy.advance(
            joined, policy.encode_conditions(conditions[PRICE], conditions.get(ANSWER)), state
        )
        return (output.scores, *policy.head_logits(features), *output.state)


def condition_names(policy: StepPolicy) -> tuple[str, ...]:
    """What a policy's graph is conditioned on beside its views and its state, by the names of its inputs."""
    presence = (PRESENT,) if policy.num_groups > 1 else ()
    return (*presence, PRICE, *((ANSWER,) if policy.recalls else ()))


def example_inputs(policy: StepPolicy) -> dict[str, Tensor]:
    """Examples of its conditions, and after them of its state, by the names of its inputs."""
    conditions = {
        PRESENT: torch.ones(1, policy.num_groups),
        PRICE: torch.zeros(1, 1),
        ANSWER: torch.zeros(1, policy.recalls),
    }
    # Copies, as one tensor that is given twice would be exported as one input.
    state = {name: part.clone() for name, part in policy.initial_state(1)._asdict().items()}
    return {name: conditions[name] for name in condition_names(policy)} | state
