"""When a process that a test started handles a signal."""

from __future__ import annotations

import re
import time
from pathlib import Path


def wait_until_handled(pid: int, number: int, within: float = 60) -> bool:
    """Wait until a process handles a signal by itself. Returns False if the process ended before.

    A process that is just starting dies of SIGTERM, whatever its program would do a moment later.
    """
    deadline = time.monotonic() + within
    while time.monotonic() < deadline:
        try:
            status = Path(f"/proc/{pid}/status").read_text()
        except OSError:
            return False
        caught = re.search(r"^SigCgt:\s*([0-9a-f]+)$", status, re.MULTILINE)
        if caught is None or "\nState:\tZ" in status:
            return False
        if int(caught[1], 16) >> (number - 1) & 1:
            return True
        time.sleep(0.005)
    raise AssertionError(f"process {pid} does not handle signal {number} after {within:.0f} s")
