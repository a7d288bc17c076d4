"""Benchmarks: run by hand, side by side on one broker; their numbers hold for the machine that made them."""
