"""Precisions: networks at int8 and several bit-widths, and which of them stay."""
