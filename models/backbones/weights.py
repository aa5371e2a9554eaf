"""Loading weights trained elsewhere into a backbone (``--init``)."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from models.backbones.blocks import Backbone
from runtimes.errors import AdaptiveVideoError
from runtimes.spec import View

# The pixel normalization that torchvision's weights were trained with, in units of 0..255.
_IMAGENET_MEAN = torch.tensor([0.485, 0.456, 0.406]) * 255
_IMAGENET_STD = torch.tensor([0.229, 0.224, 0.225]) * 255
# TensorFlow's: 0..255 to [-1, 1].
_SYMMETRIC = torch.full((3,), 127.5)


class WeightsError(AdaptiveVideoError):
    """A weight file cannot be read, or nothing in it fits the network."""


@dataclass(frozen=True)
class LoadReport:
    """What ``load_weights`` did: names taken, names of the file that did not fit, names left as they were.

    ``adapted``: how the stem was made to take other channels than the file's; None if it was not.
    """

    loaded: tuple[str, ...]
    unfit: tuple[str, ...]
    missing: tuple[str, ...]
    adapted: str | None = None


def load_weights(network: Backbone, path: Path, view: View) -> LoadReport:
    """Load a state dict (``.pt``, ``.pth``, ``.th``, torchvision's names) or a folded MobileNetV2 (``.npz``).

    The file's own pixel normalization (ImageNet mean and standard deviation for state dicts, [-1, 1]
    for the ``.npz``) is folded into the stem, because graphs see ``(pixel - zero_point) * scale``.
    The classifier is left as it is where its class count differs. A stem of other channels than the file's
    takes the mean of the file's over its inputs for each, scaled to the same sum (as AdaMML does, which
    leaves the scale).

    Raises: WeightsError if the file cannot be read or no convolution of it fits.
    """
    if path.suffix == ".npz":
        state, mean, std = _folded_mobilenetv2(network, path), _SYMMETRIC, _SYMMETRIC
    else:
        state, mean, std = _state_dict(path), _IMAGENET_MEAN, _IMAGENET_STD
    own = network.state_dict()
    state, adapted = _with_stem_of(network, state)
    if adapted is not None:
        channels = own[f"{conv_bn_names(network)[0][0]}.weight"].shape[1]
        mean, std = mean.mean().expand(channels), std.mean().expand(channels)
    fitting = {k: v for k, v in state.items() if k in own and own[k].shape == v.shape}
    loaded_weights = [k for k in fitting if k.endswith("weight")]
    if len(loaded_weights) < sum(k.endswith("weight") for k in own) / 2:
        raise WeightsError(
            path,
            f"holds only {len(loaded_weights)} of the network's weights (its first names: {_sample(state)})",
            "give the weights of the same architecture under torchvision's parameter names",
        )
    network.load_state_dict(fitting, strict=False)
    _fold_normalization(network, mean, std, view)
    return LoadReport(
        tuple(fitting),
        tuple(k for k in state if k not in fitting),
        tuple(k for k in own if k not in fitting and not k.endswith("num_batches_tracked")),
        adapted,
    )


def _with_stem_of(network: Backbone, state: dict[str, Tensor]) -> tuple[dict[str, Tensor], str | None]:
    """The state with a stem of the network's channels, and what was done to it, None if nothing."""
    name = f"{conv_bn_names(network)[0][0]}.weight"
    wanted, given = network.get_parameter(name).shape, state.get(name)
    if given is None or given.dim() != 4 or given.shape[1] == wanted[1] or given.shape[0] != wanted[0]:
        return state, None
    channels, before = wanted[1], given.shape[1]
    if given.shape[2:] != wanted[2:]:
        return state, None
    repeated = given.mean(dim=1, keepdim=True).repeat(1, channels, 1, 1) * (before / channels)
    said = f"{name} of {before} channels made {channels}: their mean, scaled by {before}/{channels}"
    return {**state, name: repeated}, said


def _sample(state: dict[str, Tensor]) -> str:
    return ", ".join(list(state)[:3])


def _state_dict(path: Path) -> dict[str, Tensor]:
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise WeightsError(path, "no such file", "check the path given to --init") from None
    except Exception as error:  # bytes that are no pickle make the reader raise anything
        reason = f"not a state dict ({type(error).__name__})"
        raise WeightsError(path, reason, "save it with torch.save(state_dict)") from None
    if isinstance(content, dict) and isinstance(content.get("state_dict"), dict):
        content = content["state_dict"]
    if not isinstance(content, dict) or not all(isinstance(v, Tensor) for v in content.values()):
        raise WeightsError(path, "not a state dict of tensors", "save it with torch.save(state_dict)")
    # Checkpoints of DistributedDataParallel prefix every name.
    return {name.removeprefix("module."): value for name, value in content.items()}


def _folded_mobilenetv2(network: Backbone, path: Path) -> dict[str, Tensor]:
    """Arrays ``w0, b0, w1, b1 ...`` in layer order, batch norms folded: each norm becomes a bias only."""
    try:
        with np.load(path, allow_pickle=False) as stored:
            arrays = {name: torch.from_numpy(stored[name]) for name in stored.files}
    except FileNotFoundError:
        raise WeightsError(path, "no such file", "check the path given to --init") from None
    except Exception as error:  # bytes that are no archive make the reader raise anything
        reason = f"not an .npz of arrays ({type(error).__name__})"
        raise WeightsError(path, reason, "give w0, b0, w1, b1 ...") from None
    state: dict[str, Tensor] = {}
    pairs = conv_bn_names(network)
    if set(arrays) != {f"{kind}{i}" for kind in "wb" for i in range(len(pairs) + 1)}:
        raise WeightsError(path, "its layer count is not this network's", "give a folded MobileNetV2 1.0")
    for i, (conv, norm) in enumerate(pairs):
        bias = arrays[f"b{i}"]
        state[f"{conv}.weight"] = arrays[f"w{i}"]
        # eps makes the variance 1 exactly: gamma 1, beta b, mean 0, var 1 - eps.
        state[f"{norm}.weight"], state[f"{norm}.bias"] = torch.ones_like(bias), bias
        state[f"{norm}.running_mean"] = torch.zeros_like(bias)
        state[f"{norm}.running_var"] = torch.full_like(bias, 1 - 1e-5)
    return state


def conv_bn_names(network: nn.Module) -> list[tuple[str, str]]:
    """Names of each convolution and the batch norm that follows it, in layer order."""
    named = [(n, m) for n, m in network.named_modules() if isinstance(m, nn.Conv2d | nn.BatchNorm2d)]
    return [
        (name, after)
        for (name, module), (after, norm) in pairwise(named)
        if isinstance(module, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d)
    ]


def _fold_normalization(network: Backbone, mean: Tensor, std: Tensor, view: View) -> None:
    """Make the stem see ``(pixel - mean) / std`` when it is given ``(pixel - zero_point) * scale``.

    Exact but for the zero padding at the borders, which stands for ``zero_point`` instead of ``mean``.
    """
    conv_name, norm_name = conv_bn_names(network)[0]
    conv, norm = network.get_submodule(conv_name), network.get_submodule(norm_name)
    assert isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d) and norm.running_mean is not None
    offset = (view.zero_point - mean) / std
    with torch.no_grad():
        # The constant goes into the mean that the batch norm subtracts.
        norm.running_mean -= torch.einsum("oikl,i->o", conv.weight, offset)
        conv.weight /= (std * view.scale)[None, :, None, None]
