"""The models that can be compiled, by name: what each paper's file has to offer."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from models.methods import adamml, arnet, coquant, joint, videoiq
from models.rollout.adaptive import BranchModel


@dataclass(frozen=True)
class Definition:
    """One paper's model.

    ``presets``: each has a ``recipe`` and ``steps``; those with ``widths`` train one network at many
    bit-widths (``transfer``, ``rule``, ``low_activations``); those with ``modalities`` choose among these,
    over segments of ``segment_s`` seconds, ``rate_hz`` of them a second. ``build``: preset and labels to the
    untrained model. ``loss``: of a rollout, with targets, present steps, costs and the preset; None without a
    policy. ``mixes_precisions``: whether one policy chooses among precisions unless told otherwise.
    ``of_modalities``: a preset for just some modalities; None if the model sees pictures alone.
    ``follows_data``: whether it does without sound where the clips have none, unless told otherwise.
    """

    presets: Mapping[str, Any]
    build: Callable[[Any, tuple[str, ...]], BranchModel]
    loss: Callable[..., Tensor] | None
    mixes_precisions: bool
    of_modalities: Callable[[Any, tuple[str, ...]], Any] | None = None
    follows_data: bool = False


MODELS = {
    "arnet": Definition(arnet.PRESETS, arnet.build, arnet.loss, mixes_precisions=False),
    "adamml": Definition(
        adamml.PRESETS, adamml.build, adamml.loss, mixes_precisions=False, of_modalities=adamml.of_modalities
    ),
    "videoiq": Definition(videoiq.PRESETS, videoiq.build, videoiq.loss, mixes_precisions=True),
    "coquant": Definition(coquant.PRESETS, coquant.build, None, mixes_precisions=True),
    "joint": Definition(
        joint.PRESETS,
        joint.build,
        joint.loss,
        mixes_precisions=True,
        of_modalities=joint.of_modalities,
        follows_data=True,
    ),
}
