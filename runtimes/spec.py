"""The plain data that models, compiler, runtimes and SDK share: what a manifest is made of.

Every type is a frozen pydantic model, validated when it is built and when a manifest is read.
No torch, no numpy: a manifest can be read anywhere.
"""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, JsonValue, model_validator

SCHEMA_VERSION = 3

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.\-]*$", max_length=80)]

Bits = Literal[8, 4, 2]
"""Bits of a weight's code."""


class Spec(BaseModel):
    """Base: immutable, and unknown fields are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid")


Modality = Literal["rgb", "rgbdiff", "flow", "audio"]
"""What a view is made from: pictures, their differences, their optical flow, or sound."""

_CHANNELS = {"rgb": 3, "rgbdiff": 3, "flow": 2, "audio": 1}


class View(Spec):
    """One rendition of the stream at a step, as uint8 of ``shape``.

    * ``rgb``: upright pictures, their short side resized to ``size`` by swscale, the centre cropped to
      ``size`` x ``size``; ``frames`` of them, evenly spaced over the step's segment, the last one the step's.
    * ``rgbdiff``: at each of ``frames`` pictures the ``stack`` differences of consecutive pictures that end
      there, ``(later - earlier + 255) / 2``, their channels side by side.
    * ``flow``: likewise ``stack`` optical flows of consecutive pictures, horizontal and vertical, at ``size``
      px: 20 px and more either way are 0 and 255.
    * ``audio``: the log-power spectrogram of the segment's sound, mono at ``sample_rate``: ``size`` bins
      (rows, low frequencies first) of ``size`` windows.

    Graphs take a view as it is and compute ``(value - zero_point) * scale`` themselves.
    """

    name: Name
    modality: Modality = "rgb"
    size: Annotated[int, Field(ge=8, le=1024)]
    frames: Annotated[int, Field(ge=1, le=64)] = 1
    stack: Annotated[int, Field(ge=1, le=16)] = 1
    sample_rate: Annotated[int, Field(ge=4000, le=192_000)] = 24_000
    resize: Literal["area", "bilinear", "fast_bilinear"] = "area"
    zero_point: Annotated[int, Field(ge=0, le=255)] = 128
    scale: Annotated[float, Field(gt=0)] = 1 / 64

    @property
    def channels(self) -> int:
        """Values of one pixel."""
        return _CHANNELS[self.modality] * self.stack

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """What one step renders to: (frames, size, size, channels)."""
        return (self.frames, self.size, self.size, self.channels)


class Option(Spec):
    """One thing that may be chosen at a step: a branch, the policy's own head, or a skip.

    * branch: ``graph`` is run on ``view``;
    * policy head: ``graph`` is the policy's own graph, whose ``logits`` this step already has;
    * skip: ``skip`` = k > 0, no output at this step, and neither policy nor branch at the k - 1 after it.
    """

    name: Name
    graph: Name | None = None
    view: Name | None = None
    precision: str | None = None
    skip: Annotated[int, Field(ge=0, le=64)] = 0

    @model_validator(mode="after")
    def _branch_or_skip(self) -> Self:
        if (self.skip > 0) == (self.graph is not None):
            raise ValueError(f"option {self.name}: give either a graph or a skip")
        if self.graph is not None and (self.view is None or self.precision is None):
            raise ValueError(f"option {self.name}: a branch needs a view and a precision")
        return self


class Group(Spec):
    """Options of which exactly one is chosen at a step.

    ``optional``: the model has learnt to do without what the group's views are made of.
    """

    name: Name
    options: Annotated[tuple[Option, ...], Field(min_length=1)]
    optional: bool = False

    @model_validator(mode="after")
    def _unique_and_not_all_skips(self) -> Self:
        names = [option.name for option in self.options]
        if len(set(names)) != len(names):
            raise ValueError(f"group {self.name}: option names repeat")
        if all(option.skip for option in self.options):
            raise ValueError(f"group {self.name}: every option is a skip")
        return self


class ActionSpace(Spec):
    """The groups of a model; the policy's scores run over all options, group after group."""

    groups: Annotated[tuple[Group, ...], Field(min_length=1)]

    @property
    def options(self) -> tuple[Option, ...]:
        """All options in the order of the policy's scores."""
        return tuple(option for group in self.groups for option in group.options)

    @property
    def saved_runs(self) -> tuple[float, ...]:
        """For each option, how many runs of the policy it saves: a skip of k the k - 1 of the steps it holds.

        Of several groups all must skip for that: each has its share.
        """
        return tuple(max(option.skip - 1, 0) / len(self.groups) for option in self.options)


