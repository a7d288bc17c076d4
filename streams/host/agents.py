"""One Faust agent for each input; each only puts what was fetched into the inbox it belongs to."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from streams.host.app import App


def declare_agents(app: App) -> None:
    """Declare the agents of both inputs.

    They never wait: one that waited for a full inbox would hold up every other partition of its topic, and two that
    waited for each other's side would never go on. Nor can they fail: Faust would go on with the next message.
    """
    for name, topic in app.runtime.inputs.items():
        # Raw, so that Faust hands our fetch on as it is; without acks, so that it keeps no books.
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
