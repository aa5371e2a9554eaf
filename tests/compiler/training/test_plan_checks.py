"""Plans that cannot be carried out, and seeds that no generator takes, are refused before any training."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from compiler.bundle_plan import PRECISIONS
from compiler.cli.compile import compile_model
from compiler.errors import CompileError
from compiler.targets import TARGETS
from compiler.training.plan_checks import HIGHEST_SEED, check_plan, check_seed
from models.contract import Method
from models.methods import arnet
from models.methods.registry import METHODS
from models.training_plan import TrainingPlan, TrainIntegers, TrainPolicy, TrainStage, TrainWidths

CPU = TARGETS["cpu"]


@dataclass(frozen=True)
class Unheard(TrainStage):
    """A kind that nothing runs."""

    trains = "nothing"
    clips = "all"


def plan(name: str) -> TrainingPlan:
    return METHODS[name].plan(METHODS[name].presets["tiny"])


def without(kind: type[TrainStage], given: TrainingPlan) -> TrainingPlan:
    return replace(given, stages=tuple(stage for stage in given.stages if not isinstance(stage, kind)))


@pytest.mark.parametrize("target", TARGETS.values(), ids=lambda target: target.name)
@pytest.mark.parametrize("method", METHODS.values(), ids=lambda method: method.name)
def test_every_declared_plan_can_be_carried_out(method: Method[Any], target: Any) -> None:
    for preset in method.presets.values():
        names = tuple(PRECISIONS) if method.widths(preset) else ("fp32", "int8")
        check_plan(method.name, method.plan(preset), target, names)
        if not method.chooses_precisions:
            check_plan(method.name, method.plan(preset), target, None)


@pytest.mark.parametrize(
    ("given", "precisions", "complaint"),
    [
        (without(TrainIntegers, plan("arnet")), None, "no TrainIntegers, and target cpu has int8 networks"),
        (without(TrainIntegers, plan("arnet")), ("fp32", "int8"), "no TrainIntegers"),
        (without(TrainIntegers, plan("videoiq")), ("int8", "int4"), "no TrainIntegers"),
        (without(TrainPolicy, plan("arnet")), None, "no TrainPolicy"),
        (
            replace(plan("arnet"), stages=(*plan("arnet").stages, plan("arnet").stages[-1])),
            None,
            "TrainIntegers twice",
        ),
        (
            replace(plan("arnet"), stages=plan("arnet").stages[::-1]),
            None,
            "a stage after TrainIntegers",
        ),
        (
            replace(
                plan("videoiq"),
                stages=(
                    *without(TrainWidths, plan("videoiq")).stages[:-1],
                    plan("videoiq").require(TrainWidths),
                    plan("videoiq").stages[-1],
                ),
            ),
            ("int8", "int4"),
            "TrainWidths after TrainPolicy",
        ),
        (
            replace(
                plan("arnet"), stages=(Unheard(plan("arnet").stages[0].optimization), *plan("arnet").stages)
            ),
            None,
            "Unheard, a kind of stage that nothing runs",
        ),
    ],
)
def test_plans_that_cannot(given: TrainingPlan, precisions: tuple[str, ...] | None, complaint: str) -> None:
    with pytest.raises(CompileError, match=f"model own: declares {complaint}"):
        check_plan("own", given, CPU, precisions)


def test_all_widths_of_one_weight_set_need_no_integers() -> None:
    check_plan("own", without(TrainIntegers, plan("coquant")), CPU, ("fp32", "int8", "int4"))


def test_a_dry_run_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    preset = arnet.PRESETS["tiny"]
    bare = replace(preset, recipe=replace(preset.recipe, qat=None))
    monkeypatch.setitem(arnet.PRESETS, "tiny", bare)
    with pytest.raises(CompileError, match="model arnet: declares no TrainIntegers, and target cpu"):
        compile_model("arnet", "cpu", out=tmp_path / "x.bundle", dry_run=True)


@pytest.mark.parametrize("seed", [-1, HIGHEST_SEED + 1, 99999999999999999999999])
def test_seeds_that_are_out_of_range(seed: int, tmp_path: Path) -> None:
    with pytest.raises(CompileError, match=f"seed {seed}: is out of range; use 0 to 4294967295"):
        check_seed(seed)
    for dry_run in (True, False):
        with pytest.raises(CompileError, match="is out of range"):
            compile_model("arnet", "cpu", out=tmp_path / "x.bundle", seed=seed, dry_run=dry_run)


def test_the_highest_seed(tmp_path: Path) -> None:
    assert compile_model("arnet", "cpu", out=tmp_path / "x.bundle", seed=HIGHEST_SEED, dry_run=True) == 0
