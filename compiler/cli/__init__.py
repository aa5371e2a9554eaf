"""The compiler's commands."""
