"""Several Apache Kafka nodes as one cluster: three replicas of everything, of which two have to be in sync."""

from __future__ import annotations

from collections.abc import Mapping
from types import TracebackType
from typing import Self

from tests.kafka_kit.broker import Broker, Seat, free_port, new_cluster_id

SETTINGS: Mapping[str, str] = {
    "default.replication.factor": "3",
    "min.insync.replicas": "2",
    "offsets.topic.replication.factor": "3",
    "transaction.state.log.replication.factor": "3",
    "transaction.state.log.min.isr": "2",
    # A follower that was away counts as in sync again soon after it has caught up.
    "replica.lag.time.max.ms": "5000",
    # Leaders go back to where they were within seconds of a restart, so that faults hit each broker in turn.
    "leader.imbalance.check.interval.seconds": "5",
}


class Cluster:
    """Three brokers, each of them a controller too. `start` returns when all of them answer."""

    size = 3

    def __init__(self, settings: Mapping[str, str] | None = None, *, heap: str = "512m") -> None:
        """`settings` are broker properties that go over `SETTINGS`; `heap` is each broker's."""
        ports = [free_port() for _ in range(self.size)]
        voters = ",".join(f"{node}@127.0.0.1:{port}" for node, port in enumerate(ports, start=1))
        cluster_id = new_cluster_id()
        self.brokers = [
            Broker({**SETTINGS, **(settings or {})}, heap=heap, seat=Seat(node, port, voters, cluster_id))
            for node, port in enumerate(ports, start=1)
        ]

    @property
    def bootstrap(self) -> str:
        """`host:port` of each broker."""
        return ",".join(broker.bootstrap for broker in self.brokers)

    def start(self) -> Self:
        """Start those that don't run, and wait until all answer."""
        for broker in self.brokers:
            if broker.pid is None:
                broker.launch()
        for broker in self.brokers:
            broker.wait_until_ready()
        return self

    def kill(self) -> None:
        """SIGKILL to all at once."""
        for broker in self.brokers:
            broker.kill()

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

    def close(self) -> None:
        """End all and remove their data."""
        for broker in self.brokers:
            broker.close()
