"""Trains, quantizes, splits, exports, verifies, measures and packs adaptive video recognizers."""
