"""Networks of few layers with all that the real ones are made of: lowering takes seconds a layer."""

from __future__ import annotations

import functools
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from models.backbones.blocks import Backbone, temporal_pools
from models.backbones.mobilenetv2 import ConvBNReLU6, InvertedResidual
from models.layers.quantization import calibrate, freeze, quantize
from models.policies.agreement_policy import AgreementPolicy
from models.policies.policy import RecurrentPolicy, StepPolicy
from models.rollout.branch_model import pixels
from runtimes.spec import View

Network = TypeVar("Network", bound=StepPolicy)

CLASSES = 4
OPTIONS = 5
HIDDEN = 8
LARGE, SMALL = View(name="rgb64", size=64), View(name="rgb40", size=40)
SEEN = {
    "rgb40x2": View(name="rgb40x2", size=40, frames=2),
    "sound": View(name="sound", modality="audio", size=32),
}


class SmallBackbone(Backbone):
    """Convolutions with and without ReLU6, pools, and an addition, in five layers."""

    def __init__(self, in_channels: int = 3, frames: int = 1) -> None:
        super().__init__()
        self.frames = frames
        self.num_features = 8
        self.stem = ConvBNReLU6(in_channels, 8, 3, 2)
        self.maxpool = nn.MaxPool2d(3, 2, padding=1)
        self.inverted = InvertedResidual(8, 8, 1, 2)
        self.temporal_pools = temporal_pools(frames, 1)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Sequential(nn.Dropout(0.1), nn.Linear(8, CLASSES))

    def embed(self, x: Tensor) -> Tensor:
        x = self.inverted(self.maxpool(self.stem(x)))
        return self.avgpool(self.temporal_pools[0](x)).flatten(1)

    def classify(self, features: Tensor) -> Tensor:
        return self.classifier(features)

    def remove_classifier(self) -> None:
        self.classifier = nn.Sequential()


class SmallestBackbone(Backbone):
    """A convolution, a pool, and a linear layer."""

    frames = 1
    num_features = 8

    def __init__(self) -> None:
        super().__init__()
        self.stem = ConvBNReLU6(3, self.num_features, 3, 2)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(self.num_features, CLASSES)

    def embed(self, x: Tensor) -> Tensor:
        return self.avgpool(self.stem(x)).flatten(1)

    def classify(self, features: Tensor) -> Tensor:
        return self.fc(features)

    def remove_classifier(self) -> None:
        del self.fc


def pictures(view: View, count: int = 1, seed: int = 0) -> NDArray[np.uint8]:
    """Coarse random squares: uint8 (count * frames, size, size, channels) of a view."""
    random = np.random.default_rng(seed)
    coarse = random.integers(0, 256, (count * view.frames, 8, 8, view.channels), np.uint8)
    repeats = -(-view.size // 8)
    return np.ascontiguousarray(coarse.repeat(repeats, 1).repeat(repeats, 2)[:, : view.size, : view.size])


def seen(frames: NDArray[np.uint8], view: View) -> Tensor:
    return pixels(torch.from_numpy(frames), view)


def run_branch(network: nn.Module, frames: NDArray[np.uint8], view: View) -> NDArray[np.floating]:
    """Logits (N, C) of frames of a view."""
    with torch.no_grad():
        return network(seen(frames, view)).numpy()


def run_policy(
    policy: nn.Module, views: dict[str, View], steps: int
) -> list[dict[str, NDArray[np.floating]]]:
    """What a policy says at every step of a stream, by the names of its graph's outputs."""
    assert isinstance(policy, StepPolicy)
    state, said = policy.initial_state(1), []
    for step in range(steps):
        conditions = conditions_at(policy, step)
        with torch.no_grad():
            features = policy.embed(*(seen(pictures(v, seed=step), v) for v in views.values()))
            present = conditions.get("present")
            joined = policy.join(features, None if present is None else torch.from_numpy(present))
            answer = conditions.get("answer")
            recalled = None if answer is None else torch.from_numpy(answer)
            output = policy.advance(
                joined, policy.encode_conditions(torch.from_numpy(conditions["price"]), recalled), state
            )
            state, logits = output.state, policy.head_logits(features)
        named = {"scores": output.scores, **{f"logits{i}": value for i, value in enumerate(logits)}}
        named |= {f"next_{name}": value for name, value in state._asdict().items()}
        said.append({name: value.numpy() for name, value in named.items()})
    return said


def conditions_at(policy: StepPolicy, step: int) -> dict[str, NDArray[np.float32]]:
    """A policy's conditioning inputs at a step beside its views and its state, in the order of its inputs."""
    conditions: dict[str, NDArray[np.float32]] = {}
    if policy.num_groups > 1:
        conditions["present"] = np.array([[1.0, step % 2]], np.float32)
    conditions["price"] = np.full((1, 1), 0.5 * step, np.float32)
    if policy.recalls:
        scores = np.random.default_rng(step).random((1, policy.recalls)) ** 3
        conditions["answer"] = (scores / scores.sum() * (step > 0)).astype(np.float32)
    return conditions


@functools.cache
def branch() -> SmallBackbone:
    """A float branch whose batch norms know the pictures."""
    torch.manual_seed(0)
    network = SmallBackbone().train()
    for seed in range(10):
        run_branch(network, pictures(LARGE, 8, seed), LARGE)
    network.eval()
    return network


@functools.cache
def smallest() -> SmallestBackbone:
    """A float branch of two layers."""
    torch.manual_seed(3)
    return SmallestBackbone().eval()


@functools.cache
def policy() -> RecurrentPolicy:
    """A float policy on one view."""
    torch.manual_seed(1)
    network = RecurrentPolicy(SmallBackbone(), HIDDEN, num_options=OPTIONS, num_classes=CLASSES)
    return _ready(network, {"frame": SMALL})


@functools.cache
def joint_policy() -> AgreementPolicy:
    """A float policy on segments and sound that takes which there are and the answer so far."""
    torch.manual_seed(2)
    backbones = [SmallBackbone(frames=2), SmallBackbone(in_channels=1)]
    return _ready(AgreementPolicy(backbones, [(0,), (1,)], OPTIONS, 8, HIDDEN, CLASSES), SEEN)


def _ready(network: Network, views: dict[str, View]) -> Network:
    nn.init.normal_(network.score.weight)
    network.train()
    for seed in range(10):
        network.embed(*(seen(pictures(view, 8, seed), view) for view in views.values()))
    network.eval()
    return network


@functools.cache
def integer(kind: str) -> nn.Module:
    """The frozen int8 network of ``branch``, ``smallest``, ``policy`` or ``joint``."""
    make = {"branch": branch, "smallest": smallest, "policy": policy, "joint": joint_policy}
    quantized = quantize(make[kind](), "uint8")
    if kind in ("branch", "smallest"):
        calibrate(
            quantized, (None for s in range(3) if run_branch(quantized, pictures(LARGE, 8, s), LARGE).any())
        )
    else:
        calibrate(
            quantized,
            (None for _ in run_policy(quantized, SEEN if kind == "joint" else {"frame": SMALL}, 16)),
        )
    return freeze(quantized)
