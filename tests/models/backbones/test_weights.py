"""Loading weights trained elsewhere: names, the folded pixel normalization, and files that do not fit."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torch import Tensor, nn

from models.backbones.blocks import Backbone
from models.backbones.registry import BACKBONES
from models.backbones.weights import WeightsError, conv_bn_names, load_weights
from models.rollout.branch_model import pixels
from runtimes.spec import View

VIEW = View(name="rgb64", size=64)
MEAN = torch.tensor([0.485, 0.456, 0.406])[:, None, None]
STD = torch.tensor([0.229, 0.224, 0.225])[:, None, None]


def trained(name: str, classes: int = 5, seed: int = 0) -> Backbone:
    """A network whose batch norms hold statistics, as training leaves them."""
    torch.manual_seed(seed)
    network = BACKBONES[name](classes).eval()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.running_mean, -0.5, 0.5)
            nn.init.uniform_(module.running_var, 0.5, 2)
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.uniform_(module.bias, -0.5, 0.5)
    return network


def saved(network: nn.Module, folder: Path, name: str = "weights.pth") -> Path:
    torch.save(network.state_dict(), folder / name)
    return folder / name


def unpadded_stem(network: Backbone) -> Backbone:
    """Without zero padding at the first layer the folding is exact everywhere."""
    stem = network.get_submodule(conv_bn_names(network)[0][0])
    assert isinstance(stem, nn.Conv2d)
    stem.padding = (0, 0)
    return network


def random_frames(seed: int = 1) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (2, 64, 64, 3), dtype=torch.uint8, generator=generator)


def as_torchvision(frames: Tensor) -> Tensor:
    return (frames.permute(0, 3, 1, 2).float() / 255 - MEAN) / STD


@pytest.mark.parametrize("name", ["resnet18", "mobilenetv2"])
@pytest.mark.parametrize(("zero_point", "scale"), [(128, 1 / 64), (0, 1 / 255), (7, 0.3)])
def test_normalization_is_folded_into_the_stem(
    tmp_path: Path, name: str, zero_point: int, scale: float
) -> None:
    view = View(name="v", size=64, zero_point=zero_point, scale=scale)
    original, network = trained(name), BACKBONES[name](5).eval()
    report = load_weights(network, saved(original, tmp_path), view)
    assert set(report.loaded) == set(original.state_dict())
    assert not report.unfit and not report.missing
    frames = random_frames()
    with torch.no_grad():
        got = unpadded_stem(network)(pixels(frames, view))
        wanted = unpadded_stem(original)(as_torchvision(frames))
    torch.testing.assert_close(got, wanted, atol=1e-3, rtol=1e-3)


def test_padding_differs_at_the_border_only(tmp_path: Path) -> None:
    original, network = trained("resnet18"), BACKBONES["resnet18"](5).eval()
    load_weights(network, saved(original, tmp_path), VIEW)
    frames = random_frames()

    def stem(of: Backbone, images: Tensor) -> Tensor:
        with torch.no_grad():
            return of.get_submodule("bn1")(of.get_submodule("conv1")(images))

    got, wanted = stem(network, pixels(frames, VIEW)), stem(original, as_torchvision(frames))
    inner = (..., slice(2, -2), slice(2, -2))
    torch.testing.assert_close(got[inner], wanted[inner], atol=1e-4, rtol=1e-4)
    assert not torch.allclose(got[..., 0, :], wanted[..., 0, :], atol=1e-2)


def test_names_that_do_not_fit_are_listed(tmp_path: Path) -> None:
    state = trained("resnet18", classes=9).state_dict()
    state["aux.weight"] = torch.zeros(3)
    state["layer1.0.conv1.weight"] = torch.zeros(1, 2, 3)
    torch.save({"state_dict": {f"module.{name}": value for name, value in state.items()}}, tmp_path / "w.pt")
    network = BACKBONES["resnet18"](5)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    report = load_weights(network, tmp_path / "w.pt", VIEW)
    assert set(report.unfit) == {"fc.weight", "fc.bias", "aux.weight", "layer1.0.conv1.weight"}
    assert set(report.missing) == {"fc.weight", "fc.bias", "layer1.0.conv1.weight"}
    for name in report.missing:
        assert torch.equal(network.state_dict()[name], before[name])
    assert torch.equal(network.state_dict()["layer4.1.conv2.weight"], state["layer4.1.conv2.weight"])


def test_a_policy_backbone_needs_no_classifier(tmp_path: Path) -> None:
    network = BACKBONES["mobilenetv2"](5)
    network.remove_classifier()
    report = load_weights(network, saved(trained("mobilenetv2"), tmp_path), VIEW)
    assert set(report.unfit) == {"classifier.1.weight", "classifier.1.bias"}
    assert not report.missing


def test_other_architecture_is_refused_and_changes_nothing(tmp_path: Path) -> None:
    network = BACKBONES["resnet18"](5)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    with pytest.raises(WeightsError, match="holds only 0 of the network's weights") as caught:
        load_weights(network, saved(trained("mobilenetv2"), tmp_path), VIEW)
    assert "features.0.0.weight" in caught.value.reason
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


@pytest.mark.parametrize("name", ["w.pt", "w.npz"])
def test_missing_file(tmp_path: Path, name: str) -> None:
    with pytest.raises(WeightsError, match="no such file"):
        load_weights(BACKBONES["mobilenetv2"](5), tmp_path / name, VIEW)


NETWORK = BACKBONES["mobilenetv2"](5)


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=64), st.sampled_from([b"", b"PK\x03\x04", b"\x80\x02", b"\x93NUMPY\x01\x00"]))
@pytest.mark.parametrize("suffix", [".pt", ".npz"])
def test_garbage_is_refused(
    tmp_path_factory: pytest.TempPathFactory, suffix: str, content: bytes, start: bytes
) -> None:
    path = tmp_path_factory.mktemp("garbage") / f"w{suffix}"
    path.write_bytes(start + content)
    with pytest.raises(WeightsError, match=f"w{suffix}"):
        load_weights(NETWORK, path, VIEW)


@pytest.mark.parametrize("content", [{"a": 1}, [torch.zeros(3)], torch.zeros(3)])
def test_a_file_that_is_no_state_dict(tmp_path: Path, content: object) -> None:
    torch.save(content, tmp_path / "w.pt")
    with pytest.raises(WeightsError, match="state dict"):
        load_weights(NETWORK, tmp_path / "w.pt", VIEW)


def folded(network: Backbone) -> dict[str, np.ndarray]:
    """``w0, b0 ...`` of a network, each batch norm folded into its convolution; the classifier last."""
    arrays: dict[str, np.ndarray] = {}
    for i, (conv_name, norm_name) in enumerate(conv_bn_names(network)):
        conv, norm = network.get_submodule(conv_name), network.get_submodule(norm_name)
        assert isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d)
        gain = norm.weight / torch.sqrt(norm.running_var + norm.eps)  # type: ignore[operator]
        arrays[f"w{i}"] = (conv.weight * gain[:, None, None, None]).detach().numpy()
        arrays[f"b{i}"] = (norm.bias - norm.running_mean * gain).detach().numpy()
    arrays["w52"], arrays["b52"] = np.zeros((5, 1280, 1, 1), np.float32), np.zeros(5, np.float32)
    return arrays


def test_folded_weights_in_layer_order(tmp_path: Path) -> None:
    original, network = trained("mobilenetv2"), BACKBONES["mobilenetv2"](5).eval()
    np.savez(tmp_path / "w.npz", **folded(original))
    report = load_weights(network, tmp_path / "w.npz", VIEW)
    assert set(report.missing) == {"classifier.1.weight", "classifier.1.bias"}
    frames = random_frames()
    symmetric = frames.permute(0, 3, 1, 2).float() / 127.5 - 1
    with torch.no_grad():
        got = unpadded_stem(network).embed(pixels(frames, VIEW))
        wanted = unpadded_stem(original).embed(symmetric)
    torch.testing.assert_close(got, wanted, atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize("lacking", ["w52", "b7"])
def test_folded_weights_that_lack_an_array(tmp_path: Path, lacking: str) -> None:
    arrays = folded(trained("mobilenetv2"))
    del arrays[lacking]
    np.savez(tmp_path / "w.npz", **arrays)
    with pytest.raises(WeightsError, match=r"w\.npz"):
        load_weights(NETWORK, tmp_path / "w.npz", VIEW)


def test_folded_weights_are_no_resnet(tmp_path: Path) -> None:
    np.savez(tmp_path / "w.npz", **folded(trained("mobilenetv2")))
    with pytest.raises(WeightsError, match="layer count"):
        load_weights(BACKBONES["resnet18"](5), tmp_path / "w.npz", VIEW)


IMAGENET = {"tench": 0, "french_horn": 566, "gas_pump": 571, "golf_ball": 574}


def test_real_weights_recognize_photographs(real_data: Callable[[str], Path]) -> None:
    path, photographs = (
        real_data("weights") / "mobilenet_v2_imagenet_bnfolded.npz",
        real_data("imagenette160"),
    )
    network = BACKBONES["mobilenetv2"](1001).eval()
    report = load_weights(network, path, VIEW)
    assert set(report.missing) == {"classifier.1.weight", "classifier.1.bias"}
    arrays = np.load(path)
    network.load_state_dict(
        {
            "classifier.1.weight": torch.from_numpy(arrays["w52"]).flatten(1),
            "classifier.1.bias": torch.from_numpy(arrays["b52"]),
        },
        strict=False,
    )
    right = []
    for label, number in IMAGENET.items():
        for file in sorted((photographs / label).glob("*.JPEG"))[:6]:
            image = np.array(Image.open(file).convert("RGB").resize((160, 160)))
            with torch.no_grad():
                logits = network(pixels(torch.from_numpy(image)[None], VIEW))
            right.append(int(logits.argmax()) == number + 1)  # class 0 is background
    assert np.mean(right) > 0.6  # of a thousand classes


@pytest.mark.parametrize("name", ["resnet18", "mobilenetv2"])
@pytest.mark.parametrize("channels", [1, 10, 15])
def test_a_stem_of_other_channels(tmp_path: Path, name: str, channels: int) -> None:
    """A gray picture in every channel is to it what it is to the original."""
    original, network = trained(name), BACKBONES[name](5, in_channels=channels).eval()
    report = load_weights(network, saved(original, tmp_path), VIEW)
    stem = conv_bn_names(network)[0][0]
    assert report.adapted is not None and f"{stem}.weight of 3 channels made {channels}" in report.adapted
    assert set(report.loaded) == set(original.state_dict()) and not report.missing
    gray = torch.randint(0, 256, (2, 64, 64, 1), dtype=torch.uint8)
    normalized = (gray.permute(0, 3, 1, 2).float() / 255 - MEAN.mean()) / STD.mean()
    with torch.no_grad():
        stems = [unpadded_stem(n).get_submodule(stem).weight.sum(1) for n in (network, original)]  # type: ignore[operator]
        got = network(pixels(gray.expand(2, 64, 64, channels), VIEW))
        wanted = original(normalized.expand(2, 3, 64, 64))
    assert stems[0].shape == stems[1].shape
    torch.testing.assert_close(got, wanted, atol=1e-3, rtol=1e-3)


def test_the_same_channels_are_not_adapted(tmp_path: Path) -> None:
    assert load_weights(BACKBONES["resnet18"](5), saved(trained("resnet18"), tmp_path), VIEW).adapted is None
