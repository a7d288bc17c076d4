"""Makes the schemas in this folder from the packages of the projects that define them; the README says which."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import yaml

HERE = Path(__file__).parent
CUSTOM = {
    "github.com/prometheus-operator/prometheus-operator@v0.85.0": (
        "example/prometheus-operator-crd/monitoring.coreos.com_servicemonitors.yaml",
        "example/prometheus-operator-crd/monitoring.coreos.com_prometheusrules.yaml",
    ),
    "github.com/kedacore/keda/v2@v2.21.0": ("config/crd/bases/keda.sh_scaledobjects.yaml",),
}
OWN = "kubernetes-validate==1.37.0"
VERSIONS = ("1.31", "1.37")
KINDS = (
    "configmap-v1",
    "job-batch-v1",
    "networkpolicy-networking-v1",
    "poddisruptionbudget-policy-v1",
    "service-v1",
    "serviceaccount-v1",
    "statefulset-apps-v1",
)


def main() -> None:
    """Write one file for each kind."""
    with tempfile.TemporaryDirectory() as scratch:
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", scratch, OWN]
        subprocess.run(command, check=True)
        for version in VERSIONS:
            folder = Path(scratch, "kubernetes_validate", "kubernetes-json-schema", f"v{version}.0-local-strict")
            definitions = json.loads((folder / "_definitions.json").read_text())["$defs"]
            for kind in KINDS:
                schema = json.loads((folder / f"{kind}.json").read_text())
                write(f"{version}/{kind.partition('-')[0]}", self_contained(without_prose(schema), definitions))
    for module, files in CUSTOM.items():
        done = subprocess.run(["go", "mod", "download", "-json", module], capture_output=True, text=True, check=True)
        folder = Path(json.loads(done.stdout)["Dir"])
        for file in files:
            definition = yaml.safe_load((folder / file).read_text())["spec"]
            for version in definition["versions"]:
                if version["storage"]:
                    schema = without_prose(version["schema"]["openAPIV3Schema"])
                    schema["properties"]["metadata"] = {"type": "object"}
                    write(definition["names"]["kind"].lower(), schema)


def write(name: str, schema: Any) -> None:
    """Write one file."""
    path = HERE / f"{name}.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(schema, separators=(",", ":"), sort_keys=True) + "\n")


def self_contained(schema: Any, definitions: dict[str, Any]) -> Any:
    """Return a schema with those of the definitions that it needs."""
    needed: dict[str, Any] = {}

    def localized(part: Any) -> Any:
        if isinstance(part, list):
            return [localized(item) for item in part]
        if not isinstance(part, dict):
            return part
        if isinstance(reference := part.get("$ref"), str):
            name = reference.rpartition("/")[2]
            if name not in needed:
                needed[name] = {}
                needed[name] = localized(without_prose(definitions[name]))
            return {"$ref": f"#/$defs/{name}"}
        return {name: localized(value) for name, value in part.items()}

    return {**localized(schema), "$defs": needed}


def without_prose(schema: Any, *, names: bool = False) -> Any:
    """Return a schema without descriptions, in which an object has no member that is not named.

    `names`: the object is one whose members are named by the schema, and not the schema itself.
    """
    if isinstance(schema, list):
        return [without_prose(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    if names:
        return {name: without_prose(value) for name, value in schema.items()}
    made = {
        name: without_prose(value, names=name == "properties")
        for name, value in schema.items()
        if name != "description" and not name.startswith("x-kubernetes-")
    }
    if "properties" in made and not schema.get("x-kubernetes-preserve-unknown-fields"):
        made.setdefault("additionalProperties", False)
    if schema.get("x-kubernetes-int-or-string"):
        made.pop("anyOf", None)
        made["type"] = ["integer", "string"]
    return made


if __name__ == "__main__":
    main()
