"""Avro and Protobuf, with schemas from a Confluent Schema Registry. Needs the extra `registry`.

A value begins with a zero byte and the schema's id in four bytes; the registry gives the schema, once per id. A schema
that the registry does not give is not the record's fault: it raises `SchemaNotAvailable`, the partition tries again
later, and no record becomes a dead letter for it.
"""

from __future__ import annotations

import importlib
import io
import struct
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import msgspec

from streams.core.errors import Refused, ReopenPartition
from streams.core.inputs import RawRecord
from streams.mapping.envelopes import PREFIX_BYTES, Encoding, NotUnwrapped

TIMEOUT_SECONDS = 3.0
"""How long an answer of the registry is waited for; meanwhile the worker does nothing else."""

MOST_INDEXES = 64
"""Depth of a message within a schema file; more is no message index."""

Read = Callable[[bytes], Any]
"""The bytes behind the prefix to plain values."""


class SchemaNotAvailable(ReopenPartition):
    """The registry is away, or does not know a schema that a record names."""


class Registry:
    """Deserializes by the schema that each value names."""

    def __init__(
        self, url: str, encoding: Encoding, *, username: str | None = None, password: str | None = None
    ) -> None:
        """Read schemas at `url`. Raises `Refused` when the extra is not installed."""
        configuration: dict[str, Any] = {"url": url, "timeout": TIMEOUT_SECONDS, "max.retries": 1}
        if username is not None:
            configuration["basic.auth.user.info"] = f"{username}:{password or ''}"
        self._url = url
        self._client = _needed("confluent_kafka.schema_registry").SchemaRegistryClient(configuration)
        self._reader = _avro_reader if encoding is Encoding.AVRO else _protobuf_reader
        self._read: dict[int, Read] = {}
        self._type = "AVRO" if encoding is Encoding.AVRO else "PROTOBUF"

    def __call__(self, value: bytes, record: RawRecord) -> Any:
        """Return a value as dicts, lists and scalars. Raises `NotUnwrapped`, `SchemaNotAvailable`."""
        if len(value) < PREFIX_BYTES or value[:1] != b"\0":
            raise NotUnwrapped(
                "the value does not begin with a zero byte and a schema id, as Confluent's serializers write"
            )
        (schema_id,) = struct.unpack(">I", value[1:PREFIX_BYTES])
        read = self._read.get(schema_id)
        if read is None:
            read = self._read[schema_id] = self._reader(*self._schema(schema_id))
        try:
            return msgspec.to_builtins(read(value[PREFIX_BYTES:]), enc_hook=str)
        except NotUnwrapped:
            raise
        except Exception as error:  # what the readers raise on broken bytes is not documented
            raise NotUnwrapped(f"the value does not fit schema {schema_id}: {error or type(error).__name__}") from None

    def _schema(self, schema_id: int) -> tuple[str, dict[str, str]]:
        """Return a schema's text, and those of the schemas that it refers to, by the name it uses."""
        try:
            schema = self._client.get_schema(schema_id)
            references = self._references(schema)
        except Exception as error:  # its own, and those of its HTTP library, which is another one by version
            raise SchemaNotAvailable(
                f"The schema registry {self._url} does not give schema {schema_id}: {error}"
            ) from None
        if schema.schema_type != self._type:
            raise NotUnwrapped(f"schema {schema_id} is {schema.schema_type}, and the mapping says {self._type}")
        return schema.schema_str, references

    def _references(self, schema: Any) -> dict[str, str]:
        found: dict[str, str] = {}
        for reference in schema.references or ():
            version = self._client.get_version(reference.subject, reference.version)
            found |= self._references(version.schema)
            found[reference.name] = version.schema.schema_str
        return found


def _avro_reader(schema: str, references: Mapping[str, str]) -> Read:
    fastavro: Any = _needed("fastavro")
    named: dict[str, Any] = {}
    for text in references.values():
        fastavro.parse_schema(msgspec.json.decode(text), named_schemas=named)
    parsed = fastavro.parse_schema(msgspec.json.decode(schema), named_schemas=named)
    return lambda data: fastavro.schemaless_reader(io.BytesIO(data), parsed, None)


def _protobuf_reader(schema: str, references: Mapping[str, str]) -> Read:
    protoc: Any = _needed("grpc_tools.protoc")
    descriptor_pb2: Any = _needed("google.protobuf.descriptor_pb2")
    descriptor_pool: Any = _needed("google.protobuf.descriptor_pool")
    message_factory: Any = _needed("google.protobuf.message_factory")
    to_dict: Callable[..., dict[str, Any]] = _needed("google.protobuf.json_format").MessageToDict
    own = "lapse_record.proto"
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        for name, text in {**references, own: schema}.items():
            path = (root / name).resolve()
            if not path.is_relative_to(root.resolve()):
                raise NotUnwrapped(f"a schema refers to `{name}`, which is no name of a file")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        well_known = str(Path(_needed("grpc_tools").__file__).parent / "_proto")
        output = root / "descriptors"
        arguments = [
            "protoc",
            f"-I{root}",
            f"-I{well_known}",
            "--include_imports",
            f"--descriptor_set_out={output}",
            own,
        ]
        if protoc.main(arguments) != 0:
            raise NotUnwrapped("protoc refuses the schema; its message is on standard error")
        files = descriptor_pb2.FileDescriptorSet.FromString(output.read_bytes())
    pool = descriptor_pool.DescriptorPool()
    for file in files.file:
        pool.Add(file)
    top = pool.FindFileByName(own)
    names = [message.name for message in next(file for file in files.file if file.name == own).message_type]

    def read(data: bytes) -> dict[str, Any]:
        indexes, rest = _message_indexes(data)
        try:
            descriptor = top.message_types_by_name[names[indexes[0]]]
            for index in indexes[1:]:
                descriptor = descriptor.nested_types[index]
        except IndexError:
            raise NotUnwrapped(f"the value names message {indexes}, which its schema does not have") from None
        message = message_factory.GetMessageClass(descriptor).FromString(rest)
        return to_dict(message, preserving_proto_field_name=True)

    return read


def _message_indexes(data: bytes) -> tuple[list[int], bytes]:
    """Read which message of the file follows: a count and indexes, zigzag varints; a single zero is the first."""
    count, data = _varint(data)
    if count == 0:
        return [0], data
    if not 0 < count <= MOST_INDEXES:
        raise NotUnwrapped("the message index behind the schema id can't be read")
    indexes = []
    for _ in range(count):
        index, data = _varint(data)
        indexes.append(index)
    return indexes, data


def _varint(data: bytes) -> tuple[int, bytes]:
    number = 0
    for place, byte in enumerate(data[:10]):
        number |= (byte & 0x7F) << (7 * place)
        if not byte & 0x80:
            return (number >> 1) ^ -(number & 1), data[place + 1 :]
    raise NotUnwrapped("the message index behind the schema id is cut off")


def _needed(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise Refused(
            f"The encodings `avro` and `protobuf` need the extra `registry`: pip install 'lapse[registry]' ({error})"
        ) from None
