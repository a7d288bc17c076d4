"""Results as files: one of JSON for each part, with when and where it was measured."""

from __future__ import annotations

import json
import os
import platform
import subprocess
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from tests.bench.contestants import EVERYBODY
from tests.kafka_kit.distribution import KAFKA_VERSION

ROOT = Path(__file__).parents[2]


class Results:
    """The results of the project, or of a directory that somebody named."""

    def __init__(self, out: Path | None = None) -> None:
        """Choose the place."""
        self.directory = out or Path(__file__).with_name("results")
        self.page = (out or ROOT / "docs") / "performance.md"

    def write(self, part: str, found: dict[str, Any], *, took: float) -> None:
        """Keep what a part has found."""
        self.directory.mkdir(parents=True, exist_ok=True)
        whole = {"circumstances": circumstances(), "took_seconds": round(took), "found": found}
        file = self.directory / f"{part}.json"
        file.write_text(json.dumps(whole, indent=1, ensure_ascii=False) + "\n")

    def read(self, part: str) -> dict[str, Any] | None:
        """Return what was kept, None when there is nothing."""
        file = self.directory / f"{part}.json"
        return json.loads(file.read_text()) if file.exists() else None


def circumstances() -> dict[str, Any]:
    """Return when, on what, and with which versions."""
    versions = {
        "Python": platform.python_version(),
        "Apache Kafka": KAFKA_VERSION,
        **{name: version(name) for name in ("aiokafka", "faust-streaming", "msgspec", "uvloop")},
    }
    for each in EVERYBODY:
        versions |= each.versions()
    return {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": _commit(),
        "cores": os.cpu_count(),
        "processor": _processor(),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "load": [round(each, 1) for each in os.getloadavg()],
        "versions": versions,
    }


def _commit() -> str:
    done = subprocess.run(
        ["git", "describe", "--always", "--dirty"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    return done.stdout.strip() or "unknown"


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor() or "unknown"
