"""Graph files, their tensors, and the weight stores that several share."""

from __future__ import annotations

import math
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from runtimes.spec.base import Name, Spec

Bits = Literal[8, 4, 2]
"""Bits of a weight's code."""


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
    """One network's weight codes, which all its bit-widths share, in two files (runtimes/weight_store.py).

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
