"""Avro and Protobuf, by the schemas of a small registry on loopback."""

from __future__ import annotations

import http.server
import io
import json
import struct
import threading
from contextlib import contextmanager

import pytest

from streams.core.errors import Refused
from streams.mapping.envelopes import Encoding, NotUnwrapped
from streams.mapping.load import load_mappers
from streams.mapping.registry import Registry, SchemaNotAvailable
from streams.wire.capture import CapturedRecord

AVRO = {
    "type": "record",
    "name": "Session",
    "fields": [
        {"name": "id", "type": "long"},
        {"name": "at", "type": {"type": "long", "logicalType": "timestamp-millis"}},
        {"name": "state", "type": ["null", "string"]},
    ],
}
PROTO = """
syntax = "proto3";
import "common.proto";
message Other { string x = 1; }
message Session {
  message Inner { string state = 1; }
  int64 id = 1;
  Inner inner = 2;
  Common common = 3;
}
"""
COMMON = 'syntax = "proto3"; message Common { string channel = 1; }'


@contextmanager
def registry(schemas, versions=None, token=None):
    """Serve `GET /schemas/ids/N` and `GET /subjects/S/versions/V`; yields (url, paths asked)."""
    asked: list[str] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            path = self.path.split("?")[0]
            asked.append(path)
            found = None
            if path.startswith("/schemas/ids/"):
                found = schemas.get(int(path.rsplit("/", 1)[1]))
            elif path.startswith("/subjects/"):
                found = (versions or {}).get(path.split("/")[2])
            if token is not None and self.headers.get("Authorization") != token:
                self.answer(401, {"error_code": 401, "message": "Unauthorized"})
            elif found is None:
                self.answer(404, {"error_code": 40403, "message": "Schema not found"})
            else:
                self.answer(200, found)

        def answer(self, status, body):
            data = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/vnd.schemaregistry.v1+json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", asked
    finally:
        server.shutdown()
        server.server_close()


def prefixed(schema_id, data):
    return b"\0" + struct.pack(">I", schema_id) + data


def avro(value):
    import fastavro

    out = io.BytesIO()
    fastavro.schemaless_writer(out, fastavro.parse_schema(AVRO), value)
    return out.getvalue()


def record(value):
    return CapturedRecord(0, 0, b"5", value)


def test_an_avro_value_is_read_by_the_schema_that_it_names_and_the_schema_is_asked_for_once():
    with registry({7: {"schema": json.dumps(AVRO)}}) as (url, asked):
        read = Registry(url, Encoding.AVRO)
        value = prefixed(7, avro({"id": 5158, "at": 1_772_359_500_000, "state": "away"}))
        for _ in range(3):
            assert read(value, record(value)) == {"id": 5158, "at": "2026-03-01T10:05:00Z", "state": "away"}
    assert len(asked) == 1


def test_a_protobuf_value_is_read_with_its_references_and_nested_messages():
    schemas = {
        9: {
            "schema": PROTO,
            "schemaType": "PROTOBUF",
            "references": [{"name": "common.proto", "subject": "common", "version": 1}],
        }
    }
    common = {"subject": "common", "id": 8, "version": 1, "schema": COMMON, "schemaType": "PROTOBUF"}
    with registry(schemas, {"common": common}) as (url, _):
        read = Registry(url, Encoding.PROTOBUF)
        # Session is message 1 of the file: count 1, index 1, both zigzag. Fields: id = 5, inner.state, common.channel.
        data = b"\x02\x02" + b"\x08\x05" + b"\x12\x06\x0a\x04away" + b"\x1a\x05\x0a\x03web"
        value = prefixed(9, data)
        expected = {"id": "5", "inner": {"state": "away"}, "common": {"channel": "web"}}
        assert read(value, record(value)) == expected
        inner = prefixed(9, b"\x04\x02\x00" + b"\x0a\x04away")
        assert read(inner, record(inner)) == {"state": "away"}
        for broken in (b"", b"\x02", b"\x02\x0c\x08\x05", b"\x02\x02\xff", b"\xff" * 12):
            with pytest.raises(NotUnwrapped):
                read(prefixed(9, broken), record(b""))


@pytest.mark.parametrize("value", [b"", b"\0\0\0", b"{}", b"\1\0\0\0\7x"])
def test_a_value_without_the_prefix_is_not_unwrapped(value):
    with registry({}) as (url, asked), pytest.raises(NotUnwrapped, match="schema id"):
        Registry(url, Encoding.AVRO)(value, record(value))
    assert asked == []


def test_a_value_that_does_not_fit_its_schema_is_not_unwrapped():
    with registry({7: {"schema": json.dumps(AVRO)}}) as (url, _), pytest.raises(NotUnwrapped, match="schema 7"):
        Registry(url, Encoding.AVRO)(prefixed(7, b"\xff"), record(b""))


def test_a_schema_that_the_registry_does_not_give_is_not_the_records_fault():
    with registry({}) as (url, _), pytest.raises(SchemaNotAvailable, match="schema 7"):
        Registry(url, Encoding.AVRO)(prefixed(7, b""), record(b""))
    with pytest.raises(SchemaNotAvailable, match="does not give"):
        Registry("http://127.0.0.1:1", Encoding.AVRO)(prefixed(7, b""), record(b""))


def test_user_and_password_go_along():
    token = "Basic bGFwc2U6c2VjcmV0"  # lapse:secret
    with registry({7: {"schema": json.dumps(AVRO)}}, token=token) as (url, _):
        value = prefixed(7, avro({"id": 1, "at": 0, "state": None}))
        assert Registry(url, Encoding.AVRO, username="lapse", password="secret")(value, record(value))["id"] == 1
        with pytest.raises(SchemaNotAvailable):
            Registry(url, Encoding.AVRO)(value, record(value))


def test_an_encoding_with_schemas_needs_a_registry(tmp_path):
    path = tmp_path / "mapping.yaml"
    path.write_text("session-states: {encoding: avro, members: {state: state}}")
    with pytest.raises(Refused, match="schema_registry_url"):
        load_mappers(path)
