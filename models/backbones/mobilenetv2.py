"""MobileNetV2 (arXiv 1801.04381), with torchvision's parameter names so that its weights load."""

from __future__ import annotations

from torch import Tensor, nn

from models.backbones.blocks import Add, Backbone, temporal_pools

# expansion, channels, repeats, stride: table 2 of the paper.
_STAGES = (
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)


_POOLED_AFTER = (6, 13)
"""Features behind which AdaMML (2105.05165) pools over time: before 64 and before 160 channels."""


class ConvBNReLU6(nn.Sequential):
    """Convolution, batch norm, ReLU6."""

    def __init__(self, cin: int, cout: int, kernel: int, stride: int = 1, groups: int = 1) -> None:
        super().__init__(
            nn.Conv2d(cin, cout, kernel, stride, (kernel - 1) // 2, groups=groups, bias=False),
            nn.BatchNorm2d(cout),
            nn.ReLU6(inplace=True),
        )


class InvertedResidual(nn.Module):
    """Expansion, depthwise convolution and linear bottleneck, with a shortcut where shapes allow."""

    def __init__(self, cin: int, cout: int, stride: int, expansion: int) -> None:
        super().__init__()
        hidden = cin * expansion
        layers: list[nn.Module] = [] if expansion == 1 else [ConvBNReLU6(cin, hidden, 1)]
        layers += [
            ConvBNReLU6(hidden, hidden, 3, stride, groups=hidden),
            nn.Conv2d(hidden, cout, 1, bias=False),
            nn.BatchNorm2d(cout),
        ]
        self.conv = nn.Sequential(*layers)
        self.add = Add() if stride == 1 and cin == cout else None

    def forward(self, x: Tensor) -> Tensor:
        if self.add is None:
            return self.conv(x)
        return self.add(self.conv(x), x)


class MobileNetV2(Backbone):
    """A MobileNetV2 classifier of images (N, C, H, W) of any H and W."""

    def __init__(
        self, num_classes: int, *, dropout: float = 0.2, in_channels: int = 3, frames: int = 1
    ) -> None:
        super().__init__()
        self.frames = frames
        layers: list[nn.Module] = [ConvBNReLU6(in_channels, 32, 3, 2)]
        channels = 32
        for expansion, cout, repeats, stride in _STAGES:
            for i in range(repeats):
                layers.append(InvertedResidual(channels, cout, stride if i == 0 else 1, expansion))
                channels = cout
        self.num_features = 1280
        layers.append(ConvBNReLU6(channels, self.num_features, 1))
        self.features = nn.Sequential(*layers)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Sequential(nn.Dropout(dropout), nn.Linear(self.num_features, num_classes))
        self.temporal_pools = temporal_pools(frames, len(_POOLED_AFTER))

    def first_layers(self, count: int) -> list[nn.Module]:
        """The first ``count`` of its features: the stem and the blocks."""
        return list(self.features)[:count]

    def embed(self, x: Tensor) -> Tensor:
        """Pooled features (N, 1280) of images (N * frames, C, H, W)."""
        for i, layer in enumerate(self.features):
            x = layer(x)
            if i in _POOLED_AFTER:
                x = self.temporal_pools[_POOLED_AFTER.index(i)](x)
        return self.avgpool(x).flatten(1)

    def classify(self, features: Tensor) -> Tensor:
        """Class logits (N, C) of pooled features (N, 1280)."""
        return self.classifier(features)

    def remove_classifier(self) -> None:
        """Drop the parameters behind ``classify``."""
        self.classifier = nn.Sequential()
