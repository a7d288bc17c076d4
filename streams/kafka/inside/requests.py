"""Request and response schemas of a transactional producer that aiokafka lacks.

aiokafka has the first versions of the classic transaction protocol. Missing are DescribeTransactions, InitProducerId
with an epoch (KIP-360), the cluster's features in ApiVersions (KIP-584), and the versions that KIP-890 added.
The field names are Kafka's. The layouts are at https://kafka.apache.org/protocol.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from io import BytesIO
from typing import Any, ClassVar

from aiokafka.errors import IncompatibleBrokerVersion
from aiokafka.protocol.api import RequestStruct, Response, ResponseHeader_v0
from aiokafka.protocol.types import (
    Boolean,
    CompactArray,
    CompactBytes,
    CompactString,
    Int16,
    Int32,
    Int64,
    Schema,
    TaggedFields,
)

TEXT = CompactString("utf-8")
TAGS = ("tags", TaggedFields)
NO_TAGS: dict[int, bytes] = {}
_FINALIZED_FEATURES = 2
"""The tag of the finalized features in an ApiVersions response."""


class OneVersion:
    """A request in exactly one version. A broker without that version causes `IncompatibleBrokerVersion`.

    This class has everything that `AIOKafkaClient.send` requires of a request.
    """

    STRUCT: ClassVar[type[RequestStruct]]

    def __init__(self, *fields: Any) -> None:
        """Take the fields of the struct, without the tags at its end."""
        self._fields = fields

    def prepare(self, versions: Mapping[int, tuple[int, int]]) -> RequestStruct:
        """Return the request to send to a broker that supports these versions, given by API key."""
        struct = self.STRUCT
        least, most = versions.get(struct.API_KEY, (0, -1))
        if not least <= struct.API_VERSION <= most:
            name = type(self).__name__
            raise IncompatibleBrokerVersion(f"{name} needs version {struct.API_VERSION}, the broker has {least}-{most}")
        return struct(*self._fields, NO_TAGS)


# --- ApiVersions -----------------------------------------------------------------------------------------------------


class _ApiVersionsResponseV3(Response):  # type: ignore[misc]
    API_KEY = 18
    API_VERSION = 3
    SCHEMA = Schema(
        ("error_code", Int16),
        ("api_keys", CompactArray(("api_key", Int16), ("min_version", Int16), ("max_version", Int16), TAGS)),
        ("throttle_time_ms", Int32),
        TAGS,
    )


class _ApiVersionsRequestV3(RequestStruct):  # type: ignore[misc]
    API_KEY = 18
    API_VERSION = 3
    FLEXIBLE_VERSION = True
    RESPONSE_TYPE = _ApiVersionsResponseV3
    SCHEMA = Schema(("client_software_name", TEXT), ("client_software_version", TEXT), TAGS)

    def parse_response_header(self, read_buffer: BytesIO | bytes) -> ResponseHeader_v0:
        """Read the header, which never has tags here, so that a client of any age can read it."""
        return ResponseHeader_v0.decode(read_buffer)


class ApiVersions(OneVersion):
    """Asks for a broker's versions and the cluster's features."""

    STRUCT = _ApiVersionsRequestV3


_FEATURES = CompactArray(("name", TEXT), ("max_version_level", Int16), ("min_version_level", Int16), TAGS)


def finalized_features(answer: Any) -> dict[str, int]:
    """Return the finalized feature levels of the cluster by name."""
    tagged = answer.tags.get(_FINALIZED_FEATURES)
    if tagged is None:
        return {}
    return {name: level for name, level, *_ in _FEATURES.decode(BytesIO(tagged)) or ()}


# --- DescribeTransactions --------------------------------------------------------------------------------------------


class _DescribeTransactionsResponseV0(Response):  # type: ignore[misc]
    API_KEY = 65
    API_VERSION = 0
    SCHEMA = Schema(
        ("throttle_time_ms", Int32),
        (
            "transactions",
            CompactArray(
                ("error_code", Int16),
                ("transactional_id", TEXT),
                ("state", TEXT),
                ("timeout_ms", Int32),
                ("start_time_ms", Int64),
                ("producer_id", Int64),
                ("producer_epoch", Int16),
                ("topics", CompactArray(("topic", TEXT), ("partitions", CompactArray(Int32)), TAGS)),
                TAGS,
            ),
        ),
        TAGS,
    )


class _DescribeTransactionsRequestV0(RequestStruct):  # type: ignore[misc]
    API_KEY = 65
    API_VERSION = 0
    FLEXIBLE_VERSION = True
    RESPONSE_TYPE = _DescribeTransactionsResponseV0
    SCHEMA = Schema(("transactional_ids", CompactArray(TEXT)), TAGS)


class DescribeTransactions(OneVersion):
    """Asks the coordinator for the state of a transactional id's latest transaction."""

    STRUCT = _DescribeTransactionsRequestV0

    def __init__(self, transactional_id: str) -> None:
        """Ask about one transactional id."""
        super().__init__([transactional_id])


# --- InitProducerId --------------------------------------------------------------------------------------------------


class _InitProducerIdResponseV3(Response):  # type: ignore[misc]
    API_KEY = 22
    API_VERSION = 3
    SCHEMA = Schema(
        ("throttle_time_ms", Int32),
        ("error_code", Int16),
        ("producer_id", Int64),
        ("producer_epoch", Int16),
        TAGS,
    )


class _InitProducerIdRequestV3(RequestStruct):  # type: ignore[misc]
    API_KEY = 22
    API_VERSION = 3
    FLEXIBLE_VERSION = True
    RESPONSE_TYPE = _InitProducerIdResponseV3
    SCHEMA = Schema(
        ("transactional_id", TEXT),
        ("transaction_timeout_ms", Int32),
        ("producer_id", Int64),
        ("producer_epoch", Int16),
        TAGS,
    )


