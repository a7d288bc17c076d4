"""One Apache Kafka node (broker and controller in one) as a child process that tests start, stop, freeze and kill."""

from __future__ import annotations

import base64
import ctypes
import os
import random
import shutil
import signal
import socket
import struct
import subprocess
import tempfile
import threading
import time
import uuid
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self

from tests.kafka_kit.distribution import KafkaKitError, find_java, jars

_HERE = Path(__file__).parent
_READY_SECONDS = 90.0
_STOP_SECONDS = 30.0
_ANSWER_SECONDS = 5.0

DEFAULTS: Mapping[str, str] = {
    "process.roles": "broker,controller",
    "node.id": "1",
    "controller.listener.names": "CONTROLLER",
    "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
    "inter.broker.listener.name": "PLAINTEXT",
    "auto.create.topics.enable": "false",
    "group.initial.rebalance.delay.ms": "0",
    "group.min.session.timeout.ms": "1000",
    "offsets.topic.replication.factor": "1",
    "offsets.topic.num.partitions": "4",
    "transaction.state.log.replication.factor": "1",
    "transaction.state.log.min.isr": "1",
    "transaction.state.log.num.partitions": "4",
    # A transaction whose producer is gone is given up within a second of its time-out, not ten.
    "transaction.abort.timed.out.transaction.cleanup.interval.ms": "1000",
    "share.coordinator.state.topic.replication.factor": "1",
    "share.coordinator.state.topic.min.isr": "1",
    # Test records carry timestamps of any age.
    "log.retention.ms": "-1",
    "log.cleaner.dedupe.buffer.size": "16777216",
    "message.max.bytes": str(2 << 20),
    "replica.fetch.max.bytes": str(4 << 20),
    # A killed broker's old registration must lapse before the new one may serve: 2 s, not 9.
    "broker.session.timeout.ms": "2000",
    "broker.heartbeat.interval.ms": "500",
}


class ProxiedPorts(NamedTuple):
    """A listener behind a proxy: where the broker listens, and where it tells clients to go."""

    listens: int
    advertised: int


class Seat(NamedTuple):
    """A broker's place in a cluster of several: its own number, where its controller listens, and all of those."""

    node_id: int
    controller_port: int
    voters: str
    cluster_id: str


