"""The one model contract: a policy, branches and a fusion over an action space, rolled out causally.

A paper's file states its action space, backbones, losses and schedule; what is here is written once:
the rollout over steps, the straight-through Gumbel sampling of training, the deterministic decision of
everything else, and the holding of state through skips.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from models.augmentation import NO_AUGMENTATION, Augmentation
from models.backbones.blocks import Backbone
from models.policy import RecurrentPolicy, State
from runtimes.spec import ActionSpace, View

POLICY = "policy"
"""The graph name that stands for the policy itself in a model's action space."""

Sampler = Callable[[Tensor], Tensor]
"""Scores (B, A), with options not on offer at -inf, to choices (B, A) one-hot."""


class Rollout(NamedTuple):
    """What a rollout over T steps decided and answered.

    ``choices`` (B, T, A): one-hot where the policy ran, zero where it was held or the clip has ended.
    ``scores`` (B, T, A): the policy's scores at the same steps. ``logits`` (B, C): the fused logits after
    the last step, the mean over the steps that gave an output.
    """

    choices: Tensor
    scores: Tensor
    logits: Tensor


def pixels(frames: Tensor, view: View) -> Tensor:
    """What a network sees of uint8 frames (N, H, W, 3): float (N, 3, H, W), (pixel - zero_point) * scale."""
    return (frames.permute(0, 3, 1, 2).float() - view.zero_point) * view.scale


def gumbel_sampler(temperature: float) -> Sampler:
    """Straight-through Gumbel-softmax: a hard random choice forwards, the soft one's gradient backwards."""
    return lambda scores: functional.gumbel_softmax(scores, tau=temperature, hard=True)


def argmax_sampler(costs: Tensor, price: float = 0.0) -> Sampler:
    """The deterministic decision: argmax(score - price * cost), ties to the cheaper option.

    ``costs`` (A,) in the unit that the price is per.
    """
    order = torch.argsort(costs, stable=True)

    def choose(scores: Tensor) -> Tensor:
        best = (scores - price * costs)[:, order].argmax(dim=1)
        return functional.one_hot(order[best], scores.shape[1]).to(scores)

    return choose


class AdaptiveModel(nn.Module):
    """A policy, a branch per graph of the action space, and the mean of logits as fusion.

    The action space has one group (``groups[0]``); its options name branches by ``graph``, or the policy's
    own head (``graph == POLICY``), or skip.
    """

    def __init__(
        self,
        policy: RecurrentPolicy,
        branches: Mapping[str, Backbone],
        space: ActionSpace,
        views: Mapping[str, View],
        policy_view: str,
        labels: tuple[str, ...],
    ) -> None:
        super().__init__()
        self.policy = policy
        self.branches = nn.ModuleDict(branches)
        self.space = space
        self.views = dict(views)
        self.policy_view = policy_view
        self.labels = labels
        skips = torch.tensor([option.skip for option in space.options])
        self.register_buffer("skips", skips, persistent=False)
        self.skips: Tensor

    def backbones(self) -> dict[str, Backbone]:
        """Every backbone by branch name, the policy's under ``POLICY``."""
        branches = {name: b for name, b in self.branches.items() if isinstance(b, Backbone)}
        return {POLICY: self.policy.backbone, **branches}

    def branch_view(self, branch: str) -> View:
        """The view that a branch runs on."""
        names = {option.graph: option.view for option in self.space.options}
        return self.views[str(names[branch])]

    def embed(self, frames: Tensor) -> Tensor:
        """Policy features (N, F) of the policy's view, uint8 (N, S, S, 3)."""
        return self.policy.embed(pixels(frames, self.views[self.policy_view]))

    def branch_logits(
        self, branch: str, frames: Tensor, augmentation: Augmentation = NO_AUGMENTATION
    ) -> Tensor:
        """Class logits (N, C) of one branch on its view, uint8 (N, S, S, 3)."""
        return self.branches[branch](augmentation(pixels(frames, self.branch_view(branch))))

    def rollout(
        self, features: Tensor, branch_logits: Mapping[str, Tensor], present: Tensor, sample: Sampler
    ) -> Rollout:
        """Decide step after step: step t sees nothing after t.

        A skip of k gives no output at its step; neither policy nor branches run at the k - 1 after it,
        and h and c are held as they are. No skip is on offer before a clip's first output, so that there
        is always an answer.

        Args:
            features: policy features (B, T, F).
            branch_logits: by branch name, (B, T, C).
            present: bool (B, T), False where a clip has ended.
            sample: how scores become a choice.
        """
        batch, steps = present.shape
        state = self.policy.initial_state(batch)
        held = torch.zeros(batch, dtype=torch.long, device=present.device)
        answered = torch.zeros(batch, dtype=torch.bool, device=present.device)
        total, count = features.new_zeros(batch, len(self.labels)), features.new_zeros(batch, 1)
        all_choices, all_scores = [], []
        for t in range(steps):
            active = (held == 0) & present[:, t]
            scores, head_logits, after = self.policy.advance(features[:, t], state)
            state = State(
                *(torch.where(active[:, None], new, old) for new, old in zip(after, state, strict=True))
            )
            offered = scores.masked_fill((self.skips > 0) & ~answered[:, None], -torch.inf)
            choices = sample(offered) * active[:, None]
            output, used = self._output(choices, head_logits, {k: v[:, t] for k, v in branch_logits.items()})
            total, count = total + output, count + used
            skipped = (choices.detach() * self.skips).sum(dim=1).long()
            held = torch.where(active, (skipped - 1).clamp(min=0), (held - 1).clamp(min=0))
            answered = answered | (active & (skipped == 0))
            all_choices.append(choices)
            all_scores.append(scores)
        return Rollout(torch.stack(all_choices, 1), torch.stack(all_scores, 1), total / count.clamp(min=1))

    def _output(
        self, choices: Tensor, head_logits: Tensor, branch_logits: Mapping[str, Tensor]
    ) -> tuple[Tensor, Tensor]:
        """The chosen option's logits (B, C), and (B, 1) how many outputs that is: 1, or 0 for a skip."""
        output = torch.zeros_like(head_logits)
        used = choices.new_zeros(len(choices), 1)
        for i, option in enumerate(self.space.options):
            if option.graph is None:
                continue
            logits = head_logits if option.graph == POLICY else branch_logits[option.graph]
            output = output + choices[:, i : i + 1] * logits
            used = used + choices[:, i : i + 1]
        return output, used
