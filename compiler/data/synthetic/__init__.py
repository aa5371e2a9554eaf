"""The built-in data: drawn scenes and sounds, encoded as real clips."""
