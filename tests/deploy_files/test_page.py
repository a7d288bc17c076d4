"""Every command of `docs/deploy.md` is either run by a test or named here as one that can't be."""

from __future__ import annotations

import re
import shlex
import shutil
import sys
from pathlib import Path

import pytest

from streams.settings.settings import load_settings
from tests.deploy_files.tools import DEPLOY, ROOT, require, run

PAGE = (ROOT / "docs" / "deploy.md").read_text()
LINES = [
    line
    for block in re.findall(r"^```sh\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    for line in block.replace("\\\n", " ").splitlines()
]
NEEDS_AN_ENGINE = ("docker build", "docker push", "docker compose")
NEEDS_A_CLUSTER = ("kubectl create", "kubectl apply", "kubectl --namespace")
NEEDS_SYSTEMD = ("systemctl", "journalctl")
ELSEWHERE = {
    "export LAPSE_WEB_TOKEN": "test_compose.py gives it",
    "./dev lapse topics": "test_compose.py",
    "./dev lapse run": "test_compose.py",
    "./dev lapse demo --traffic-only": "test_compose.py",
    "./dev lapse check": "tests/test_docs.py",
    "prometheus ": "test_compose.py, and tests/deploy_monitoring with this very file",
    "python3 -m venv": "test_image.py installs like this, by the Dockerfile's lines",
    "/opt/lapse/bin/pip": "test_image.py",
}
HERE = ("kubectl kustomize", "python -m deploy.kubernetes", "install ")


def test_every_command_is_tried_or_named_as_not_tried():
    known = (*NEEDS_AN_ENGINE, *NEEDS_A_CLUSTER, *NEEDS_SYSTEMD, *ELSEWHERE, *HERE)
    assert len(LINES) > 20
    assert [line for line in LINES if not line.startswith(known)] == []


@pytest.mark.parametrize("line", [line for line in LINES if line.startswith("kubectl kustomize")])
def test_kustomize_builds_as_the_page_says(line: str):
    require("kubectl", "No kubectl: the commands of docs/deploy.md with it were not tried.")
    done = run(*shlex.split(line))
    assert done.returncode == 0, done.stderr
    assert "kind: StatefulSet" in done.stdout


def test_the_prometheus_rule_is_made_as_the_page_says(tmp_path: Path):
    shutil.copytree(DEPLOY, tmp_path / "deploy", ignore=shutil.ignore_patterns("samples", "__pycache__"))
    made = tmp_path / "deploy" / "kubernetes" / "components" / "monitoring" / "prometheusrule.yaml"
    made.unlink()
    (line,) = [line for line in LINES if line.startswith("python -m deploy.kubernetes")]
    assert run(sys.executable, *line.split()[1:], cwd=tmp_path).returncode == 0
    assert (
        made.read_text() == (DEPLOY / "kubernetes" / made.relative_to(tmp_path / "deploy" / "kubernetes")).read_text()
    )


def test_files_are_installed_where_the_unit_and_its_settings_look_for_them(tmp_path: Path):
    installed = [line.split() for line in LINES if line.startswith("install ")]
    for words in installed:
        done = run(*words[:-1], f"{tmp_path}{words[-1]}")
        assert done.returncode == 0, done.stderr
    unit = (tmp_path / "etc/systemd/system/lapse.service").read_text()
    assert "--config /etc/lapse/lapse.yaml" in unit
    settings = load_settings({}, {}, tmp_path / "etc/lapse/lapse.yaml")
    assert settings.warnings == ()
    assert (tmp_path / str(settings.triggers).lstrip("/")).is_file()
