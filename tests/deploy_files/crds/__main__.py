"""Takes the schemas of custom resources out of the Go modules of the projects that define them."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

SOURCES = {
    "github.com/prometheus-operator/prometheus-operator@v0.85.0": (
        "example/prometheus-operator-crd/monitoring.coreos.com_servicemonitors.yaml",
        "example/prometheus-operator-crd/monitoring.coreos.com_prometheusrules.yaml",
    ),
    "github.com/kedacore/keda/v2@v2.21.0": ("config/crd/bases/keda.sh_scaledobjects.yaml",),
}


def strict(schema: Any, *, properties: bool = False) -> Any:
    """Return a schema without descriptions, in which an object may have no member that is not named.

    The API server would drop such members without a word. `properties`: the value maps names to schemas.
    """
    if isinstance(schema, list):
        return [strict(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    if properties:
        return {name: strict(value) for name, value in schema.items()}
    made = {
        name: strict(value, properties=name == "properties")
        for name, value in schema.items()
        if name != "description" and not name.startswith("x-kubernetes-")
    }
    if "properties" in made and not schema.get("x-kubernetes-preserve-unknown-fields"):
        made.setdefault("additionalProperties", False)
    if schema.get("x-kubernetes-int-or-string"):
        made.pop("anyOf", None)
        made["type"] = ["integer", "string"]
    return made


def main() -> None:
    """Write one file for each definition."""
    for module, files in SOURCES.items():
        done = subprocess.run(["go", "mod", "download", "-json", module], capture_output=True, text=True, check=True)
        folder = Path(json.loads(done.stdout)["Dir"])
        for file in files:
            definition = yaml.safe_load((folder / file).read_text())
            for version in definition["spec"]["versions"]:
                if version["storage"]:
                    schema = strict(version["schema"]["openAPIV3Schema"])
                    schema["properties"]["metadata"] = {"type": "object"}
                    name = definition["spec"]["names"]["kind"].lower()
                    Path(__file__).with_name(f"{name}.json").write_text(
                        json.dumps(schema, separators=(",", ":")) + "\n"
                    )


if __name__ == "__main__":
    sys.exit(main())
