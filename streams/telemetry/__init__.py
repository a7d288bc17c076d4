"""Turns facts into metrics and logs; the only package that uses prometheus_client."""
