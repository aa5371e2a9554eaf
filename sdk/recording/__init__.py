"""Decisions on record: the log of a stream, its replay, and golden traces for ports."""
