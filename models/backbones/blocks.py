"""What backbones share: their interface, and the pieces that the quantizer replaces one by one."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import NamedTuple, Protocol

from torch import Tensor, nn

BranchState = tuple[Tensor, ...]
"""What a branch carries from the step where it last ran to the next, (N, ...) each; none if it is static."""


class Gates(Protocol):
    """Decides which segments of a branch run, while it runs.

    A policy that decided before answers from what it decided; a rule or a small head decides by ``score``.
    """

    def at(self, segment: int, score: Tensor | None) -> Tensor:
        """(N,): 1 where a segment runs, 0 where it does not; soft in training.

        ``score`` (N,): what the segment's own head makes of its input; None if it has none.
        """
        ...


class BranchOutput(NamedTuple):
    """What one call of a branch gives.

    ``logits`` (N, C): of the last exit that was reached. ``exits`` (N, C) each: of those before the end, for
    losses. ``state``: to carry to its next run. ``ran`` (N, segments): how far each segment ran.
    """

    logits: Tensor
    exits: tuple[Tensor, ...] = ()
    state: BranchState = ()
    ran: Tensor | None = None


class Backbone(nn.Module, ABC):
    """A classifier of images (N, C, H, W) in two halves: features, then class logits.

    One of segments takes ``frames`` images to a segment, (N * frames, C, H, W) in order of time, and pools
    them to one row each.
    """

    num_features: int
    frames: int

    @abstractmethod
    def embed(self, x: Tensor) -> Tensor:
        """Pooled features (N, F) of images (N * frames, C, H, W)."""

    @abstractmethod
    def classify(self, features: Tensor) -> Tensor:
        """Class logits (N, C) of pooled features (N, F)."""

    @abstractmethod
    def remove_classifier(self) -> None:
        """Drop the parameters behind ``classify``, for a network that only embeds."""

    def first_layers(self, count: int) -> list[nn.Module]:
        """The first ``count`` layers, as a stage of training freezes them: stem, then stages or blocks."""
        return list(self.children())[:count]

    def forward(self, x: Tensor) -> Tensor:
        """Class logits (N, C) of images (N * frames, C, H, W)."""
        return self.classify(self.embed(x))

    def initial_state(self, batch: int) -> BranchState:
        """Its state at the start of ``batch`` streams; nothing unless it is given."""
        return ()

    def run(self, x: Tensor, gates: Gates | None = None, state: BranchState = ()) -> BranchOutput:
        """One call of the branch: the segments that ``gates`` let run, from the state of its last run.

        A backbone without segments, exits and state, as here, runs whole. None for ``gates``: all run.
        """
        return BranchOutput(self(x))


class TemporalMaxPool(nn.Module):
    """Halves the frames of every segment: around every second frame the largest of three, two at the ends.

    (N * frames, C, H, W) to (N * ceil(frames / 2), C, H, W). A segment lies as one image of ``frames`` rows:
    runtimes then pool it in integers as they do any image.
    """

    def __init__(self, frames: int) -> None:
        super().__init__()
        self.frames = frames
        self.pool = nn.MaxPool2d((3, 1), (2, 1), padding=(1, 0))

    def forward(self, x: Tensor) -> Tensor:
        channels, height, width = x.shape[1:]
        rows = x.reshape(-1, 1, self.frames, channels * height * width)
        return self.pool(rows).reshape(-1, channels, height, width)


def temporal_pools(frames: int, count: int) -> nn.ModuleList:
    """``count`` pools in a row that take a segment's frames to one; those with one left pass it on.

    Raises: ValueError if there are too many frames for that.
    """
    pools: list[nn.Module] = []
    for _ in range(count):
        pools.append(TemporalMaxPool(frames) if frames > 1 else nn.Identity())
        frames = (frames + 1) // 2
    if frames > 1:
        raise ValueError(f"{count} temporal pools leave {frames} frames of a segment, not 1")
    return nn.ModuleList(pools)


class Add(nn.Module):
    """The addition at the end of a residual block."""

    def forward(self, branch: Tensor, shortcut: Tensor) -> Tensor:
        return branch + shortcut


class Boundary(nn.Identity):
    """Where a tensor reaches a layer from arithmetic that stays in float, e.g. an LSTM's hidden state."""
