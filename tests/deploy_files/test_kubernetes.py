"""`deploy/kubernetes`: all overlays build, fit the schemas of what they make, and their pods run natively.

Not run here: a cluster. What its controllers do with these objects (rollouts, disruption budgets, network policies,
scaling) is not tried.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from streams.settings.settings import load_settings
from tests.deploy_files.native import Native, ask, until
from tests.deploy_files.tools import DEPLOY, ROOT, require, run
from tests.kafka_kit.broker import free_port

OVERLAYS = ("staging", "production", "rules-topic")
SCHEMAS = Path(__file__).parent / "kubernetes_schemas"
VERSIONS = ("1.31", "1.37")
"""Versions of Kubernetes that the manifests are checked against."""


def validator(kind: str, version: str) -> jsonschema.Draft202012Validator:
    """Check objects of a kind: one of Kubernetes' own as of a version, or a custom resource."""
    custom = SCHEMAS / f"{kind.lower()}.json"
    file = custom if custom.exists() else SCHEMAS / version / custom.name
    return jsonschema.Draft202012Validator(json.loads(file.read_text()))


def built(overlay: str) -> list[dict[str, Any]]:
    """The objects of an overlay, as `kubectl apply -k` would send them."""
    folder = str(DEPLOY / "kubernetes" / "overlays" / overlay)
    if (kustomize := shutil.which("kustomize")) is not None:
        command = [kustomize, "build", folder]
    else:
        missing = "Neither kubectl nor kustomize: `go install sigs.k8s.io/kustomize/kustomize/v5@latest` makes one."
        command = [require("kubectl", missing), "kustomize", folder]
    done = run(*command)
    assert done.returncode == 0, done.stderr
    return [found for found in yaml.safe_load_all(done.stdout) if found]


@pytest.fixture(scope="module")
def overlays() -> dict[str, list[dict[str, Any]]]:
    return {name: built(name) for name in OVERLAYS}


def one(objects: list[dict[str, Any]], kind: str, name: str = "lapse") -> dict[str, Any]:
    """The object of a kind whose name begins so (generated ones end in a hash)."""
    (found,) = [o for o in objects if o["kind"] == kind and o["metadata"]["name"].startswith(name)]
    return found


def pod(objects: list[dict[str, Any]]) -> dict[str, Any]:
    spec: dict[str, Any] = one(objects, "StatefulSet")["spec"]["template"]["spec"]
    return spec


