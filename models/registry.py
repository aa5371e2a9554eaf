"""Backbones by the name that presets give them."""

from __future__ import annotations

from collections.abc import Callable

from models.backbones.blocks import Backbone
from models.backbones.mobilenetv2 import MobileNetV2
from models.backbones.resnet import resnet18, resnet34, resnet50, resnet_small

BACKBONES: dict[str, Callable[[int], Backbone]] = {
    "mobilenetv2": MobileNetV2,
    "resnet18": resnet18,
    "resnet34": resnet34,
    "resnet50": resnet50,
    "resnet10": lambda classes: resnet_small(classes, 16),
}
