"""Batch norms at another bit-width: what they pass on keeps the mean and variance that it has in float.

For norms whose statistics training will not touch. The statistics of float activations do not fit those of
4- and 2-bit weights; and where a pretrained network came with its norms folded away they are 0 and 1, and fit
nothing. So what is set is not the statistics seen at a width, but what makes the norm's output alike.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch import Tensor, nn

_LEAST = 1e-5
"""Added to variances before they are compared: of a dead channel nothing follows."""


class Moments(NamedTuple):
    """Mean and variance of each channel (C,)."""

    mean: Tensor
    variance: Tensor


class _Seen:
    """The moments of all activations so far."""

    def __init__(self) -> None:
        self._count, self._total, self._squares = 0, torch.zeros(()), torch.zeros(())

    def add(self, x: Tensor) -> None:
        """Take in activations (N, C, H, W)."""
        channels = x.detach().double().transpose(0, 1).flatten(1)
        self._count += channels.shape[1]
        self._total = self._total + channels.sum(1)
        self._squares = self._squares + channels.square().sum(1)

    def moments(self) -> Moments:
        """Those of all that was taken in."""
        mean = self._total / self._count
        return Moments(mean.float(), (self._squares / self._count - mean.square()).clamp(min=0).float())


def moments_before(norms: Sequence[nn.BatchNorm2d], run: Iterable[None]) -> list[Moments]:
    """The moments of what each norm is given while ``run`` is exhausted (it runs the network)."""
    seen = [_Seen() for _ in norms]
    with _observed(norms, lambda place, x: seen[place].add(x)), torch.no_grad():
        for _ in run:
            pass
    return [one.moments() for one in seen]


def match_moments(norms: Sequence[nn.BatchNorm2d], wanted: Sequence[Moments], run: Iterable[None]) -> None:
    """Set the statistics of ``norms``: what they are given now becomes what they made of ``wanted``.

    Each is set anew at every batch of ``run``, before it is applied, from all that it was given so far: so
    what the next layers see is as it will be. The affine parts stay.
    """
    before = [_statistics(norm) for norm in norms]
    seen = [_Seen() for _ in norms]

    def adjust(place: int, x: Tensor) -> None:
        seen[place].add(x)
        _match(norms[place], before[place], wanted[place], seen[place].moments())

    with _observed(norms, adjust), torch.no_grad():
        for _ in run:
            pass


def _match(norm: nn.BatchNorm2d, before: Moments, wanted: Moments, given: Moments) -> None:
    """Scale ``given`` to the spread of ``wanted``, and move its mean there; then the norm is what it was."""
    ratio = (given.variance + _LEAST) / (wanted.variance + _LEAST)
    assert norm.running_mean is not None and norm.running_var is not None
    norm.running_mean.copy_(given.mean - (wanted.mean - before.mean) * ratio.sqrt())
    norm.running_var.copy_((before.variance + norm.eps) * ratio - norm.eps)


def _statistics(norm: nn.BatchNorm2d) -> Moments:
    assert norm.running_mean is not None and norm.running_var is not None
    return Moments(norm.running_mean.clone(), norm.running_var.clone())


@contextmanager
def _observed(norms: Sequence[nn.BatchNorm2d], observe: Callable[[int, Tensor], None]) -> Iterator[None]:
    """``observe`` is called with each norm's place and input, before the norm is applied."""
    hooks = [
        norm.register_forward_pre_hook(lambda _, inputs, place=place: observe(place, inputs[0]))
        for place, norm in enumerate(norms)
    ]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