def environment(objects: list[dict[str, Any]], container: dict[str, Any], pod_name: str) -> dict[str, str]:
    """What a container of a pod of that name finds in its environment."""
    found: dict[str, str] = {}
    for source in container.get("envFrom", ()):
        found |= one(objects, "ConfigMap", source["configMapRef"]["name"])["data"]
    for variable in container.get("env", ()):
        match variable:
            case {"name": name, "value": value}:
                found[name] = value
            case {"name": name, "valueFrom": {"secretKeyRef": {"name": "lapse"}}}:
                found[name] = "a secret of the test"
            case {"name": name, "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}:
                found[name] = pod_name
            case _:
                raise AssertionError(variable)
    return found


# --- what the files say -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("overlay", OVERLAYS)
@pytest.mark.parametrize("version", VERSIONS)
def test_every_object_fits_its_schema(overlays: Any, overlay: str, version: str):
    for made in overlays[overlay]:
        validator(made["kind"], version).validate(made)


@pytest.mark.parametrize("kind", ["StatefulSet", "NetworkPolicy", "ServiceMonitor", "PrometheusRule", "ScaledObject"])
def test_the_schemas_refuse_a_misspelt_member(overlays: Any, kind: str):
    broken = one(overlays["production"], kind)
    broken = {**broken, "spec": {**broken["spec"], "replcias": 3}}
    with pytest.raises(jsonschema.ValidationError, match="replcias"):
        validator(kind, VERSIONS[-1]).validate(broken)


def test_the_schemas_look_inside_a_container(overlays: Any):
    broken = json.loads(json.dumps(one(overlays["production"], "StatefulSet")))
    broken["spec"]["template"]["spec"]["containers"][0]["livenessProbe"]["periodSecnods"] = 3
    with pytest.raises(jsonschema.ValidationError, match="periodSecnods"):
        validator("StatefulSet", VERSIONS[-1]).validate(broken)


def test_the_rules_are_those_of_deploy_prometheus(overlays: Any):
    plain = [
        group
        for name in ("recording.yaml", "alerts.yaml")
        for group in yaml.safe_load((DEPLOY / "prometheus" / name).read_text())["groups"]
    ]
    assert len(plain) > 4
    for objects in overlays.values():
        assert one(objects, "PrometheusRule")["spec"]["groups"] == plain
    assert run(sys.executable, "-m", "deploy.kubernetes", "--check").returncode == 0


def test_the_alerts_find_the_job_that_the_service_monitor_makes(overlays: Any):
    for objects in overlays.values():
        monitor, service = one(objects, "ServiceMonitor")["spec"], one(objects, "Service")
        assert service["metadata"]["labels"][monitor["jobLabel"]] == "lapse"
        assert monitor["selector"]["matchLabels"].items() <= service["metadata"]["labels"].items()
        assert [endpoint["port"] for endpoint in monitor["endpoints"]] == [
            port["name"] for port in service["spec"]["ports"]
        ]


def test_selectors_find_the_pods_and_only_those(overlays: Any):
    for objects in overlays.values():
        stateful = one(objects, "StatefulSet")["spec"]
        labels = stateful["template"]["metadata"]["labels"]
        selectors = [
            stateful["selector"]["matchLabels"],
            one(objects, "Service")["spec"]["selector"],
            one(objects, "PodDisruptionBudget")["spec"]["selector"]["matchLabels"],
            one(objects, "NetworkPolicy")["spec"]["podSelector"]["matchLabels"],
            *(spread["labelSelector"]["matchLabels"] for spread in pod(objects)["topologySpreadConstraints"]),
        ]
        for selector in selectors:
            assert selector
            assert selector.items() <= labels.items()
        for job in (made for made in objects if made["kind"] == "Job"):
            other = job["spec"]["template"].get("metadata", {}).get("labels", {})
            assert not selectors[0].items() <= other.items()


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_settings_exist_and_fit_together(overlays: Any, overlay: str, tmp_path: Path):
    objects = overlays[overlay]
    for kind in ("StatefulSet", "Job"):
        for made in (found for found in objects if found["kind"] == kind):
            (container,) = made["spec"]["template"]["spec"]["containers"]
            given = environment(objects, container, "lapse-0")
            for name, value in given.items():
                if value.startswith("/etc/lapse/secrets/"):
                    (tmp_path / Path(value).name).write_text("secret")
                    given[name] = str(tmp_path / Path(value).name)
            assert load_settings({}, given, None).warnings == ()


def test_secrets_and_rules_are_mounted_where_the_settings_look(overlays: Any):
    (container,) = pod(overlays["production"])["containers"]
    mounts = {mount["mountPath"]: mount["name"] for mount in container["volumeMounts"]}
    volumes = {volume["name"]: volume for volume in pod(overlays["production"])["volumes"]}
    assert set(mounts.values()) == volumes.keys()
    named = [
        value for value in environment(overlays["production"], container, "").values() if value.startswith("/etc/")
    ]
    assert len(named) == 2
    for path in map(Path, named):
        match volumes[mounts[str(path.parent)]]:
            case {"configMap": {"name": name}}:
                assert path.name in one(overlays["production"], "ConfigMap", name)["data"]
            case {"secret": {"items": items}}:
                assert path.name in {item["path"] for item in items}
            case other:
                raise AssertionError(other)


def test_the_triggers_of_production_are_sound():
    triggers = DEPLOY / "kubernetes" / "overlays" / "production" / "triggers.yaml"
    checked = run(sys.executable, "-m", "streams", "check", "--strict", str(triggers))
    assert checked.returncode == 0, checked.stdout


def test_pods_have_no_rights_and_no_links_to_services(overlays: Any):
    for objects in overlays.values():
        for made in (found for found in objects if found["kind"] in {"StatefulSet", "Job"}):
            spec = made["spec"]["template"]["spec"]
            assert spec["enableServiceLinks"] is False
            assert spec["automountServiceAccountToken"] is False
            assert spec["securityContext"]["runAsNonRoot"] is True
            (container,) = spec["containers"]
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }
            assert container["resources"]["requests"].keys() == {"cpu", "memory"}
            assert "memory" in container["resources"]["limits"]


