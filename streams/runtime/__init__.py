"""Moves bytes: the only package that knows Faust and Kafka."""