class Broker:
    """A single-node Apache Kafka on two free loopback ports, its data in a temporary directory.

    `start()` returns when the broker answers; `stop()` is a clean SIGTERM, `kill()` a SIGKILL, `pause()` and
    `resume()` freeze and wake the process. After `stop()` or `kill()`, `start()` brings the same broker back: same
    port, same data. `close()` (or leaving the `with`) ends the process and removes the data. `settings` are broker
    properties that go over `DEFAULTS`. `features` are finalized when the storage is formatted, for instance
    `{"transaction.version": 1}` for transactions as they were before KIP-890. `proxied` is a number of further
    listeners, each of which sends clients to a port of its own for a proxy to listen on (`proxy.py`). `secured` are
    further listeners, from name to protocol (`SSL`, `SASL_PLAINTEXT`, ...); `settings` configure them, and `ports` has
    their ports. `scram` are passwords by user, for SCRAM-SHA-256. `seat` makes it one of several (`cluster.py`).

    The child dies with the process that started it, even by kill -9 (Linux); therefore start it from the main thread.
    """

    size = 1
    """Number of brokers."""

    def __init__(
        self,
        settings: Mapping[str, str] | None = None,
        *,
        heap: str = "1g",
        keep: Path | None = None,
        features: Mapping[str, int] | None = None,
        proxied: int = 0,
        secured: Mapping[str, str] | None = None,
        scram: Mapping[str, str] | None = None,
        seat: Seat | None = None,
    ) -> None:
        self._settings = {**DEFAULTS, **(settings or {})}
        self._features = dict(features or {})
        self._heap = heap
        self._dir = keep or Path(tempfile.mkdtemp(prefix="lapse-kafka-"))
        self._dir.mkdir(parents=True, exist_ok=True)
        self._keep = keep is not None
        self._process: subprocess.Popen[bytes] | None = None
        self._formatted = False
        self._seat = seat
        self.port, self._controller_port = 0, 0
        self.proxied = [ProxiedPorts(0, 0)] * proxied
        """The listeners that are behind a proxy."""
        self._secured = dict(secured or {})
        self._scram = dict(scram or {})
        self.ports: dict[str, int] = {}
        """Of the secured listeners, by name."""

    @property
    def bootstrap(self) -> str:
        """`host:port` for clients."""
        return f"127.0.0.1:{self.port}"

    @property
    def log(self) -> Path:
        """What the broker printed (warnings and errors), over all its starts."""
        return self._dir / "broker.log"

    @property
    def lost_markers(self) -> int:
        """How often the broker dropped the end of a committed transaction, for reasons of its own.

        Kafka 4.3.1 with one replica: a broker that restarts (or shuts down) between the answer to a commit and its
        markers may find the partitions without a leader for a moment, takes them for deleted and drops the markers.
        The records then stay undecided until the same producer id ends another transaction there.
        """
        return self.log.read_text(errors="replace").count("while trying to send transaction markers")

    @property
    def pid(self) -> int | None:
        """The process id while it runs, else None."""
        return self._process.pid if self._process and self._process.poll() is None else None

    def launch(self) -> None:
        """Start the process and return at once: one of several answers only when most of them run."""
        if not self._formatted:
            self._choose_ports()
            self._format()
        self._spawn()

    def start(self, *, within: float = _READY_SECONDS) -> Self:
        """Start and wait until the broker answers; raises `KafkaKitError` when it does not in `within` seconds."""
        if self.pid is not None:
            return self
        first = not self._formatted
        for attempt in range(3 if first else 1):
            if first:
                self._choose_ports()
                self._format()
            self._spawn()
            try:
                self.wait_until_ready(within)
            except KafkaKitError:
                self.kill()
                # Somebody may have taken the port between our look and the broker's bind.
                if first and attempt < 2 and "Address already in use" in self.log.read_text(errors="replace"):
                    continue
                raise
            return self
        raise AssertionError("unreachable")

    def wait_until_ready(self, within: float = _READY_SECONDS) -> None:
        """Wait until the broker answers; raises `KafkaKitError` when it ends or does not in `within` seconds."""
        assert self._process is not None
        deadline = time.monotonic() + within
        while time.monotonic() < deadline:
            if (code := self._process.poll()) is not None:
                raise KafkaKitError(f"Kafka ended with code {code} while starting. Its log:\n{self._tail()}")
            if _answers(self.port):
                return
            time.sleep(0.1)
        raise KafkaKitError(f"Kafka did not answer at {self.bootstrap} in {within:.0f} s. Its log:\n{self._tail()}")

    def stop(self) -> None:
        """SIGTERM and wait; SIGKILL when that takes longer than 30 s."""
        if self._process is None:
            return
        self._process.send_signal(signal.SIGCONT)
        self._process.terminate()
        try:
            self._process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.kill()
        self._process = None

    def kill(self) -> None:
        """SIGKILL: no goodbye to clients, no flush by the process."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def pause(self) -> None:
        """SIGSTOP: connections stay open, nothing answers."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        """SIGCONT after `pause()`."""
        self._signal(signal.SIGCONT)

    def close(self) -> None:
        """End the process and remove its data."""
        self.kill()
        if not self._keep:
            shutil.rmtree(self._dir, ignore_errors=True)

    def __enter__(self) -> Self:
        try:
            return self.start()
        except BaseException:
            self.close()
            raise

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _signal(self, number: signal.Signals) -> None:
        if self.pid is None:
            raise KafkaKitError(f"The broker at {self.bootstrap} does not run, so it can't get {number.name}.")
        os.kill(self.pid, number)

    def _choose_ports(self) -> None:
        seat = self._seat
        self.port, self._controller_port = free_port(), seat.controller_port if seat else free_port()
        self.proxied = [ProxiedPorts(free_port(), free_port()) for _ in self.proxied]
        self.ports = {name: free_port() for name in self._secured}

    def _format(self) -> None:
        data = self._dir / "data"
        shutil.rmtree(data, ignore_errors=True)
        names = [f"PROXIED{number}" for number in range(len(self.proxied))]
        protocols = [self._settings["listener.security.protocol.map"], *(f"{name}:PLAINTEXT" for name in names)]
        listens = [f"PLAINTEXT://{self.bootstrap}", f"CONTROLLER://127.0.0.1:{self._controller_port}"]
        advertised = [f"PLAINTEXT://{self.bootstrap}"]
        for name, ports in zip(names, self.proxied, strict=True):
            listens.append(f"{name}://127.0.0.1:{ports.listens}")
            advertised.append(f"{name}://127.0.0.1:{ports.advertised}")
        for name, protocol in self._secured.items():
            protocols.append(f"{name}:{protocol}")
            listens.append(f"{name}://127.0.0.1:{self.ports[name]}")
            advertised.append(f"{name}://localhost:{self.ports[name]}")
        lines = {
            **self._settings,
            "listener.security.protocol.map": ",".join(protocols),
            "listeners": ",".join(listens),
            "advertised.listeners": ",".join(advertised),
            "controller.quorum.voters": f"1@127.0.0.1:{self._controller_port}",
            "log.dirs": str(data),
        }
        if (seat := self._seat) is not None:
            lines |= {"node.id": str(seat.node_id), "controller.quorum.voters": seat.voters}
        self._properties.write_text("".join(f"{name}={value}\n" for name, value in lines.items()))
        done = subprocess.run(
            [
                *self._java("128m", "-XX:TieredStopAtLevel=1"),
                "kafka.tools.StorageTool",
                *("format", f"--cluster-id={seat.cluster_id if seat else new_cluster_id()}"),
                *("--config", str(self._properties)),
                *(f"--feature={name}={level}" for name, level in self._features.items()),
                *(
                    f"--add-scram=SCRAM-SHA-256=[name={user},password={password}]"
                    for user, password in self._scram.items()
                ),
            ],
            capture_output=True,
            text=True,
            timeout=_READY_SECONDS,
            check=False,
        )
        if done.returncode != 0:
            raise KafkaKitError(f"Kafka's storage could not be formatted:\n{done.stdout}{done.stderr}")
        self._formatted = True

    def _spawn(self) -> None:
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [*self._java(self._heap), "kafka.Kafka", str(self._properties)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                # Ctrl-C in a terminal goes to the whole group; the broker is ended by us, after its clients.
                start_new_session=True,
                # The signal comes when the starting *thread* ends; one system call is safe between fork and exec.
                preexec_fn=die_with_parent if _in_main_thread() else None,  # noqa: PLW1509
            )

    def _tail(self) -> str:
        return self.log.read_text(errors="replace")[-3000:]

    @property
    def _properties(self) -> Path:
        return self._dir / "server.properties"

    def _java(self, heap: str, *flags: str) -> list[str]:
        if (java := find_java()) is None:
            raise KafkaKitError("Java is missing: Apache Kafka needs Java 17 or later on the PATH or in JAVA_HOME.")
        return [
            java,
            *(f"-Xmx{heap}", "-XX:+UseG1GC", "-Djava.awt.headless=true", *flags),
            f"-Dlog4j2.configurationFile={_HERE / 'log4j2.properties'}",
            *("-cp", f"{jars()}/*"),
        ]


def free_port() -> int:
    """A loopback port that nobody listens on and no outgoing connection will be given."""
    # Below the range of outgoing connections: a client that keeps knocking at a stopped broker's port would
    # otherwise sooner or later be given that very port as its own, connect to itself, and keep the broker from it.
    while True:
        port = random.randint(20_000, 31_999)
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port


def _answers(port: int) -> bool:
    """Whether the broker at `port` answers a Metadata request (version 4, no topics) and names itself."""
    client = b"kit"
    body = struct.pack(">hhih", 3, 4, 1, len(client)) + client + struct.pack(">i?", 0, False)
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=_ANSWER_SECONDS) as peer:
            peer.sendall(struct.pack(">i", len(body)) + body)
            answer = peer.recv(4096)
    except OSError:
        return False
    # size, correlation id, throttle time, number of brokers
    return len(answer) >= 16 and struct.unpack(">i", answer[12:16])[0] > 0


def _in_main_thread() -> bool:
    return threading.current_thread() is threading.main_thread()


def die_with_parent() -> None:
    """For `preexec_fn`: the child gets SIGKILL when the thread that started it ends."""
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG


def new_cluster_id() -> str:
    return base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
