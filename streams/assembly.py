"""Assembles the worker: settings, triggers, engine, runtime, telemetry and web in one process."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, NoReturn

import faust
from aiokafka.helpers import create_ssl_context

from streams.core.batch import Batch
from streams.core.engine import EngineSettings
from streams.core.errors import LapseError, Refused
from streams.core.model import SECOND, Micros
from streams.core.names import Topic
from streams.core.revisions import Rulebook
from streams.core.rounds import RoundPolicy
from streams.core.silence import SilenceEngine
from streams.core.triggers import Ruleset
from streams.host.app import App
from streams.host.clock import Clock
from streams.kafka.config import KafkaConfig, Security, silence_config
from streams.mapping.load import decode_by
from streams.operate.members import host_of
from streams.rules.source import compile_source
from streams.rules.triggers import load_triggers
from streams.settings.engine import make_engine
from streams.settings.settings import Settings, load_settings
from streams.settings.values import NOW
from streams.telemetry.logs import Format, configure_logging, say
from streams.telemetry.observer import Metrics
from streams.telemetry.progress import Progress
from streams.telemetry.silence import SilenceMetrics
from streams.web.journal import Journal
from streams.web.probes import Port, not_ready, watching_for_stalls
from streams.web.server import Server
from streams.wire import instants
from streams.wire.rows import MsgpackRows, session_state
from streams.wire.silence import SilenceRows, decode_whole, silence_writes
from streams.worker.lookup import Lookup
from streams.worker.observer import Silent
from streams.worker.service import Worker, run_until_stopped
from streams.worker.status import WorkerStatus
from streams.worker.supervisor import Supervisor

logger = logging.getLogger(__name__)

_LONGEST_HEARTBEAT: Micros = 3 * SECOND
_HEARTBEATS_IN_SESSION = 5


def run_worker(settings: Settings) -> int:
    """Run a worker until SIGTERM or SIGINT; return the exit code (see `run_until_stopped`)."""
    log_format = settings.log_format or "auto"
    configure_logging(settings.log_level, log_format)
    try:
        # With rules from their topic, none is known before it was read.
        ruleset = load_ruleset(settings) if settings.rules == "file" else Ruleset(())
    except LapseError as error:
        say(str(error), log_format)
        return error.exit_code
    return run_until_stopped(lambda: make_worker(settings, ruleset), lambda message: say(message, log_format))


def load_ruleset(settings: Settings) -> Ruleset:
    """Load the trigger file named in the settings. Raises `Refused` with all errors in the file."""
    if settings.triggers is None:
        raise Refused(
            "No trigger file is set. Name one with --triggers, LAPSE_TRIGGERS or `triggers:` in lapse.yaml; "
            "deploy/triggers/recipes.yaml is a good one to start from."
        )
    file = load_triggers(settings.triggers)
    if file.ruleset is None:
        raise Refused("The trigger file can't be used:\n" + "\n".join(str(problem) for problem in file.errors))
    for problem in file.warnings:
        logger.warning("%s", problem)
    return file.ruleset


def make_worker(settings: Settings, ruleset: Ruleset) -> Worker:
    """Assemble a worker. Call this inside the event loop that will run it."""
    journal = Journal()
    metrics = _Kept(
        journal,
        abandonment_reasons=settings.abandonment_reasons,
        # An inactive trigger has no series, so that no alert reports it as never firing.
        triggers=[trigger.id for trigger in ruleset.triggers if trigger.active],
        ruleset=ruleset.digest,
    )

    config = runtime_config(settings)
    book = Rulebook(compile_source) if settings.rules == "topic" else None
    servers: list[Server] = []

    def show(digest: str, ruleset: Ruleset) -> None:
        metrics.use(digest, [trigger.id for trigger in ruleset.triggers if trigger.active])
        for server in servers:
            server.use(ruleset)

    def web(supervisor: Supervisor) -> Server:
        token = settings.web_token
        server = _LoggedServer(
            host=settings.web_host,
            port=settings.web_port,
            token=None if token is None else token.get_secret_value(),
            metrics=metrics,
            source=WorkerStatus(supervisor),
            ruleset=ruleset,
            app_id=settings.app_id,
            journal=journal,
            tables=Lookup(supervisor, session_state),
            join_wait=settings.join_wait,
            holder=partial(host_of, config),
            book=book,
        )
        servers.append(server)
        return server

    if book is not None:
        metrics.follow(book, show)

    return Worker(
        config,
        make_engine(ruleset, settings),
        decode=decode_by(settings),
        rows=MsgpackRows(),
        observer=metrics,
        beside=(web, lambda _: Progress(metrics.totals)),
        book=book,
    )


class _Kept(Metrics):
    """The metrics, which also keep a journal of recent events for the pages."""

    def __init__(self, journal: Journal, **labels: Any) -> None:
        super().__init__(**labels)
        self._journal = journal
        self._book: Rulebook | None = None
        self._show: Callable[[str, Ruleset], None] = lambda _, __: None
        self._shown: int | None = None

    def follow(self, book: Rulebook, show: Callable[[str, Ruleset], None]) -> None:
        """Call `show` with digest and rules whenever a partition has a newer revision in use than any had before."""
        self._book, self._show = book, show

    def rules_in_use(self, partition: int, revision: int) -> None:
        super().rules_in_use(partition, revision)
        if self._book is not None and revision > (self._shown or 0):
            ruleset = self._book.ruleset(revision)
            if ruleset is not None:
                self._shown = revision
                self._show(ruleset.digest, ruleset)

    def batch_committed(
        self, partition: int, batch: Batch, seconds: float, commit_seconds: float | None = None
    ) -> None:
        super().batch_committed(partition, batch, seconds, commit_seconds)
        self._journal.batch_committed(batch)


class _LoggedServer(Server):
    """The web server, which logs its address."""

    async def start(self) -> None:
        await super().start()
        logger.info("page, metrics and probes on %s", self.url)


# --- lapse ingest --silence ------------------------------------------------------------------------------------------


def run_silence(settings: Settings) -> int:
    """Run `lapse ingest --silence` until SIGTERM or SIGINT; return the exit code (see `run_until_stopped`)."""
    log_format = settings.log_format or "auto"
    configure_logging(settings.log_level, log_format)
    return run_until_stopped(lambda: make_silence(settings), lambda message: say(message, log_format))


def make_silence(settings: Settings) -> Worker:
    """Assemble what watches over silence: a worker whose engine writes session states.

    Call this inside the event loop that will run it. Raises `Refused` when no channel has a wait.
    """
    if not settings.silence:
        raise Refused(
            "No channel has a wait. Set `silence:` in lapse.yaml (`silence: {mobile: 15m}`), or LAPSE_SILENCE "
            "(`mobile=15m,whatsapp=30m`)."
        )
    observer = _SilenceObserver()

    @asynccontextmanager
    async def probes(supervisor: Supervisor) -> AsyncIterator[None]:
        source = WorkerStatus(supervisor)
        async with watching_for_stalls(source) as stalled:
            port = Port(
                what="server of metrics and probes",
                host=settings.ingest_host,
                port=settings.silence_port,
                settings="silence",
                host_settings="ingest",
                exposition=observer.metrics.exposition,
                not_ready=not_ready(source),
                stalled=stalled,
            )
            async with port:
                logger.info("metrics and probes on %s", port.url)
                yield

    rules = RoundPolicy(act_from=settings.act_from)
    return Worker(
        silence_config(runtime_config(settings)),
        SilenceEngine(settings.silence, instants.read, EngineSettings(rounds=rules, state_ttl=settings.state_ttl)),
        decode=decode_whole(decode_by(settings)),
        rows=SilenceRows(),
        observer=observer,
        beside=(probes,),
        make_writes=silence_writes,
    )


class _SilenceObserver(Silent):
    """Passes on what concerns silence."""

    def __init__(self) -> None:
        self.metrics = SilenceMetrics()

    def batch_committed(
        self, partition: int, batch: Batch, seconds: float, commit_seconds: float | None = None
    ) -> None:
        self.metrics.batch_committed(batch)

    def pending_rounds(self, partition: int, n: int) -> None:
        self.metrics.waiting(partition, n)

    def lag(self, topic: Topic, partition: int, records: int, seconds: float | None = None) -> None:
        self.metrics.lag(topic, partition, records)

    def revoked(self, partitions: Iterable[int]) -> None:
        self.metrics.revoked(partitions)


# --- configuration ---------------------------------------------------------------------------------------------------


def runtime_config(settings: Settings, patience: Micros | None = None) -> KafkaConfig:
    """Return the runtime's configuration from the settings. `patience`: how long to retry an unreachable broker.

    Each field of `KafkaConfig` takes the value of the setting with the same name, if there is one.
    """
    of_the_same_name: dict[str, Any] = {
        name: getattr(settings, name) for name in KafkaConfig.__struct_fields__ if name in Settings.model_fields
    }
    if patience is not None:
        of_the_same_name["broker_patience"] = patience
    return KafkaConfig(
        **of_the_same_name,
        security=_security(settings),
        group_instance_id=settings.instance_id,
        act_from_is_set=settings.act_from is not None,
        act_from_now=settings.act_from == NOW,
        heartbeat_interval=min(_LONGEST_HEARTBEAT, settings.session_timeout // _HEARTBEATS_IN_SESSION),
    )


def _security(settings: Settings) -> Security:
    """Return aiokafka's arguments for TLS and SASL."""
    protocol = settings.security_protocol
    arguments = Security(security_protocol=protocol)
    if protocol.endswith("SSL"):
        secret = settings.ssl_key_password
        try:
            context = create_ssl_context(
                cafile=_path(settings.ssl_cafile),
                certfile=_path(settings.ssl_certfile),
                keyfile=_path(settings.ssl_keyfile),
                password=None if secret is None else secret.get_secret_value(),
            )
        except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
            raise Refused(f"The certificates (ssl_cafile, ssl_certfile, ssl_keyfile) can't be used: {error}") from None
        context.check_hostname = settings.ssl_check_hostname
        arguments["ssl_context"] = context
    if protocol.startswith("SASL_"):
        password = settings.sasl_password
        arguments |= {
            "sasl_mechanism": settings.sasl_mechanism,
            "sasl_plain_username": settings.sasl_username,
            "sasl_plain_password": None if password is None else password.get_secret_value(),
        }
    return arguments


def _path(path: object) -> str | None:
    return None if path is None else str(path)


# --- faust -A streams worker -----------------------------------------------------------------------------------------


def faust_app() -> faust.App:
    """Return the app that `faust -A streams` looks for. Its worker does the same as `lapse run`.

    The settings come from the environment and `lapse.yaml`. Ends the process if they are not valid.
    """
    try:
        settings = load_settings({}, os.environ)
        config = runtime_config(settings)
    except LapseError as error:
        say(str(error), _log_format(os.environ))
        sys.exit(2)

    class FaustWorker(faust.Worker):
        """The worker that `faust worker` starts, with Lapse's event loop, signals, messages and exit codes."""

        def execute_from_commandline(self) -> NoReturn:
            sys.exit(run_worker(settings))

    return App(config, Clock(), Worker=FaustWorker)


def _log_format(environ: Mapping[str, str]) -> Format:
    """Return the log format set in the environment, even if other settings are invalid."""
    wanted = environ.get("LAPSE_LOG_FORMAT")
    return "text" if wanted == "text" else "json" if wanted == "json" else "auto"
