"""One option a group: what may be chosen at a step, and what has to run so that there is always an answer."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from models.rollout.sampling import Sampler
from runtimes.spec import ActionSpace


class GroupChoice(nn.Module):
    """The choice among the options of every group of an action space.

    ``skips`` (A,): by how many steps each option skips. ``slices``: where each group's options lie among all.
    """

    def __init__(self, space: ActionSpace) -> None:
        super().__init__()
        self.slices: list[slice] = []
        first = 0
        for group in space.groups:
            self.slices.append(slice(first, first + len(group.options)))
            first += len(group.options)
        skips = torch.tensor([option.skip for option in space.options])
        longest = torch.cat([skips[own].amax().expand(own.stop - own.start) for own in self.slices])
        sizes = torch.tensor([len(group.options) for group in space.groups])
        self.register_buffer("skips", skips, persistent=False)
        # A group of which nothing is there takes its longest skip.
        self.register_buffer("longest_skips", (skips == longest) & (skips > 0), persistent=False)
        self.register_buffer("sizes", sizes, persistent=False)
        self.skips: Tensor
        self.longest_skips: Tensor
        self.sizes: Tensor

    def choose(self, values: Tensor, sample: Sampler, answered: Tensor, available: Tensor | None) -> Tensor:
        """The choice (B, A) of each group by the options' values (B, A).

        ``answered`` (B,): whether the clip has had an output, ``available`` (B, groups): which groups can
        run; None: all.
        """
        skips = self.skips > 0
        if available is not None:
            missing = ~available.repeat_interleave(self.sizes, dim=1)
            values = values.masked_fill(missing & ~self.longest_skips, -torch.inf)
        must_run = self._running_instead(values, sample, available) & ~answered[:, None]
        forced = must_run.repeat_interleave(self.sizes, dim=1)
        values = values.masked_fill(forced & skips, -torch.inf)
        return self._pick(values, sample)

    def held_steps(self, choices: Tensor) -> Tensor:
        """For how many steps (B,) the choices (B, A) skip: all groups must skip for that."""
        values = choices.detach() * self.skips
        in_groups = torch.stack([values[:, options].sum(dim=1) for options in self.slices], dim=1)
        return in_groups.amin(dim=1).long()

    def _pick(self, values: Tensor, sample: Sampler) -> Tensor:
        return torch.cat([sample.pick(values[:, options], options) for options in self.slices], dim=1)

    def _running_instead(self, values: Tensor, sample: Sampler, available: Tensor | None) -> Tensor:
        """Which group (B, groups) runs a branch where one must and none would: that which gives up least.

        One that is alone must run in any case; of several none must while another does.
        """
        slices, skips = self.slices, self.skips > 0
        if available is None:
            available = torch.ones(len(values), len(slices), dtype=torch.bool, device=values.device)
        if len(slices) == 1:
            return available
        with torch.no_grad():
            choices = self._pick(values, sample)
            silent = (choices * ~skips).sum(dim=1) < 0.5
            branches = values.masked_fill(skips, -torch.inf)
            rest = values.masked_fill(~skips, -torch.inf)
            gained = torch.stack([branches[:, s].amax(1) - rest[:, s].amax(1) for s in slices], dim=1)
            least = functional.one_hot(gained.argmax(dim=1), len(slices)).bool()
            return least & available & (silent | (available.sum(dim=1) == 1))[:, None]
