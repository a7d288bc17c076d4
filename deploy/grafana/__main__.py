"""`python -m deploy.grafana`: writes every dashboard as JSON, ready to be provisioned or imported."""

from __future__ import annotations

from pathlib import Path

from grafana_foundation_sdk.cog.encoder import JSONEncoder

from deploy.grafana import abandonment, pipeline, triggers

FOLDER = Path(__file__).with_name("dashboards")


def files() -> dict[Path, str]:
    """Return what each file is to hold."""
    encode = JSONEncoder(sort_keys=True, indent=2).encode
    made = {"abandonment": abandonment.make(), "triggers": triggers.make(), "pipeline": pipeline.make()}
    return {FOLDER / f"{name}.json": encode(dashboard.build()) + "\n" for name, dashboard in made.items()}


if __name__ == "__main__":
    for path, text in files().items():
        path.write_text(text, "utf-8")
        print(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path)
