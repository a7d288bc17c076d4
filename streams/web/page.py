"""Renders the pages. `assets/page.js` fetches the live part again and updates what differs."""

from __future__ import annotations

import re
from functools import cache
from typing import Any
from urllib.parse import quote

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from streams.core.names import Topic
from streams.documents.durations import render as render_duration
from streams.offline.words import asked, shown
from streams.telemetry.definitions import DEFINITIONS
from streams.web.formatting import age, percent
from streams.wire import instants

UNKNOWN = "–"


def render(template: str, **context: Any) -> str:
    """Return a page as HTML that works without its script. Every value is escaped."""
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
        "age": age,
        "told": told,
        "breakable": breakable,
        "shown": shown,
        "asked": asked,
        "wait": render_duration,
        "name": lambda name: name.replace("_", " "),
        "micros": lambda at: _instant(instants.text(at)),
        "spoken_instant": _instant,
        "ticket_url": ticket_url,
        "ticket_api_url": lambda id: f"/api/v1/tickets/{quote(id, safe='')}",
        "round_url": lambda id: f"/rounds/{quote(id, safe='')}",
    }
    return found


def ticket_url(ticket_id: str) -> str:
    """Return the URL of a ticket's page; the id may contain any characters.

    >>> ticket_url("5158"), ticket_url("a/b c")
    ('/tickets?id=5158', '/tickets?id=a%2Fb%20c')
    """
    return f"/tickets?id={quote(ticket_id, safe='')}"


def told(sentence: str) -> Markup:
    """Format a sentence for a page: text in backticks as code, instants as elsewhere on the pages.

    >>> told("Since 2026-03-01T10:00:00.5Z; `lapse check` says <more>.")
    Markup('Since 2026-03-01 10:00:00.5; <code>lapse check</code> says &lt;more&gt;.')
    """
    spoken = _INSTANT.sub(r"\1 \2", str(escape(sentence)))
    return Markup(_CODE.sub(r"<code>\1</code>", spoken))  # noqa: S704 -- escaped above


def breakable(text: str) -> Markup:
    """Return a text with line-break opportunities where its words are joined.

    >>> breakable("add_tags = <a>")
    Markup('add_<wbr>tags = &lt;a&gt;')
    """
    return Markup("_<wbr>").join(text.split("_"))


_INSTANT = re.compile(r"\b(\d{4}-\d\d-\d\d)T(\d\d:\d\d:\d\d(?:\.\d+)?)Z")
_CODE = re.compile(r"`([^`]+)`")


def _count(number: int | None) -> str:
    return UNKNOWN if number is None else f"{number:,}"


def _instant(text: str | None) -> str:
    return UNKNOWN if text is None else text.replace("T", " ").removesuffix("Z")
