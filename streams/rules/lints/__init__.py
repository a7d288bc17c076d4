"""Advice on triggers that can be read; `advice` is the entry point, each other module looks for one thing."""
