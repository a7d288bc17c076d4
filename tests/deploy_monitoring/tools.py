"""Prometheus' own programs, which Debian has in the package `prometheus`."""

from __future__ import annotations

import os
import shutil
import subprocess
import warnings

import pytest


def require(program: str) -> str:
    """Return where a program is. Skips the test, aloud, when it is missing; fails it when `CI` is set."""
    found = shutil.which(program)
    if found is not None:
        return found
    message = f"No {program}: install Debian's package `prometheus` to run this test."
    if os.environ.get("CI"):
        pytest.fail(message)
    warnings.warn(message, stacklevel=2)
    pytest.skip(message)


def promtool(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run promtool to its end."""
    return subprocess.run([require("promtool"), *arguments], capture_output=True, text=True, timeout=270, check=False)
