"""Connections that can't work: each names the broker, what seems to be wrong, and the setting to change."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import socket
import subprocess
import time
from collections.abc import AsyncIterator, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka.admin import (
    AclBinding,
    AclBindingFilter,
    AclOperation,
    AclPermissionType,
    AdminClient,
    ResourcePatternType,
    ResourceType,
)
from typer.testing import CliRunner

from streams.assembly import runtime_config
from streams.cli import app
from streams.core.errors import Refused, Unreachable
from streams.core.model import SECOND
from streams.kafka.brokers import admin_client
from streams.kafka.config import KafkaConfig
from streams.kafka.topics import check_topics, create_topics
from streams.operate.doctor import Level, judge
from streams.operate.survey import survey
from streams.settings.settings import load_settings
from tests.kafka_kit import Broker
from tests.kafka_kit.fixtures import require_java
from tests.worker.kit import config_for, make_topic

PASSWORD = "correct-horse"
LISTENERS = {
    "LOGIN": "SASL_PLAINTEXT",
    "TLS": "SSL",
    "EXPIRED": "SSL",
    "MUTUAL": "SSL",
    "BOTH": "SASL_SSL",
}


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An authority, a certificate for `localhost` alone, one that has expired, and one of a client."""
    if shutil.which("openssl") is None:
        pytest.skip("openssl is missing")
    folder = tmp_path_factory.mktemp("certificates")

    def openssl(*arguments: str) -> None:
        subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True, timeout=60)

    openssl(
        *"req -x509 -newkey rsa:2048 -nodes -days 30 -subj /CN=authority -keyout ca.key -out ca.pem".split(),
        *("-addext", "basicConstraints=critical,CA:TRUE", "-addext", "keyUsage=critical,keyCertSign,cRLSign"),
    )
    (folder / "names").write_text("subjectAltName=DNS:localhost\n")
    for name, valid in {
        "server": ["-days", "30"],
        "expired": ["-not_before", "20200101000000Z", "-not_after", "20200201000000Z"],
        "client": ["-days", "30"],
    }.items():
        openssl(*f"req -newkey rsa:2048 -nodes -subj /CN={name} -keyout {name}.key -out {name}.csr".split())
        _sign(folder, name, valid)
        both = (folder / f"{name}.key").read_text() + (folder / f"{name}.pem").read_text()
        (folder / f"{name}-both.pem").write_text(both)
    return folder


def _sign(folder: Path, name: str, valid: list[str]) -> None:
    base = f"x509 -req -in {name}.csr -CA ca.pem -CAkey ca.key -CAcreateserial -extfile names -out {name}.pem"
    done = subprocess.run(["openssl", *base.split(), *valid], cwd=folder, capture_output=True, timeout=60, check=False)
    if done.returncode != 0:  # before OpenSSL 3.4 a past date takes `openssl ca`
        (folder / "index.txt").write_text("")
        (folder / "serial").write_text("01\n")
        (folder / "ca.cnf").write_text(
            "[ca]\ndefault_ca=own\n[own]\ndatabase=index.txt\nserial=serial\nnew_certs_dir=.\ndefault_md=sha256\n"
            "policy=any\nx509_extensions=names\n[any]\ncommonName=supplied\n[names]\nsubjectAltName=DNS:localhost\n"
        )
        dates = ["-startdate", valid[1], "-enddate", valid[3]]
        arguments = f"ca -batch -config ca.cnf -cert ca.pem -keyfile ca.key -in {name}.csr -out {name}.pem -notext"
        subprocess.run(["openssl", *arguments.split(), *dates], cwd=folder, check=True, capture_output=True, timeout=60)


@pytest.fixture(scope="module")
def secured(certificates: Path) -> Iterator[Broker]:
    """A broker with a listener of each kind and an authorizer; clients of the plain listener may do everything."""
    require_java()
    login = "org.apache.kafka.common.security"
    settings = {
        "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
        "super.users": "User:ANONYMOUS",
        "ssl.truststore.type": "PEM",
        "ssl.truststore.location": str(certificates / "ca.pem"),
        "ssl.keystore.type": "PEM",
        "ssl.keystore.location": str(certificates / "server-both.pem"),
        "listener.name.expired.ssl.keystore.type": "PEM",
        "listener.name.expired.ssl.keystore.location": str(certificates / "expired-both.pem"),
        "listener.name.mutual.ssl.client.auth": "required",
    }
    for listener in ("login", "both"):
        settings |= {
            f"listener.name.{listener}.sasl.enabled.mechanisms": "PLAIN,SCRAM-SHA-256",
            f"listener.name.{listener}.plain.sasl.jaas.config": (
                f'{login}.plain.PlainLoginModule required user_alice="{PASSWORD}";'
            ),
            f"listener.name.{listener}.scram-sha-256.sasl.jaas.config": f"{login}.scram.ScramLoginModule required;",
        }
    broker = Broker(settings, secured=LISTENERS, scram={"alice": PASSWORD})
    try:
        yield broker.start(within=240)
    finally:
        broker.close()


