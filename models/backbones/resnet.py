"""ResNet (arXiv 1512.03385), with torchvision's parameter names so that its weights load.

Every activation, addition and pooling is a module of its own: the quantizer replaces them one by one.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from models.backbones.blocks import Add, Backbone, temporal_pools


def _conv3x3(cin: int, cout: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(cin, cout, 3, stride, padding=1, bias=False)


def _downsample(cin: int, cout: int, stride: int) -> nn.Sequential | None:
    if stride == 1 and cin == cout:
        return None
    return nn.Sequential(nn.Conv2d(cin, cout, 1, stride, bias=False), nn.BatchNorm2d(cout))


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut."""

    expansion = 1

    def __init__(self, cin: int, planes: int, stride: int) -> None:
        super().__init__()
        self.conv1 = _conv3x3(cin, planes, stride)
        self.bn1 = nn.BatchNorm2d(planes)
        self.relu1 = nn.ReLU(inplace=True)
        self.conv2 = _conv3x3(planes, planes)
        self.bn2 = nn.BatchNorm2d(planes)
        self.downsample = _downsample(cin, planes, stride)
        self.add = Add()
        self.relu2 = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        shortcut = x if self.downsample is None else self.downsample(x)
        x = self.relu1(self.bn1(self.conv1(x)))
        x = self.bn2(self.conv2(x))
        return self.relu2(self.add(x, shortcut))


class Bottleneck(nn.Module):
    """1x1, 3x3 (with the stride, as torchvision has it) and 1x1 convolutions and a shortcut."""

    expansion = 4

    def __init__(self, cin: int, planes: int, stride: int) -> None:
        super().__init__()
        cout = planes * self.expansion
        self.conv1 = nn.Conv2d(cin, planes, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(planes)
        self.relu1 = nn.ReLU(inplace=True)
        self.conv2 = _conv3x3(planes, planes, stride)
        self.bn2 = nn.BatchNorm2d(planes)
        self.relu2 = nn.ReLU(inplace=True)
        self.conv3 = nn.Conv2d(planes, cout, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(cout)
        self.downsample = _downsample(cin, cout, stride)
        self.add = Add()
        self.relu3 = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        shortcut = x if self.downsample is None else self.downsample(x)
        x = self.relu1(self.bn1(self.conv1(x)))
        x = self.relu2(self.bn2(self.conv2(x)))
        x = self.bn3(self.conv3(x))
        return self.relu3(self.add(x, shortcut))


class ResNet(Backbone):
    """A ResNet classifier of images (N, C, H, W) of any H and W.

    ``width`` is the stem's channel count (64 in the paper), doubled at each of the four stages. Segments of
    several ``frames`` are pooled over time after each of the first three stages (AdaMML's, 2105.05165).
    """

    def __init__(
        self,
        block: type[BasicBlock] | type[Bottleneck],
        layers: Sequence[int],
        num_classes: int,
        *,
        width: int = 64,
        dropout: float = 0.5,
        in_channels: int = 3,
        frames: int = 1,
    ) -> None:
        super().__init__()
        self.frames = frames
        self.conv1 = nn.Conv2d(in_channels, width, 7, 2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, 2, padding=1)
        channels = width
        for stage, depth in enumerate(layers):
            planes = width << stage
            blocks: list[nn.Module] = []
            for i in range(depth):
                blocks.append(block(channels, planes, 2 if i == 0 and stage else 1))
                channels = planes * block.expansion
            self.add_module(f"layer{stage + 1}", nn.Sequential(*blocks))
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.dropout = nn.Dropout(dropout)
        self.fc = nn.Linear(channels, num_classes)
        self.num_features = channels
        self.temporal_pools = temporal_pools(frames, 3)
        self._initialize()

    def _initialize(self) -> None:
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def embed(self, x: Tensor) -> Tensor:
        """Pooled features (N, F) of images (N * frames, C, H, W)."""
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        for stage in range(1, 4):
            x = self.temporal_pools[stage - 1](self.get_submodule(f"layer{stage}")(x))
        x = self.get_submodule("layer4")(x)
        return self.avgpool(x).flatten(1)

    def classify(self, features: Tensor) -> Tensor:
        """Class logits (N, C) of pooled features (N, F)."""
        return self.fc(self.dropout(features))

    def remove_classifier(self) -> None:
        """Drop the parameters behind ``classify``."""
        del self.fc


def resnet18(num_classes: int, *, in_channels: int = 3, frames: int = 1) -> ResNet:
    """ResNet-18: 1.8 GMACs at 224 px."""
    return ResNet(BasicBlock, (2, 2, 2, 2), num_classes, in_channels=in_channels, frames=frames)


def resnet34(num_classes: int, *, in_channels: int = 3, frames: int = 1) -> ResNet:
    """ResNet-34: 3.7 GMACs at 224 px."""
    return ResNet(BasicBlock, (3, 4, 6, 3), num_classes, in_channels=in_channels, frames=frames)


def resnet50(num_classes: int, *, in_channels: int = 3, frames: int = 1) -> ResNet:
    """ResNet-50: 4.1 GMACs at 224 px."""
    return ResNet(Bottleneck, (3, 4, 6, 3), num_classes, in_channels=in_channels, frames=frames)


def resnet_small(num_classes: int, width: int, *, in_channels: int = 3, frames: int = 1) -> ResNet:
    """ResNet-10 of a narrow stem: trains on a CPU in minutes."""
    layers = (1, 1, 1, 1)
    return ResNet(
        BasicBlock, layers, num_classes, width=width, dropout=0.1, in_channels=in_channels, frames=frames
    )
