"""CoQuant's training: which teacher, which blocks, and that all widths learn."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn

from models.backbones.registry import BACKBONES
from models.layers.nested_layers import WIDTHS, Switchable, set_width
from models.layers.nesting import nest
from models.methods import coquant
from models.methods.coquant import Transfer, blocks, choose_teacher, keep_probability


@pytest.mark.parametrize(("rule", "teacher"), [("adaptive", 8), ("highest", 32), ("next", 4), ("none", None)])
def test_teachers(rule: coquant.Teacher, teacher: int | None) -> None:
    losses = {32: 0.5, 8: 0.3, 4: 0.4}
    assert choose_teacher(losses, rule) == teacher
    assert choose_teacher({}, rule) is None


def test_equally_good_teachers_the_higher_teaches() -> None:
    assert choose_teacher({32: 0.5, 8: 0.5}, "adaptive") == 32


def test_blocks_stay_ever_more_often_the_students() -> None:
    along = [keep_probability(epoch / 100) for epoch in range(101)]
    assert along == sorted(along)
    assert along[0] == along[20] == pytest.approx(0.1)
    assert along[55] == pytest.approx(0.55)
    assert along[90] == along[100] == pytest.approx(1.0)


class Watched(nn.Module):
    """Notes the width of every block each time it is asked."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.network = nest(BACKBONES["resnet10"](3), WIDTHS)
        self.seen: list[list[int]] = []

    def answer(self) -> torch.Tensor:
        blocks_of = blocks(self.network)
        self.seen.append([next(m.width for m in b.modules() if isinstance(m, Switchable)) for b in blocks_of])
        return self.network(torch.zeros(2, 3, 64, 64))


@pytest.mark.parametrize(("progress", "swapped"), [(0.0, True), (1.0, False)])
def test_blocks_are_swapped_for_the_teachers(progress: float, swapped: bool) -> None:
    watched = Watched()
    transfer = Transfer("next", swap_blocks=True)
    targets = torch.tensor([0, 1])
    for _ in range(4):
        coquant.loss(watched.network, watched.answer, targets, WIDTHS, transfer=transfer, progress=progress)
    for width, higher in ((8, 32), (4, 8), (2, 4)):
        seen = {w for widths in watched.seen[WIDTHS.index(width) :: len(WIDTHS)] for w in widths}
        assert seen <= {width, higher}
        assert (higher in seen) == swapped
    assert all(w == 32 for widths in watched.seen[:: len(WIDTHS)] for w in widths)


def test_every_width_gets_a_gradient() -> None:
    watched = Watched()
    total, logits = coquant.loss(
        watched.network,
        watched.answer,
        torch.tensor([0, 1]),
        WIDTHS,
        transfer=Transfer(swap_blocks=False),
        progress=0.5,
    )
    total.backward()  # type: ignore[no-untyped-call]
    assert logits.shape == (2, 3)
    learned = {
        name.split(".norms.")[1][0]
        for name, p in watched.network.named_parameters()
        if ".norms." in name and p.grad is not None
    }
    assert learned == {"3", "8", "4", "2"}


def test_presets_have_a_stage_for_all_widths() -> None:
    for preset in coquant.PRESETS.values():
        assert preset.recipe.multibit is not None and preset.recipe.joint is None
    small = replace(coquant.PRESETS["tiny"], size=64)
    model = coquant.METHOD.build(small, ("a", "b", "c"))
    assert [option.name for option in model.space.options] == ["rgb64"]
    set_width(model, 8)  # nothing to switch yet
    assert model.branch_logits("rgb64", torch.zeros(1, 64, 64, 3, dtype=torch.uint8)).shape == (1, 3)
