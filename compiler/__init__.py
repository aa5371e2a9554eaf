"""Trains, quantises, splits, exports, verifies, measures and packs adaptive video recognisers."""
