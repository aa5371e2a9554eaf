"""Operating points on a device: the looks of a schedule, stopping, and moving along a front."""
