"""Reads the frames of Kafka's protocol that pass the proxy: who asks for what, and which errors the broker answers.

Written from the protocol's own description (https://kafka.apache.org/protocol); shares no code with any client.
Only what the tests target or assert is read; a frame of another kind keeps its API, version and client id.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field, replace
from enum import IntEnum
from typing import Any


class Api(IntEnum):
    """The requests that have a name here, by their key."""

    PRODUCE = 0
    FETCH = 1
    LIST_OFFSETS = 2
    METADATA = 3
    OFFSET_COMMIT = 8
    OFFSET_FETCH = 9
    FIND_COORDINATOR = 10
    JOIN_GROUP = 11
    HEARTBEAT = 12
    LEAVE_GROUP = 13
    SYNC_GROUP = 14
    DESCRIBE_GROUPS = 15
    API_VERSIONS = 18
    CREATE_TOPICS = 19
    DELETE_RECORDS = 21
    INIT_PRODUCER_ID = 22
    ADD_PARTITIONS_TO_TXN = 24
    ADD_OFFSETS_TO_TXN = 25
    END_TXN = 26
    TXN_OFFSET_COMMIT = 28
    DESCRIBE_CONFIGS = 32
    DESCRIBE_CLUSTER = 60


TRANSACTIONAL = (
    Api.INIT_PRODUCER_ID,
    Api.ADD_PARTITIONS_TO_TXN,
    Api.PRODUCE,
    Api.ADD_OFFSETS_TO_TXN,
    Api.TXN_OFFSET_COMMIT,
    Api.END_TXN,
)
"""The requests of a transaction, in the order in which they first appear."""

_FLEXIBLE_FROM = {
    Api.PRODUCE: 9,
    Api.FETCH: 12,
    Api.OFFSET_COMMIT: 8,
    Api.OFFSET_FETCH: 6,
    Api.FIND_COORDINATOR: 3,
    Api.JOIN_GROUP: 6,
    Api.HEARTBEAT: 4,
    Api.LEAVE_GROUP: 4,
    Api.SYNC_GROUP: 4,
    Api.INIT_PRODUCER_ID: 2,
    Api.ADD_PARTITIONS_TO_TXN: 3,
    Api.ADD_OFFSETS_TO_TXN: 3,
    Api.END_TXN: 3,
    Api.TXN_OFFSET_COMMIT: 3,
}
"""The first version of each API with compact strings and tagged fields (KIP-482)."""

_THROTTLE_FROM = {Api.JOIN_GROUP: 2}
_SINGLE_ERROR = (
    Api.INIT_PRODUCER_ID,
    Api.ADD_OFFSETS_TO_TXN,
    Api.END_TXN,
    Api.JOIN_GROUP,
    Api.HEARTBEAT,
    Api.LEAVE_GROUP,
    Api.SYNC_GROUP,
)


@dataclass(frozen=True)
class Request:
    """What a request says about itself. Members that its kind does not have are None or empty."""

    api: Api | int
    version: int
    correlation: int
    client_id: str | None
    transactional_id: str | None = None
    group: str | None = None
    producer_id: int | None = None
    epoch: int | None = None
    committed: bool | None = None
    """Of EndTxn: commit (True) or abort (False)."""
    topics: tuple[str, ...] = ()
    records: int = 0
    """Of Produce: how many records it carries."""
    offsets: dict[tuple[str, int], int] = field(default_factory=dict)
    """Of TxnOffsetCommit: the offset by topic and partition."""
    answerless: bool = False
    """Of Produce with acks=0: the broker answers nothing."""

    @property
    def name(self) -> str:
        """The API's name as in the protocol's description: `EndTxn`, `Produce`, or `Api 99`."""
        return name_of(self.api)


def name_of(api: Api | int) -> str:
    """Return `EndTxn` for `Api.END_TXN`."""
    return api.name.title().replace("_", "") if isinstance(api, Api) else f"Api {api}"


def read_header(frame: bytes) -> Request:
    """Read what every request begins with."""
    key, version, correlation = struct.unpack_from(">hhi", frame)
    api = Api(key) if key in Api._value2member_map_ else key
    return Request(api, version, correlation, _Reader(frame, 8).legacy_string())


def read_request(frame: bytes) -> Request:
    """Read a request frame, without the four bytes of its size. Raises `ValueError` when its body can't be read."""
    header = read_header(frame)
    if not isinstance(header.api, Api) or header.api not in _BODIES:
        return header
    reader = _Reader(frame, 8)
    reader.legacy_string()
    reader.flexible = header.version >= _FLEXIBLE_FROM[header.api]
    reader.tags()
    try:
        return replace(header, **_BODIES[header.api](reader, header.version))
    except (struct.error, IndexError, ValueError) as error:
        raise ValueError(f"{header.name} version {header.version} could not be read: {error}") from error


