"""Rules from git: what the workflow in `deploy/rules` and the Job of Kubernetes call is there, with these arguments."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from typing import Any

import pytest
import typer
import yaml

from streams.cli import app
from tests.deploy_files.test_kubernetes import built, environment, one
from tests.deploy_files.tools import DEPLOY

WORKFLOW = yaml.safe_load((DEPLOY / "rules" / "workflow.yaml").read_text("utf-8"))


def flags(verbs: list[str]) -> set[str]:
    """The flags of a verb of the command line."""
    command: Any = typer.main.get_command(app)
    for verb in verbs:
        command = command.commands[verb]
    return {flag for parameter in command.params for flag in parameter.opts}


def test_every_step_has_a_name_and_every_variable_of_its_script():
    for job in WORKFLOW["jobs"].values():
        for step in job["steps"]:
            assert "uses" in step or step["name"]
            for name in ("CAPTURE", "BEFORE", "AUTHOR", "COMMIT", "LATEST"):
                assert f"${name}" not in step.get("run", "") or name in WORKFLOW["env"]


@pytest.mark.parametrize("job", WORKFLOW["jobs"])
def test_the_scripts_are_sound_and_lapse_has_their_verbs_and_flags(job: str):
    called = set()
    for step in WORKFLOW["jobs"][job]["steps"]:
        script = step.get("run", "")
        assert subprocess.run(["bash", "-n"], input=script, text=True, check=False).returncode == 0
        for verbs, rest in re.findall(r"lapse ((?:[a-z]+ )+)([^|>;\n]*)", script):
            assert set(re.findall(r"--[a-z-]+", rest)) <= flags(verbs.split())
            called.add(verbs.strip())
    assert called >= {"check": {"check", "backtest"}, "publish": {"rules publish", "rules wait"}}[job]


@pytest.mark.parametrize(
    ("entries", "latest"),
    [
        ([], "0"),
        ([{"number": 1, "kind": "live"}, {"number": 2, "kind": "shadow"}], "1"),
        ([{"number": 1, "kind": "live"}, {"number": 2, "kind": "live"}, {"number": 3, "kind": "stop"}], "2"),
    ],
)
def test_the_workflow_finds_the_latest_live_revision(entries: list[dict[str, Any]], latest: str):
    done = subprocess.run(
        [sys.executable, "-c", WORKFLOW["env"]["LATEST"]],
        input=json.dumps({"entries": entries}),
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == latest


def test_the_job_publishes_the_file_of_its_config_map_with_arguments_that_lapse_takes():
    objects = built("rules-topic")
    (job,) = [made for made in objects if made["metadata"]["name"] == "lapse-publish-rules"]
    (container,) = job["spec"]["template"]["spec"]["containers"]
    (volume,) = job["spec"]["template"]["spec"]["volumes"]
    (mount,) = container["volumeMounts"]
    given = environment(objects, container, "")
    assert given["LAPSE_RULES"] == "topic"
    assert "LAPSE_TRIGGERS" not in given
    *verbs, file = container["args"][:3]
    mounted = one(objects, "ConfigMap", volume["configMap"]["name"])["data"]
    assert file.removeprefix(mount["mountPath"] + "/") in mounted
    words = [given[word[2:-1]] if word.startswith("$(") else word for word in container["args"][3:]]
    assert set(words[::2]) <= flags(verbs)
    assert words[1] == "0"
