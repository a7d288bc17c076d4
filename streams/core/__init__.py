"""Decides. Pure: no clock, no I/O, no logging; imports the standard library and `msgspec.Struct` only."""
