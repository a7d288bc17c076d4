"""Suggested limits as text, with the line to paste, and as JSON."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from streams.core.triggers import HIGHEST_COUNT
from streams.documents.durations import render
from streams.offline.limits import HEADROOM, QUANTILE, LimitAdvice
from streams.offline.words import counted


def limit_lines(advice: LimitAdvice) -> Iterator[str]:
    """Yield what is suggested, and from how many spans, as lines of text."""
    per = render(advice.per)
    yield f"limits, by how often each trigger fired in spans of {per}, in {counted(advice.partitions, 'partition')}:"
    width = max([len("trigger"), *map(len, advice.triggers)])
    yield f"  {'trigger':<{width}}  {'spans':>7}  {'median':>6}  {QUANTILE:>6.0%}  {'highest':>7}  limit"
    for trigger, one in advice.triggers.items():
        if not one.firings:
            yield f"  {trigger:<{width}}  {0:>7}  never fired: nothing to go by"
            continue
        figures = f"{one.spans:>7,}  {one.median:>6,}  {one.most:>6,}  {one.highest:>7,}"
        if one.suggested is None:
            said = f"none: it would be above {HIGHEST_COUNT:,}; use a shorter --span"
        else:
            few = ", few spans: use a longer capture" if one.few else ""
            said = f"limit: {yaml(one.suggested, advice)}  (holds {one.would_hold:,} of {one.firings:,}{few})"
        yield f"  {trigger:<{width}}  {figures}  {said}"
    yield (
        f"  A limit gives each partition {HEADROOM} times what {QUANTILE:.0%} of the spans with firings stayed within."
    )
    if advice.head is not None:
        yield "  For the head of the file, where it holds for each trigger that has none of its own:"
        yield f"limit: {yaml(advice.head, advice)}"


def yaml(count: int, advice: LimitAdvice) -> str:
    """Return a limit as a trigger file has it."""
    return f"{{count: {count}, per: {render(advice.per)}}}"


def limit_object(advice: LimitAdvice) -> dict[str, Any]:
    """Return `{"per_ms", "partitions", "suggested_count", "triggers": {id: {…}}}`; `suggested_count` is the head's.

    Each of `triggers` is `{"firings", "spans", "median", "most", "highest", "suggested_count", "would_hold", "few"}`.
    """
    return {
        "per_ms": advice.per // 1000,
        "partitions": advice.partitions,
        "suggested_count": advice.head,
        "triggers": {
            trigger: {
                "firings": one.firings,
                "spans": one.spans,
                "median": one.median,
                "most": one.most,
                "highest": one.highest,
                "suggested_count": one.suggested,
                "would_hold": one.would_hold,
                "few": one.few,
            }
            for trigger, one in advice.triggers.items()
        },
    }
