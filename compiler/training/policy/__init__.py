"""Training a policy: what it learns from, where it starts, and the price that it is compiled for."""
