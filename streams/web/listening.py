"""Why a server can't listen, for the person who configured it."""

from __future__ import annotations

import errno
import socket


def cannot_listen(
    what: str, settings: str, error: OSError, host: str, port: int, *, host_settings: str | None = None
) -> str:
    """Return the message; `settings` is the beginning of the names of the settings for host and port.

    `host_settings` is that of the host where it differs.

    >>> cannot_listen("web server", "web", OSError(errno.EACCES, ""), "127.0.0.1", 80)
    "The web server can't listen on 127.0.0.1:80: not permitted. Change web_port; ports below 1024 need a privilege."
    """
    of_host = host_settings or settings
    place = f"The {what} can't listen on {host}:{port}"
    if isinstance(error, socket.gaierror) or error.errno == errno.EADDRNOTAVAIL:
        return f"{place}: this machine has no such address. Change {of_host}_host."
    if error.errno == errno.EADDRINUSE:
        return (
            f"{place}: the port is in use. Change {settings}_port (0 takes any free port), or stop what listens there."
        )
    if error.errno == errno.EACCES:
        return f"{place}: not permitted. Change {settings}_port; ports below 1024 need a privilege."
    return f"{place}: {error}. Change {of_host}_host or {settings}_port."
