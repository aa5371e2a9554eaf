"""Policies, and what they are conditioned on."""
