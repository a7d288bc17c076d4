"""No secret leaves the settings: not in text of our objects, not in errors, logs, pages or command lines."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import aiohttp
import pytest

from streams.assembly import runtime_config
from streams.kafka.config import KafkaConfig, Security
from streams.settings.settings import SECRETS, SettingsError, load_settings
from streams.telemetry.observer import Metrics
from streams.web.server import Server
from tests.web.worker import RULESET, Worker

CANARY = "canary-7f3a9c51"
COMMON = {"LAPSE_SECURITY_PROTOCOL": "SASL_PLAINTEXT", "LAPSE_SASL_USERNAME": "u", "LAPSE_WEB_HOST": "0.0.0.0"}
USED = ("sasl_password", "web_token", "schema_registry_password", "ingest_secrets", "zendesk_client_secret")
"""Secrets that go together; the password of a private key needs a key."""


def canaries() -> dict[str, str]:
    """Return variables that give every secret of `USED` a text of its own."""
    return {f"LAPSE_{name.upper()}": f"{CANARY}-{number}" for number, name in enumerate(USED)}


def test_every_secret_but_that_of_a_key_is_tried_here() -> None:
    assert {*USED, "ssl_key_password"} == set(SECRETS)


def test_no_text_of_our_configuration_has_a_secret_in_it() -> None:
    settings = load_settings(environ=COMMON | canaries())
    config = runtime_config(settings)
    assert config.security["sasl_plain_password"] == f"{CANARY}-0", "it is what the client gets"
    for shown in (repr(settings), str(settings), repr(config), str(config), f"{config.security}", repr({"a": config})):
        assert CANARY not in shown
    assert "Security(SASL_PLAINTEXT)" in repr(config)
    assert repr(KafkaConfig(security=Security(security_protocol="SSL", ssl_context=CANARY))).count(CANARY) == 0


@pytest.mark.parametrize("name", USED)
def test_no_error_in_settings_shows_a_secret(name: str, tmp_path: Path) -> None:
    config = tmp_path / "lapse.yaml"
    for value in (f"[{CANARY}, {{a: {CANARY}}}]", f"{{{CANARY}: {CANARY}}}", f'"{CANARY}\\0"', f"'{CANARY}'"):
        config.write_text(f"{name}: {value}\njoin_wait: {CANARY[:3]}\n")
        with pytest.raises(SettingsError) as refused:
            load_settings(environ={}, config_file=config)
        assert CANARY not in str(refused.value)


@pytest.mark.parametrize("name", USED)
def test_a_secret_on_the_command_line_is_warned_of(name: str) -> None:
    settings = load_settings({name: f"{CANARY}-x"}, {key: value for key, value in (COMMON | canaries()).items()})
    warnings = [warning for warning in settings.warnings if "command line" in warning]
    assert warnings == [
        f"{name} is on the command line, where every user of this machine can read it; give LAPSE_{name.upper()} or "
        f"{name}_file instead"
    ]


def test_a_secret_from_the_environment_or_a_file_is_not_warned_of(tmp_path: Path) -> None:
    (tmp_path / "token").write_text(CANARY)
    settings = load_settings({"web_token_file": str(tmp_path / "token")}, COMMON | {"LAPSE_SASL_PASSWORD": CANARY})
    assert not [warning for warning in settings.warnings if "command line" in warning]


async def test_no_page_and_no_answer_has_the_token_in_it() -> None:
    server = Server(port=0, token=CANARY, metrics=Metrics(), source=Worker(), ruleset=RULESET)
    async with server, aiohttp.ClientSession() as session:
        resources = [route.resource for route in server._app().router.routes() if route.resource is not None]
        paths = sorted({resource.canonical.replace("{id}", "1").replace("{name}", "page.js") for resource in resources})
        assert len(paths) > 12
        for path in paths:
            for headers in ({}, {"Authorization": f"Bearer {CANARY}"}, {"Authorization": f"Bearer {CANARY}x"}):
                async with session.get(f"http://127.0.0.1:{server.port}{path}", headers=headers) as answer:
                    shown = f"{answer.headers}" + await answer.text()
                    assert CANARY not in shown, path


def test_no_log_and_no_error_of_a_process_has_a_secret_in_it(tmp_path: Path) -> None:
    """Everything is logged, and no broker answers."""
    (tmp_path / "t.yaml").write_text(TRIGGERS)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("LAPSE_")}
    for number, name in enumerate(USED):
        (tmp_path / name).write_text(f"{CANARY}-{number}\n")
        environment[f"LAPSE_{name.upper()}_FILE"] = str(tmp_path / name)
    environment |= COMMON | {
        "LAPSE_BROKERS": "127.0.0.1:1",
        "LAPSE_BROKER_PATIENCE": "1s",
        "LAPSE_LOG_LEVEL": "debug",
        "LAPSE_WEB_PORT": "0",
        "LAPSE_ACT_FROM": "now",
        "LAPSE_TRIGGERS": str(tmp_path / "t.yaml"),
    }
    done = subprocess.run(
        [sys.executable, "-m", "streams", "run"],
        env=environment, cwd=tmp_path, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=180,
        check=False,
    )  # fmt: skip
    said = done.stdout + done.stderr
    assert done.returncode != 0, said
    assert "127.0.0.1:1" in said, said
    assert CANARY not in said
    assert "Traceback" not in said


TRIGGERS = """
triggers:
  - id: solve
    conditions: {all: [{field: messaging_session_state, operator: changed_to, value: inactive}]}
    actions: [{field: status, value: solved}]
"""
