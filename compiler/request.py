"""What is to be compiled, in typed parts, and the checks that fail before anything is computed."""

from __future__ import annotations

import os
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from compiler.bundle_plan import MIXABLE, PRECISIONS
from compiler.errors import CompileError
from compiler.measuring.graph_costs import read_costs
from compiler.targets import Target
from compiler.training.run import Hardware
from models.contract import Method
from models.layers.nested_layers import STORED
from models.methods.registry import METHODS
from sdk.power import Meter, open_meter

_TRAINED_APART = (PRECISIONS["fp32"], PRECISIONS["int8"])
"""The bits of methods whose precisions share no weights."""


@dataclass(frozen=True)
class DataRequest:
    """The clips.

    ``folder``: None is the built-in set. ``rate_hz``: steps a second, ``flip``: mirror training clips; None
    leaves them to the method.
    """

    folder: Path | None = None
    rate_hz: float | None = None
    flip: bool | None = None


@dataclass(frozen=True)
class ModelRequest:
    """The method by its ``name``, and its preset.

    ``init``: weights to start from; None starts from random ones. ``modalities``: those that the model
    chooses among; None leaves them to its preset.
    """

    name: str
    preset: str
    init: Path | None = None
    modalities: tuple[str, ...] | None = None

    @property
    def method(self) -> Method[Any]:
        """What the method declares. Raises: KeyError if it is unknown; see ``check_model``."""
        return METHODS[self.name]

    @property
    def declared_preset(self) -> Any:
        """The preset as the method declares it. Raises: KeyError."""
        return self.method.presets[self.preset]

    @property
    def chosen_modalities(self) -> tuple[str, ...]:
        """What the model chooses among; empty for one that sees pictures alone."""
        choice = self.method.modalities
        return self.modalities or (choice.default(self.declared_preset) if choice is not None else ())


@dataclass(frozen=True)
class PrecisionRequest:
    """``names``: the precisions that one policy (or the app) chooses among; None leaves it to the method.

    ``keep_all``: also those that cost no less than a more accurate one. ``modeled_costs``: the policy's
    loss counts modeled BitOps, relative to int8 (``compiler.quantization.pareto.modeled_cost``).
    """

    names: tuple[str, ...] | None = None
    keep_all: bool = False
    modeled_costs: bool = False


@dataclass(frozen=True)
class TrainingRequest:
    """How training runs: ``runs`` is where results are kept, ``resume`` continues an interrupted stage.

    ``epochs``, ``batch``: of every stage, ``folds``: that operating points are judged by, in place of the
    preset's own. With one fold a share of the clips is held out for good; with 0 there are no points.
    """

    seed: int = 0
    epochs: int | None = None
    batch: int | None = None
    folds: int | None = None
    runs: Path | None = None
    resume: bool = False
    hardware: Hardware = field(default_factory=Hardware)


@dataclass(frozen=True)
class MeasuringRequest:
    """``costs``: the device's own cost table, in place of what is measured here.

    ``meter``: what measures the energy of each graph (see ``sdk.power.open_meter``); None measures none.
    """

    costs: Path | None = None
    meter: str | None = None

    def open_meter(self) -> AbstractContextManager[Meter | None]:
        """The meter, if one is asked for. Raises: MeterError."""
        return nullcontext() if self.meter is None else open_meter(self.meter)


@dataclass(frozen=True)
class Request:
    """What is to be compiled, for which ``targets`` (the bundle's own first), to which bundle (``out``)."""

    model: ModelRequest
    targets: tuple[Target, ...]
    out: Path
    data: DataRequest = DataRequest()
    precision: PrecisionRequest = PrecisionRequest()
    training: TrainingRequest = field(default_factory=TrainingRequest)
    measuring: MeasuringRequest = MeasuringRequest()

    @property
    def target(self) -> Target:
        """The bundle's own: its int8 form, precisions and costs are what the policy is trained for."""
        return self.targets[0]

    @property
    def precisions(self) -> tuple[str, ...] | None:
        """The precisions that one variant chooses among; None for a variant each."""
        method, known = self.model.method, self.target.precisions
        if self.precision.names is not None or not method.chooses_precisions:
            return self.precision.names
        widths = method.widths(self.model.declared_preset) or _TRAINED_APART
        return tuple(
            name
            for name, bits in PRECISIONS.items()
            if bits in widths and (name in known or (bits <= STORED and "int8" in known))
        )


