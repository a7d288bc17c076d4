"""Requests that only look at a cluster, in versions that aiokafka lacks: rights, groups, producers, transactions.

The field names are Kafka's. The layouts are at https://kafka.apache.org/protocol. All brokers since Kafka 3.0 have
these versions.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from aiokafka.protocol.api import RequestStruct, Response
from aiokafka.protocol.types import (
    Boolean,
    CompactArray,
    CompactBytes,
    Int16,
    Int32,
    Int64,
    Schema,
)

from streams.kafka.inside.requests import NO_TAGS, TAGS, TEXT, OneVersion

# --- Metadata --------------------------------------------------------------------------------------------------------


class _MetadataResponseV9(Response):  # type: ignore[misc]
    API_KEY = 3
    API_VERSION = 9
    SCHEMA = Schema(
        ("throttle_time_ms", Int32),
        ("brokers", CompactArray(("node_id", Int32), ("host", TEXT), ("port", Int32), ("rack", TEXT), TAGS)),
        ("cluster_id", TEXT),
        ("controller_id", Int32),
        (
            "topics",
            CompactArray(
                ("error_code", Int16),
                ("name", TEXT),
                ("is_internal", Boolean),
                (
                    "partitions",
                    CompactArray(
                        ("error_code", Int16),
                        ("partition_index", Int32),
                        ("leader_id", Int32),
                        ("leader_epoch", Int32),
                        ("replica_nodes", CompactArray(Int32)),
                        ("isr_nodes", CompactArray(Int32)),
                        ("offline_replicas", CompactArray(Int32)),
                        TAGS,
                    ),
                ),
                ("topic_authorized_operations", Int32),
                TAGS,
            ),
        ),
        ("cluster_authorized_operations", Int32),
        TAGS,
    )


class _MetadataRequestV9(RequestStruct):  # type: ignore[misc]
    API_KEY = 3
    API_VERSION = 9
    FLEXIBLE_VERSION = True
    RESPONSE_TYPE = _MetadataResponseV9
    SCHEMA = Schema(
        ("topics", CompactArray(("name", TEXT), TAGS)),
        ("allow_auto_topic_creation", Boolean),
        ("include_cluster_authorized_operations", Boolean),
        ("include_topic_authorized_operations", Boolean),
        TAGS,
    )


class DescribeTopics(OneVersion):
    """Asks for brokers, and for leaders, replicas and this user's rights of these topics. Creates none of them."""

    STRUCT = _MetadataRequestV9

    def __init__(self, topics: Iterable[str]) -> None:
        """Ask about these topics."""
        super().__init__([(name, NO_TAGS) for name in topics], False, False, True)


# --- DescribeGroups --------------------------------------------------------------------------------------------------


class _DescribeGroupsResponseV5(Response):  # type: ignore[misc]
    API_KEY = 15
    API_VERSION = 5
    SCHEMA = Schema(
        ("throttle_time_ms", Int32),
        (
            "groups",
            CompactArray(
                ("error_code", Int16),
                ("group_id", TEXT),
                ("group_state", TEXT),
                ("protocol_type", TEXT),
                ("protocol_data", TEXT),
                (
                    "members",
                    CompactArray(
                        ("member_id", TEXT),
                        ("group_instance_id", TEXT),
                        ("client_id", TEXT),
                        ("client_host", TEXT),
                        ("member_metadata", CompactBytes),
                        ("member_assignment", CompactBytes),
                        TAGS,
                    ),
                ),
                ("authorized_operations", Int32),
                TAGS,
            ),
        ),
        TAGS,
    )


class _DescribeGroupsRequestV5(RequestStruct):  # type: ignore[misc]
    API_KEY = 15
    API_VERSION = 5
    FLEXIBLE_VERSION = True
    RESPONSE_TYPE = _DescribeGroupsResponseV5
    SCHEMA = Schema(("groups", CompactArray(TEXT)), ("include_authorized_operations", Boolean), TAGS)


class DescribeGroup(OneVersion):
    """Asks the coordinator for a group's state, its members and this user's rights."""

    STRUCT = _DescribeGroupsRequestV5

    def __init__(self, group: str) -> None:
        """Ask about one group."""
        super().__init__([group], True)


# --- DescribeProducers -----------------------------------------------------------------------------------------------


class _DescribeProducersResponseV0(Response):  # type: ignore[misc]
    API_KEY = 61
    API_VERSION = 0
    SCHEMA = Schema(
        ("throttle_time_ms", Int32),
        (
            "topics",
            CompactArray(
                ("name", TEXT),
                (
                    "partitions",
                    CompactArray(
                        ("partition_index", Int32),
                        ("error_code", Int16),
                        ("error_message", TEXT),
                        (
                            "active_producers",
                            CompactArray(
                                ("producer_id", Int64),
                                ("producer_epoch", Int32),
                                ("last_sequence", Int32),
                                ("last_timestamp", Int64),
                                ("coordinator_epoch", Int32),
                                ("current_txn_start_offset", Int64),
                                TAGS,
                            ),
                        ),
                        TAGS,
                    ),
                ),
                TAGS,
            ),
        ),
        TAGS,
    )


class _DescribeProducersRequestV0(RequestStruct):  # type: ignore[misc]
    API_KEY = 61
    API_VERSION = 0
    FLEXIBLE_VERSION = True
    RESPONSE_TYPE = _DescribeProducersResponseV0
    SCHEMA = Schema(
        ("topics", CompactArray(("name", TEXT), ("partition_indexes", CompactArray(Int32)), TAGS)),
        TAGS,
    )


class DescribeProducers(OneVersion):
    """Asks the leader of partitions for their producers, with the offset at which an open transaction begins."""

    STRUCT = _DescribeProducersRequestV0

    def __init__(self, partitions: Mapping[str, list[int]]) -> None:
        """Ask about these partitions by topic."""
        super().__init__([(topic, numbers, NO_TAGS) for topic, numbers in partitions.items()])


# --- ListTransactions ------------------------------------------------------------------------------------------------


class _ListTransactionsResponseV0(Response):  # type: ignore[misc]
    API_KEY = 66
    API_VERSION = 0
    SCHEMA = Schema(
        ("throttle_time_ms", Int32),
        ("error_code", Int16),
        ("unknown_state_filters", CompactArray(TEXT)),
        (
            "transaction_states",
            CompactArray(("transactional_id", TEXT), ("producer_id", Int64), ("transaction_state", TEXT), TAGS),
        ),
        TAGS,
    )


class _ListTransactionsRequestV0(RequestStruct):  # type: ignore[misc]
    API_KEY = 66
    API_VERSION = 0
    FLEXIBLE_VERSION = True
    RESPONSE_TYPE = _ListTransactionsResponseV0
    SCHEMA = Schema(("state_filters", CompactArray(TEXT)), ("producer_id_filters", CompactArray(Int64)), TAGS)


class ListTransactions(OneVersion):
    """Asks a broker for those transactional ids of these producer ids that it coordinates."""

    STRUCT = _ListTransactionsRequestV0

    def __init__(self, producer_ids: Iterable[int]) -> None:
        """Ask about these producer ids, in any state."""
        super().__init__([], list(producer_ids))
