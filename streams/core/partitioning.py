"""Kafka's default partitioner: murmur2 over the key's bytes, as in the Java client."""

from __future__ import annotations


def murmur2(key: bytes) -> int:
    """Hash a key as `org.apache.kafka.common.utils.Utils.murmur2` does, as an unsigned 32-bit number.

    >>> murmur2(b"21") == 0xFFFFFFFF & -973932308, murmur2(b"foobar") == 0xFFFFFFFF & -790332482
    (True, True)
    """
    length = len(key)
    h = (0x9747B28C ^ length) & 0xFFFFFFFF
    words = length >> 2
    for index in range(words):
        k = int.from_bytes(key[index * 4 : index * 4 + 4], "little")
        k = (k * 0x5BD1E995) & 0xFFFFFFFF
        k ^= k >> 24
        k = (k * 0x5BD1E995) & 0xFFFFFFFF
        h = ((h * 0x5BD1E995) & 0xFFFFFFFF) ^ k
    tail = key[words * 4 :]
    if tail:
        h ^= int.from_bytes(tail, "little")
        h = (h * 0x5BD1E995) & 0xFFFFFFFF
    h ^= h >> 13
    h = (h * 0x5BD1E995) & 0xFFFFFFFF
    return h ^ (h >> 15)


def partition_of(key: bytes, partition_count: int) -> int:
    """Return the partition that the default partitioner chooses among `partition_count`."""
    return (murmur2(key) & 0x7FFFFFFF) % partition_count
