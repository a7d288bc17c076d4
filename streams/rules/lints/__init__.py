"""Advice on triggers that can be read; `advice` is the way in, the others look for one thing each."""
