"""Training data: the built-in synthetic clips and users' own, decoded once and mapped."""
