"""What operating points come to on labeled streams, asleep between events or not."""
