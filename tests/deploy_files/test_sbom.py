"""The bill of materials names every package that a worker runs, with the hashes of the lock file."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest

from deploy.sbom import LOCK, bill, locked

ROOT = Path(__file__).parent.parent.parent


@pytest.fixture(scope="module")
def printed() -> str:
    command = [sys.executable, "-m", "deploy.sbom"]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=True).stdout


def test_every_line_of_the_lock_file_is_in_it(printed: str) -> None:
    document: dict[str, Any] = json.loads(printed)
    lock = LOCK.read_text()
    names = re.findall(r"^([A-Za-z0-9._-]+)(?:\[.*?\])?==", lock, re.MULTILINE)
    assert len(names) > 20
    assert len(document["components"]) == len(names)
    hashes = [
        digest["content"]
        for component in document["components"]
        for reference in component["externalReferences"]
        for digest in reference["hashes"]
    ]
    assert sorted(hashes) == sorted(re.findall(r"--hash=sha256:([0-9a-f]{64})", lock))


def test_it_names_the_versions_that_are_installed(printed: str) -> None:
    of = {component["name"]: component["version"] for component in json.loads(printed)["components"]}
    for name in ("aiokafka", "faust-streaming", "msgspec", "aiohttp"):
        assert of[name] == metadata.version(name)


def test_it_is_cyclonedx_and_the_same_each_time(printed: str) -> None:
    document = json.loads(printed)
    assert (document["bomFormat"], document["specVersion"], document["version"]) == ("CycloneDX", "1.6", 1)
    assert re.fullmatch(r"urn:uuid:[0-9a-f]{8}-([0-9a-f]{4}-){3}[0-9a-f]{12}", document["serialNumber"])
    references = [component["bom-ref"] for component in document["components"]]
    assert len(set(references)) == len(references)
    assert all(component["purl"].startswith("pkg:pypi/") for component in document["components"])
    assert bill(locked(LOCK.read_text()), document["metadata"]["component"]["version"]) == document


def test_a_line_that_is_not_understood_is_refused_with_its_number() -> None:
    with pytest.raises(ValueError, match=r"requirements.run.lock:2: neither a package nor a hash: -e \."):
        locked("# made\n-e .\n")
