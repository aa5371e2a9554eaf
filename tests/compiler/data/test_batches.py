"""What is drawn from clips for training: never more of a clip than there is."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from compiler.data.batches import DrawnFrames
from runtimes.spec import View

VIEW = View(name="rgb8", size=8)


def cache(*steps: int) -> Any:
    """Clips of so many steps; every pixel of a step is its number."""
    frames = [
        np.arange(n, dtype=np.uint8)[:, None, None, None] * np.ones((1, 8, 8, 3), np.uint8) for n in steps
    ]
    return SimpleNamespace(
        steps=lambda clip: steps[clip],
        frames=lambda clip, view: frames[clip],
        target=lambda clip: clip,
        clip_steps=16,
    )


def drawn(steps: tuple[int, ...], count: int, *, train: bool = False) -> list[list[int]]:
    dataset = DrawnFrames(cache(*steps), range(len(steps)), VIEW, count, train=train, flip=False)
    return [dataset[i][0][:, 0, 0, 0].tolist() for i in range(len(dataset))]


def test_an_image_is_drawn_once() -> None:
    assert drawn((1, 1), 4) == drawn((1, 1), 0) == [[0], [0]]


def test_evaluation_takes_the_middle_of_equal_segments() -> None:
    assert drawn((16, 8), 4) == [[2, 6, 10, 14], [1, 3, 5, 7]]


def test_every_step_repeats_the_last_of_a_short_clip() -> None:
    assert drawn((4, 2), 0) == [[0, 1, 2, 3], [0, 1, 1, 1]]


@pytest.mark.parametrize("count", [1, 3, 5])
def test_training_draws_one_of_each_segment(count: int) -> None:
    for _ in range(20):
        (positions,) = drawn((10,), count, train=True)
        assert len(positions) == count
        for segment, position in enumerate(positions):
            assert segment * 10 // count <= position < (segment + 1) * 10 / count
