"""Compiles the source of a revision, which is the text of a trigger file."""

from __future__ import annotations

from streams.core.revisions import UnusableRevisionError
from streams.core.triggers import Ruleset
from streams.rules.triggers import parse_triggers


def compile_source(source: str) -> Ruleset:
    """Compile the trigger file of a revision. Raises `UnusableRevisionError` with its errors."""
    parsed = parse_triggers(source)
    if parsed.ruleset is None:
        raise UnusableRevisionError("; ".join(str(problem) for problem in parsed.errors))
    return parsed.ruleset
