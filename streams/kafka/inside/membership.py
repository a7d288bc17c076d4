"""A consumer's membership as its coordinator knows it. aiokafka exposes neither generation nor heartbeats."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError
from aiokafka.protocol.group import HeartbeatRequest


def generation_of(consumer: AIOKafkaConsumer) -> int:
    """Return this consumer's group generation; -1 when it is in none."""
    return int(consumer._coordinator.generation)


async def is_member(consumer: AIOKafkaConsumer, generation: int) -> bool:
    """Ask the group coordinator whether this consumer is a member in this generation; False without a response.

    A member of a stable generation owns its assignment in that generation.
    """
    coordinator = consumer._coordinator
    if coordinator.generation != generation:
        return False
    request = HeartbeatRequest(coordinator.group_id, generation, coordinator.member_id)
    try:
        answer = await coordinator._send_req(request)
    except (KafkaError, OSError, TimeoutError):
        return False
    return bool(answer.error_code == 0 and coordinator.generation == generation)


def note_heartbeats(consumer: AIOKafkaConsumer, note: Callable[[], None]) -> None:
    """Call `note` whenever the group coordinator has accepted a heartbeat."""
    beat: Callable[[], Awaitable[bool]] = consumer._coordinator._do_heartbeat

    async def beat_and_note() -> bool:
        taken = await beat()
        if taken:
            note()
        return taken

    consumer._coordinator._do_heartbeat = beat_and_note


def on_group_error(consumer: AIOKafkaConsumer, take: Callable[[BaseException], None]) -> None:
    """Call `take` with the error that prevents joining the group: a missing permission or a refused session timeout.

    aiokafka raises such an error only to a caller that fetches records, and there is none before an assignment.
    """
    coordinator = consumer._coordinator
    push: Callable[[BaseException], Awaitable[object]] = coordinator._push_error_to_user

    def push_and_take(error: BaseException) -> Awaitable[object]:
        waiting = push(error)
        take(error)
        return waiting

    coordinator._push_error_to_user = push_and_take


async def committed_offsets(
    consumer: AIOKafkaConsumer, tps: Sequence[TopicPartition]
) -> dict[TopicPartition, tuple[int, str]]:
    """Return the group's committed offsets with metadata, whether assigned to this consumer or not."""
    found = await consumer._coordinator.fetch_committed_offsets(list(tps))
    return {tp: (at.offset, at.metadata) for tp, at in found.items() if at.offset >= 0}
