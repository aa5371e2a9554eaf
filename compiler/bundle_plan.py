"""The plan of a bundle: trained networks, and the variants that they form."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from torch import nn

from models.rollout.branch_model import BranchModel
from runtimes.spec import Bits, View

PRECISIONS = {"fp32": 32, "fp16": 16, "int8": 8, "int4": 4, "int2": 2}
"""Names of precisions and the bits of their weights; activations below fp16 have 8 bits."""

MIXABLE = tuple(name for name in PRECISIONS if name != "fp16")
"""Those that one policy may choose among: fp16 is a form of fp32, in a variant of its own."""

_STORED: Mapping[str, Bits] = {"int8": 8, "int4": 4, "int2": 2}


@dataclass(frozen=True)
class StoredCodes:
    """The 8-bit codes that several networks share, by layer name; ``whole`` layers have 8 bits in all."""

    codes: Mapping[str, NDArray[np.int8]]
    whole: frozenset[str]


@dataclass(frozen=True)
class Network:
    """One network ready for export.

    ``graph`` is its graph's name, ``part`` what it is in the float model, ``views`` what it runs on: one, or
    several at once for a policy. ``store`` names the codes that it shares with others, if it does. ``heads``:
    what a policy's own logits are called, by group.
    """

    graph: str
    part: str
    module: nn.Module
    precision: str
    views: tuple[View, ...]
    store: str | None = None
    heads: Mapping[str, str] = field(default_factory=dict)

    @property
    def view(self) -> View:
        """What a branch runs on; of a policy the first of its views, by which its costs are listed."""
        return self.views[0]

    @property
    def bits(self) -> int:
        """Bits of its weights."""
        return PRECISIONS[self.precision]

    @property
    def stored_bits(self) -> Bits:
        """Bits of the codes that it takes from its store."""
        return _STORED[self.precision]


@dataclass(frozen=True)
class VariantPlan:
    """One variant: a model's action space, with the network behind each graph its options name.

    ``model``: the torch model of this space; its own networks are the variant's, or their float originals.
    ``policy`` is None where the caller chooses.
    """

    name: str
    model: BranchModel
    policy: Network | None
    branches: Mapping[str, Network]

    @property
    def networks(self) -> tuple[Network, ...]:
        """All networks, the policy first."""
        return (*([self.policy] if self.policy else []), *self.branches.values())


@dataclass(frozen=True)
class BundlePlan:
    """All variants of a bundle, the default first, and the stores that their networks share."""

    variants: tuple[VariantPlan, ...]
    stores: Mapping[str, StoredCodes] = field(default_factory=dict)
