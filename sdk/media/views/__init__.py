"""Views of a step: pictures, their motion, and spectrograms."""
