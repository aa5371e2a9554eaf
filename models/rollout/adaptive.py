"""The one model contract: a policy, branches and a fusion over an action space, rolled out causally.

A paper's file states its action space, backbones, losses and schedule; what is here is written once:
the rollout over steps, the straight-through Gumbel sampling of training, the deterministic decision of
everything else, and the holding of state through skips.
"""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import NamedTuple, Self, TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from models.augmentation import NO_AUGMENTATION, Augmentation
from models.backbones.blocks import Backbone
from models.policies.policy import StepPolicy
from runtimes import spec
from runtimes.spec import LOGITS, ActionSpace, Option, View

POLICY = "policy"
"""The graph name that stands for the policy itself in a model's action space."""


class Rollout(NamedTuple):
    """What a rollout over T steps decided and answered.

    ``choices`` (B, T, A): one-hot where the policy ran, zero where it was held or the clip has ended.
    ``scores`` (B, T, A): the policy's scores at the same steps. ``logits`` (B, C): the fused logits after
    the last step, the mean over the steps that gave an output. ``head`` (B, C): the same of the policy's
    first head on every step, if it has one; ``teacher`` (B, C): of the model's teacher, if it has one.
    ``used`` (B, T, groups): 1 where a branch of the group ran. ``available`` bool (B, T, groups): where it
    could. ``price`` (B,): at which it was decided.
    """

    choices: Tensor
    scores: Tensor
    logits: Tensor
    head: Tensor | None
    teacher: Tensor | None
    used: Tensor
    available: Tensor | None
    price: Tensor


def pixels(frames: Tensor, view: View) -> Tensor:
    """What a network sees of uint8 frames: float images, (pixel - zero_point) * scale.

    Frames (N, H, W, C) become (N, C, H, W); segments (N, F, H, W, C) become (N * F, C, H, W).
    """
    images = frames.flatten(0, -4)
    return (images.permute(0, 3, 1, 2).float() - view.zero_point) * view.scale


class Sampler(ABC):
    """How scores become a choice: the option of the largest value in each group.

    ``costs`` (A,) of the options, in units of the price's: with the dearest at 1, the price is the score
    that it must earn more than a free one.
    """

    def __init__(self, costs: Tensor) -> None:
        self.costs = costs

    def values(self, scores: Tensor, price: Tensor) -> Tensor:
        """What options are worth (B, A), by their scores (B, A) and the price (B,)."""
        return scores - price[:, None] * self.costs

    @abstractmethod
    def pick(self, values: Tensor, options: slice) -> Tensor:
        """One-hot choice (B, n) among the ``options`` of a group, worth (B, n); -inf: not on offer."""

    def __call__(self, scores: Tensor, price: Tensor) -> Tensor:
        """The choice (B, A) in a space of one group."""
        return self.pick(self.values(scores, price), slice(None))


class _GumbelSampler(Sampler):
    def __init__(self, costs: Tensor, temperature: float) -> None:
        super().__init__(costs)
        self.temperature = temperature

    def values(self, scores: Tensor, price: Tensor) -> Tensor:
        noise = -torch.empty_like(scores).exponential_().log()
        return (super().values(scores, price) + noise) / self.temperature

    def pick(self, values: Tensor, options: slice) -> Tensor:
        soft = values.softmax(dim=1)
        hard = torch.zeros_like(soft).scatter_(1, soft.argmax(dim=1, keepdim=True), 1.0)
        return hard - soft.detach() + soft


class _ArgmaxSampler(Sampler):
    def pick(self, values: Tensor, options: slice) -> Tensor:
        order = torch.argsort(self.costs[options], stable=True)
        best = values[:, order].argmax(dim=1)
        return functional.one_hot(order[best], values.shape[1]).to(values)


class _DenseSampler(_ArgmaxSampler):
    def values(self, scores: Tensor, price: Tensor) -> Tensor:
        return self.costs.expand_as(scores)


def gumbel_sampler(temperature: float, costs: Tensor) -> Sampler:
    """Straight-through Gumbel-softmax of ``score - price * cost``.

    A hard random choice forwards, the soft one's gradient backwards.
    """
    return _GumbelSampler(costs, temperature)


