"""The bill of materials of what a worker runs, as CycloneDX 1.6: `python -m deploy.sbom > lapse.cdx.json`.

It is made from `requirements.run.lock` alone, so the same commit gives the same bytes everywhere. Hashes are those of
all files that the lock allows for a package, wheels of other platforms included.
"""

from __future__ import annotations

import json
import re
import sys
import tomllib
import uuid
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).parent.parent
LOCK = ROOT / "requirements.run.lock"

_PACKAGE = re.compile(
    r"^(?P<name>[A-Za-z0-9._-]+)(\[[^]]*\])?==(?P<version>[^\s;\\]+)\s*(;\s*(?P<only>[^\\]*?))?\s*\\?$"
)
_HASH = re.compile(r"^\s+--hash=sha256:(?P<hash>[0-9a-f]{64})\s*\\?$")


class Package(NamedTuple):
    """A locked package."""

    name: str
    version: str
    only: str | None
    """The environment marker that limits it to some platforms."""
    hashes: tuple[str, ...]


def locked(text: str) -> list[Package]:
    """Return the packages of a lock file. Raises `ValueError` for a line that is neither a package nor a hash."""
    found: list[Package] = []
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue
        if (package := _PACKAGE.match(line)) is not None:
            name = re.sub(r"[-_.]+", "-", package["name"]).lower()
            found.append(Package(name, package["version"], package["only"], ()))
        elif found and (digest := _HASH.match(line)) is not None:
            found[-1] = found[-1]._replace(hashes=(*found[-1].hashes, digest["hash"]))
        else:
            raise ValueError(f"{LOCK.name}:{number}: neither a package nor a hash: {line}")
    return found


def bill(packages: list[Package], version: str) -> dict[str, Any]:
    """Return the document for a version of Lapse."""
    components = [
        {
            "type": "library",
            "bom-ref": f"pkg:pypi/{package.name}@{package.version}",
            "name": package.name,
            "version": package.version,
            "purl": f"pkg:pypi/{package.name}@{package.version}",
            "externalReferences": [
                {
                    "type": "distribution",
                    "url": f"https://pypi.org/project/{package.name}/{package.version}/",
                    "hashes": [{"alg": "SHA-256", "content": digest} for digest in package.hashes],
                }
            ],
            **({"properties": [{"name": "lapse:only", "value": package.only}]} if package.only else {}),
        }
        for package in sorted(packages)
    ]
    itself = {"type": "application", "bom-ref": "lapse", "name": "lapse", "version": version}
    content = json.dumps([itself, components])
    return {
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": f"urn:uuid:{uuid.uuid5(uuid.NAMESPACE_URL, content)}",
        "version": 1,
        "metadata": {"component": itself},
        "components": components,
    }


def main() -> None:
    """Print the bill of materials."""
    version = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
    json.dump(bill(locked(LOCK.read_text(encoding="utf-8")), version), sys.stdout, indent=2)
    print()


if __name__ == "__main__":
    main()
