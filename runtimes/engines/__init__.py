"""Engines: one a runtime, opened through one function."""
