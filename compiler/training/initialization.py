"""Weights to start from, loaded into every network of a model that they fit."""

from __future__ import annotations

from pathlib import Path

from compiler.console import Console
from models.backbones.weights import WeightsError, load_weights
from models.rollout.branch_model import BranchModel


def load_initial_weights(model: BranchModel, path: Path, console: Console) -> None:
    """Load the weights into every backbone of their architecture; others are named.

    Raises: WeightsError if they fit none.
    """
    fitted: list[str] = []
    errors: dict[str, WeightsError] = {}
    for name, backbone in model.backbones().items():
        try:
            report = load_weights(backbone, path, model.view_of(name))
        except WeightsError as error:
            errors[name] = error
            continue
        fitted.append(name)
        unfit = ", ".join(report.unfit) or "none"
        missing = ", ".join(report.missing) or "none"
        console.note(
            f"{name}: {len(report.loaded)} tensors of {path.name}; unfit: {unfit}; left random: {missing}"
        )
        if report.adapted is not None:
            console.note(f"{name}: {report.adapted}")
    if not fitted:
        raise next(iter(errors.values()))
    for name, misfit in errors.items():
        console.note(f"{name}: starts from random weights ({misfit.reason})")
