"""What a method's training plan and a request must be like, checked before anything is trained."""

from __future__ import annotations

from collections.abc import Sequence

from compiler.errors import CompileError
from compiler.targets import Target
from compiler.training.stages import run_stage
from models.training_plan import TrainingPlan, TrainIntegers, TrainPolicy, TrainStage, TrainWidths

_BY_CLASS = (TrainWidths, TrainIntegers)
"""Kinds that leave no float networks: they are looked up by class where precisions are made."""
HIGHEST_SEED = 2**32 - 1
"""What every generator of random numbers takes."""


def check_seed(seed: int) -> None:
    """Raises: CompileError for a seed that some generator does not take."""
    if not 0 <= seed <= HIGHEST_SEED:
        raise CompileError(f"seed {seed}", "is out of range", f"use 0 to {HIGHEST_SEED}")


def check_plan(method: str, plan: TrainingPlan, target: Target, precisions: Sequence[str] | None) -> None:
    """``precisions``: those that one variant chooses among; None for a variant each.

    Raises: CompileError if a stage would not be run, not in its place, or one that is needed is not declared.
    """
    _check_runners(method, plan.stages)
    _check_order(method, [type(stage) for stage in plan.stages])
    if precisions is None and plan.find(TrainPolicy) is None:
        raise _wrong(method, "declares no TrainPolicy", "declare one, or chooses_precisions")
    if plan.find(TrainIntegers) is None and _makes_integers(plan, target, precisions):
        reason = f"declares no TrainIntegers, and target {target.name} has int8 networks"
        raise _wrong(method, reason, "declare it last, with epochs and rates in the recipe's qat")


def _check_runners(method: str, stages: Sequence[TrainStage]) -> None:
    nothing = run_stage.dispatch(TrainStage)
    for stage in stages:
        runs = run_stage.dispatch(type(stage)) is not nothing if stage.precision == "float" else False
        if not runs and not isinstance(stage, _BY_CLASS):
            reason = f"declares {type(stage).__name__}, a kind of stage that nothing runs"
            raise _wrong(method, reason, "register a runner for it in compiler/training/stages.py")


def _check_order(method: str, kinds: Sequence[type[TrainStage]]) -> None:
    twice = next((kind for kind in kinds if kinds.count(kind) > 1), None)
    if twice is not None:
        raise _wrong(method, f"declares {twice.__name__} twice", "declare it once")
    after_policy = kinds[kinds.index(TrainPolicy) :] if TrainPolicy in kinds else []
    if TrainWidths in after_policy:
        reason = "declares TrainWidths after TrainPolicy, whose options are the networks that it makes"
        raise _wrong(method, reason, "declare it before")
    if TrainIntegers in kinds[:-1]:
        reason = "declares a stage after TrainIntegers, which quantizes networks as they are in the end"
        raise _wrong(method, reason, "declare TrainIntegers last")


def _makes_integers(plan: TrainingPlan, target: Target, precisions: Sequence[str] | None) -> bool:
    """Whether some int8 network comes from no stage of all bit-widths."""
    if precisions is None:
        return "int8" in target.precisions
    policy = plan.find(TrainPolicy) is not None and target.precisions[0] == "int8"
    return policy or plan.find(TrainWidths) is None


def _wrong(method: str, reason: str, fix: str) -> CompileError:
    return CompileError(f"model {method}", reason, fix)
