"""The small bundle, and a cache of the tests' own."""

from __future__ import annotations

from tests.runtimes.fixtures import bundle, isolated_cache, stored_bundle, stored_copy

__all__ = ["bundle", "isolated_cache", "stored_bundle", "stored_copy"]
