"""Shipped test tools: a driver with crash points, record builders, a traffic generator."""
