"""The one model contract: a policy, branches and a fusion over an action space, rolled out causally.

A paper's file states its action space, backbones, losses and schedule; what is here is written once:
the rollout over steps, the straight-through Gumbel sampling of training, the deterministic decision of
everything else, and the holding of state through skips.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from typing import NamedTuple, Self

import torch
from torch import Tensor, nn
from torch.nn import functional

from models.augmentation import NO_AUGMENTATION, Augmentation
from models.backbones.blocks import Backbone
from models.policy import RecurrentPolicy, State
from runtimes.spec import ActionSpace, Option, View

POLICY = "policy"
"""The graph name that stands for the policy itself in a model's action space."""

Sampler = Callable[[Tensor], Tensor]
"""Scores (B, A), with options not on offer at -inf, to choices (B, A) one-hot."""


class Rollout(NamedTuple):
    """What a rollout over T steps decided and answered.

    ``choices`` (B, T, A): one-hot where the policy ran, zero where it was held or the clip has ended.
    ``scores`` (B, T, A): the policy's scores at the same steps. ``logits`` (B, C): the fused logits after
    the last step, the mean over the steps that gave an output. ``head`` (B, C): the same of the policy's own
    head on every step; ``teacher`` (B, C): of the model's teacher, if it has one.
    """

    choices: Tensor
    scores: Tensor
    logits: Tensor
    head: Tensor
    teacher: Tensor | None


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


class BranchModel(nn.Module):
    """Branches over an action space: what there is to choose from. Alone, the caller chooses.

    The action space has one group (``groups[0]``); its options name branches by ``graph``, or skip.
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

    def view_of(self, part: str) -> View:
        """The view that a branch runs on."""
        names = {option.graph: option.view for option in self.space.options}
        return self.views[str(names[part])]

    def branch_logits(
        self, branch: str, frames: Tensor, augmentation: Augmentation = NO_AUGMENTATION
    ) -> Tensor:
        """Class logits (N, C) of one branch on its view, uint8 (N, S, S, 3)."""
        return self.branches[branch](augmentation(pixels(frames, self.view_of(branch))))

    def branches_alone(self) -> BranchModel:
        """Its branches as a model of their own, without skips and without a policy."""
        options = tuple(option for option in self.space.options if str(option.graph) in self.branches)
        group = self.space.groups[0].model_copy(update={"options": options})
        return BranchModel(BranchModel.backbones(self), ActionSpace(groups=(group,)), self.views, self.labels)

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
        options: list[Option] = []
        for option in self.space.options:
            precisions = networks.get(str(option.graph), {})
            options += [_at_precision(option, precision) for precision in precisions] or [option]
        group = self.space.groups[0].model_copy(update={"options": tuple(options)})
        model.space = ActionSpace(groups=(group,))
        return model


def _at_precision(option: Option, precision: str) -> Option:
    names = {"name": f"{option.name}-{precision}", "graph": f"{option.graph}-{precision}"}
    return option.model_copy(update={**names, "precision": precision})


class AdaptiveModel(BranchModel):
    """A policy, a branch per graph of the action space, and the mean of logits as fusion.

    Options may also name the policy's own head (``graph == POLICY``). ``teacher``: the branch whose answers
    on every step the losses may compare with, if there is one.
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
        super().__init__(branches, space, views, labels)
        self.policy = policy
        self.policy_view = policy_view
        self.teacher: str | None = None
        self.skips: Tensor
        self._count_options()

    def _count_options(self) -> None:
        skips = torch.tensor([option.skip for option in self.space.options])
        self.register_buffer("skips", skips, persistent=False)

    def backbones(self) -> dict[str, Backbone]:
        """Every backbone by branch name, the policy's under ``POLICY``."""
        return {POLICY: self.policy.backbone, **super().backbones()}

    def view_of(self, part: str) -> View:
        """The view that a branch, or the policy (``POLICY``), runs on."""
        return self.views[self.policy_view] if part == POLICY else super().view_of(part)

    def at_precisions(self, networks: Mapping[str, Mapping[str, Backbone]]) -> Self:
        """As for branches alone; the policy scores the new options, untrained."""
        model = super().at_precisions(networks)
        model._buffers = dict(self._buffers)
        model._count_options()
        model.policy = copy.deepcopy(self.policy)
        model.policy.score_options(len(model.space.options))
        return model

    def embed(self, frames: Tensor) -> Tensor:
        """Policy features (N, F) of the policy's view, uint8 (N, S, S, 3)."""
        return self.policy.embed(pixels(frames, self.views[self.policy_view]))

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
        all_choices, all_scores, heads = [], [], []
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
            heads.append(head_logits)
        return Rollout(
            torch.stack(all_choices, 1),
            torch.stack(all_scores, 1),
            total / count.clamp(min=1),
            _mean(torch.stack(heads, 1), present),
            _mean(branch_logits[self.teacher], present) if self.teacher else None,
        )

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


def _mean(logits: Tensor, present: Tensor) -> Tensor:
    """Mean (B, C) of logits (B, T, C) over the steps that are there."""
    there = present[..., None].to(logits)
    return (logits * there).sum(1) / there.sum(1)
