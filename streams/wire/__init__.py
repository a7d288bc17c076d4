"""Bytes to core records and back: decode, validate, normalise, encode, dead-letter codes, capture lines."""
