"""Faust: the app, its agents, and a consumer that hands over whole fetches and commits nothing."""
