"""The page of the stand-in: every ticket with its status, and who changed it last."""

from __future__ import annotations

import html
from collections import Counter

from streams.testing.zendesk.tickets import Change, Ticket, Tickets
from streams.wire import instants

_SHOWN = 500
_HEAD = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta http-equiv="refresh" content="2"><title>Tickets</title>
<style>body{font:15px/1.5 system-ui,sans-serif;margin:2rem}table{border-collapse:collapse}
td,th{text-align:left;padding:.2rem 1rem .2rem 0;border-bottom:1px solid #8884}</style></head><body>
"""


def page(tickets: Tickets) -> str:
    """Return the page as HTML: tickets that changed last come first."""
    found = sorted((ticket for ticket in tickets if not ticket.deleted), key=lambda ticket: -ticket.updated_at)
    statuses = Counter(ticket.status for ticket in found)
    counts = ", ".join(f"{count:,} {status}" for status, count in sorted(statuses.items())) or "no tickets"
    rows = "\n".join(_row(ticket, tickets.changes_of(ticket.id)) for ticket in found[:_SHOWN])
    more = f"<p>{len(found) - _SHOWN:,} more are not shown.</p>" if len(found) > _SHOWN else ""
    return (
        f"{_HEAD}<h1>Tickets of the stand-in for Zendesk</h1>\n<p>{counts}</p>\n<table>\n"
        "<tr><th>ticket</th><th>status</th><th>tags</th><th>changed last</th><th>by</th><th>command</th></tr>\n"
        f"{rows}\n</table>{more}</body></html>\n"
    )


def _row(ticket: Ticket, changes: list[Change]) -> str:
    last = changes[-1] if changes else None
    cells = (
        str(ticket.id),
        ticket.status,
        " ".join(ticket.tags),
        instants.text(ticket.updated_at),
        "" if last is None else last.by,
        "" if last is None else last.command_id or "",
    )
    return "<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in cells) + "</tr>"
