"""Torch modules: backbones, quantised layers, policies, and one file per paper."""
