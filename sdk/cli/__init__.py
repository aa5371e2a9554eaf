"""The command lines: run a bundle, measure it, look into it."""
