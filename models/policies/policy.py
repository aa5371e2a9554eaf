"""The policy: sees the cheap views and its own state, scores every option (arXiv 2007.15796, section 3)."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from models.backbones.blocks import Backbone, Boundary
from models.policies.conditioning import PriceCode


class State(NamedTuple):
    """Hidden and cell state of the policy's LSTM, each (B, hidden)."""

    h: Tensor
    c: Tensor


class PolicyOutput(NamedTuple):
    """What the policy says at one step: scores (B, options), and its next state, a named tuple (B, ...)."""

    scores: Tensor
    state: Any


class LSTMStep(nn.Module):
    """One LSTM cell update, its matrices plain linear layers so that they quantize like any other.

    ``num_conditions``: conditioning inputs beside its own; it starts by ignoring them.
    """

    def __init__(self, num_inputs: int, num_conditions: int, hidden: int) -> None:
        super().__init__()
        self.from_input = nn.Linear(num_inputs, 4 * hidden)
        self.from_conditions = nn.Linear(num_conditions, 4 * hidden)
        self.from_state = nn.Linear(hidden, 4 * hidden)
        self.conditions_in, self.h_in = Boundary(), Boundary()
        self.hidden = hidden
        with torch.no_grad():
            # A forget gate that starts open lets early training see across steps (Jozefowicz et al., 2015).
            self.from_input.bias[hidden : 2 * hidden] += 1.0
            self.from_conditions.bias.zero_()

    def forward(self, x: Tensor, conditions: Tensor, state: State) -> State:
        gates = (
            self.from_input(x)
            + self.from_conditions(self.conditions_in(conditions))
            + self.from_state(self.h_in(state.h))
        )
        i, f, g, o = gates.chunk(4, dim=1)
        c = torch.sigmoid(f) * state.c + torch.sigmoid(i) * torch.tanh(g)
        return State(torch.sigmoid(o) * torch.tanh(c), c)


def make_indifferent(score: nn.Linear) -> None:
    """Let all options score alike at first."""
    nn.init.normal_(score.weight, std=1e-3)
    nn.init.zeros_(score.bias)


class StepPolicy(nn.Module, ABC):
    """Base: features of each cheap view, joined and taken through the steps, to a score for every option.

    ``num_views``: how many views ``embed`` takes. ``num_groups``: of the action space; with several, ``join``
    takes which are there. ``recalls``: of how many classes it takes the stream's answer so far; 0: it does
    not. All take the price.
    """

    num_views: int
    num_groups: int
    recalls: int = 0

    def __init__(self) -> None:
        super().__init__()
        self.price_code = PriceCode()

    @property
    def heads(self) -> tuple[tuple[int, int], ...]:
        """For each class head of its own, the places of its group and of the view whose features it reads."""
        return ()

    @property
    def num_conditions(self) -> int:
        """Conditioning inputs of its LSTM."""
        return self.price_code.size

    @property
    @abstractmethod
    def view_backbones(self) -> Sequence[Backbone]:
        """The backbone of each view, in their order."""

    @property
    def num_features(self) -> int:
        """Values of ``embed`` for one step."""
        return sum(backbone.num_features for backbone in self.view_backbones)

    @property
    @abstractmethod
    def deciding_parts(self) -> list[nn.Module]:
        """All that turns features into scores: what learns where backbones are frozen."""

    @abstractmethod
    def classifier(self, view: int) -> nn.Linear:
        """The class head on the features of a view that has one, by its place."""

    @abstractmethod
    def score_options(self, count: int) -> None:
        """Start anew with the scores of ``count`` options, all alike at first."""

    @abstractmethod
    def initial_state(self, batch: int) -> Any:
        """Zeros, a named tuple of tensors (B, ...), for ``batch`` streams that start."""

    @abstractmethod
    def embed(self, *pixels: Tensor) -> Tensor:
        """Features (N, F) of each view's images (N * frames, C, H, W), side by side."""

    def of_views(self, features: Tensor) -> Sequence[Tensor]:
        """The features (..., F) of ``embed``, view by view."""
        if self.num_views == 1:
            return [features]
        sizes = [backbone.num_features for backbone in self.view_backbones]
        return torch.split(features, sizes, dim=-1)

    def head_logits(self, features: Tensor) -> tuple[Tensor, ...]:
        """Class logits (..., C) of each of its heads, from features (..., F)."""
        views = self.of_views(features) if self.heads else []
        return tuple(self.classifier(view)(views[view]) for _, view in self.heads)

    @abstractmethod
    def join(self, features: Tensor, present: Tensor | None) -> Tensor:
        """What ``advance`` takes (..., J) of features (..., F).

        ``present`` (..., groups): 1 for groups that are there; None: all. Nothing of others gets through.
        """

    def encode_conditions(self, price: Tensor, answer: Tensor | None) -> Tensor:
        """The conditions (B, K) of a price (B, 1) and of the answer so far (B, C), zeros for none.

        A policy that recalls no answer ignores it.
        """
        return self.price_code(price)

    def no_conditions(self, batch: int) -> Tensor:
        """The conditions (B, K) at price 0, before there is an answer."""
        zeros = next(self.parameters()).new_zeros
        return self.encode_conditions(zeros(batch, 1), zeros(batch, max(self.recalls, 1)))

    @abstractmethod
    def advance(self, joined: Tensor, conditions: Tensor, state: Any) -> PolicyOutput:
        """One step from joined features (B, J), conditions (B, K), and the state before it."""


