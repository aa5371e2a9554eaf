"""Gates: checks that a compile must pass before its bundle is written."""
