"""What the error codes of transactional requests mean for a producer, in one table."""

from __future__ import annotations

from enum import Enum


class Verdict(Enum):
    """What to do after a response."""

    DONE = "done"
    AGAIN = "ask the same broker again"
    MOVED = "look up who is responsible, then ask again"
    OVER = "this producer epoch is over: another one was begun, or the broker gave its transaction up"
    UNDONE = "this transaction cannot be committed; a producer that starts anew can go on"
    REFUSED = "the broker refuses, and waiting does not mend it"


_TABLE: dict[int, tuple[str, Verdict]] = {
    0: ("NONE", Verdict.DONE),
    46: ("DUPLICATE_SEQUENCE_NUMBER", Verdict.DONE),  # an earlier copy of the batch was written
    # Retry: the broker is not ready yet.
    7: ("REQUEST_TIMED_OUT", Verdict.AGAIN),
    14: ("COORDINATOR_LOAD_IN_PROGRESS", Verdict.AGAIN),
    19: ("NOT_ENOUGH_REPLICAS", Verdict.AGAIN),  # for old clients, also: the partition is still being verified
    20: ("NOT_ENOUGH_REPLICAS_AFTER_APPEND", Verdict.AGAIN),
    51: ("CONCURRENT_TRANSACTIONS", Verdict.AGAIN),  # the previous transaction is still being ended
    55: ("OPERATION_NOT_ATTEMPTED", Verdict.AGAIN),  # another partition of the same request was refused
    89: ("THROTTLING_QUOTA_EXCEEDED", Verdict.AGAIN),
    # Another broker is responsible, or none at the moment.
    3: ("UNKNOWN_TOPIC_OR_PARTITION", Verdict.MOVED),
    5: ("LEADER_NOT_AVAILABLE", Verdict.MOVED),
    6: ("NOT_LEADER_OR_FOLLOWER", Verdict.MOVED),
    8: ("BROKER_NOT_AVAILABLE", Verdict.MOVED),
    9: ("REPLICA_NOT_AVAILABLE", Verdict.MOVED),
    13: ("NETWORK_EXCEPTION", Verdict.MOVED),
    15: ("COORDINATOR_NOT_AVAILABLE", Verdict.MOVED),
    16: ("NOT_COORDINATOR", Verdict.MOVED),
    52: ("TRANSACTION_COORDINATOR_FENCED", Verdict.MOVED),
    56: ("KAFKA_STORAGE_ERROR", Verdict.MOVED),
    74: ("FENCED_LEADER_EPOCH", Verdict.MOVED),
    75: ("UNKNOWN_LEADER_EPOCH", Verdict.MOVED),
    # A newer epoch exists.
    47: ("INVALID_PRODUCER_EPOCH", Verdict.OVER),
    49: ("INVALID_PRODUCER_ID_MAPPING", Verdict.OVER),
    90: ("PRODUCER_FENCED", Verdict.OVER),
    # The broker's state and ours differ.
    2: ("CORRUPT_MESSAGE", Verdict.UNDONE),
    45: ("OUT_OF_ORDER_SEQUENCE_NUMBER", Verdict.UNDONE),
    48: ("INVALID_TXN_STATE", Verdict.UNDONE),
    59: ("UNKNOWN_PRODUCER_ID", Verdict.UNDONE),
    120: ("TRANSACTION_ABORTABLE", Verdict.UNDONE),
    # Waiting does not fix these.
    10: ("MESSAGE_TOO_LARGE", Verdict.REFUSED),
    12: ("OFFSET_METADATA_TOO_LARGE", Verdict.REFUSED),
    17: ("INVALID_TOPIC_EXCEPTION", Verdict.REFUSED),
    18: ("RECORD_LIST_TOO_LARGE", Verdict.REFUSED),
    24: ("INVALID_GROUP_ID", Verdict.REFUSED),
    29: ("TOPIC_AUTHORIZATION_FAILED", Verdict.REFUSED),
    30: ("GROUP_AUTHORIZATION_FAILED", Verdict.REFUSED),
    31: ("CLUSTER_AUTHORIZATION_FAILED", Verdict.REFUSED),
    32: ("INVALID_TIMESTAMP", Verdict.REFUSED),
    42: ("INVALID_REQUEST", Verdict.REFUSED),
    43: ("UNSUPPORTED_FOR_MESSAGE_FORMAT", Verdict.REFUSED),
    44: ("POLICY_VIOLATION", Verdict.REFUSED),
    50: ("INVALID_TRANSACTION_TIMEOUT", Verdict.REFUSED),
    53: ("TRANSACTIONAL_ID_AUTHORIZATION_FAILED", Verdict.REFUSED),
    76: ("UNSUPPORTED_COMPRESSION_TYPE", Verdict.REFUSED),
    87: ("INVALID_RECORD", Verdict.REFUSED),
}
"""Name and verdict by error code. Codes, names and meanings: https://kafka.apache.org/protocol#protocol_error_codes"""

_LACKING = {
    29: "this user may not write to the topic",
    30: "this user may not read with the group",
    53: "this user may not write with the transactional id",
}
"""What the refusals mean that a missing right (ACL) causes."""

UNKNOWN_TOPIC = 3


def verdict(code: int) -> Verdict:
    """Return what an error code means. A code that is not in the table ends the transaction, not the worker."""
    return _TABLE[code][1] if code in _TABLE else Verdict.UNDONE


def name_of(code: int) -> str:
    """Return an error code's name as in Kafka's documentation, for messages.

    >>> name_of(29)
    'TOPIC_AUTHORIZATION_FAILED'
    >>> name_of(999)
    'error code 999'
    """
    return _TABLE[code][0] if code in _TABLE else f"error code {code}"


def described(code: int) -> str:
    """Return an error code's name, and for a missing right what is missing.

    >>> described(29)
    'TOPIC_AUTHORIZATION_FAILED: this user may not write to the topic (ACLs: docs/operations.md)'
    >>> described(10)
    'MESSAGE_TOO_LARGE'
    """
    return f"{name_of(code)}: {_LACKING[code]} (ACLs: docs/operations.md)" if code in _LACKING else name_of(code)