def argmax_sampler(costs: Tensor) -> Sampler:
    """The deterministic decision: argmax(score - price * cost), ties to the cheaper option."""
    return _ArgmaxSampler(costs)


def dense_sampler(costs: Tensor) -> Sampler:
    """The dearest branch of every group, whatever the scores."""
    return _DenseSampler(costs)


def relative_costs(costs: Tensor) -> Tensor:
    """Costs (A,) of options in units of the dearest one."""
    return costs / costs.max()


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


class BranchModel(nn.Module):
    """Branches over an action space: what there is to choose from. Alone, the caller chooses.

    Options of the action space name branches by ``graph``, or skip.
    """

    def __init__(
        self,
        branches: Mapping[str, Backbone],
        space: ActionSpace,
        views: Mapping[str, View],
        labels: tuple[str, ...],
    ) -> None:
        super().__init__()
        self.branches = nn.ModuleDict(branches)
        self.space = space
        self.views = dict(views)
        self.labels = labels

    def backbones(self) -> dict[str, Backbone]:
        """Every backbone by branch name."""
        return {name: b for name, b in self.branches.items() if isinstance(b, Backbone)}

    @property
    def branch_views(self) -> tuple[tuple[str, ...], ...]:
        """For each group, the views that its branches run on, once each."""
        return tuple(
            tuple(dict.fromkeys(option.view for option in group.options if option.view))
            for group in self.space.groups
        )

    @property
    def may_lack(self) -> tuple[tuple[str, ...], ...]:
        """``branch_views`` where a step may lack some of them; nothing if all there is are pictures."""
        modalities = {self.views[view].modality for views in self.branch_views for view in views}
        return self.branch_views if len(self.space.groups) > 1 or modalities - {"rgb"} else ()

    def fusion_of(self, window: int) -> spec.Fusion:
        """How a device fuses what its branches say, over so many steps."""
        return spec.Fusion(window=window)

    def view_of(self, part: str) -> View:
        """The view that a branch runs on."""
        names = {option.graph: option.view for option in self.space.options}
        return self.views[str(names[part])]

    def branch_logits(
        self, branch: str, frames: Tensor, augmentation: Augmentation = NO_AUGMENTATION
    ) -> Tensor:
        """Class logits (N, C) of one branch on its view, uint8 (N, S, S, 3), or segments (N, F, S, S, C)."""
        view = self.view_of(branch)
        return self.branches[branch](augmentation.of_view(pixels(frames, view), view))

    def branches_alone(self) -> BranchModel:
        """Its branches as a model of their own, without skips and without a policy."""
        groups = [
            group.model_copy(
                update={"options": tuple(o for o in group.options if str(o.graph) in self.branches)}
            )
            for group in self.space.groups
        ]
        space = ActionSpace(groups=tuple(groups))
        return BranchModel(BranchModel.backbones(self), space, self.views, self.labels)

    def at_precisions(self, networks: Mapping[str, Mapping[str, Backbone]]) -> Self:
        """This model with a choice of precisions: branch name to precision to network.

        Every option of a branch becomes one option per precision, called ``<option>-<precision>``. The
        networks run as they are given; they are not trained any further.
        """
        model = copy.copy(self)
        model._modules = dict(self._modules)
        model.branches = nn.ModuleDict(
            {f"{branch}-{precision}": n for branch, of in networks.items() for precision, n in of.items()}
        )
        groups = []
        for group in self.space.groups:
            options: list[Option] = []
            for option in group.options:
                precisions = networks.get(str(option.graph), {})
                options += [_at_precision(option, precision) for precision in precisions] or [option]
            groups.append(group.model_copy(update={"options": tuple(options)}))
        model.space = ActionSpace(groups=tuple(groups))
        return model