class BackboneClassifier(Backbone):
    """A policy's backbone trained as a classifier: with the policy's own head, or with one to discard."""

    def __init__(self, backbone: Backbone, classifier: nn.Linear, dropout: float = 0.0) -> None:
        super().__init__()
        self.backbone = backbone
        self.num_features, self.frames = backbone.num_features, backbone.frames
        self.dropout = nn.Dropout(dropout)
        self.fc = classifier

    def embed(self, x: Tensor) -> Tensor:
        """Pooled features (N, F) of images (N * frames, C, H, W)."""
        return self.backbone.embed(x)

    def classify(self, features: Tensor) -> Tensor:
        """Class logits (N, C) of pooled features (N, F)."""
        return self.fc(self.dropout(features))

    def remove_classifier(self) -> None:
        """Drop the parameters behind ``classify``."""
        del self.fc


class RecurrentPolicy(StepPolicy):
    """Backbone on the cheap view, LSTM over steps, a head for the options and one for the classes.

    The class head reads the frame's features, not the LSTM's state as in the released code: trained with
    the backbone, it is then as good on clips that only the policy trains on as on any other, where a
    recurrent one learns those clips by heart and the policy comes to trust it.
    """

    num_views = num_groups = 1

    def __init__(self, backbone: Backbone, hidden: int, num_options: int, num_classes: int) -> None:
        super().__init__()
        backbone.remove_classifier()
        self.backbone = backbone
        self.lstm = LSTMStep(backbone.num_features, self.num_conditions, hidden)
        self.dropout = nn.Dropout(0.5)
        self.h_out = Boundary()
        self.score = nn.Linear(hidden, num_options)
        self.classify = nn.Linear(backbone.num_features, num_classes)
        make_indifferent(self.score)

    @property
    def heads(self) -> tuple[tuple[int, int], ...]:
        """One."""
        return ((0, 0),)

    @property
    def view_backbones(self) -> Sequence[Backbone]:
        """The one backbone."""
        return (self.backbone,)

    @property
    def deciding_parts(self) -> list[nn.Module]:
        """The LSTM and the scores."""
        return [self.lstm, self.dropout, self.score]

    def classifier(self, view: int) -> nn.Linear:
        """The class head."""
        return self.classify

    def score_options(self, count: int) -> None:
        """Start anew with the scores of ``count`` options, all alike at first."""
        self.score = nn.Linear(self.lstm.hidden, count)
        make_indifferent(self.score)

    def initial_state(self, batch: int) -> State:
        """Zeros, for ``batch`` streams that start."""
        zeros = self.lstm.from_state.weight.new_zeros(batch, self.lstm.hidden)
        return State(zeros, zeros)

    def embed(self, *pixels: Tensor) -> Tensor:
        """Features (N, F) of the cheap view (N, 3, H, W)."""
        (images,) = pixels
        return self.backbone.embed(images)

    def join(self, features: Tensor, present: Tensor | None) -> Tensor:
        """The features as they are."""
        return features

    def advance(self, joined: Tensor, conditions: Tensor, state: State) -> PolicyOutput:
        """One step from features (B, F), conditions, and the state before it."""
        state = self.lstm(self.dropout(joined), conditions, state)
        return PolicyOutput(self.score(self.h_out(self.dropout(state.h))), state)
