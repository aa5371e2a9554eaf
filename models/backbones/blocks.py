"""What backbones share: their interface, and the pieces that the quantiser replaces one by one."""

from __future__ import annotations

from abc import ABC, abstractmethod

from torch import Tensor, nn


class Backbone(nn.Module, ABC):
    """A classifier of images (N, 3, H, W) in two halves: features, then class logits."""

    num_features: int

    @abstractmethod
    def embed(self, x: Tensor) -> Tensor:
        """Pooled features (N, F) of images (N, 3, H, W)."""

    @abstractmethod
    def classify(self, features: Tensor) -> Tensor:
        """Class logits (N, C) of pooled features (N, F)."""

    @abstractmethod
    def remove_classifier(self) -> None:
        """Drop the parameters behind ``classify``, for a network that only embeds."""

    def forward(self, x: Tensor) -> Tensor:
        """Class logits (N, C) of images (N, 3, H, W)."""
        return self.classify(self.embed(x))


class Add(nn.Module):
    """The addition at the end of a residual block."""

    def forward(self, branch: Tensor, shortcut: Tensor) -> Tensor:
        return branch + shortcut


class Boundary(nn.Identity):
    """Where a tensor reaches a layer from arithmetic that stays in float, e.g. an LSTM's hidden state."""
