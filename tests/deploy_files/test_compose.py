"""`deploy/compose.yaml`: Docker Compose itself reads it, and its processes run natively with what it gives them.

Not run here, for want of a container engine: the images of Kafka, Prometheus and Grafana, and the networks and volumes
between them. Kafka and Prometheus run as this machine has them, with the same configuration.
"""

from __future__ import annotations

import json
import subprocess
import sys
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from streams.cli import app
from streams.settings.settings import load_settings
from tests.deploy_files.native import Native, ask, can_confine, seconds, until
from tests.deploy_files.test_image import health_check
from tests.deploy_files.tools import DEPLOY, require, run
from tests.kafka_kit.broker import Broker, free_port
from tests.kafka_kit.fixtures import require_java

TOKEN = "compose-test-token"
NO_COMPOSE = "No docker-compose: it is in the development requirements."


def compose() -> dict[str, Any]:
    """The file as Docker Compose understands it: merged, with variables put in, checked against its schema."""
    command = [require("docker-compose", NO_COMPOSE), "-f", str(DEPLOY / "compose.yaml"), "config", "--format", "json"]
    done = run(*command, LAPSE_WEB_TOKEN=TOKEN)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@pytest.fixture(scope="module")
def services() -> dict[str, Any]:
    found: dict[str, Any] = compose()["services"]
    return found


def ours(services: dict[str, Any]) -> dict[str, Any]:
    return {name: service for name, service in services.items() if service["image"] == "lapse"}


# --- what the file says -----------------------------------------------------------------------------------------------


def test_compose_refuses_a_file_that_breaks_its_schema(tmp_path: Path):
    broken = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
    broken["services"]["kafka"]["restrat"] = "always"
    (tmp_path / "compose.yaml").write_text(yaml.safe_dump(broken))
    command = [require("docker-compose", NO_COMPOSE), "-f", str(tmp_path / "compose.yaml"), "config", "--quiet"]
    assert run(*command, LAPSE_WEB_TOKEN=TOKEN).returncode != 0


def test_compose_asks_for_a_token():
    done = run(require("docker-compose", NO_COMPOSE), "-f", str(DEPLOY / "compose.yaml"), "config", LAPSE_WEB_TOKEN="")
    assert done.returncode != 0
    assert "set a token" in done.stderr


def test_all_parts_are_there(services: dict[str, Any]):
    assert set(services) == {"kafka", "topics", "worker-1", "worker-2", "traffic", "prometheus", "grafana"}


def test_settings_exist_and_fit_together(services: dict[str, Any]):
    for service in ours(services).values():
        assert load_settings({}, service["environment"], None).warnings == ()


def test_verbs_and_flags_exist(services: dict[str, Any]):
    for service in ours(services).values():
        words = service["command"]
        verb = words[: next((at for at, word in enumerate(words) if word.startswith("-")), len(words))]
        shown = CliRunner().invoke(app, [*verb, "--help"])
        assert shown.exit_code == 0
        assert [word for word in words if word.startswith("--") and word not in shown.output] == []


def test_every_port_is_on_the_loopback_interface(services: dict[str, Any]):
    ports = [port for service in services.values() for port in service.get("ports", ())]
    assert len(ports) == 5
    assert {port["host_ip"] for port in ports} == {"127.0.0.1"}
    assert len({port["published"] for port in ports}) == len(ports)


def test_what_cannot_go_on_is_not_started_for_ever(services: dict[str, Any]):
    """Exit code 2 means that the same start would end in the same way."""
    for name, service in ours(services).items():
        assert service["restart"] in {"no", "on-failure:5"}, name


def test_everything_but_kafka_runs_without_rights_on_a_read_only_root(services: dict[str, Any]):
    for name, service in services.items():
        if name != "kafka":
            assert service["read_only"] is True
            assert service["cap_drop"] == ["ALL"]
            assert service["security_opt"] == ["no-new-privileges:true"]


