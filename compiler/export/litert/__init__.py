"""LiteRT graphs."""
