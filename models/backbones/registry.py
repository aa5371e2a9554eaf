"""Backbones by the name that presets give them."""

from __future__ import annotations

from functools import partial
from typing import Protocol

from models.backbones.blocks import Backbone
from models.backbones.mobilenetv2 import MobileNetV2
from models.backbones.resnet import resnet18, resnet34, resnet50, resnet_small


class MakeBackbone(Protocol):
    """Makes a backbone of so many classes, of images of ``in_channels``, ``frames`` of them to a segment."""

    def __call__(self, num_classes: int, *, in_channels: int = 3, frames: int = 1) -> Backbone:
        """The untrained backbone."""
        ...


BACKBONES: dict[str, MakeBackbone] = {
    "mobilenetv2": MobileNetV2,
    "resnet18": resnet18,
    "resnet34": resnet34,
    "resnet50": resnet50,
    "resnet10": partial(resnet_small, width=16),
    "resnet10-narrow": partial(resnet_small, width=8),
}
