"""Change of the picture: noise, exposure and what always moves are none; what appears is, slowly too."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from sdk.media.signals.block_luma import COLUMNS, ROWS
from sdk.media.signals.change import PictureChange

BLOCKS = ROWS * COLUMNS
SCENE = np.linspace(40, 200, BLOCKS).astype(np.float32)
CALLS = 6.0


def since_look(change: PictureChange, luma: NDArray[np.float32]) -> float:
    return change.measure(luma)[0]


def noisy(random: np.random.Generator, scene: NDArray[np.floating], sigma: float) -> NDArray[np.float32]:
    return (scene + random.normal(0, sigma, BLOCKS)).astype(np.float32)


def looked_at(change: PictureChange, random: np.random.Generator, sigma: float, steps: int = 100) -> None:
    """Let it see a scene for a while, and look at it."""
    for _ in range(steps):
        change.measure(noisy(random, SCENE, sigma))
    change.mark_look()


@pytest.mark.parametrize("sigma", [0.0, 0.1, 0.5, 2.0, 6.0])
def test_noise_is_no_change(sigma: float) -> None:
    random, change = np.random.default_rng(0), PictureChange()
    looked_at(change, random, sigma)
    found = [since_look(change, noisy(random, SCENE, sigma)) for _ in range(5000)]
    assert np.mean(np.array(found) >= CALLS) < 0.001


@pytest.mark.parametrize("sigma", [0.1, 0.5, 2.0])
def test_an_object_in_one_block_is(sigma: float) -> None:
    random, change = np.random.default_rng(1), PictureChange()
    looked_at(change, random, sigma)
    scene = SCENE.copy()
    scene[17] += 30
    assert since_look(change, noisy(random, scene, sigma)) >= CALLS
    change.mark_look()
    assert since_look(change, noisy(random, scene, sigma)) < CALLS, "it has been looked at"
    assert since_look(change, noisy(random, SCENE, sigma)) >= CALLS, "and is gone"


def test_what_comes_slowly_adds_up() -> None:
    """A twentieth of a level a step: no step's own difference says anything."""
    random, change = np.random.default_rng(2), PictureChange()
    looked_at(change, random, 0.5)
    scene, found = SCENE.copy(), []
    for _ in range(400):
        scene[3] += 0.05
        found.append(since_look(change, noisy(random, scene, 0.5)))
    assert max(found[:20]) < CALLS and found[-1] >= CALLS


@pytest.mark.parametrize("shift", [-30.0, 5.0, 40.0])
def test_exposure_is_no_change(shift: float) -> None:
    random, change = np.random.default_rng(3), PictureChange()
    looked_at(change, random, 0.5)
    found = [
        since_look(change, noisy(random, SCENE + shift * share, 0.5)) for share in np.linspace(0, 1, 100)
    ]
    assert max(found) < CALLS


def test_what_always_moves_becomes_its_noise() -> None:
    """A fan: one block that jumps by 30 levels. An object elsewhere is still seen."""
    random, change = np.random.default_rng(4), PictureChange()
    looked_at(change, random, 0.5)

    def with_fan() -> NDArray[np.float32]:
        scene = SCENE.copy()
        scene[40] += random.uniform(-30, 30)
        return noisy(random, scene, 0.5)

    found = []
    for _ in range(400):
        found.append(since_look(change, with_fan()))
        change.mark_look()
    assert max(found[:10]) >= CALLS and np.mean(np.array(found[200:]) >= CALLS) < 0.02
    seen = with_fan()
    seen[5] += 20
    assert since_look(change, seen) >= CALLS


def test_nothing_before_a_look_and_after_a_reset() -> None:
    change = PictureChange()
    assert change.measure(SCENE) == (0.0, 0.0) and since_look(change, SCENE[::-1]) == 0.0
    change.mark_look()
    assert since_look(change, SCENE) >= CALLS
    change.reset()
    assert change.measure(SCENE[::-1]) == (0.0, 0.0)


def test_motion_is_from_step_to_step() -> None:
    random, change = np.random.default_rng(5), PictureChange()
    looked_at(change, random, 0.5)
    scene = SCENE.copy()
    scene[9] += 30
    first, second = (change.measure(noisy(random, scene, 0.5)) for _ in range(2))
    assert min(*first) >= CALLS and second[0] >= CALLS > second[1], "it stays, and moves no more"
