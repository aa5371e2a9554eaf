"""Splitting models into graphs, and writing them: a room for each runtime."""
