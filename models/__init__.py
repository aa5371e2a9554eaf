"""Torch modules: backbones, quantized layers, policies, and one file per paper."""
