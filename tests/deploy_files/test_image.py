"""The image, as far as that goes without a container engine: what it holds, how big, and what the linter says."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tomllib
import venv
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from streams.settings.settings import load_settings
from tests.deploy_files.tools import DEPLOY, ROOT, require, run

DOCKERFILE = (DEPLOY / "Dockerfile").read_text()
LINES = re.sub(r"\\\n\s*", "", DOCKERFILE).splitlines()
LARGEST = 200
"""MiB of packages that the image may hold."""


def instructions(name: str) -> list[str]:
    return [line.removeprefix(f"{name} ") for line in LINES if line.startswith(f"{name} ")]


def pins(lock: str) -> dict[str, set[str]]:
    """The hashes of a lock's packages by `name==version`."""
    blocks = re.findall(r"^([a-z0-9-]+==[^ ;\\]+)[^\\\n]*((?:\\\n\s+--hash=\S+ ?)+)", (ROOT / lock).read_text(), re.M)
    return {package: set(re.findall(r"--hash=(\S+)", hashes)) for package, hashes in blocks}


def test_the_linter_finds_nothing():
    linted = run(require("hadolint", "No hadolint: it is in the development requirements."), str(DEPLOY / "Dockerfile"))
    assert (linted.returncode, linted.stdout) == (0, ""), linted.stdout + linted.stderr


def test_the_linter_is_one_that_finds_things(tmp_path: Path):
    bad = tmp_path / "Dockerfile"
    bad.write_text(DOCKERFILE.replace("USER 10001:10001", "USER root"))
    assert "DL3002" in run(require("hadolint", "No hadolint."), str(bad)).stdout


def test_what_is_copied_is_there_and_not_left_out_of_the_context():
    copied = [word for line in instructions("COPY") if not line.startswith("--from") for word in line.split()[:-1]]
    kept = {line[1:] for line in (DEPLOY / "Dockerfile.dockerignore").read_text().splitlines() if line[0] == "!"}
    assert set(copied) == kept
    assert [path for path in copied if not (ROOT / path).exists()] == []


def test_the_image_serves_the_default_port_as_a_user_without_rights():
    defaults = load_settings({}, {}, None)
    assert instructions("EXPOSE") == [str(defaults.web_port)]
    assert instructions("USER") == ["10001:10001"]
    assert DOCKERFILE.index("\nUSER") < DOCKERFILE.index("\nENTRYPOINT")


def test_the_settings_of_the_image_are_settings():
    environment = dict(word.split("=", 1) for word in instructions("ENV")[0].split() if word.startswith("LAPSE_"))
    assert environment
    assert load_settings({}, environment, None).warnings == ()
    inside = Path(environment["LAPSE_TRIGGERS"])
    assert (DEPLOY / "triggers" / inside.name).is_file()


def test_the_runtime_lock_is_a_part_of_the_whole_one():
    runtime, whole = pins("requirements.run.lock"), pins("requirements.lock")
    assert len(runtime) > 30
    assert {package for package, hashes in runtime.items() if whole.get(package) != hashes} == set()
    names = {package.split("==")[0] for package in runtime}
    assert names.isdisjoint({"pytest", "mypy", "ruff", "playwright", "noida-db", "matplotlib", "hypothesis"})


def test_the_runtime_lock_has_all_that_the_package_asks_for():
    """Also what an extra of a dependency asks for, such as the codecs of `aiokafka[lz4]`."""
    locked = {package.split("==")[0] for package in pins("requirements.run.lock")}
    wanted = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    for requirement in map(Requirement, wanted):
        needed = {canonicalize_name(requirement.name)}
        for line in metadata.requires(requirement.name) or ():
            inner = Requirement(line)
            if any(inner.marker and inner.marker.evaluate({"extra": extra}) for extra in requirement.extras):
                needed.add(canonicalize_name(inner.name))
        assert needed <= locked, f"{requirement}: run ./dev lock"


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment made by the Dockerfile's own pip lines; returns its Python."""
    place = tmp_path_factory.mktemp("image") / "lapse"
    venv.create(place, with_pip=False)
    for line in instructions("RUN"):
        for command in line.split(" && "):
            if not command.startswith("pip "):
                continue
            words = command.replace("/opt/lapse", str(place)).replace("--no-cache-dir ", "").split()
            done = run(sys.executable, "-m", *words, within=500)
            assert done.returncode == 0, done.stdout + done.stderr
    return place / "bin" / "python"


def test_the_packages_of_the_image_stay_small_and_are_only_what_a_worker_needs(installed: Path):
    packages = next((installed.parents[1] / "lib").glob("python3*")) / "site-packages"
    size = sum(file.stat().st_size for file in packages.rglob("*") if file.is_file()) / 2**20
    print(f"{size:.0f} MiB of packages")
    assert size <= LARGEST
    there = {path.name.lower() for path in packages.iterdir()}
    assert there >= {"streams", "aiokafka", "faust"}
    assert there.isdisjoint({"pytest", "mypy", "playwright", "noida_db", "matplotlib", "hatchling", "pip"})


def test_the_installed_command_runs_without_the_repository(installed: Path, tmp_path: Path):
    lapse = str(installed.with_name("lapse"))
    assert run(lapse, "--help", cwd=tmp_path).returncode == 0
    assembled = run(str(installed), "-c", "import streams.assembly", cwd=tmp_path)
    assert assembled.returncode == 0, assembled.stderr
    checked = run(lapse, "check", str(DEPLOY / "triggers" / "recipes.yaml"), cwd=tmp_path)
    assert checked.returncode == 0, checked.stdout + checked.stderr
    refused = run(lapse, "run", cwd=tmp_path, LAPSE_TRIGGERS="/nowhere.yaml")
    assert refused.returncode == 2
    assert "/nowhere.yaml" in refused.stderr


def health_check() -> list[str]:
    """The command of the image's health check."""
    found: list[str] = json.loads(instructions("HEALTHCHECK")[0].partition("CMD ")[2])
    return found


def test_the_health_check_fails_where_no_worker_answers():
    words = health_check()
    assert words[0] == "python"
    done = subprocess.run(
        [sys.executable, *words[1:]], env={"LAPSE_WEB_PORT": "1"}, capture_output=True, timeout=90, check=False
    )
    assert done.returncode != 0
