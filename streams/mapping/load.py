"""From a mapping file to what maps."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from streams.core.errors import Refused
from streams.core.inputs import Decode
from streams.core.names import Topic
from streams.mapping.envelopes import Encoding
from streams.mapping.files import TopicMapping, load_mapping
from streams.mapping.records import Deserialize, Mapper, mapped
from streams.mapping.registry import Registry
from streams.settings.settings import Settings
from streams.wire.decode import decode

_WITH_SCHEMAS = (Encoding.AVRO, Encoding.PROTOBUF)


def load_mappers(
    path: Path | None,
    *,
    registry_url: str | None = None,
    registry_username: str | None = None,
    registry_password: str | None = None,
) -> Mapping[Topic, Mapper]:
    """Return a mapper for each topic that the file names; none without a file.

    Raises:
        Refused: with everything that is wrong in the file, or when an encoding needs a registry that is not set.
    """
    if path is None:
        return {}

    def deserializer(topic: Topic, mapping: TopicMapping) -> Deserialize | None:
        if mapping.encoding not in _WITH_SCHEMAS:
            return None
        if registry_url is None:
            raise Refused(f"{path}: `encoding: {mapping.encoding}` of {topic} needs the setting `schema_registry_url`")
        return Registry(registry_url, mapping.encoding, username=registry_username, password=registry_password)

    return {topic: Mapper(mapping, deserializer(topic, mapping)) for topic, mapping in load_mapping(path).items()}


def mappers_of(settings: Settings) -> Mapping[Topic, Mapper]:
    """Return the mappers that the settings name; none when `mapping` is not set. Raises `Refused`."""
    password = settings.schema_registry_password
    return load_mappers(
        settings.mapping,
        registry_url=settings.schema_registry_url,
        registry_username=settings.schema_registry_username,
        registry_password=None if password is None else password.get_secret_value(),
    )


def decode_by(settings: Settings) -> Decode:
    """Return how records are decoded by these settings: without `mapping`, as they are. Raises `Refused`."""
    return mapped(decode, mappers_of(settings))
