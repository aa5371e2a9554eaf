"""What stages optimize: rollouts over whole clips, and what they run."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from lightning import Trainer
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from compiler.data.batches import ClipBatch
from compiler.training.tasks.policy_distillation import policy_outputs
from compiler.training.tasks.rollout import RolloutTask, roll_out_clips
from models.methods import arnet
from models.rollout.adaptive_model import AdaptiveModel
from models.rollout.sampling import argmax_sampler
from tests.models.small_arnet import BRANCHES, COSTS, SIZES, small_model, small_preset

MODEL = small_model()
DECIDE = argmax_sampler(COSTS)


def clip_batch(seed: int, clips: int = 3, steps: int = 6) -> ClipBatch:
    """Clips of smooth random colors; every second one is two steps shorter."""
    generator = torch.Generator().manual_seed(seed)
    lengths = torch.tensor([steps - 2 * (i % 2) for i in range(clips)])
    present = torch.arange(steps)[None] < lengths[:, None]
    colors = torch.randint(0, 256, (clips, steps, 3, 2, 2), generator=generator).float()
    views = {}
    for name, size in SIZES.items():
        pictures = nn.functional.interpolate(colors.flatten(0, 1), size).to(torch.uint8)
        frames = pictures.permute(0, 2, 3, 1).unflatten(0, (clips, steps))
        views[name] = frames * present[:, :, None, None, None]
    return {"views": views, "present": present, "label": torch.zeros(clips, dtype=torch.long)}


class FrameCount:
    """How many frames each branch sees while this is open."""

    def __init__(self, model: AdaptiveModel) -> None:
        self.frames = dict.fromkeys(model.branches, 0)
        self._hooks = [
            branch.register_forward_pre_hook(partial(self._count, name))
            for name, branch in model.branches.items()
        ]

    def _count(self, name: str, _: nn.Module, inputs: tuple[Tensor]) -> None:
        self.frames[name] += len(inputs[0])

    def __enter__(self) -> FrameCount:
        return self

    def __exit__(self, *_: object) -> None:
        for hook in self._hooks:
            hook.remove()


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 2**16))
def test_only_what_is_chosen_runs_and_the_answer_is_the_same(seed: int) -> None:
    batch = clip_batch(seed)
    with torch.no_grad():
        with FrameCount(MODEL) as all_run:
            full = roll_out_clips(MODEL, batch, DECIDE, only_chosen=False)
        with FrameCount(MODEL) as counted:
            chosen = roll_out_clips(MODEL, batch, DECIDE, only_chosen=True)
    assert torch.equal(full.choices, chosen.choices)
    torch.testing.assert_close(full.logits, chosen.logits, atol=1e-4, rtol=1e-4)
    assert all_run.frames == dict.fromkeys(BRANCHES, batch["present"].numel())
    for i, name in enumerate(BRANCHES):
        assert counted.frames[name] == int(full.choices[:, :, i].sum())


def test_gradients_of_the_chosen_frames_are_those_of_all() -> None:
    batch = clip_batch(1)
    gradients = []
    for only_chosen in (False, True):
        MODEL.zero_grad()
        roll_out_clips(MODEL, batch, DECIDE, only_chosen=only_chosen).logits.square().sum().backward()
        stems = [branch.get_submodule("conv1").weight for branch in MODEL.branches.values()]
        gradients.append([torch.zeros(()) if s.grad is None else s.grad.clone() for s in stems])
    assert any(gradient.any() for gradient in gradients[0])
    for one, other in zip(*gradients, strict=True):
        assert torch.allclose(one, other, atol=1e-4, rtol=1e-3)


def test_policy_outputs_are_causal() -> None:
    torch.manual_seed(0)
    images = torch.randn(2, 5, 3, 32, 32)
    with torch.no_grad():
        whole, beginning = (policy_outputs(MODEL.policy, [part]) for part in (images, images[:, :3]))
    for all_steps, first in zip((whole[0], *whole[1]), (beginning[0], *beginning[1]), strict=True):
        torch.testing.assert_close(all_steps[:, :3], first, atol=1e-4, rtol=1e-4)
        assert all_steps.shape[:2] == (2, 5)


def test_each_clip_has_its_price() -> None:
    """As if each were alone."""
    batch, model = clip_batch(3), small_model(5)
    prices = torch.tensor([0.0, 1.0, 10.0])
    with torch.no_grad():
        together = roll_out_clips(model, batch, DECIDE, only_chosen=True, price=prices)
        for clip, price in enumerate(prices):
            alone = {
                "views": {name: view[clip : clip + 1] for name, view in batch["views"].items()},
                "present": batch["present"][clip : clip + 1],
                "label": batch["label"][clip : clip + 1],
            }
            single = roll_out_clips(model, alone, DECIDE, only_chosen=True, price=price)  # type: ignore[arg-type]
            assert torch.equal(single.choices[0], together.choices[clip])
            assert torch.equal(together.price, prices)
    spent = (together.choices * COSTS).sum(dim=(1, 2))
    assert spent[2] < spent[1] < spent[0]


class Batches(Dataset[ClipBatch]):
    """The clips of one batch, one by one."""

    def __init__(self, batch: ClipBatch) -> None:
        self.batch = batch

    def __len__(self) -> int:
        return len(self.batch["label"])

    def __getitem__(self, item: int) -> ClipBatch:
        views = {name: frames[item] for name, frames in self.batch["views"].items()}
        return {"views": views, "present": self.batch["present"][item], "label": self.batch["label"][item]}


def fine_tuned(model: AdaptiveModel, precision: str = "32-true") -> None:
    """Two epochs of the branches on the frames that choose them."""
    preset = small_preset()
    assert preset.recipe.finetune is not None
    stage = replace(preset.recipe.finetune, epochs=2)
    loss = partial(arnet.loss, preset=preset)
    task = RolloutTask(model, loss, COSTS, stage, list(model.branches.values()), decided=True)
    trainer = Trainer(
        accelerator="cpu",
        max_epochs=2,
        logger=False,
        precision=precision,  # type: ignore[arg-type]
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(task, DataLoader(Batches(clip_batch(2, clips=4)), batch_size=2))


def state(model: nn.Module) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in model.state_dict().items()}


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_fine_tuning_changes_branches_and_nothing_else(precision: str) -> None:
    model = small_model()
    before = state(model)
    fine_tuned(model, precision)
    changed = {
        name.split(".")[0] for name, value in model.state_dict().items() if not value.equal(before[name])
    }
    assert changed == {"branches"}


def test_fine_tuning_where_no_branch_is_ever_chosen() -> None:
    """A policy that only ever takes its own head leaves nothing to train, and that is no error."""
    model = small_model()
    with torch.no_grad():
        model.policy.score.weight.zero_()
        model.policy.score.bias.copy_(torch.tensor([-9.0, -9, -9, 9, -9, -9, -9]))
    before = state(model.policy)
    fine_tuned(model)
    assert all(value.equal(before[name]) for name, value in model.policy.state_dict().items())
