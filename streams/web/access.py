"""Access control and security headers.

The metrics and both probes are open. Everything else needs the token if one is set. Without a token, the server listens
on loopback and accepts only loopback host names. Otherwise any web page could read it through a host name of its own
that resolves to loopback (DNS rebinding).
"""

from __future__ import annotations

import base64
import binascii
import hmac
import ipaddress
import logging
from collections.abc import Awaitable, Callable

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.typedefs import Middleware

OPEN_PATHS = frozenset({"/metrics", "/healthz", "/readyz"})

HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; "
        "base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
    ),
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    "Referrer-Policy": "no-referrer",
    "Server": "lapse",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def is_loopback(host: str) -> bool:
    """Whether a host name or address can only mean this machine.

    >>> is_loopback("localhost"), is_loopback("127.3.2.1"), is_loopback("[::1]"), is_loopback("0.0.0.0")
    (True, True, True, False)
    """
    host = host.strip("[]").rstrip(".").lower()
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def guard(token: str | None) -> Middleware:
    """Return the middleware that answers 401 without the token or, if no token is set, 403 to a foreign host name."""

    @web.middleware
    async def guarded(request: web.Request, handler: Handler) -> web.StreamResponse:
        # Decide by the matched route, not by the spelling of the URL.
        matched = request.match_info.route.resource
        if matched is not None and matched.canonical in OPEN_PATHS:
            return await handler(request)
        if token is None and not is_loopback(_host_asked_for(request)):
            raise web.HTTPForbidden(
                text="This server answers to localhost only. Set web_token to reach it by another name.\n"
            )
        if token is not None and not _carries(request.headers.get("Authorization", ""), token):
            # Basic first: browsers support it and prompt for a password, which is the token.
            denied = web.HTTPUnauthorized(
                text="This needs the web_token: as 'Authorization: Bearer …', or as the password with any user name.\n"
            )
            denied.headers.add("WWW-Authenticate", 'Basic realm="Lapse", charset="UTF-8"')
            denied.headers.add("WWW-Authenticate", 'Bearer realm="Lapse"')
            raise denied
        return await handler(request)

    return guarded


async def add_headers(_: web.Request, response: web.StreamResponse) -> None:
    """Add `HEADERS` to every response, including errors (a signal handler of aiohttp)."""
    response.headers.update(HEADERS)


class _WithoutStrangersMistakes(logging.Filter):
    """Drops the traceback that each bad request of a scanner, or of a browser that expects TLS, causes in the log."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Return whether the record is to be written."""
        error = record.exc_info[1] if record.exc_info else None
        return not isinstance(error, HttpProcessingError)


def requests_logger() -> logging.Logger:
    """Return the logger for errors between the port and our handlers. Mistakes of clients are not logged."""
    found = logging.getLogger("streams.web.requests")
    if not found.filters:
        found.addFilter(_WithoutStrangersMistakes())
    return found


def _host_asked_for(request: web.Request) -> str:
    host = request.headers.get("Host", "")
    return host[: host.rfind("]") + 1] if host.startswith("[") else host.split(":")[0]


def _carries(authorization: str, token: str) -> bool:
    scheme, _, credentials = authorization.partition(" ")
    credentials = credentials.strip()
    match scheme.lower():
        case "bearer":
            given = credentials.encode("utf-8", "surrogateescape")
        case "basic":
            try:
                _, _, given = base64.b64decode(credentials, validate=True).partition(b":")
            except (binascii.Error, ValueError):
                return False
        case _:
            return False
    return hmac.compare_digest(given, token.encode())
