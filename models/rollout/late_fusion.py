"""Learned weights by which the logits of several groups are fused."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class LateFusion(nn.Module):
    """Learnt weights by which a step's logits of several groups are fused (2105.05165, section 3.3).

    All but the last are free and begin at 1 / groups; the last is what is left of 1. Weights count as
    ``least`` at least, or those of what ran could add up to nothing: below it the gradient passes as if they
    were not held, so that they come back. ``renormalised``: divided by the sum of the weights of what ran.
    """

    least = 0.01

    def __init__(self, groups: int, *, renormalised: bool = True) -> None:
        super().__init__()
        self.free = nn.Parameter(torch.full((groups - 1,), 1 / groups))
        self.renormalised = renormalised

    def weights(self) -> Tensor:
        """The weight of each group (groups,), positive."""
        raw = torch.cat([self.free, 1 - self.free.sum()[None]])
        return raw + (raw.clamp(min=self.least) - raw).detach()

    def forward(self, logits: Tensor, ran: Tensor) -> Tensor:
        """Fused logits (B, C) of ``logits`` (B, groups, C), zeros for a group that did not run.

        ``ran`` (B, groups): 1 for those that did.
        """
        weighed = self.weights() * ran
        fused = (self.weights()[:, None] * logits).sum(dim=1)
        if not self.renormalised:
            return fused
        total = weighed.sum(dim=1, keepdim=True)
        return fused / torch.where(ran.detach().sum(dim=1, keepdim=True) > 0.5, total, torch.ones_like(total))
