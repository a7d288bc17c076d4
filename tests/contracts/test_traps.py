"""The traps of Faust that this build goes round, each as it is today: when one fails, a work-around may go."""

from __future__ import annotations

from importlib.metadata import version
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka.admin import NewTopic
from aiokafka.errors import IllegalArgumentError
from aiokafka.record.default_records import DefaultRecordBatchBuilder
from faust.transport import consumer as faust_consumer
from faust.transport.utils import DefaultSchedulingStrategy
from faust.types import TP
from faust.utils.tracing import noop_span, traced_from_parent_span

from streams.host.app import App
from streams.host.clock import Clock
from streams.kafka.config import KafkaConfig

HERE = TP("t", 0)


def test_versions_are_the_ones_that_were_read() -> None:
    """aiokafka's inner names and Faust's loops are relied on: read them again before moving a pin."""
    pins = {name: version(name) for name in ("faust-streaming", "aiokafka", "mode-streaming")}
    assert pins == {"faust-streaming": "0.15.3", "aiokafka": "0.14.0", "mode-streaming": "0.7.1"}


class Books(faust_consumer.Consumer):
    """Faust's bookkeeping without a broker."""

    def __init__(self) -> None:
        from collections import defaultdict

        from intervaltree import IntervalTree

        self._acked = defaultdict(list)
        self._acked_index = defaultdict(set)
        self._gap = defaultdict(IntervalTree)
        self._committed_offset = defaultdict(lambda: None)
        self.scheduler = DefaultSchedulingStrategy()


Books.__abstractmethods__ = frozenset()


def test_fausts_committed_offset_jumps_over_a_record_in_flight() -> None:
    """faust.md 1: nothing committed, record 4 in flight, 5 to 7 acknowledged: 8 would be committed."""
    books: Any = Books()
    books._acked[HERE] = [5, 6, 7]
    assert books._new_offset(HERE) == 8


async def test_fausts_failed_commit_is_remembered_as_done() -> None:
    """faust.md 2: the offset that could not be committed is not tried again."""
    books: Any = Books()

    async def nothing(*_: Any) -> bool:
        return False

    books._commit = nothing
    books.assignment = lambda: {HERE}
    books.in_transaction = False
    books.app = SimpleNamespace(
        producer=SimpleNamespace(flush=nothing), monitor=SimpleNamespace(on_tp_commit=lambda offsets: None)
    )
    books.log = SimpleNamespace(dev=lambda *a: None, info=lambda *a: None)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(faust_consumer, "flight_recorder", _Recorder)
        assert await books._commit_offsets({HERE: 20}) is False
    assert books._committed_offset[HERE] == 20


class _Recorder:
    def __init__(self, *_: Any, **__: Any) -> None: ...

    def __enter__(self) -> Any:
        return SimpleNamespace(info=lambda *a: None)

    def __exit__(self, *_: Any) -> None: ...


def test_without_opentracing_a_traced_coroutine_is_still_one() -> None:
    """faust.md 8: before 0.15, every rebalance failed here."""

    async def work() -> int:
        return 1

    traced = traced_from_parent_span(noop_span())(work)
    found = traced()
    try:
        assert found.send(None) is None
    except StopIteration as end:
        assert end.value == 1


async def test_the_app_starts_no_producer_no_web_server_and_writes_no_folder(tmp_path: Any, monkeypatch: Any) -> None:
    """faust.md, security row: Faust's web server shows table data on 0.0.0.0:6066 unless switched off."""
    monkeypatch.chdir(tmp_path)
    app = App(KafkaConfig(), Clock())
    names = {type(service).__name__ for service in app.on_init_dependencies()}
    assert "Consumer" in names
    assert not {"Producer", "Web", "ThreadedProducer"} & names
    # `faust worker` switches the web on unless told otherwise; the boot strategy still says no.
    app.conf.web_enabled = True
    assert "Web" not in {type(service).__name__ for service in app.on_init_dependencies()}
    await app.on_first_start()
    assert list(tmp_path.iterdir()) == []


async def test_settings_that_the_traps_ask_for_are_set() -> None:
    conf = App(KafkaConfig(), Clock()).conf
    assert not conf.topic_allow_declare
    assert conf.topic_disable_leader
    assert not conf.stream_wait_empty
    assert not conf.producer_threaded
    assert conf.table_standby_replicas == 0
    assert conf.processing_guarantee.value == "at_least_once"


def test_a_new_topic_with_the_brokers_replication_needs_an_empty_assignment() -> None:
    """aiokafka takes -1, the broker's default, for an omission."""
    with pytest.raises(IllegalArgumentError):
        NewTopic("t", 3, -1)
    NewTopic("t", 3, -1, {})
    with pytest.raises(IllegalArgumentError):
        NewTopic("t", 3, 1, {})


def test_a_batch_takes_headers_as_a_list_only_and_its_first_record_whatever_its_size() -> None:
    def builder() -> Any:
        return DefaultRecordBatchBuilder(
            2, 0, is_transactional=1, producer_id=-1, producer_epoch=-1, base_sequence=0, batch_size=100
        )

    with pytest.raises(TypeError):
        builder().append(0, 1, key=b"k", value=b"v", headers=())
    batch = builder()
    assert batch.append(0, 1, key=b"k", value=b"x" * 1000, headers=[]) is not None
    assert batch.append(1, 1, key=b"k", value=b"x", headers=[]) is None