PRESENT = "present"
"""The input by which a policy over several groups is told which of them there are."""
PRICE = "price"
"""The input by which a policy is told the price."""
ANSWER = "answer"
"""The input by which a policy that recalls it is told the stream's answer so far."""
LOGITS = "logits"
"""The output of branches, and of a policy with one head."""


class Policy(Spec):
    """The graph that sees the cheap views and its own state, and scores every option.

    Inputs: its view as ``frame``, or several views by their names; each state by name, zeros at the start of
    a stream; ``present`` float (1, groups) if there are several groups, 0 for one whose views are absent;
    ``price`` float (1, 1); ``answer`` float (1, classes) if it recalls the stream's answer: its scores after
    the step before, zeros while there is none.
    Outputs: ``scores`` (1, number of options), ``next_<state>`` for each state, and for each group of
    ``heads`` (by name) the output of that name, ``logits`` (1, classes) of the policy's own.
    """

    graph: Name
    views: Annotated[tuple[Name, ...], Field(min_length=1)]
    state: dict[Name, tuple[int, ...]]
    heads: dict[Name, Name] = {}

    @property
    def inputs(self) -> dict[str, str]:
        """The graph's input for each view."""
        return {view: "frame" if len(self.views) == 1 else view for view in self.views}


class PriceResponse(Spec):
    """How a policy's scores change with the price that it is told, on average over clips.

    ``scores``: for each of the rising ``prices`` each option's mean score, less that at the first price.
    """

    prices: tuple[Annotated[float, Field(ge=0)], ...]
    scores: tuple[tuple[float, ...], ...]

    @model_validator(mode="after")
    def _rows_and_order(self) -> Self:
        if len(self.scores) != len(self.prices) or len({len(row) for row in self.scores}) != 1:
            raise ValueError("a price response needs a row of the same length for every price")
        if any(after <= before for before, after in pairwise(self.prices)):
            raise ValueError("the prices of a price response must rise")
        return self


class Variant(Spec):
    """One runnable choice of policy graph and action space, e.g. everything in int8.

    Without a policy the app chooses the option, and the first is where it starts. ``response``: what a budget
    expects of the policy at other prices; None: its scores are taken to be the same at all.
    """

    name: Name
    policy: Policy | None
    action_space: ActionSpace
    price: Annotated[float, Field(ge=0)] = 0.0
    """The price to start with: the score that the dearest option must earn more than a free one."""
    response: PriceResponse | None = None

    @model_validator(mode="after")
    def _response_of_all_options(self) -> Self:
        options = len(self.action_space.options)
        if self.response is not None and len(self.response.scores[0]) != options:
            raise ValueError(f"variant {self.name}: the price response is not of its {options} options")
        return self

    @model_validator(mode="after")
    def _no_head_without_policy(self) -> Self:
        if self.policy is None and any(option.skip for option in self.action_space.options):
            raise ValueError(f"variant {self.name}: skips need a policy")
        for group in self.action_space.groups:
            if any(map(self.is_head, group.options)) and group.name not in getattr(self.policy, "heads", ()):
                raise ValueError(f"variant {self.name}: the policy has no head for group {group.name}")
        return self

    @property
    def graphs(self) -> frozenset[str]:
        """The graphs that it runs, by name."""
        policy = [self.policy.graph] if self.policy else []
        return frozenset([*policy, *(option.graph for option in self.action_space.options if option.graph)])

    def is_head(self, option: Option) -> bool:
        """Whether an option is the policy's own head, which costs nothing more."""
        return self.policy is not None and option.graph == self.policy.graph

    @property
    def head_outputs(self) -> dict[str, str]:
        """For each option that is the policy's own head, which of its graph's outputs has the logits."""
        heads = {} if self.policy is None else self.policy.heads
        return {
            option.name: heads[group.name]
            for group in self.action_space.groups
            for option in group.options
            if self.is_head(option)
        }


