"""Lapse to look at: an embedded broker, believable traffic, the worker, and what happens, live in the terminal."""
