"""The jars of Apache Kafka, fetched once by Maven into a cache directory."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

KAFKA_VERSION = "4.3.1"
_HERE = Path(__file__).parent
_FETCH_SECONDS = 300


class KafkaKitError(RuntimeError):
    """The test broker can't be had; the text says why and what to do."""


def find_java() -> str | None:
    """The `java` to run, or None."""
    home = os.environ.get("JAVA_HOME")
    if home and (java := Path(home, "bin", "java")).exists():
        return str(java)
    return shutil.which("java")


def jars() -> Path:
    """The directory with Kafka's jars; fetched on first use, safe against other processes that do the same."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache", "lapse")
    home = cache / f"kafka-{KAFKA_VERSION}"
    if home.is_dir():
        return home
    cache.mkdir(parents=True, exist_ok=True)
    with (cache / f"kafka-{KAFKA_VERSION}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not home.is_dir():
            _fetch(cache, home)
    return home


def _fetch(cache: Path, home: Path) -> None:
    if (mvn := shutil.which("mvn")) is None:
        raise KafkaKitError(f"Maven (mvn) is missing: install it, or put Kafka's {KAFKA_VERSION} jars into {home}.")
    scratch = Path(tempfile.mkdtemp(prefix=f"kafka-{KAFKA_VERSION}.", dir=cache))
    try:
        shutil.copy(_HERE / "pom.xml", scratch / "pom.xml")
        done = subprocess.run(
            [mvn, "-q", "-B", "dependency:copy-dependencies", "-DincludeScope=runtime", "-DoutputDirectory=jars"],
            cwd=scratch,
            capture_output=True,
            text=True,
            timeout=_FETCH_SECONDS,
            check=False,
        )
        if done.returncode != 0:
            said = f"{done.stdout[-2000:]}{done.stderr[-2000:]}"
            raise KafkaKitError(f"Maven could not fetch Kafka {KAFKA_VERSION}:\n{said}")
        (scratch / "jars").rename(home)  # whole or not at all
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
