"""The last layer of a network, fitted on the features of a backbone as it came (linear probing).

A classifier that starts at random spoils pretrained features while it is found; fitted first, it lets the
backbone stay near what it was trained to (LP-FT, arXiv 2202.10054).
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.nn import functional

_FITTING_STEPS = 100


def classifier_of(network: nn.Module) -> nn.Linear:
    """The layer that makes a backbone's class logits: its last linear layer."""
    return [layer for layer in network.modules() if isinstance(layer, nn.Linear)][-1]


def fit_classifier(classifier: nn.Linear, features: Tensor, labels: Tensor, decay: float) -> None:
    """Least cross-entropy of features (N, F) and labels (N,) plus ``decay`` times the squared weights."""
    weight = torch.zeros_like(classifier.weight, requires_grad=True)
    bias = torch.zeros_like(classifier.bias, requires_grad=True)
    optimizer = torch.optim.LBFGS([weight, bias], max_iter=_FITTING_STEPS, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        optimizer.zero_grad()
        error = functional.cross_entropy(functional.linear(features, weight, bias), labels)
        error = error + decay * weight.square().sum()
        error.backward()  # type: ignore[no-untyped-call]
        return error

    optimizer.step(loss)  # type: ignore[no-untyped-call]
    with torch.no_grad():
        classifier.weight.copy_(weight)
        classifier.bias.copy_(bias)


def embedded(network: nn.Module, images: Iterable[Tensor]) -> Tensor:
    """Features (N, F) of batches of float images (B, 3, H, W)."""
    network.eval()
    with torch.no_grad():
        return torch.cat([network.embed(batch) for batch in images])  # type: ignore[operator]
