"""What a rollout over the steps of clips comes to."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor


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
