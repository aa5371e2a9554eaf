"""Operating points in streams: what they remember, and what they come to on labeled ones, asleep or not."""
