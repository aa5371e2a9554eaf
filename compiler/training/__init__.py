"""Training: stages in order, their tasks, and what is fitted after them."""
