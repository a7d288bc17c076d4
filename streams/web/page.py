"""The pages, rendered here; `assets/page.js` fetches the live part anew and changes what differs."""

from __future__ import annotations

from functools import cache
from typing import Any
from urllib.parse import quote

from jinja2 import Environment, PackageLoader, StrictUndefined

from streams.config.durations import render as render_duration
from streams.core.model import Topic
from streams.offline.words import asked, shown
from streams.telemetry.definitions import DEFINITIONS
from streams.web.live import percent
from streams.wire import instants

UNKNOWN = "–"


def render(template: str, **context: Any) -> str:
    """Return a page as HTML that is complete without its script; every value is escaped."""
    return (
        _environment()
        .get_template(template)
        .render(definitions=DEFINITIONS, topics=[topic.value for topic in Topic], **context)
    )


@cache
def _environment() -> Environment:
    found = Environment(
        loader=PackageLoader("streams.web"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    found.filters |= {
        "n": _count,
        "percent": percent,
        "shown": shown,
        "asked": asked,
        "wait": render_duration,
        "name": lambda name: name.replace("_", " "),
        "micros": lambda at: _instant(instants.text(at)),
        "spoken_instant": _instant,
        "ticket_url": ticket_url,
        "round_url": lambda id: f"/rounds/{quote(id, safe='')}",
    }
    return found


def ticket_url(ticket_id: str) -> str:
    """Return where the page of a ticket is, whatever its id is made of.

    >>> ticket_url("5158"), ticket_url("a/b c")
    ('/tickets?id=5158', '/tickets?id=a%2Fb%20c')
    """
    return f"/tickets?id={quote(ticket_id, safe='')}"


def _count(number: int | None) -> str:
    return UNKNOWN if number is None else f"{number:,}"


def _instant(text: str | None) -> str:
    return UNKNOWN if text is None else text.replace("T", " ").removesuffix("Z")
