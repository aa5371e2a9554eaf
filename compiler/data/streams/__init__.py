"""Untrimmed streams: listed with the times of their events, or composed of trimmed clips."""
