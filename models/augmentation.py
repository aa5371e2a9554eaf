"""Random crops and lighting for training, on what a network sees."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from runtimes.spec import View


@dataclass(frozen=True)
class Augmentation:
    """Each image cropped at random and resized back, and brightened or darkened.

    ``smallest_crop``: the least share of the side that a crop keeps, 1 for none. ``lighting``: the largest
    change of contrast (a factor) and of brightness (in units of the normalized pixels). ``share``: of the
    images, how many are changed on average: a crop shows things larger than they will be, so that some
    should stay whole (arXiv 1906.06423).
    """

    smallest_crop: float = 1.0
    lighting: float = 0.0
    share: float = 1.0

    def __call__(self, images: Tensor) -> Tensor:
        """Images (N, 3, H, W), each changed on its own."""
        if self.share == 1:
            return self._changed(images)
        kept = torch.rand(len(images), 1, 1, 1, device=images.device) >= self.share
        return torch.where(kept, images, self._changed(images))

    def of_view(self, images: Tensor, view: View) -> Tensor:
        """Images (N * frames, C, H, W) of a view, those of a segment alike; not sound and flow."""
        if view.modality in ("audio", "flow"):
            return images
        if view.frames == 1 and view.stack == 1:
            return self(images)
        together = images.reshape(-1, view.frames * view.channels, *images.shape[2:])
        return self(together).reshape(images.shape)

    def _changed(self, images: Tensor) -> Tensor:
        count, device = len(images), images.device
        if self.smallest_crop < 1:
            scale = torch.empty(count, 1, device=device).uniform_(self.smallest_crop, 1)
            theta = torch.zeros(count, 2, 3, device=device)
            theta[:, 0, 0] = theta[:, 1, 1] = scale[:, 0]
            theta[:, :, 2] = (torch.rand(count, 2, device=device) * 2 - 1) * (1 - scale)
            grid = functional.affine_grid(theta, list(images.shape), align_corners=False)
            images = functional.grid_sample(images, grid, align_corners=False, padding_mode="border")
        if self.lighting > 0:
            change = (torch.rand(count, 2, 1, 1, 1, device=device) * 2 - 1) * self.lighting
            images = images * (1 + change[:, 0]) + change[:, 1]
        return images


NO_AUGMENTATION = Augmentation()
"""Leaves images as they are."""