def check_model(model: ModelRequest) -> None:
    """Raises: CompileError that lists the known methods or presets, or names what modalities cannot be."""
    if model.name not in METHODS:
        raise CompileError(f"model {model.name}", "is unknown", f"use one of {', '.join(METHODS)}")
    presets = model.method.presets
    if model.preset not in presets:
        fix = f"use one of {', '.join(presets)}"
        raise CompileError(f"preset {model.preset}", f"is unknown to {model.name}", fix)
    if model.modalities is not None:
        _check_modalities(model, model.modalities)


def _check_modalities(model: ModelRequest, names: tuple[str, ...]) -> None:
    given, choice = f"modalities {','.join(names) or 'none'}", model.method.modalities
    if choice is None:
        able = [name for name, method in METHODS.items() if method.modalities is not None]
        fix = f"leave --modalities out, or use {' or '.join(able)}"
        raise CompileError(given, f"{model.name} sees pictures alone", fix)
    known = choice.known(model.declared_preset)
    if not names or len(set(names)) != len(names) or not set(names) <= set(known):
        reason = "name one twice" if len(set(names)) != len(names) else "are not what the model knows"
        raise CompileError(given, reason, f"give some of {', '.join(known)}, each once")


def check_runs_folder(training: TrainingRequest) -> None:
    """Raises: CompileError if training results cannot be kept where they are to be."""
    folder, fix = training.runs, "name a folder that can be written to"
    if folder is None:
        return
    if folder.exists() and not folder.is_dir():
        raise CompileError(f"--runs {folder}", "is a file", fix)
    parent = next(above for above in (folder, *folder.absolute().parents) if above.exists())
    if not parent.is_dir() or not os.access(parent, os.W_OK):
        raise CompileError(f"--runs {folder}", f"cannot be made: {parent} is not a writable folder", fix)


def check_precisions(request: Request) -> None:
    """Raises: CompileError if what is asked of precisions is unknown, not to be had, or without effect."""
    names, model, precision = request.precisions, request.model, request.precision
    costs = request.measuring.costs
    if costs is not None:
        read_costs(costs, ())
    if precision.modeled_costs and not model.method.has_policy(model.declared_preset):
        reason = "has no policy to train on costs"
        raise CompileError(f"model {model.name}", reason, "leave --modeled-costs out")
    if names is None:
        if precision.keep_all or precision.modeled_costs or costs:
            reason = f"has a variant per precision of {model.name}, so nothing is chosen by its cost"
            raise CompileError("the bundle", reason, "give --precisions, or leave out what is about them")
        return
    if not names or len(set(names)) != len(names) or not set(names) <= set(MIXABLE):
        fix = f"give some of {', '.join(MIXABLE)}, each once"
        raise CompileError(f"precisions {','.join(names) or 'none'}", "are not bit-widths", fix)
    if set(names) - {"fp32"} and "int8" not in request.target.precisions:
        has = ", ".join(request.target.precisions)
        raise CompileError(f"target {request.target.name}", f"has no integer path, only {has}", "use another")
    lower = sorted(set(names) - {"fp32", "int8"})
    if lower and model.method.widths(model.declared_preset) is None:
        reason = f"of {model.name} are trained apart, and {', '.join(lower)} only with a shared store"
        fix = f"use fp32,int8, or --model {' or '.join(_with_a_shared_store(model.preset))}"
        raise CompileError("precisions", reason, fix)


def _with_a_shared_store(preset: str) -> list[str]:
    """The methods whose preset of that name has one weight set for all bit-widths."""
    return [
        name
        for name, method in METHODS.items()
        if preset in method.presets and method.widths(method.presets[preset]) is not None
    ]