def read_errors(request: Request, frame: bytes) -> tuple[int, ...]:
    """Return the distinct error codes, without 0, of an answer to `request`; empty for kinds that are not read.

    Raises `ValueError` when the answer can't be read.
    """
    api, version = request.api, request.version
    if not isinstance(api, Api) or (api not in _SINGLE_ERROR and api not in _LISTED_ERRORS):
        return ()
    reader = _Reader(frame, 4)
    reader.flexible = version >= _FLEXIBLE_FROM[api]
    try:
        reader.tags()
        if api in _SINGLE_ERROR:
            if version >= _THROTTLE_FROM.get(api, 1) or api in TRANSACTIONAL:
                reader.take(">i")
            codes = {reader.take(">h")}
        else:
            codes = _LISTED_ERRORS[api](reader, version)
    except (struct.error, IndexError, ValueError) as error:
        raise ValueError(f"The answer to {request.name} version {version} could not be read: {error}") from error
    return tuple(sorted(codes - {0}))


class _Reader:
    """A position in a frame."""

    def __init__(self, frame: bytes, at: int) -> None:
        self.frame, self.at, self.flexible = frame, at, False

    def take(self, layout: str) -> int:
        (value,) = struct.unpack_from(layout, self.frame, self.at)
        self.at += struct.calcsize(layout)
        return int(value)

    def varint(self) -> int:
        value = shift = 0
        while True:
            byte = self.frame[self.at]
            self.at += 1
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value
            shift += 7

    def tags(self) -> None:
        if self.flexible:
            for _ in range(self.varint()):
                self.varint()
                self.at += self.varint()

    def legacy_string(self) -> str | None:
        return self._text(self.take(">h"))

    def string(self) -> str | None:
        return self._text(self.varint() - 1) if self.flexible else self.legacy_string()

    def name(self) -> str:
        value = self.string()
        if value is None:
            raise ValueError("a name is null")
        return value

    def blob(self) -> bytes:
        size = self.varint() - 1 if self.flexible else self.take(">i")
        self.at += max(size, 0)
        return self.frame[self.at - max(size, 0) : self.at]

    def count(self) -> int:
        return max(0, self.varint() - 1 if self.flexible else self.take(">i"))

    def _text(self, size: int) -> str | None:
        if size < 0:
            return None
        self.at += size
        return self.frame[self.at - size : self.at].decode()


def _produce(reader: _Reader, version: int) -> dict[str, Any]:
    transactional_id = reader.string() if version >= 3 else None
    acks = reader.take(">h")
    reader.take(">i")
    topics, records, producer, epoch = [], 0, None, None
    for _ in range(reader.count()):
        topics.append(_topic(reader, by_id=version >= 13))
        for _ in range(reader.count()):
            reader.take(">i")
            batch = reader.blob()
            if len(batch) >= 61:
                producer, epoch = struct.unpack_from(">qh", batch, 43)
                records += struct.unpack_from(">i", batch, 57)[0]
            reader.tags()
        reader.tags()
    return {
        "transactional_id": transactional_id,
        "topics": tuple(topics),
        "records": records,
        "producer_id": producer,
        "epoch": epoch,
        "answerless": acks == 0,
    }


def _fetch(reader: _Reader, version: int) -> dict[str, Any]:
    if version < 15:
        reader.take(">i")
    reader.at += 8 + 4 * (version >= 3) + (version >= 4) + 8 * (version >= 7)
    topics = []
    for _ in range(reader.count()):
        topics.append(_topic(reader, by_id=version >= 13))
        for _ in range(reader.count()):
            reader.at += 16 + 4 * (version >= 9) + 4 * (version >= 12) + 8 * (version >= 5)
            reader.tags()
        reader.tags()
    return {"topics": tuple(topics)}


