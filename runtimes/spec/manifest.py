"""The manifest of a bundle, whole."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, JsonValue, model_validator

from runtimes.spec.base import Name, Spec
from runtimes.spec.costs import CostTable
from runtimes.spec.graphs import Graph, Runtime, Store
from runtimes.spec.operating_points import OperatingFront
from runtimes.spec.variant import Fusion, Steps, Variant
from runtimes.spec.views import View

SCHEMA_VERSION = 5
OLDEST_SCHEMA = 3


class FileRecord(Spec):
    """Size and SHA-256 of one file of a bundle."""

    bytes: Annotated[int, Field(ge=0)]
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class Manifest(Spec):
    """Everything a bundle says of itself (``manifest.json``).

    ``target`` is the one that it is opened for unless another is asked for; ``targets`` are all that it has
    graphs for, over one set of trained weights. ``fronts``: the operating points of some of the variants.
    """

    schema_version: Literal[3, 4, 5] = 5
    model: str
    preset: str
    target: str
    labels: Annotated[tuple[str, ...], Field(min_length=2)]
    views: tuple[View, ...]
    steps: Steps
    fusion: Fusion
    graphs: tuple[Graph, ...]
    stores: tuple[Store, ...] = ()
    variants: Annotated[tuple[Variant, ...], Field(min_length=1)]
    default_variant: Name
    fronts: tuple[OperatingFront, ...] = ()
    cost_tables: tuple[CostTable, ...] = ()
    accuracy: dict[str, JsonValue] = {}
    provenance: dict[str, JsonValue] = {}
    files: dict[str, FileRecord]

    @model_validator(mode="after")
    def _names_resolve(self) -> Self:
        graphs = {graph.name for graph in self.graphs if graph.target == self.target}
        views = {view.name for view in self.views}
        every = {(graph.target, graph.name) for graph in self.graphs}
        if len(every) != len(self.graphs) or len(views) != len(self.views):
            raise ValueError("names of graphs or views repeat")
        if not {name for _, name in every} <= graphs:
            raise ValueError(f"some graphs are not among those of the target {self.target}")
        if self.default_variant not in {variant.name for variant in self.variants}:
            raise ValueError(f"default variant {self.default_variant} is not among the variants")
        for variant in self.variants:
            policy = variant.policy
            named = [(policy.graph, view) for view in policy.views] if policy else []
            named += [(o.graph, o.view) for o in variant.action_space.options if o.graph and o.view]
            for graph, view in named:
                if graph not in graphs or view not in views:
                    raise ValueError(f"variant {variant.name} names the unknown {graph} on {view}")
        if any(len({g.runtime for g in self.graphs if g.target == target}) > 1 for target in self.targets):
            raise ValueError("the graphs of one target have several runtimes")
        for entry in self.graphs:
            for file in (entry.file, *entry.weight_files):
                if file not in self.files:
                    raise ValueError(f"graph {entry.name}: {file} is not listed in files")
        return self

    @model_validator(mode="after")
    def _fronts_fit(self) -> Self:
        variants = {variant.name: variant for variant in self.variants}
        if len({front.variant for front in self.fronts}) != len(self.fronts):
            raise ValueError("a variant has several fronts")
        for front in self.fronts:
            if front.variant not in variants:
                raise ValueError(f"a front is of the unknown variant {front.variant}")
            variant = variants[front.variant]
            branches = {option.name for option in variant.action_space.options if option.graph}
            for point in (*front.points, front.dense):
                unknown = {name for look in point.looks for name in look.split("+")} - branches
                if unknown:
                    raise ValueError(f"point {point.name} looks at the unknown {min(unknown)}")
                if point.price is not None and variant.policy is None:
                    raise ValueError(f"point {point.name} is a policy's, and {variant.name} has none")
        return self

    def front(self, variant: str) -> OperatingFront | None:
        """The operating points of a variant, if it has any."""
        return next((front for front in self.fronts if front.variant == variant), None)

    @model_validator(mode="after")
    def _stores_fit(self) -> Self:
        names = [store.name for store in self.stores]
        if len(set(names)) != len(names):
            raise ValueError("names of stores repeat")
        for graph in self.graphs:
            if graph.store is not None and graph.store not in names:
                raise ValueError(f"graph {graph.name} names the unknown store {graph.store}")
        for store in self.stores:
            sizes = {
                store.high: sum(tensor.high_bytes for tensor in store.tensors),
                store.low: sum(tensor.low_bytes for tensor in store.tensors),
            }
            for file, size in sizes.items():
                if file not in self.files:
                    raise ValueError(f"store {store.name}: {file} is not listed in files")
                if self.files[file].bytes != size:
                    raise ValueError(f"store {store.name}: {file} must have {size} bytes for its tensors")
        return self

    @property
    def targets(self) -> tuple[str, ...]:
        """The targets that there are graphs for, the bundle's own first."""
        return tuple(dict.fromkeys((self.target, *(graph.target for graph in self.graphs))))

    def runtime(self, target: str | None = None) -> Runtime:
        """What runs the graphs of a target, of the bundle's own by default. Raises: KeyError."""
        runtimes = {graph.target: graph.runtime for graph in self.graphs}
        return runtimes[target or self.target]

    def graphs_of(self, target: str | None = None) -> tuple[Graph, ...]:
        """The graphs of a target, of the bundle's own by default."""
        return tuple(graph for graph in self.graphs if graph.target == (target or self.target))

    def variant(self, name: str | None = None) -> Variant:
        """The variant called ``name``, or the default one. Raises: KeyError if there is none."""
        wanted = name or self.default_variant
        return {variant.name: variant for variant in self.variants}[wanted]

    def view(self, name: str) -> View:
        """The view called ``name``. Raises: KeyError if there is none."""
        return {view.name: view for view in self.views}[name]

    def graph(self, name: str, target: str | None = None) -> Graph:
        """The graph called ``name`` of a target, of the bundle's own by default. Raises: KeyError."""
        return {graph.name: graph for graph in self.graphs_of(target)}[name]

    def files_of(self, graph: Graph) -> tuple[str, ...]:
        """Every file that ``graph`` is made of: its own, its weights', and the planes of its store."""
        own = (graph.file, *graph.weight_files)
        if graph.store is None or graph.bits is None:
            return own
        return (*own, *self.store(graph.store).planes(graph.bits))

    def shares_files(self, graph: Graph) -> bool:
        """Whether another graph of the same target is made of some of the same files: neither has its memory
        to itself.
        """
        others = (other for other in self.graphs_of(graph.target) if other.name != graph.name)
        return any(not set(self.files_of(graph)).isdisjoint(self.files_of(other)) for other in others)

    def store(self, name: str) -> Store:
        """The store called ``name``. Raises: KeyError if there is none."""
        return {store.name: store for store in self.stores}[name]