def _at_precision(option: Option, precision: str) -> Option:
    names = {"name": f"{option.name}-{precision}", "graph": f"{option.graph}-{precision}"}
    return option.model_copy(update={**names, "precision": precision})


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
    ) -> None:
        super().__init__(branches, space, views, labels)
        if len(space.groups) > 1 and (
            late_fusion is None or not all(any(o.skip for o in group.options) for group in space.groups)
        ):
            raise ValueError("several groups need a fusion, and a skip each")
        self.policy = policy
        self.policy_views = policy_views
        self.late_fusion = late_fusion
        self.teacher: str | None = None
        self.skips: Tensor
        self._count_options()

    def _count_options(self) -> None:
        skips = torch.tensor([option.skip for option in self.space.options])
        self.register_buffer("skips", skips, persistent=False)

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
        """As for branches alone, with the learnt weights of the groups."""
        if self.late_fusion is None:
            return super().fusion_of(window)
        names = [group.name for group in self.space.groups]
        weights = dict(zip(names, self.late_fusion.weights().tolist(), strict=True))
        return spec.Fusion(window=window, weights=weights, renormalised=self.late_fusion.renormalised)

    def at_precisions(self, networks: Mapping[str, Mapping[str, Backbone]]) -> Self:
        """As for branches alone; the policy scores the new options, untrained."""
        model = super().at_precisions(networks)
        model._buffers = dict(self._buffers)
        model._count_options()
        model.policy = copy.deepcopy(self.policy)
        model.policy.score_options(len(model.space.options))
        return model

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
        branch_logits: Mapping[str, Tensor],
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
            branch_logits: by branch name, (B, T, C).
            present: bool (B, T), False where a clip has ended.
            sample: how scores become a choice.
            available: bool (B, T, groups), False where a group's views are absent: it then skips, and the
                policy sees nothing of it. None: all are there.
            price: (B,), or one for all: what options' costs count for, which the policy is told.
        """
        batch, steps = present.shape
        prices = features.new_zeros(batch) + price
        state = self.policy.initial_state(batch)
        joined, heads = self.policy.join(features, available), self.policy.head_logits(features)
        said = {group: logits for (group, _), logits in zip(self.policy.heads, heads, strict=True)}
        held = torch.zeros(batch, dtype=torch.long, device=present.device)
        answered = torch.zeros(batch, dtype=torch.bool, device=present.device)
        total, count = features.new_zeros(batch, len(self.labels)), features.new_zeros(batch, 1)
        all_choices, all_scores, all_used = [], [], []
        for t in range(steps):
            active = (held == 0) & present[:, t]
            told = self.policy.tell(prices[:, None], _answer(total, count))
            scores, after = self.policy.advance(joined[:, t], told, state)
            state = after._make(
                torch.where(active[:, None], new, old) for new, old in zip(after, state, strict=True)
            )
            there = None if available is None else available[:, t]
            values = sample.values(scores, prices)
            choices = self._choose(values, sample, answered, there) * active[:, None]
            logits, ran = self._outputs(choices, _at(t, said), _at(t, branch_logits))
            output, outputs = self._fused(logits, ran)
            total, count = total + output, count + outputs
            skipped = self._in_groups(choices.detach() * self.skips).amin(dim=1).long()
            held = torch.where(active, (skipped - 1).clamp(min=0), (held - 1).clamp(min=0))
            answered = answered | (active & (ran.detach() > 0.5).any(dim=1))
            all_choices.append(choices)
            all_scores.append(scores)
            all_used.append(ran)
        return Rollout(
            torch.stack(all_choices, 1),
            torch.stack(all_scores, 1),
            total / count.clamp(min=1),
            _mean(heads[0], present) if heads else None,
            _mean(branch_logits[self.teacher], present) if self.teacher else None,
            torch.stack(all_used, 1),
            available,
            prices,
        )

    @property
    def _slices(self) -> list[slice]:
        """Where each group's options lie among all."""
        first, slices = 0, []
        for group in self.space.groups:
            slices.append(slice(first, first + len(group.options)))
            first += len(group.options)
        return slices

    @property
    def _longest_skips(self) -> Tensor:
        """Which option (A,) is its group's longest skip: what a group of which nothing is there takes."""
        longest = [
            self.skips[options].amax().expand(options.stop - options.start) for options in self._slices
        ]
        return (self.skips == torch.cat(longest)) & (self.skips > 0)

    def _in_groups(self, values: Tensor) -> Tensor:
        """Sums (B, groups) over each group's options of values (B, A)."""
        return torch.stack([values[:, options].sum(dim=1) for options in self._slices], dim=1)

    def _choose(self, values: Tensor, sample: Sampler, answered: Tensor, there: Tensor | None) -> Tensor:
        """The choice (B, A) of each group by the options' values (B, A).

        ``answered`` (B,): whether the clip has had an output, ``there`` (B, groups): which groups can run.
        """
        slices, skips = self._slices, self.skips > 0
        sizes = torch.tensor([len(group.options) for group in self.space.groups], device=values.device)
        if there is not None:
            missing = ~there.repeat_interleave(sizes, dim=1)
            values = values.masked_fill(missing & ~self._longest_skips, -torch.inf)
        must_run = self._running_instead(values, sample, there) & ~answered[:, None]
        forced = must_run.repeat_interleave(sizes, dim=1)
        values = values.masked_fill(forced & skips, -torch.inf)
        return torch.cat([sample.pick(values[:, options], options) for options in slices], dim=1)

    def _running_instead(self, values: Tensor, sample: Sampler, there: Tensor | None) -> Tensor:
        """Which group (B, groups) runs a branch where one must and none would: that which gives up least.

        One that is alone must run in any case; of several none must while another does.
        """
        slices, skips = self._slices, self.skips > 0
        if there is None:
            there = torch.ones(len(values), len(slices), dtype=torch.bool, device=values.device)
        if len(slices) == 1:
            return there
        with torch.no_grad():
            choices = torch.cat([sample.pick(values[:, options], options) for options in slices], dim=1)
            silent = (choices * ~skips).sum(dim=1) < 0.5
            branches = values.masked_fill(skips, -torch.inf)
            rest = values.masked_fill(~skips, -torch.inf)
            gained = torch.stack([branches[:, s].amax(1) - rest[:, s].amax(1) for s in slices], dim=1)
            least = functional.one_hot(gained.argmax(dim=1), len(slices)).bool()
            return least & there & (silent | (there.sum(dim=1) == 1))[:, None]

    def _outputs(
        self, choices: Tensor, head_logits: Mapping[int, Tensor], branch_logits: Mapping[str, Tensor]
    ) -> tuple[Tensor, Tensor]:
        """Each group's chosen logits (B, groups, C), zeros where it skips, and whether it ran (B, groups).

        ``head_logits`` (B, C) of the policy's heads, by the place of the group that each answers for.
        """
        logits, ran = [], []
        first = 0
        for place, group in enumerate(self.space.groups):
            output = choices.new_zeros(len(choices), len(self.labels))
            used = choices.new_zeros(len(choices), 1)
            for i, option in enumerate(group.options, start=first):
                if option.graph is None:
                    continue
                said = head_logits[place] if option.graph == POLICY else branch_logits[option.graph]
                output = output + choices[:, i : i + 1] * said
                used = used + choices[:, i : i + 1]
            logits.append(output)
            ran.append(used)
            first += len(group.options)
        return torch.stack(logits, 1), torch.cat(ran, 1)

    def _fused(self, logits: Tensor, ran: Tensor) -> tuple[Tensor, Tensor]:
        """A step's logits (B, C), and (B, 1) how many outputs that is: 1, or 0 if every group skips."""
        if self.late_fusion is None or len(self.space.groups) == 1:
            return logits[:, 0], ran
        return self.late_fusion(logits, ran), 1 - (1 - ran).prod(dim=1, keepdim=True)


_Key = TypeVar("_Key")


def _at(t: int, logits: Mapping[_Key, Tensor]) -> dict[_Key, Tensor]:
    """Step ``t`` (B, C) of each (B, T, C)."""
    return {key: steps[:, t] for key, steps in logits.items()}


def _answer(total: Tensor, count: Tensor) -> Tensor:
    """Class probabilities (B, C) of the mean of ``count`` logits that add up to ``total``; zeros of none.

    Without gradients: choices are not made for what the policy will be told of them.
    """
    there = count.detach() > 0.5
    return (total / count.clamp(min=1)).detach().softmax(dim=1) * there


def _mean(logits: Tensor, present: Tensor) -> Tensor:
    """Mean (B, C) of logits (B, T, C) over the steps that are there."""
    there = present[..., None].to(logits)
    return (logits * there).sum(1) / there.sum(1)