class Fusion(Spec):
    """How branch outputs become scores: softmax of the mean of the logits of the last ``window`` steps.

    A step's logits are the sum of those of the groups that ran, each times its group's entry in ``weights``
    (1 without weights), divided by the sum of these weights if ``renormalised``.
    """

    kind: Literal["mean_logits"] = "mean_logits"
    window: Annotated[int, Field(ge=1)] = 16
    weights: dict[Name, Annotated[float, Field(gt=0)]] = {}
    renormalised: bool = True


class Steps(Spec):
    """The policy's clock: ``rate_hz`` steps per second of source time; trained on clips of ``clip_steps``.

    A step sees the ``segment_s`` seconds that end at it (0: its own frame alone). The first is due
    ``segment_s`` after the first frame, or is the last frame of a clip shorter than that.
    """

    rate_hz: Annotated[float, Field(gt=0, le=1000)]
    clip_steps: Annotated[int, Field(ge=1)]
    segment_s: Annotated[float, Field(ge=0, le=60)] = 0.0


class Tensor(Spec):
    """A graph's input or output; ``None`` stands for a dimension that may change (height and width)."""

    dtype: Literal["uint8", "int8", "float32", "float16", "int64"]
    shape: tuple[int | None, ...]


class StoredTensor(Spec):
    """One layer's weight codes: ``nested`` ones serve every bit-width, others are whole, 8 bits in each."""

    name: Annotated[str, Field(min_length=1)]
    shape: Annotated[tuple[Annotated[int, Field(ge=1)], ...], Field(min_length=1)]
    nested: bool

    @property
    def size(self) -> int:
        """How many codes."""
        return math.prod(self.shape)

    @property
    def high_bytes(self) -> int:
        """Bytes in the high plane: every code's upper 4 bits, two to a byte, or the whole codes."""
        return (self.size + 1) // 2 if self.nested else self.size

    @property
    def low_bytes(self) -> int:
        """Bytes in the low plane: every code's lower 4 bits, two to a byte, or nothing."""
        return (self.size + 1) // 2 if self.nested else 0


class Store(Spec):
    """One network's weight codes, which all its bit-widths share, in two files (runtimes/store.py).

    ``high`` is enough for 4 and 2 bits; 8 bits take ``low`` too. Tensors lie in their order here.
    """

    name: Name
    high: str
    low: str
    tensors: Annotated[tuple[StoredTensor, ...], Field(min_length=1)]

    @model_validator(mode="after")
    def _unique(self) -> Self:
        if len({tensor.name for tensor in self.tensors}) != len(self.tensors):
            raise ValueError(f"store {self.name}: names of tensors repeat")
        if self.high == self.low:
            raise ValueError(f"store {self.name}: {self.high} cannot be both planes")
        return self

    @property
    def codes_file(self) -> str:
        """Name of the file that a device builds from the planes: one byte a code, tensor after tensor."""
        return f"{self.name}.codes"

    @property
    def codes_bytes(self) -> int:
        """Size of that file."""
        return sum(tensor.size for tensor in self.tensors)

    def planes(self, bits: Bits) -> tuple[str, ...]:
        """The files that graphs of ``bits`` are built from."""
        return (self.high, self.low) if bits == 8 else (self.high,)


Runtime = Literal["onnx", "executorch", "litert"]
"""What runs a graph's file."""


