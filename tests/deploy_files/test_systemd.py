"""The systemd unit: systemd reads it without a complaint, and its command runs. Not run here: systemd itself."""

from __future__ import annotations

import configparser
import shlex
import sys
from pathlib import Path

from tests.deploy_files.tools import DEPLOY, require, run

UNIT = DEPLOY / "systemd" / "lapse.service"
NO_SYSTEMD = "No systemd-analyze: install Debian's package `systemd` to run this test."


def unit() -> configparser.ConfigParser:
    parsed = configparser.ConfigParser(strict=False, interpolation=None)
    parsed.optionxform = str  # type: ignore[assignment,method-assign]
    parsed.read(UNIT)
    return parsed


def verified(text: str, folder: Path) -> str:
    """What systemd says of a unit. Its program need not be installed here, but systemd asks for one that is."""
    (folder / "lapse.service").write_text(text.replace("/opt/lapse/bin/lapse", sys.executable))
    analyze = require("systemd-analyze", NO_SYSTEMD)
    done = run(analyze, "verify", "--man=no", "--recursive-errors=no", str(folder / "lapse.service"))
    said = done.stdout + done.stderr
    return said or ("" if done.returncode == 0 else f"exit code {done.returncode}")


def test_systemd_finds_nothing_wrong(tmp_path: Path):
    assert verified(UNIT.read_text(), tmp_path) == ""


def test_systemd_finds_a_misspelt_setting(tmp_path: Path):
    assert "ProtectHoem" in verified(UNIT.read_text().replace("ProtectHome", "ProtectHoem"), tmp_path)


def test_the_unit_is_confined():
    analyze = require("systemd-analyze", NO_SYSTEMD)
    done = run(analyze, "security", "--offline=yes", "--threshold=20", str(UNIT))
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_command_ends_with_2_on_settings_that_cannot_be_used_and_is_then_left_alone(tmp_path: Path):
    service = unit()["Service"]
    words = shlex.split(service["ExecStart"])
    assert words[0] == "/opt/lapse/bin/lapse"
    (tmp_path / "lapse.yaml").write_text("brokers: 127.0.0.1:1\nact_form: now\n")
    words = [word.replace("/etc/lapse", str(tmp_path)) for word in words[1:]]
    done = run(sys.executable, "-m", "streams", *words)
    assert done.returncode == int(service["RestartPreventExitStatus"])
    assert "act_from" in done.stderr
