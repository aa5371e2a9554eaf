"""What the SDK costs, measured; run each as ``python -m benchmarks.<name>`` from the repository's root."""
