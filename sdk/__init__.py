"""Adaptive video recognition on the device."""
