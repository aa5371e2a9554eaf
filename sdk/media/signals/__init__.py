"""Signals: numbers about a stream that are there for next to nothing, by which it is decided to look."""
