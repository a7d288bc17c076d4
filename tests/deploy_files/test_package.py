"""Wheel and sdist: the same bytes from the same commit, and all that a user needs inside."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest

from tests.deploy_files.tools import ROOT, require, run


def build(folder: Path, root: Path = ROOT, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run `./dev build` with the environment that runs the tests."""
    require("git", "No git: the package is built from a commit.")
    return run(str(root / "dev"), "build", str(folder), within=300, cwd=root, **environment)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("built")
    done = build(folder)
    assert done.returncode == 0, done.stderr
    return folder


def test_the_same_commit_gives_the_same_bytes(built: Path, tmp_path: Path):
    (tmp_path / "tmp").mkdir()
    before = os.umask(0o077)
    try:
        again = build(tmp_path / "again", TMPDIR=str(tmp_path / "tmp"), TZ="Pacific/Auckland", LC_ALL="C")
    finally:
        os.umask(before)
    assert again.returncode == 0, again.stderr
    names = sorted(file.name for file in built.iterdir())
    assert [name.partition("-")[0] for name in names] == ["lapse", "lapse"]
    for name in names:
        assert (built / name).read_bytes() == (tmp_path / "again" / name).read_bytes(), name


def test_the_wheel_has_every_file_of_the_package_and_no_others(built: Path):
    listed = run("git", "ls-files", "streams").stdout.split()
    (wheel,) = built.glob("*.whl")
    inside = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    assert inside == set(run("git", "ls-tree", "-r", "--name-only", "HEAD", "streams").stdout.split())
    assert "streams/demo/triggers.yaml" in listed


def test_the_sdist_can_be_built_from(built: Path):
    (sdist,) = built.glob("*.tar.gz")
    names = {name.partition("/")[2] for name in tarfile.open(sdist).getnames()}
    assert {"pyproject.toml", "README.md", "requirements.lock", "streams/cli/root.py", "tests/conftest.py"} <= names
    assert [name for name in names if name.startswith((".venv", "dist"))] == []


def test_a_tag_of_another_version_is_refused(tmp_path: Path):
    run("git", "clone", "--quiet", "--no-hardlinks", str(ROOT), str(tmp_path / "clone"))
    clone = tmp_path / "clone"
    (clone / ".venv").symlink_to(ROOT / ".venv")
    script = (clone / "dev").read_text().replace("    setup\n    out=", "    out=")  # the environment is there
    (clone / "dev").write_text(script)
    for tag, code in (("v0.0.0-other", 1), ("v" + version(), 0)):
        assert run("git", "-C", str(clone), "tag", tag).returncode == 0
        done = build(tmp_path / "out", clone)
        assert done.returncode == code, done.stderr
        run("git", "-C", str(clone), "tag", "--delete", tag)
    assert "v0.0.0-other" in build_refusal(clone, tmp_path)


def build_refusal(clone: Path, folder: Path) -> str:
    run("git", "-C", str(clone), "tag", "v0.0.0-other")
    return build(folder / "out", clone).stderr


def version() -> str:
    found = re.search(r'^version = "(.+)"', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    assert found is not None
    return found[1]


def test_the_changelog_speaks_of_this_version():
    assert re.search(rf"^## \[({re.escape(version())}|Unreleased)\]", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)


@pytest.fixture(scope="module")
def installed(built: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty environment with the wheel and what its metadata asks for, at the locked versions; its Python."""
    folder = tmp_path_factory.mktemp("installed")
    venv.create(folder / "venv", with_pip=False)
    python = folder / "venv" / "bin" / "python"
    (wheel,) = built.glob("*.whl")
    pinned = re.findall(r"^[a-z0-9-]+==[^ ;\\\n]+", (ROOT / "requirements.lock").read_text(), re.MULTILINE)
    (folder / "constraints.txt").write_text("\n".join(pinned))
    pip = [sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet"]
    done = run(*pip, "--constraint", str(folder / "constraints.txt"), f"{wheel}[demo]", within=500)
    assert done.returncode == 0, done.stderr
    return python


def test_the_wheel_in_an_empty_environment_passes_the_demo(installed: Path, tmp_path: Path):
    environment = {"HOME": str(tmp_path), "TMPDIR": str(tmp_path), "PYTHONPATH": "", "COLUMNS": "100"}
    done = run(str(installed.with_name("lapse")), "demo", "--seconds", "10", within=150, cwd=tmp_path, **environment)
    assert done.returncode == 0, done.stdout + done.stderr
    commands = re.search(r"^\s*commands +([\d,]+) +each exactly once", done.stdout, re.MULTILINE)
    assert commands is not None, done.stdout
    assert int(commands[1].replace(",", "")) > 0