class Graph(Spec):
    """One static graph: its file, precision, inputs and outputs, and the weight files it maps.

    It belongs to one ``target``; the same network has the same ``name`` in every target of a bundle. A file
    of several methods (ExecuTorch) serves several graphs: each names its ``method``. With a ``store``, its
    weight codes are that store's at ``bits``, and its file holds all the rest.
    """

    name: Name
    target: Name
    file: str
    method: str | None = None
    weight_files: tuple[str, ...] = ()
    runtime: Runtime = "onnx"
    precision: str
    role: Literal["policy", "branch"]
    inputs: dict[str, Tensor]
    outputs: dict[str, Tensor]
    macs: dict[Name, int] = {}
    """Multiply-accumulates of one run, by view name; one on several views at once is under the first."""
    store: Name | None = None
    bits: Bits | None = None

    @model_validator(mode="after")
    def _store_with_bits(self) -> Self:
        if (self.store is None) != (self.bits is None):
            raise ValueError(f"graph {self.name}: give both store and bits, or neither")
        return self


class GraphCost(Spec):
    """What one run of a graph on a view costs on a device.

    ``energy_mj``: beyond what the idle device uses in that time; None where not measured. Of a graph that
    takes several views at once, ``view`` is the first.
    """

    graph: Name
    view: Name
    p50_ms: Annotated[float, Field(ge=0)]
    p95_ms: Annotated[float, Field(ge=0)]
    memory_mb: float | None = None
    energy_mj: float | None = None


class ViewCost(Spec):
    """What rendering one view from a decoded frame costs on a device; ``energy_mj`` as for a graph."""

    view: Name
    p50_ms: Annotated[float, Field(ge=0)]
    p95_ms: Annotated[float, Field(ge=0)]
    energy_mj: float | None = None


class CostTable(Spec):
    """Measured costs of every graph and view on one named device.

    ``idle_w``: what the device used while nothing ran; ``energy_source``: the meter that told the energies.
    None where there was none.
    """

    device: str
    providers: tuple[str, ...]
    threads: int
    graphs: tuple[GraphCost, ...]
    views: tuple[ViewCost, ...]
    idle_w: float | None = None
    energy_source: str | None = None

    def graph_ms(self, graph: str, view: str) -> float:
        """Median ms of one run of ``graph`` on ``view``, resizing included.

        Raises: KeyError if the table has no such row.
        """
        return self.run_ms(graph, view) + self.view_ms(view)

    def graph_mj(self, graph: str, view: str) -> float | None:
        """Energy (mJ) of the same, None if not measured. Raises: KeyError."""
        run, rendering = self.run_mj(graph, view), self.view_mj(view)
        return None if run is None or rendering is None else run + rendering

    def run_ms(self, graph: str, view: str) -> float:
        """Median ms of one run of ``graph`` on ``view`` alone. Raises: KeyError."""
        return {(row.graph, row.view): row.p50_ms for row in self.graphs}[graph, view]

    def view_ms(self, view: str) -> float:
        """Median ms of rendering ``view``. Raises: KeyError."""
        return {row.view: row.p50_ms for row in self.views}[view]

    def run_mj(self, graph: str, view: str) -> float | None:
        """Energy (mJ) of one run of ``graph`` on ``view`` alone, None if not measured. Raises: KeyError."""
        return {(row.graph, row.view): row.energy_mj for row in self.graphs}[graph, view]

    def view_mj(self, view: str) -> float | None:
        """Energy (mJ) of rendering ``view``, None if not measured. Raises: KeyError."""
        return {row.view: row.energy_mj for row in self.views}[view]


class FileRecord(Spec):
    """Size and SHA-256 of one file of a bundle."""

    bytes: Annotated[int, Field(ge=0)]
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class Manifest(Spec):
    """Everything a bundle says of itself (``manifest.json``).

    ``target`` is the one that it is opened for unless another is asked for; ``targets`` are all that it has
    graphs for, over one set of trained weights.
    """

    schema_version: Literal[3] = 3
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

    def store(self, name: str) -> Store:
        """The store called ``name``. Raises: KeyError if there is none."""
        return {store.name: store for store in self.stores}[name]
