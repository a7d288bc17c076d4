"""Hostile input: targets for a coverage-guided fuzzer, `python -m tests.fuzz`, and for Hypothesis in CI."""
