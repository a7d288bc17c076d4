"""Starts the demo's child processes: detached from the terminal's signals, but never outliving the demo."""

from __future__ import annotations

import ctypes
import signal
import sys
from typing import Any

_PR_SET_PDEATHSIG = 1


def child_arguments() -> dict[str, Any]:
    """Return arguments for `subprocess`. With them, Ctrl-C reaches only the demo, which ends its children in order."""
    arguments: dict[str, Any] = {"start_new_session": True}
    if sys.platform == "linux":
        arguments["preexec_fn"] = _die_with_parent
    return arguments


def _die_with_parent() -> None:
    """Have the kernel end the child if the demo is killed and cannot do so itself."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