def _topic(reader: _Reader, *, by_id: bool) -> str:
    if not by_id:
        return reader.name()
    reader.at += 16
    return reader.frame[reader.at - 16 : reader.at].hex()


def _producer(reader: _Reader) -> dict[str, Any]:
    return {"producer_id": reader.take(">q"), "epoch": reader.take(">h")}


def _init_producer_id(reader: _Reader, version: int) -> dict[str, Any]:
    found: dict[str, Any] = {"transactional_id": reader.string()}
    reader.take(">i")
    return found | (_producer(reader) if version >= 3 else {})


def _add_partitions(reader: _Reader, version: int) -> dict[str, Any]:
    if version >= 4:
        raise ValueError("a version between brokers")
    found = {"transactional_id": reader.string(), **_producer(reader)}
    topics = []
    for _ in range(reader.count()):
        topics.append(reader.name())
        for _ in range(reader.count()):
            reader.take(">i")
        reader.tags()
    return found | {"topics": tuple(topics)}


def _add_offsets(reader: _Reader, version: int) -> dict[str, Any]:
    return {"transactional_id": reader.string(), **_producer(reader), "group": reader.string()}


def _end_txn(reader: _Reader, version: int) -> dict[str, Any]:
    return {"transactional_id": reader.string(), **_producer(reader), "committed": bool(reader.take(">b"))}


def _txn_offset_commit(reader: _Reader, version: int) -> dict[str, Any]:
    found = {"transactional_id": reader.string(), "group": reader.string(), **_producer(reader)}
    if version >= 3:
        reader.take(">i")
        reader.string()
        reader.string()
    offsets: dict[tuple[str, int], int] = {}
    for _ in range(reader.count()):
        topic = reader.name()
        for _ in range(reader.count()):
            partition = reader.take(">i")
            offsets[topic, partition] = reader.take(">q")
            if version >= 2:
                reader.take(">i")
            reader.string()
            reader.tags()
        reader.tags()
    return found | {"topics": tuple(dict.fromkeys(topic for topic, _ in offsets)), "offsets": offsets}


def _group_first(reader: _Reader, version: int) -> dict[str, Any]:
    return {"group": reader.string()}


_BODIES = {
    Api.PRODUCE: _produce,
    Api.FETCH: _fetch,
    Api.OFFSET_COMMIT: _group_first,
    Api.JOIN_GROUP: _group_first,
    Api.HEARTBEAT: _group_first,
    Api.LEAVE_GROUP: _group_first,
    Api.SYNC_GROUP: _group_first,
    Api.INIT_PRODUCER_ID: _init_producer_id,
    Api.ADD_PARTITIONS_TO_TXN: _add_partitions,
    Api.ADD_OFFSETS_TO_TXN: _add_offsets,
    Api.END_TXN: _end_txn,
    Api.TXN_OFFSET_COMMIT: _txn_offset_commit,
}


def _errors_of_partitions(reader: _Reader, version: int) -> set[int]:
    reader.take(">i")
    codes = set()
    for _ in range(reader.count()):
        reader.string()
        for _ in range(reader.count()):
            reader.take(">i")
            codes.add(reader.take(">h"))
            reader.tags()
        reader.tags()
    return codes


def _errors_of_produce(reader: _Reader, version: int) -> set[int]:
    codes = set()
    for _ in range(reader.count()):
        _topic(reader, by_id=version >= 13)
        for _ in range(reader.count()):
            reader.take(">i")
            codes.add(reader.take(">h"))
            reader.at += 8 + 8 * (version >= 2) + 8 * (version >= 5)
            if version >= 8:
                for _ in range(reader.count()):
                    reader.take(">i")
                    reader.string()
                    reader.tags()
                reader.string()
            reader.tags()
        reader.tags()
    return codes


_LISTED_ERRORS = {
    Api.PRODUCE: _errors_of_produce,
    Api.ADD_PARTITIONS_TO_TXN: _errors_of_partitions,
    Api.TXN_OFFSET_COMMIT: _errors_of_partitions,
}
