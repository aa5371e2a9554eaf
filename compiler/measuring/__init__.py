"""Measuring: costs of graphs, evaluation of clips, the static front, the response to the price."""
