"""Recipes: what is meant for pretrained weights, and other numbers of epochs."""

from __future__ import annotations

from models.methods import arnet
from models.recipe import Optimization, Recipe


def test_epochs_and_batch_reach_every_stage_that_trains() -> None:
    recipe = arnet.PRESETS["mobile"].recipe
    changed = recipe.scaled(3, 5)
    assert (changed.branches.epochs, changed.branches.batch) == (0, recipe.branches.batch)  # a probe alone
    for stage in (changed.joint, changed.refit, changed.qat, changed.scratch):
        assert stage is not None and (stage.epochs, stage.batch) == (3, 5)
    assert recipe.scaled(None, None) == recipe and changed.holdout == recipe.holdout


def test_which_recipes_expect_weights() -> None:
    assert arnet.PRESETS["mobile"].recipe.expects_weights
    assert not arnet.PRESETS["tiny"].recipe.expects_weights
    assert not Recipe(Optimization(epochs=1, lr=0.1, batch=2)).expects_weights