@pytest.fixture
def in_certificates(certificates: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(certificates)


def given(broker: str, patience: float = 8, **settings: Any) -> KafkaConfig:
    return runtime_config(load_settings({"brokers": broker, **settings}, {}), patience=int(patience * SECOND))


ALICE = {"sasl_username": "alice", "sasl_password": PASSWORD, "sasl_mechanism": "SCRAM-SHA-256"}

SITUATIONS = {
    "TLS to a plain port": (
        "PLAIN",
        {"security_protocol": "SSL"},
        "that port does not use TLS. Set `security_protocol` to PLAINTEXT (it is SSL)",
    ),
    "TLS and a login to a port for logins alone": (
        "LOGIN",
        {"security_protocol": "SASL_SSL", **ALICE},
        "that port does not use TLS. Set `security_protocol` to SASL_PLAINTEXT (it is SASL_SSL)",
    ),
    "plain to a TLS port": (
        "TLS",
        {},
        "that port uses TLS. Set `security_protocol` to SSL (it is PLAINTEXT)",
    ),
    "a login in the clear to a TLS port": (
        "BOTH",
        {"security_protocol": "SASL_PLAINTEXT", **ALICE},
        "that port uses TLS. Set `security_protocol` to SASL_SSL (it is SASL_PLAINTEXT)",
    ),
    "plain to a port that wants a login": (
        "LOGIN",
        {},
        "the broker wants a login on that port (PLAIN or SCRAM-SHA-256). Set `security_protocol` to SASL_PLAINTEXT",
    ),
    "a login to a port that takes none": (
        "PLAIN",
        {"security_protocol": "SASL_PLAINTEXT", **ALICE},
        "the broker takes no login on that port. Set `security_protocol` to PLAINTEXT (it is SASL_PLAINTEXT)",
    ),
    "a wrong password with SCRAM": (
        "LOGIN",
        {"security_protocol": "SASL_PLAINTEXT", **ALICE, "sasl_password": "wrong"},
        "the broker rejects user alice with SCRAM-SHA-256",
    ),
    "a wrong password with PLAIN": (
        "LOGIN",
        {"security_protocol": "SASL_PLAINTEXT", **ALICE, "sasl_password": "wrong", "sasl_mechanism": "PLAIN"},
        "the broker rejects user alice with PLAIN",
    ),
    "a mechanism that is not offered": (
        "LOGIN",
        {"security_protocol": "SASL_PLAINTEXT", **ALICE, "sasl_mechanism": "SCRAM-SHA-512"},
        "the broker takes no SCRAM-SHA-512, only PLAIN or SCRAM-SHA-256. Set `sasl_mechanism`.",
    ),
    "an authority that is not known": (
        "TLS",
        {"security_protocol": "SSL"},
        "the broker's certificate is signed by nobody that is trusted here",
    ),
    "a certificate that has expired": (
        "EXPIRED",
        {"security_protocol": "SSL", "ssl_cafile": "ca.pem"},
        "the broker's certificate can't be used now: certificate has expired",
    ),
    "no certificate of ours": (
        "MUTUAL",
        {"security_protocol": "SSL", "ssl_cafile": "ca.pem"},
        "the broker ends the connection after TLS was set up",
    ),
}


@pytest.mark.parametrize("situation", SITUATIONS)
async def test_what_waiting_does_not_mend_is_refused_at_once(
    secured: Broker, in_certificates: None, situation: str
) -> None:
    listener, settings, says = SITUATIONS[situation]
    broker = f"localhost:{secured.ports.get(listener, secured.port)}"
    began = time.monotonic()
    with pytest.raises(Refused) as refused:
        await check_topics(given(broker, 1800, **settings))
    assert str(refused.value).startswith(f"Can't connect: {broker}: {says}")
    assert time.monotonic() - began < 60, "this was not waited for"


async def test_a_name_that_the_certificate_does_not_have_is_refused(secured: Broker, certificates: Path) -> None:
    broker = f"127.0.0.1:{secured.ports['TLS']}"
    tls = {"security_protocol": "SSL", "ssl_cafile": str(certificates / "ca.pem")}
    with pytest.raises(Refused, match=f"{broker}: the broker's certificate is not for 127.0.0.1. Use a name"):
        await check_topics(given(broker, **tls))
    assert (await check_topics(given(broker, **tls, ssl_check_hostname=False))).missing


@pytest.mark.parametrize(
    ("listener", "settings"),
    [
        ("LOGIN", {"security_protocol": "SASL_PLAINTEXT", **ALICE}),
        ("LOGIN", {"security_protocol": "SASL_PLAINTEXT", **ALICE, "sasl_mechanism": "PLAIN"}),
        ("BOTH", {"security_protocol": "SASL_SSL", "ssl_cafile": "ca.pem", **ALICE}),
        ("TLS", {"security_protocol": "SSL", "ssl_cafile": "ca.pem"}),
        (
            "MUTUAL",
            {
                "security_protocol": "SSL",
                "ssl_cafile": "ca.pem",
                "ssl_certfile": "client.pem",
                "ssl_keyfile": "client.key",
            },
        ),
    ],
)
async def test_what_is_set_rightly_connects_and_a_topic_that_may_not_be_described_may_also_be_missing(
    secured: Broker, in_certificates: None, listener: str, settings: dict[str, Any], topic_prefix: str
) -> None:
    await make_topic(config_for(secured, topic_prefix), f"{topic_prefix}ticket-updates", 1)
    found = await check_topics(given(f"localhost:{secured.ports[listener]}", topic_prefix=topic_prefix, **settings))
    # Who connects with TLS alone is nobody in particular, like the clients of the plain listener.
    first = "session-states" if listener == "TLS" else "ticket-updates"
    assert found.problems[0] == f"{topic_prefix}{first} does not exist or may not be described by this user."


async def test_a_group_that_may_not_be_read_is_named(secured: Broker) -> None:
    config = given(f"localhost:{secured.ports['LOGIN']}", security_protocol="SASL_PLAINTEXT", **ALICE)
    from streams.worker.first_start import require_act_from

    with pytest.raises(Refused, match=r"user alice has no right to the group lapse .*docs/operations.md"):
        await require_act_from(config, 1)


def test_a_wrong_password_ends_a_verb_with_code_2_and_one_line(secured: Broker) -> None:
    flags = ["--brokers", f"localhost:{secured.ports['LOGIN']}", "--security-protocol", "SASL_PLAINTEXT"]
    login = ["--sasl-mechanism", "SCRAM-SHA-256", "--sasl-username", "alice", "--sasl-password", "wrong"]
    done = CliRunner().invoke(app, ["topics", "check", *flags, *login])
    assert isinstance(done.exception, Refused)
    assert done.exception.exit_code == 2
    assert "Check `sasl_username`, `sasl_password` and `sasl_mechanism`." in str(done.exception)
    assert "\n" not in str(done.exception)
    assert "wrong" not in str(done.exception)


# --- rights ----------------------------------------------------------------------------------------------------------

READ, WRITE = AclOperation.READ, AclOperation.WRITE
RIGHTS = {
    "Read on the topic ticket-updates": (ResourceType.TOPIC, "ticket-updates", READ),
    "Read on the topic session-states": (ResourceType.TOPIC, "session-states", READ),
    "Write on the topic action-commands": (ResourceType.TOPIC, "action-commands", WRITE),
    "Write on the topic session-transitions": (ResourceType.TOPIC, "session-transitions", WRITE),
    "Write on the topic dead-letters": (ResourceType.TOPIC, "dead-letters", WRITE),
    "Read on the topic lapse-tickets-changelog": (ResourceType.TOPIC, "lapse-tickets-changelog", READ),
    "Write on the topic lapse-tickets-changelog": (ResourceType.TOPIC, "lapse-tickets-changelog", WRITE),
    "Read on the topic lapse-sessions-changelog": (ResourceType.TOPIC, "lapse-sessions-changelog", READ),
    "Write on the topic lapse-sessions-changelog": (ResourceType.TOPIC, "lapse-sessions-changelog", WRITE),
    "Read on the group lapse": (ResourceType.GROUP, "lapse", READ),
    "Write on the transactional ids lapse-*": (ResourceType.TRANSACTIONAL_ID, "lapse-", WRITE),
}
"""The worker's rows of the table in docs/operations.md, by the words in which the doctor misses them."""


async def test_the_doctor_names_the_one_right_that_is_missing(secured: Broker) -> None:
    everybody = KafkaConfig(brokers=(secured.bootstrap,))
    await create_topics(everybody, 1)
    alice = given(f"localhost:{secured.ports['LOGIN']}", security_protocol="SASL_PLAINTEXT", **ALICE)
    admin = AdminClient({"bootstrap.servers": secured.bootstrap})

    def binding(right: str) -> AclBinding:
        kind, name, operation = RIGHTS[right]
        pattern = ResourcePatternType.PREFIXED if kind is ResourceType.TRANSACTIONAL_ID else ResourcePatternType.LITERAL
        return AclBinding(kind, name, pattern, "User:alice", "*", operation, AclPermissionType.ALLOW)

    def grant(rights: Iterable[str]) -> None:
        for done in admin.create_acls([binding(right) for right in rights]).values():
            done.result(30)

    def revoke(right: str) -> None:
        kind, name, operation = RIGHTS[right]
        binding_filter = AclBindingFilter(
            kind, name, ResourcePatternType.ANY, "User:alice", "*", operation, AclPermissionType.ALLOW
        )
        for done in admin.delete_acls([binding_filter]).values():
            assert len(done.result(30)) == 1

    async def lacks(expected: str) -> str:
        """What it misses; the broker takes a moment until it goes by new ACLs."""
        for _ in range(20):
            seen = await survey(alice, ("topics", "group", "producer"))
            told = [one for one in judge(seen, alice, 0) if one.check == "rights"]
            found = told[0].text if told[0].level is Level.PROBLEM else ""
            if found == expected:
                break
            await asyncio.sleep(0.25)
        return found

    # A topic can be described by whoever has any right on it; the commands' only right is the one that goes missing.
    describe = [
        AclBinding(
            ResourceType.TOPIC, name, ResourcePatternType.LITERAL, "User:alice", "*", AclOperation.DESCRIBE,
            AclPermissionType.ALLOW,
        )
        for kind, name, _ in RIGHTS.values()
        if kind is ResourceType.TOPIC
    ]  # fmt: skip
    for done in admin.create_acls(list(dict.fromkeys(describe))).values():
        done.result(30)
    grant(RIGHTS)
    assert await lacks("") == ""
    for right in RIGHTS:
        revoke(right)
        expected = f"User alice lacks {right}. A worker with this login could not run."
        assert await lacks(expected) == expected
        grant([right])


# --- without Kafka ---------------------------------------------------------------------------------------------------


@pytest.fixture
def nowhere() -> str:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return f"127.0.0.1:{server.getsockname()[1]}"


async def test_a_port_that_nobody_listens_on_is_waited_for_and_then_named(nowhere: str) -> None:
    with pytest.raises(Unreachable, match=f"Can't connect: {nowhere}: nothing listens on that port. .*`brokers`"):
        await connect(given(nowhere, 1))


async def test_a_name_that_does_not_exist_is_named() -> None:
    with pytest.raises(Unreachable, match=r"the name kafka\.invalid can't be resolved to an address .*`brokers`"):
        await connect(given("kafka.invalid:9092", 1))


async def test_each_of_several_brokers_has_its_own_reason(nowhere: str) -> None:
    with pytest.raises(Unreachable) as error:
        await connect(given(f"{nowhere},kafka.invalid:9092", 1))
    assert f"{nowhere}: nothing listens on that port." in str(error.value)
    assert "kafka.invalid:9092: the name" in str(error.value)


async def test_a_connection_that_met_itself_is_nothing_that_listens(monkeypatch: pytest.MonkeyPatch) -> None:
    """A free port of this machine can be given to the connection as its own: it then talks to itself."""
    free = socket.socket()
    free.bind(("127.0.0.1", 0))
    port = free.getsockname()[1]
    free.close()
    connect_as_usual = asyncio.open_connection

    async def open_connection(host: str, to: int, **options: Any) -> Any:
        return await connect_as_usual(host, to, local_addr=("127.0.0.1", port), **options)

    monkeypatch.setattr(asyncio, "open_connection", open_connection)
    with pytest.raises(Unreachable, match=f"127.0.0.1:{port}: the connection met itself: nothing listens on that port"):
        await connect(given(f"127.0.0.1:{port}", 0.05))


@pytest.mark.parametrize("greeting", [None, b"HTTP/1.1 400 Bad Request\r\n\r\n"])
async def test_something_else_than_kafka_is_named(greeting: bytes | None) -> None:
    """One that sends back what it gets is what a connection to itself looks like to the client."""
    async with serving(greeting) as broker:
        with pytest.raises(Unreachable, match=f"{broker}: what answers on that port does not speak Kafka's protocol"):
            await connect(given(broker, 1))


async def connect(config: KafkaConfig) -> None:
    async with asyncio.timeout(60), admin_client(config):
        pass


@contextlib.asynccontextmanager
async def serving(greeting: bytes | None) -> AsyncIterator[str]:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(1 << 16):
                writer.write(data if greeting is None else greeting)
                await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    try:
        yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()
