"""`python -m streams.testing.zendesk`: the stand-in as a process, until Ctrl-C. Nothing of it survives the end."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import signal
import sys

from streams.testing.zendesk.hooks import Webhooks
from streams.testing.zendesk.limits import Limits
from streams.testing.zendesk.server import CLIENT, ZendeskServer


def main() -> int:
    """Run; return the exit code: 0 after Ctrl-C or SIGTERM, 2 when the port is taken."""
    parser = argparse.ArgumentParser(prog="python -m streams.testing.zendesk", description=__doc__)
    parser.add_argument("--port", type=int, default=0, help="port on the loopback interface; 0 takes any free one")
    parser.add_argument("--tickets", type=int, default=100, help="how many open tickets there are, with ids from 1")
    parser.add_argument("--updates-per-minute", type=int, default=Limits().updates_per_minute)
    parser.add_argument("--requests-per-minute", type=int, default=Limits().requests_per_minute)
    parser.add_argument("--webhook", help="where events of tickets are posted, such as http://127.0.0.1:6067/zendesk")
    parser.add_argument("--webhook-secret", default="a-secret-for-tests", help="what posts are signed with")
    given = parser.parse_args()
    try:
        asyncio.run(_serve(given))
    except OSError as error:
        print(f"zendesk: can't listen on port {given.port}: {error.strerror}. Give another --port.", file=sys.stderr)
        return 2
    return 0


async def _serve(given: argparse.Namespace) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    limits = Limits(requests_per_minute=given.requests_per_minute, updates_per_minute=given.updates_per_minute)
    async with contextlib.AsyncExitStack() as stack:
        server = await stack.enter_async_context(ZendeskServer(port=given.port, limits=limits))
        hooks = None
        if given.webhook:
            hooks = await stack.enter_async_context(Webhooks(given.webhook, given.webhook_secret))
            server.tickets.on_change = hooks.changed
        for ticket_id in range(1, given.tickets + 1):
            ticket = server.tickets.make(ticket_id)
            if hooks is not None:
                hooks.created(ticket)
        print(f"API and page: {server.url}/", flush=True)
        print(f"OAuth client: id {CLIENT.client_id}, secret {CLIENT.secret}", flush=True)
        await stop.wait()


if __name__ == "__main__":
    sys.exit(main())
