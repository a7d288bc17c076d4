"""What can be checked of `deploy/` without a container engine: that it speaks of commands and settings that exist."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from streams.cli import app
from streams.settings.settings import load_settings

ROOT = Path(__file__).parents[1]
SERVICES: dict[str, Any] = yaml.safe_load((ROOT / "deploy/compose.yaml").read_text())["services"]
OURS = {name: service for name, service in SERVICES.items() if service["image"] == "lapse"}


@pytest.mark.parametrize("name", OURS)
def test_compose_sets_only_settings_that_exist_and_fit_together(name: str) -> None:
    environment = {key: str(value) for key, value in OURS[name]["environment"].items()}
    assert load_settings({}, environment, None).warnings == ()


@pytest.mark.parametrize("name", OURS)
def test_compose_calls_verbs_and_flags_that_exist(name: str) -> None:
    words = OURS[name]["command"]
    verb = words[: next((at for at, word in enumerate(words) if word.startswith("-")), len(words))]
    shown = CliRunner().invoke(app, [*verb, "--help"])
    assert shown.exit_code == 0
    assert [word for word in words if word.startswith("--") and word not in shown.output] == []


def test_the_image_copies_only_what_is_there_and_serves_the_default_port() -> None:
    lines = (ROOT / "deploy/Dockerfile").read_text().splitlines()
    copied = [
        word for line in lines if line.startswith("COPY ") and "--from" not in line for word in line.split()[1:-1]
    ]
    assert copied
    assert [path for path in copied if not (ROOT / path).exists()] == []
    assert f"EXPOSE {load_settings({}, {}, None).web_port}" in lines
