"""The adaptive model: a policy, branches and a fusion over an action space, rolled out causally.

A method's file declares its action space, networks, losses and stages; what is here is written once: the
rollout over steps, the deterministic decision outside training, and the holding of state through skips.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping

import torch
from torch import Tensor

from models.backbones.blocks import Backbone
from models.policies.policy import StepPolicy
from models.rollout.branch_model import (
    POLICY,
    BranchModel,
    PrecisionNetworks,
    branches_of_precisions,
    pixels,
    space_of_precisions,
)
from models.rollout.group_choice import GroupChoice
from models.rollout.late_fusion import LateFusion
from models.rollout.outputs import BranchOutputs, ComputedOutputs
from models.rollout.rollout import Rollout
from models.rollout.sampling import Sampler
from runtimes import spec
from runtimes.spec import LOGITS, ActionSpace, View


class AdaptiveModel(BranchModel):
    """A policy on ``policy_views``, a branch per graph of the action space, and the mean of logits as fusion.

    Options may also name the policy's own head (``graph == POLICY``). ``late_fusion`` weighs the groups of a
    step if there are several, each of which then has a skip. ``teacher``: the branch whose answers
    on every step the losses may compare with, if there is one.
    """

    def __init__(
        self,
        policy: StepPolicy,
        branches: Mapping[str, Backbone],
        space: ActionSpace,
        views: Mapping[str, View],
        policy_views: tuple[str, ...],
        labels: tuple[str, ...],
        late_fusion: LateFusion | None = None,
        teacher: str | None = None,
    ) -> None:
        super().__init__(branches, space, views, labels)
        if len(space.groups) > 1 and (
            late_fusion is None or not all(any(o.skip for o in group.options) for group in space.groups)
        ):
            raise ValueError("several groups need a fusion, and a skip each")
        self.policy = policy
        self.policy_views = policy_views
        self.late_fusion = late_fusion
        self.teacher = teacher
        self.choice = GroupChoice(space)

    def backbones(self) -> dict[str, Backbone]:
        """Every backbone by branch name, the policy's by ``POLICY``, or each view's ``policy-<view>``."""
        return {
            **dict(zip(self.policy_parts, self.policy.view_backbones, strict=True)),
            **super().backbones(),
        }

    @property
    def policy_parts(self) -> list[str]:
        """What the policy's backbones are called, in the order of its views."""
        return [POLICY] if len(self.policy_views) == 1 else [f"{POLICY}-{view}" for view in self.policy_views]

    def view_of(self, part: str) -> View:
        """The view that a branch, or a backbone of the policy, runs on."""
        views = dict(zip(self.policy_parts, self.policy_views, strict=True))
        return self.views[views[part]] if part in views else super().view_of(part)

    def views_of(self, part: str) -> tuple[View, ...]:
        """The views that a branch, or the policy as a whole (``POLICY``), runs on."""
        if part == POLICY:
            return tuple(self.views[view] for view in self.policy_views)
        return (self.view_of(part),)

    def fusion_of(self, window: int) -> spec.Fusion:
        """As for branches alone, with the learned weights of the groups."""
        if self.late_fusion is None:
            return super().fusion_of(window)
        names = [group.name for group in self.space.groups]
        weights = dict(zip(names, self.late_fusion.weights().tolist(), strict=True))
        return spec.Fusion(window=window, weights=weights, renormalised=self.late_fusion.renormalised)

    def choosing_precisions(self, networks: PrecisionNetworks, teacher: str | None = None) -> AdaptiveModel:
        """As for branches alone, under a copy of the policy that scores the new options, untrained.

        The fusion is shared with this model. ``teacher``: one of the new branches.
        """
        space = space_of_precisions(self.space, networks)
        policy = copy.deepcopy(self.policy)
        policy.score_options(len(space.options))
        return self._over(branches_of_precisions(networks), space, policy, teacher)

    def with_branches(self, branches: Mapping[str, Backbone]) -> AdaptiveModel:
        """The same policy and fusion over other networks of the same names."""
        return self._over(branches, self.space, self.policy, self.teacher)

    def _over(
        self, branches: Mapping[str, Backbone], space: ActionSpace, policy: StepPolicy, teacher: str | None
    ) -> AdaptiveModel:
        return AdaptiveModel(
            policy,
            branches,
            space,
            self.views,
            self.policy_views,
            self.labels,
            self.late_fusion,
            teacher,
        )

    @property
    def heads(self) -> dict[str, str]:
        """What the logits of the policy's own heads are called, by the group that each answers for."""
        names = [group.name for group in self.space.groups]
        own = [names[group] for group, _ in self.policy.heads]
        return {name: LOGITS if len(names) == 1 else f"{LOGITS}_{name}" for name in own}

    def embed(self, frames: Mapping[str, Tensor]) -> Tensor:
        """Policy features (N, F) of the policy's views by name, uint8 (N, S, S, 3) or (N, F, S, S, C)."""
        return self.policy.embed(*(pixels(frames[name], self.views[name]) for name in self.policy_views))

    def rollout(
        self,
        features: Tensor,
        outputs: BranchOutputs | Mapping[str, Tensor],
        present: Tensor,
        sample: Sampler,
        available: Tensor | None = None,
        price: Tensor | float = 0.0,
    ) -> Rollout:
        """Decide step after step: step t sees nothing after t.

        A skip of k gives no output at its step; neither policy nor branches run at the k - 1 after it,
        and the policy's state is held as it is; of several groups, all must skip for that. Until a clip's
        first output at least one group runs a branch, so that there is always an answer.

        Args:
            features: policy features (B, T, F).
            outputs: what branches answer, asked for as they are chosen; or logits (B, T, C) by branch name
                that were computed before.
            present: bool (B, T), False where a clip has ended.
            sample: how scores become a choice.
            available: bool (B, T, groups), False where a group's views are absent: it then skips, and the
                policy sees nothing of it. None: all are there.
            price: (B,), or one for all: what options' costs count for; an input of the policy.
        """
        if isinstance(outputs, Mapping):
            outputs = ComputedOutputs(outputs)
        batch, steps = present.shape
        prices = features.new_zeros(batch) + price
        state = self.policy.initial_state(batch)
        joined, heads = self.policy.join(features, available), self.policy.head_logits(features)
        by_group = {group: logits for (group, _), logits in zip(self.policy.heads, heads, strict=True)}
        held = torch.zeros(batch, dtype=torch.long, device=present.device)
        answered = torch.zeros(batch, dtype=torch.bool, device=present.device)
        total, count = features.new_zeros(batch, len(self.labels)), features.new_zeros(batch, 1)
        all_choices, all_scores, all_used = [], [], []
        for t in range(steps):
            active = (held == 0) & present[:, t]
            conditions = self.policy.encode_conditions(prices[:, None], _answer(total, count))
            scores, after = self.policy.advance(joined[:, t], conditions, state)
            state = after._make(
                torch.where(active[:, None], new, old) for new, old in zip(after, state, strict=True)
            )
            there = None if available is None else available[:, t]
            values = sample.values(scores, prices)
            choices = self.choice.choose(values, sample, answered, there) * active[:, None]
            own = {group: logits[:, t] for group, logits in by_group.items()}
            logits, ran = self._outputs(t, choices, own, outputs)
            output, given = self._fused(logits, ran)
            total, count = total + output, count + given
            skipped = self.choice.held_steps(choices)
            held = torch.where(active, (skipped - 1).clamp(min=0), (held - 1).clamp(min=0))
            answered = answered | (active & (ran.detach() > 0.5).any(dim=1))
            all_choices.append(choices)
            all_scores.append(scores)
            all_used.append(ran)
        teacher = outputs.at_every_step(self.teacher) if self.teacher else None
        return Rollout(
            torch.stack(all_choices, 1),
            torch.stack(all_scores, 1),
            total / count.clamp(min=1),
            _mean(heads[0], present) if heads else None,
            _mean(teacher, present) if teacher is not None else None,
            torch.stack(all_used, 1),
            available,
            prices,
        )

    def _outputs(
        self, step: int, choices: Tensor, head_logits: Mapping[int, Tensor], outputs: BranchOutputs
    ) -> tuple[Tensor, Tensor]:
        """Each group's chosen logits (B, groups, C), zeros where it skips, and whether it ran (B, groups).

        ``head_logits`` (B, C) of the policy's heads, by the place of the group that each answers for.
        """
        logits, ran = [], []
        for place, (group, own) in enumerate(zip(self.space.groups, self.choice.slices, strict=True)):
            output = choices.new_zeros(len(choices), len(self.labels))
            used = choices.new_zeros(len(choices), 1)
            for i, option in enumerate(group.options, start=own.start):
                if option.graph is None:
                    continue
                answer = (
                    head_logits[place] if option.graph == POLICY else outputs.at(step, option, choices[:, i])
                )
                output = output + choices[:, i : i + 1] * answer
                used = used + choices[:, i : i + 1]
            logits.append(output)
            ran.append(used)
        return torch.stack(logits, 1), torch.cat(ran, 1)

    def _fused(self, logits: Tensor, ran: Tensor) -> tuple[Tensor, Tensor]:
        """A step's logits (B, C), and (B, 1) how many outputs that is: 1, or 0 if every group skips."""
        if self.late_fusion is None or len(self.space.groups) == 1:
            return logits[:, 0], ran
        return self.late_fusion(logits, ran), 1 - (1 - ran).prod(dim=1, keepdim=True)


def _answer(total: Tensor, count: Tensor) -> Tensor:
    """Class probabilities (B, C) of the mean of ``count`` logits that add up to ``total``; zeros of none.

    Without gradients: choices are not made for what the policy will take as input because of them.
    """
    there = count.detach() > 0.5
    return (total / count.clamp(min=1)).detach().softmax(dim=1) * there


def _mean(logits: Tensor, present: Tensor) -> Tensor:
    """Mean (B, C) of logits (B, T, C) over the steps that are there."""
    there = present[..., None].to(logits)
    return (logits * there).sum(1) / there.sum(1)
