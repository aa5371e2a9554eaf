"""The errors of the compiler: what to fix in the data, and what in the model or its target."""

from __future__ import annotations

from runtimes.errors import AdaptiveVideoError


class DataError(AdaptiveVideoError):
    """A data set is missing, malformed, too damaged to train on, or cannot be cached."""


class CompileError(AdaptiveVideoError):
    """A model cannot be trained, quantized, split, exported or verified as asked."""
