"""One Faust agent per input topic. Each agent only moves fetched records into the right inbox."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from streams.host.app import App


def declare_agents(app: App) -> None:
    """Declare the agents of both inputs.

    Agents never wait: an agent that waited for a full inbox would block every other partition of its topic, and two
    agents that waited for each other's input would deadlock. They must not fail either: Faust would skip to the next
    message.
    """
    for name, topic in app.runtime.inputs.items():
        # Raw serializers make Faust pass our fetch through unchanged. `acks=False` turns off its offset tracking.
        source = app.topic(name, key_serializer="raw", value_serializer="raw", acks=False)
        app.agent(source, name=f"{topic.value}-agent")(_deliver(app))


def _deliver(app: App) -> Any:
    async def deliver(stream: Any) -> None:
        async for event in stream.events():
            for fetch in event.value:
                inbox = app.inboxes.get(fetch.tp)
                if inbox is not None:
                    inbox.put(fetch)

    return deliver