def test_scaling_goes_by_a_metric_that_workers_have_and_never_beyond_the_partitions(overlays: Any):
    scaled = one(overlays["production"], "ScaledObject")["spec"]
    assert "replicas" not in one(overlays["production"], "StatefulSet")["spec"]
    (trigger,) = scaled["triggers"]
    assert "lapse_lag_records{" in trigger["metadata"]["query"]
    assert "`lapse_lag_records`" in (ROOT / "docs" / "metrics.md").read_text()
    (job,) = [found for found in overlays["staging"] if found["kind"] == "Job"]
    arguments = job["spec"]["template"]["spec"]["containers"][0]["args"]
    assert scaled["maxReplicaCount"] <= int(arguments[arguments.index("--partitions") + 1])


# --- what they do -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def pods(
    overlays: Any, kafka: Any, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, tuple[Native, int]]]:
    """The topics job, run to its end, and two pods of the staging overlay by their names, with their ports."""
    objects = overlays["staging"]
    folder = tmp_path_factory.mktemp("kubernetes")

    def native(name: str, container: dict[str, Any], **others: str) -> Native:
        given = environment(objects, container, name)
        given |= {
            "LAPSE_BROKERS": kafka.bootstrap,
            "LAPSE_TRIGGERS": str(DEPLOY / "triggers" / "recipes.yaml"),
            **others,
        }
        return Native(name, container["args"], given, folder)

    (job,) = [found for found in objects if found["kind"] == "Job"]
    topics = native("lapse-topics", job["spec"]["template"]["spec"]["containers"][0])
    topics.start()
    assert topics.ends(60) == 0, topics.tail()
    found: dict[str, tuple[Native, int]] = {}
    try:
        for number in range(one(objects, "StatefulSet")["spec"]["replicas"]):
            port = free_port()
            name = f"lapse-{number}"
            worker = native(name, pod(objects)["containers"][0], LAPSE_WEB_PORT=str(port))
            worker.start()
            found[name] = (worker, port)
        yield found
    finally:
        for worker, _ in found.values():
            worker.kill()


def probe(container: dict[str, Any], name: str, port: int) -> int:
    """Ask as the kubelet does; return the status, 0 when there is no answer in time."""
    asked = container[name]
    assert asked["httpGet"]["port"] in {port["name"] for port in container["ports"]}
    return ask(port, asked["httpGet"]["path"], asked["timeoutSeconds"])


def test_pods_pass_their_probes(overlays: Any, pods: Any):
    (container,) = pod(overlays["staging"])["containers"]
    for worker, port in pods.values():
        for name in ("startupProbe", "readinessProbe", "livenessProbe"):
            allowed = container[name]["failureThreshold"] * container[name]["periodSeconds"]
            until(lambda name=name, port=port: probe(container, name, port) == 200, allowed + 60, worker)


def test_a_pod_stops_well_within_its_grace_period_and_comes_back(overlays: Any, pods: Any):
    (container,) = pod(overlays["staging"])["containers"]
    worker, port = pods["lapse-1"]
    until(lambda: probe(container, "readinessProbe", port) == 200, 60, worker)
    code, took = worker.stop(pod(overlays["staging"])["terminationGracePeriodSeconds"])
    assert (code, took < 5) == (0, True), f"{took:.1f} s\n{worker.tail()}"
    assert probe(container, "livenessProbe", port) == 0
    worker.start()
    started = time.monotonic()
    until(lambda: probe(container, "readinessProbe", port) == 200, 60, worker)
    print(f"ready again after {time.monotonic() - started:.1f} s")


def test_a_frozen_pod_fails_its_liveness_probe(overlays: Any, pods: Any):
    (container,) = pod(overlays["staging"])["containers"]
    worker, port = pods["lapse-0"]
    subprocess.run(["kill", "-STOP", str(worker.pid)], check=True)
    try:
        assert probe(container, "livenessProbe", port) == 0
    finally:
        subprocess.run(["kill", "-CONT", str(worker.pid)], check=True)
    until(lambda: probe(container, "livenessProbe", port) == 200, 60, worker)
