"""Measures a bundle on a device: costs of graphs, comparison of targets, sustained load, switching."""