def test_files_that_are_mounted_are_there(services: dict[str, Any]):
    sources = [
        Path(volume["source"])
        for service in services.values()
        for volume in service.get("volumes", ())
        if volume["type"] == "bind"
    ]
    assert len(sources) == 5
    assert [path for path in sources if not path.exists()] == []


def test_images_are_pinned(services: dict[str, Any]):
    others = {service["image"] for service in services.values()} - {"lapse"}
    assert [image for image in others if ":" not in image or image.endswith(":latest")] == []


def test_prometheus_of_compose_is_the_one_of_the_repository_with_other_addresses():
    plain = yaml.safe_load((DEPLOY / "prometheus" / "prometheus.yaml").read_text())
    composed = yaml.safe_load((DEPLOY / "compose" / "prometheus.yaml").read_text())
    del plain["scrape_configs"][1:]  # `lapse ingest` and `lapse apply`: the stack has no Zendesk
    plain["scrape_configs"][0]["static_configs"] = composed["scrape_configs"][0]["static_configs"]
    assert composed == plain


def test_grafana_finds_prometheus_and_every_dashboard(services: dict[str, Any]):
    provisioning = DEPLOY / "grafana" / "provisioning"
    source = yaml.safe_load((provisioning / "datasources" / "lapse.yaml").read_text())["datasources"][0]
    address = urllib.parse.urlsplit(source["url"])
    assert address.hostname in services
    assert address.port in {port["target"] for port in services["prometheus"]["ports"]}
    provider = yaml.safe_load((provisioning / "dashboards" / "lapse.yaml").read_text())["providers"][0]
    mounted = {
        volume["target"]: Path(volume["source"]) for volume in services["grafana"]["volumes"] if "source" in volume
    }
    assert len(list(mounted[provider["options"]["path"]].glob("*.json"))) == 3
    home = Path(services["grafana"]["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"])
    assert (mounted[str(home.parent)] / home.name).is_file()
    for file in mounted[provider["options"]["path"]].glob("*.json"):
        variables = {variable["name"]: variable for variable in json.loads(file.read_text())["templating"]["list"]}
        assert any(
            variable["type"] == "datasource" and variable["query"] == source["type"] for variable in variables.values()
        )


# --- what the file does -----------------------------------------------------------------------------------------------


def broker_settings(service: dict[str, Any]) -> dict[str, str]:
    """Return the properties that the official image makes of its environment, apart from addresses and folders."""
    places = {"listeners", "advertised.listeners", "controller.quorum.voters", "log.dirs"}
    named = {
        name.removeprefix("KAFKA_")
        .replace("___", "-")
        .replace("__", "\0")
        .replace("_", ".")
        .replace("\0", "_")
        .lower(): value
        for name, value in service["environment"].items()
        if name.startswith("KAFKA_")
    }
    return {name: value for name, value in named.items() if name not in places}


