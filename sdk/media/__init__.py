"""Decoding, resizing and the step clock, written once for training and for the device."""
