"""What to run at a step: option costs, the choice, the step pipeline, and the fusion of answers."""