class Installation:
    """The services of the compose file as processes, each found where the file says, on ports of the loopback."""

    def __init__(self, services: dict[str, Any], broker: Broker, folder: Path) -> None:
        self.services = services
        self.folder = folder
        self.bootstrap = broker.bootstrap
        self.ports = {name: free_port() for name in ("worker-1", "worker-2", "prometheus")}

    def native(self, name: str) -> Native:
        service = self.services[name]
        environment = {
            key: value.replace("kafka:9092", self.bootstrap) for key, value in service["environment"].items()
        }
        environment["LAPSE_TRIGGERS"] = str(DEPLOY / "triggers" / "recipes.yaml")
        if name in self.ports:
            environment["LAPSE_WEB_PORT"] = str(self.ports[name])
        return Native(name, service["command"], environment, self.folder)

    def prometheus(self) -> Native:
        for volume in self.services["prometheus"]["volumes"]:
            if volume["type"] == "bind":
                text = Path(volume["source"]).read_text()
                for worker in ("worker-1", "worker-2"):
                    text = text.replace(f"{worker}:6066", f"127.0.0.1:{self.ports[worker]}")
                # Neither fifteen seconds for a scrape nor a minute for a rule.
                text = text.replace("_interval: 15s", "_interval: 1s").replace("    interval: 1m\n", "")
                (self.folder / Path(volume["target"]).name).write_text(text)
        arguments = [
            word.replace("/etc/prometheus", str(self.folder)).replace("=/prometheus", f"={self.folder / 'data'}")
            for word in self.services["prometheus"]["command"]
        ]
        arguments.append(f"--web.listen-address=127.0.0.1:{self.ports['prometheus']}")
        program = require("prometheus", "No prometheus: install Debian's package `prometheus` to run this test.")
        return Native("prometheus", arguments, {}, self.folder, program=program)

    def values(self, query: str) -> list[float]:
        address = f"http://127.0.0.1:{self.ports['prometheus']}/api/v1/query?{urllib.parse.urlencode({'query': query})}"
        with urllib.request.urlopen(address, timeout=10) as answer:
            return [float(found["value"][1]) for found in json.load(answer)["data"]["result"]]


@pytest.fixture(scope="module")
def running(
    services: dict[str, Any], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Installation, dict[str, Native]]]:
    require_java()
    require("prometheus", "No prometheus: install Debian's package `prometheus` to run this test.")
    folder = tmp_path_factory.mktemp("compose")
    processes: dict[str, Native] = {}
    with Broker(broker_settings(services["kafka"])) as broker:
        installation = Installation(services, broker, folder)
        try:
            topics = installation.native("topics")
            topics.start()
            assert topics.ends(60) == 0, topics.tail()
            for name in ("worker-1", "worker-2", "traffic"):
                processes[name] = installation.native(name)
                processes[name].start()
            processes["prometheus"] = installation.prometheus()
            processes["prometheus"].start(confined=False)
            yield installation, processes
        finally:
            for process in processes.values():
                process.kill()


def test_the_pipeline_comes_up_and_prometheus_sees_commands(running: Any):
    installation, processes = running
    for name in ("worker-1", "worker-2"):
        port = installation.ports[name]
        until(lambda port=port: ask(port, "/readyz", 2) == 200, 60, processes[name])
    until(lambda: ask(installation.ports["prometheus"], "/-/ready", 2) == 200, 30, processes["prometheus"])
    until(lambda: installation.values('sum(up{job="lapse"})') == [2.0], 30, *processes.values())
    until(lambda: any(installation.values("sum(lapse_commands_total)")), 60, *processes.values())
    until(lambda: any(installation.values("sum(lapse_commands_applied_total)")), 60, *processes.values())
    until(lambda: installation.values("lapse_assigned_partitions") == [2.0, 2.0], 30, *processes.values())
    assert installation.values('ALERTS{alertstate="firing",severity="page"}') == []
    print("confined" if can_confine() else "not confined: that needs root")


def test_the_health_check_of_the_image_says_that_a_worker_is_well(running: Any):
    installation, _ = running
    done = subprocess.run(
        [sys.executable, *health_check()[1:]],
        env={"LAPSE_WEB_PORT": str(installation.ports["worker-1"])},
        capture_output=True,
        timeout=90,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_workers_stop_well_within_the_time_that_compose_gives_them(running: Any):
    installation, processes = running
    for name in ("traffic", "worker-1", "worker-2"):
        given = seconds(installation.services[name].get("stop_grace_period", "10s"))
        code, took = processes[name].stop(given)
        assert code == 0, processes[name].tail()
        assert took < given / 2


def test_a_worker_whose_settings_cannot_be_used_ends_at_once_with_2(running: Any):
    installation, _ = running
    worker = installation.native("worker-1")
    worker._environment["LAPSE_ACT_FROM"] = "yesterday"
    worker.start()
    assert worker.ends(30) == 2, worker.tail()
