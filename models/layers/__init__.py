"""Quantized layers, nested weights and norm statistics."""
