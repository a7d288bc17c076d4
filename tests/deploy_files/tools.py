"""The programs that check the files in `deploy/`, and what a test does where one is missing."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import warnings
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"


def require(program: str, why: str) -> str:
    """Return where a program is. Skips the test, aloud, when it is missing; fails it when `CI` is set."""
    beside = Path(sys.executable).with_name(program)
    found = str(beside) if beside.exists() else shutil.which(program)
    if found is not None:
        return found
    if os.environ.get("CI"):
        pytest.fail(why)
    warnings.warn(why, stacklevel=2)
    pytest.skip(why)


def run(*command: str, within: float = 120, cwd: Path = ROOT, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a program to its end; `environment` goes over ours."""
    return subprocess.run(
        command,
        env={**os.environ, **environment},
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=within,
        check=False,
    )
