"""From a mapping file to what maps."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from streams.core.errors import Refused
from streams.core.names import Topic
from streams.mapping.envelopes import Encoding
from streams.mapping.files import TopicMapping, load_mapping
from streams.mapping.records import Deserialize, Mapper
from streams.mapping.registry import Registry

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
