"""Backbones: torchvision's names and sizes, and the published cost of every AR-Net branch."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from models.backbones.blocks import Backbone, TemporalMaxPool
from models.backbones.registry import BACKBONES
from models.macs import count_macs
from tests.models.small_arnet import SMALLEST

PARAMETERS = {
    "resnet18": 11_689_512,
    "resnet34": 21_797_672,
    "resnet50": 25_557_032,
    "mobilenetv2": 3_504_872,
}
ENTRIES = {"resnet18": 122, "resnet34": 218, "resnet50": 320, "mobilenetv2": 314}
SHAPES = {
    "resnet18": {
        "conv1.weight": (64, 3, 7, 7),
        "layer2.0.downsample.1.bias": (128,),
        "layer4.1.conv2.weight": (512, 512, 3, 3),
        "fc.weight": (1000, 512),
    },
    "resnet34": {"layer3.5.bn2.running_mean": (256,), "layer4.0.downsample.0.weight": (512, 256, 1, 1)},
    "resnet50": {
        "layer1.0.downsample.0.weight": (256, 64, 1, 1),
        "layer2.0.conv2.weight": (128, 128, 3, 3),
        "layer4.2.bn3.running_var": (2048,),
        "fc.bias": (1000,),
    },
    "mobilenetv2": {
        "features.0.0.weight": (32, 3, 3, 3),
        "features.1.conv.0.0.weight": (32, 1, 3, 3),
        "features.1.conv.1.weight": (16, 32, 1, 1),
        "features.2.conv.1.0.weight": (96, 1, 3, 3),
        "features.17.conv.3.running_mean": (320,),
        "features.18.1.num_batches_tracked": (),
        "classifier.1.weight": (1000, 1280),
    },
}


@pytest.mark.parametrize("name", PARAMETERS)
def test_parameters_are_torchvisions(name: str) -> None:
    network = BACKBONES[name](1000)
    state = network.state_dict()
    assert sum(p.numel() for p in network.parameters()) == PARAMETERS[name]
    assert len(state) == ENTRIES[name]
    assert {key: tuple(state[key].shape) for key in SHAPES[name]} == SHAPES[name]


def macs(network: Backbone, size: int) -> int:
    return count_macs(network, lambda: network(torch.zeros(1, 3, size, size)))


@pytest.mark.parametrize(
    ("name", "size", "low", "high"),
    [
        ("resnet50", 224, 4.085, 4.12),
        ("resnet34", 168, 2.235, 2.245),
        ("resnet18", 112, 0.4845, 0.4865),
        ("mobilenetv2", 84, 0.0505, 0.0515),
    ],
)
def test_gigamacs_are_the_published_ones(name: str, size: int, low: float, high: float) -> None:
    network = BACKBONES[name](200).eval()
    counted = macs(network, size)
    assert low <= counted / 1e9 <= high
    with FlopCounterMode(display=False) as flops, torch.no_grad():
        network(torch.zeros(1, 3, size, size))
    assert counted == flops.get_total_flops() / 2


def test_counting_leaves_the_network_as_it_was() -> None:
    network = BACKBONES[SMALLEST](3).train()
    norm = network.get_submodule("bn1")
    assert isinstance(norm, nn.BatchNorm2d) and norm.running_mean is not None
    before = norm.running_mean.clone()
    once, twice = macs(network, 32), macs(network, 32)
    assert once == twice > 0
    assert network.training and norm.training
    assert torch.equal(norm.running_mean, before)


@pytest.mark.parametrize("name", BACKBONES)
@pytest.mark.parametrize("size", [33, 64])
def test_any_size_gives_features_and_logits(name: str, size: int) -> None:
    network = BACKBONES[name](5).eval()
    images = torch.randn(2, 3, size, size)
    with torch.no_grad():
        features = network.embed(images)
        assert features.shape == (2, network.num_features)
        torch.testing.assert_close(network(images), network.classify(features))
        assert network(images).shape == (2, 5)


@pytest.mark.parametrize("name", BACKBONES)
def test_a_network_without_classifier_still_embeds(name: str) -> None:
    network = BACKBONES[name](5).eval()
    before = set(network.state_dict())
    network.remove_classifier()
    gone = before - set(network.state_dict())
    assert gone in ({"fc.weight", "fc.bias"}, {"classifier.1.weight", "classifier.1.bias"})
    assert network.embed(torch.randn(1, 3, 32, 32)).shape == (1, network.num_features)


def test_frames_of_one_batch_do_not_affect_each_other() -> None:
    network = BACKBONES["mobilenetv2"](5).eval()
    images = torch.randn(3, 3, 48, 48)
    with torch.no_grad():
        alone = torch.cat([network(image[None]) for image in images])
        torch.testing.assert_close(network(images), alone, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("name", ["resnet10", "mobilenetv2"])
@pytest.mark.parametrize("frames", [1, 2, 3, 4])
def test_segments_give_one_row_each(name: str, frames: int) -> None:
    """Whatever else is in the batch; and the order of the frames counts only through the pools."""
    torch.manual_seed(0)
    network = BACKBONES[name](5, in_channels=2, frames=frames).eval()
    images = torch.randn(3, frames, 2, 40, 40)
    with torch.no_grad():
        together = network(images.flatten(0, 1))
        alone = torch.cat([network(segment) for segment in images])
    assert together.shape == (3, 5)
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("frames", range(2, 9))
def test_temporal_pool_is_the_largest_of_neighbors(frames: int) -> None:
    x = torch.randn(2, frames, 3, 4, 5)
    pooled = TemporalMaxPool(frames)(x.flatten(0, 1)).unflatten(0, (2, -1))
    assert pooled.shape[1] == (frames + 1) // 2
    for i in range(pooled.shape[1]):
        assert torch.equal(pooled[:, i], x[:, max(0, 2 * i - 1) : 2 * i + 2].amax(dim=1))


@pytest.mark.parametrize(("name", "most"), [("resnet10", 8), ("mobilenetv2", 4)])
def test_too_many_frames_for_the_pools(name: str, most: int) -> None:
    BACKBONES[name](5, frames=most)
    with pytest.raises(ValueError, match="frames of a segment, not 1"):
        BACKBONES[name](5, frames=most + 1)


def test_segments_have_torchvisions_names() -> None:
    for name in ("resnet50", "mobilenetv2"):
        single, several = BACKBONES[name](5), BACKBONES[name](5, frames=4)
        assert set(single.state_dict()) == set(several.state_dict())
