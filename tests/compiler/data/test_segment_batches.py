"""Batches of segments: mirrored as their modality asks, and with what is there of each group."""

from __future__ import annotations

import pytest
import torch

from compiler.data.batches import ClipSteps, DrawnViews, availability, mirrored
from runtimes.spec import View
from tests.compiler.small_clips import ArrayCache
from tests.models.small_adamml import small_model

MODEL = small_model()
CACHE = ArrayCache(MODEL)


@pytest.mark.parametrize("modality", ["rgb", "rgbdiff", "flow", "audio"])
def test_mirrored(modality: str) -> None:
    view = View.model_validate({"name": "v", "modality": modality, "size": 8, "frames": 2})
    frames = torch.randint(0, 256, (3, *view.shape), dtype=torch.uint8)
    flipped = mirrored(frames, view)
    assert torch.equal(mirrored(flipped, view), frames)
    if modality == "audio":
        assert torch.equal(flipped, frames)
    elif modality == "flow":
        assert torch.equal(flipped[..., 0], 255 - frames.flip(-2)[..., 0])  # across: the other way
        assert torch.equal(flipped[..., 1], frames.flip(-2)[..., 1])
    else:
        assert torch.equal(flipped, frames.flip(3))


def test_what_is_there_of_each_group() -> None:
    there = availability(CACHE, 0, MODEL.branch_views)  # type: ignore[arg-type]
    assert there.shape == (5, 3) and there[:, 0].all() and there[:, 2].all()
    assert there[:, 1].tolist() == [True, False, True, False, True]
    assert availability(CACHE, 1, MODEL.branch_views).all()  # type: ignore[arg-type]


def test_clips_are_padded_with_what_is_there() -> None:
    item = ClipSteps(CACHE, [3], MODEL.views, flip=False, groups=MODEL.may_lack)[0]  # type: ignore[arg-type]
    assert item["present"].tolist() == [True] * 4 + [False]
    assert item["available"].tolist()[3] == [True, False, True] and not item["available"][4].any()
    assert {name: tuple(v.shape) for name, v in item["views"].items()} == {
        name: (5, *view.shape) for name, view in MODEL.views.items()
    }


def test_drawn_steps_are_the_same_at_every_view() -> None:
    views = MODEL.views_of("policy")
    drawn = DrawnViews(CACHE, [0, 1], views, MODEL.branch_views, 0, train=False, flip=False)  # type: ignore[arg-type]
    item = drawn[0]
    assert [tuple(frames.shape) for frames in item["views"]] == [(5, *view.shape) for view in views]
    assert item["available"][:, 1].tolist() == [True, False, True, False, True]
    assert not item["views"][1][1].any() and item["views"][1][2].any()
