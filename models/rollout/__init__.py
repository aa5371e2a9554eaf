"""The adaptive contract: causal rollout, sampling and late fusion."""