class NextEpoch(OneVersion):
    """InitProducerId with an epoch: asks for the next epoch. Refused when the given epoch is not the latest."""

    STRUCT = _InitProducerIdRequestV3

    def __init__(self, transactional_id: str, transaction_timeout_ms: int, producer_id: int, epoch: int) -> None:
        """Ask for the epoch after this one of this producer id."""
        super().__init__(transactional_id, transaction_timeout_ms, producer_id, epoch)


# --- KIP-890 ---------------------------------------------------------------------------------------------------------


class _ProduceResponseV12(Response):  # type: ignore[misc]
    API_KEY = 0
    API_VERSION = 12
    SCHEMA = Schema(
        (
            "topics",
            CompactArray(
                ("topic", TEXT),
                (
                    "partitions",
                    CompactArray(
                        ("partition", Int32),
                        ("error_code", Int16),
                        ("offset", Int64),
                        ("timestamp", Int64),
                        ("log_start_offset", Int64),
                        (
                            "record_errors",
                            CompactArray(("batch_index", Int32), ("batch_index_error_message", TEXT), TAGS),
                        ),
                        ("error_message", TEXT),
                        TAGS,
                    ),
                ),
                TAGS,
            ),
        ),
        ("throttle_time_ms", Int32),
        TAGS,
    )


class _ProduceRequestV12(RequestStruct):  # type: ignore[misc]
    API_KEY = 0
    API_VERSION = 12
    FLEXIBLE_VERSION = True
    RESPONSE_TYPE = _ProduceResponseV12
    SCHEMA = Schema(
        ("transactional_id", TEXT),
        ("required_acks", Int16),
        ("timeout", Int32),
        (
            "topics",
            CompactArray(
                ("topic", TEXT),
                ("partitions", CompactArray(("partition", Int32), ("messages", CompactBytes), TAGS)),
                TAGS,
            ),
        ),
        TAGS,
    )


class ImplicitProduce(OneVersion):
    """Produce that also adds its partitions to the transaction."""

    STRUCT = _ProduceRequestV12

    def __init__(self, transactional_id: str, timeout_ms: int, partition: int, batches: Mapping[str, bytes]) -> None:
        """Write one batch to this partition of each of these topics, acknowledged by all replicas."""
        topics = [(topic, [(partition, batch, NO_TAGS)], NO_TAGS) for topic, batch in batches.items()]
        super().__init__(transactional_id, -1, timeout_ms, topics)


class _TxnOffsetCommitResponseV5(Response):  # type: ignore[misc]
    API_KEY = 28
    API_VERSION = 5
    SCHEMA = Schema(
        ("throttle_time_ms", Int32),
        (
            "errors",
            CompactArray(
                ("topic", TEXT),
                ("partition_errors", CompactArray(("partition", Int32), ("error_code", Int16), TAGS)),
                TAGS,
            ),
        ),
        TAGS,
    )


class _TxnOffsetCommitRequestV5(RequestStruct):  # type: ignore[misc]
    API_KEY = 28
    API_VERSION = 5
    FLEXIBLE_VERSION = True
    RESPONSE_TYPE = _TxnOffsetCommitResponseV5
    SCHEMA = Schema(
        ("transactional_id", TEXT),
        ("group_id", TEXT),
        ("producer_id", Int64),
        ("producer_epoch", Int16),
        ("generation_id", Int32),
        ("member_id", TEXT),
        ("group_instance_id", TEXT),
        (
            "topics",
            CompactArray(
                ("topic", TEXT),
                (
                    "partitions",
                    CompactArray(
                        ("partition", Int32), ("offset", Int64), ("leader_epoch", Int32), ("metadata", TEXT), TAGS
                    ),
                ),
                TAGS,
            ),
        ),
        TAGS,
    )


class ImplicitOffsetCommit(OneVersion):
    """TxnOffsetCommit that also adds the group's offsets to the transaction."""

    STRUCT = _TxnOffsetCommitRequestV5

    def __init__(
        self,
        transactional_id: str,
        group: str,
        producer_id: int,
        epoch: int,
        offsets: Iterable[tuple[str, list[tuple[int, int, str]]]],
    ) -> None:
        """Take offsets as (topic, [(partition, offset, metadata)]), without naming a member of the group."""
        topics = [
            (topic, [(number, offset, -1, metadata, NO_TAGS) for number, offset, metadata in several], NO_TAGS)
            for topic, several in offsets
        ]
        super().__init__(transactional_id, group, producer_id, epoch, -1, "", None, topics)


class _EndTxnResponseV5(Response):  # type: ignore[misc]
    API_KEY = 26
    API_VERSION = 5
    SCHEMA = _InitProducerIdResponseV3.SCHEMA


class _EndTxnRequestV5(RequestStruct):  # type: ignore[misc]
    API_KEY = 26
    API_VERSION = 5
    FLEXIBLE_VERSION = True
    RESPONSE_TYPE = _EndTxnResponseV5
    SCHEMA = Schema(
        ("transactional_id", TEXT),
        ("producer_id", Int64),
        ("producer_epoch", Int16),
        ("transaction_result", Boolean),
        TAGS,
    )


class EndTxnForNextEpoch(OneVersion):
    """EndTxn whose response contains the epoch of the next transaction."""

    STRUCT = _EndTxnRequestV5

    def __init__(self, transactional_id: str, producer_id: int, epoch: int, commit: bool) -> None:
        """Commit or abort the transaction of this epoch."""
        super().__init__(transactional_id, producer_id, epoch, commit)
