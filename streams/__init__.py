"""Lapse: sees customers leave a messaging conversation and asks for what should happen to their tickets."""
