"""What options cost in multiply-accumulates: the costs that a policy learns by where nothing is measured."""

from __future__ import annotations

import torch
from torch import Tensor

from models.macs import network_macs
from models.rollout.adaptive_model import AdaptiveModel
from models.rollout.branch_model import POLICY


def option_macs(model: AdaptiveModel) -> Tensor:
    """MACs that each option adds to the policy's own: (A,), zero for its heads.

    Less than zero for long skips, by the runs of the policy that they save.
    """
    policy = network_macs(model.policy, model.views_of(POLICY))
    costs = []
    for option, saved in zip(model.space.options, model.space.saved_runs, strict=True):
        runs = 0
        if option.graph not in (None, POLICY):
            runs = network_macs(model.branches[str(option.graph)], [model.views[str(option.view)]])
        costs.append(runs - saved * policy)
    return torch.tensor(costs, dtype=torch.float32)
