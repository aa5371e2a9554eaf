"""What the options of a policy cost on the target: measured here, read from its own table, or declared."""

from __future__ import annotations

from dataclasses import dataclass

from compiler.bundle_plan import BundlePlan
from compiler.console import Console
from compiler.draft import draft_bundle
from compiler.measuring.graph_costs import declared_costs, kept_costs, read_costs
from compiler.measuring.profile import measure
from compiler.request import MeasuringRequest
from compiler.targets import Target
from compiler.training.training import Training
from runtimes.device import device_name
from runtimes.engines.engine import open_engine
from runtimes.spec import CostTable


@dataclass(frozen=True)
class OptionCosts:
    """A ``CostMeasurer`` for a target, which keeps what it measured beside the training's results."""

    measuring: MeasuringRequest
    target: Target
    preset: str
    training: Training
    console: Console

    def __call__(self, plan: BundlePlan) -> CostTable:
        """The costs of every graph of a plan. Raises: CompileError, MeterError."""
        target, measuring = self.target, self.measuring
        graphs = [network.graph for variant in plan.variants for network in variant.networks]
        if measuring.costs is not None:
            return read_costs(measuring.costs, graphs)
        if not target.fuses_here:
            speeds = ", ".join(f"{name} x{speed:g}" for name, speed in target.speeds.items())
            self.console.note(f"costs of {target.name} are declared, not measured ({speeds}); see --costs")
            return declared_costs(plan, target)

        def measured() -> CostTable:
            self.console.note("measuring every precision")
            return self._measure(plan)

        with measuring.open_meter() as meter:
            source = None if meter is None else meter.source
        path = self.training.run.folder / f"costs-{target.name}.json"
        return kept_costs(path, graphs, device_name(), measured, source)

    def _measure(self, plan: BundlePlan) -> CostTable:
        cache = self.training.cache
        with (
            draft_bundle(self.training, self.preset, self.target, plan) as bundle,
            open_engine(bundle, "cpu") as engine,
            self.measuring.open_meter() as meter,
        ):
            return measure(bundle, engine, cache, cache.split("train"), meter)
