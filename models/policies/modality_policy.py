"""A policy over several modalities, which recalls its last scores (arXiv 2105.05165, section 3.2)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from models.backbones.blocks import Backbone, Boundary
from models.policies.policy import LSTMStep, PolicyOutput, StepPolicy, make_indifferent


class RecalledState(NamedTuple):
    """Hidden and cell state of the LSTM, each (B, hidden), and the scores of the step before (B, options)."""

    h: Tensor
    c: Tensor
    last_scores: Tensor


class ModalityPolicy(StepPolicy):
    """A backbone for each view, two joint layers, an LSTM that recalls its last scores (section 3.2).

    ``groups_of_views``: for each view, the places of the groups that it speaks for: its features are zeros
    where none of them is there. The joint layers also take which groups are there.
    """

    def __init__(
        self,
        backbones: Sequence[Backbone],
        groups_of_views: Sequence[Sequence[int]],
        num_options: int,
        width: int,
        hidden: int,
    ) -> None:
        super().__init__()
        for backbone in backbones:
            backbone.remove_classifier()
        self.backbones = nn.ModuleList(backbones)
        self.groups_of_views = tuple(tuple(groups) for groups in groups_of_views)
        self.num_views = len(backbones)
        self.num_groups = len({group for groups in groups_of_views for group in groups})
        self.width, self.hidden = width, hidden
        self.joint_in = Boundary()
        conditions = self.num_groups if self.num_groups > 1 else 0
        self.joint = nn.Sequential(
            nn.Linear(self.num_features + conditions, width),
            nn.ReLU(),
            nn.Linear(width, width),
            nn.ReLU(),
        )
        self.dropout = nn.Dropout(0.2)
        self.lstm_in = Boundary()
        self.h_out = Boundary()
        self.score_options(num_options)

    @property
    def view_backbones(self) -> Sequence[Backbone]:
        """The backbone of each view."""
        return [backbone for backbone in self.backbones if isinstance(backbone, Backbone)]

    @property
    def deciding_parts(self) -> list[nn.Module]:
        """All but the backbones."""
        return [self.joint, self.dropout, self.lstm, self.score]

    def classifier(self, view: int) -> nn.Linear:
        """Raises: LookupError, as it has no head of its own."""
        raise LookupError(f"view {view} has no class head")

    def score_options(self, count: int) -> None:
        """Start anew with the scores of ``count`` options, all alike at first."""
        self.num_options = count
        self.lstm = LSTMStep(self.width + count, self.num_conditions, self.hidden)
        self.score = nn.Linear(self.hidden, count)
        make_indifferent(self.score)

    def initial_state(self, batch: int) -> RecalledState:
        """Zeros, for ``batch`` streams that start."""
        zeros = self.lstm.from_state.weight.new_zeros
        state = zeros(batch, self.hidden)
        return RecalledState(state, state, zeros(batch, self.num_options))

    def embed(self, *pixels: Tensor) -> Tensor:
        """Features (N, F) of each view's images (N * frames, C, H, W), side by side."""
        views = zip(self.view_backbones, pixels, strict=True)
        return torch.cat([backbone.embed(images) for backbone, images in views], dim=-1)

    def join(self, features: Tensor, present: Tensor | None) -> Tensor:
        """Joint features (..., width) of features (..., F) of what is there, and of which groups are."""
        if self.num_groups == 1:
            return self.joint(self.joint_in(features))
        if present is None:
            present = features.new_ones(*features.shape[:-1], self.num_groups)
        present = present.to(features)
        seen = []
        for own, groups in zip(self.of_views(features), self.groups_of_views, strict=True):
            there = present[..., groups[0] : groups[0] + 1]
            for group in groups[1:]:
                there = torch.maximum(there, present[..., group : group + 1])
            seen.append(own * there)
        return self.joint(self.joint_in(torch.cat([*seen, present], dim=-1)))

    def advance(self, joined: Tensor, conditions: Tensor, state: RecalledState) -> PolicyOutput:
        """One step from joined features (B, width), conditions, and the state before it."""
        recalled = torch.cat([self.dropout(joined), state.last_scores], dim=-1)
        h, c = self.lstm(self.lstm_in(recalled), conditions, state)
        scores = self.score(self.h_out(h))
        return PolicyOutput(scores, RecalledState(h, c, scores))
