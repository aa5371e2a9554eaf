"""What each training stage optimizes, as Lightning modules: one file a task."""
