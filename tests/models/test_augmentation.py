"""What augmentation changes, and what it leaves alone."""

from __future__ import annotations

import pytest
import torch

from models.augmentation import NO_AUGMENTATION, Augmentation


def changed(augmentation: Augmentation, count: int = 400) -> float:
    """Share of random images that come out otherwise."""
    torch.manual_seed(0)
    images = torch.rand(count, 3, 8, 8)
    return float((augmentation(images) != images).flatten(1).any(1).float().mean())


def test_none_leaves_images_as_they_are() -> None:
    assert changed(NO_AUGMENTATION) == 0


@pytest.mark.parametrize("share", [0.0, 0.25, 0.5, 1.0])
def test_a_share_of_the_images_is_changed(share: float) -> None:
    augmentation = Augmentation(smallest_crop=0.6, lighting=0.3, share=share)
    assert changed(augmentation) == pytest.approx(share, abs=0.08)


def test_a_crop_shows_part_of_the_image() -> None:
    torch.manual_seed(0)
    ramp = torch.linspace(0, 1, 32).expand(16, 3, 32, 32)
    cropped = Augmentation(smallest_crop=0.5)(ramp)
    spans = cropped.amax((1, 2, 3)) - cropped.amin((1, 2, 3))
    assert (spans >= 0.45).all() and (spans <= 1).all() and spans.min() < 0.9
