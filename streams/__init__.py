"""Lapse: sees customers leave a messaging conversation and asks for what should happen to their tickets."""

from __future__ import annotations

from typing import Any


def __getattr__(name: str) -> Any:
    """Give `faust -A streams` the app it looks for, made only when it is looked for."""
    if name != "app":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from streams.assembly import faust_app  # noqa: PLC0415 importing the package must stay cheap

    # That import has put the module of the same name here, and Faust looks more than once.
    globals()["app"] = found = faust_app()
    return found
