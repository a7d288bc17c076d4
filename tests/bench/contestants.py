"""Who is measured: how each program is built, told what to do, and started."""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from streams.core.names import Output
from tests.bench.ground import Ground
from tests.bench.process import ROOT, Process
from tests.kafka_kit import Broker, topics
from tests.kafka_kit.broker import free_port
from tests.kafka_kit.distribution import find_java
from tests.system.worker import lapse, settings

PEERS = Path(__file__).parent / "peers"
_BUILD_SECONDS = 600


@dataclass(frozen=True)
class Task:
    """What one run is given: inputs under a prefix, and a name that makes everything that it writes its own."""

    broker: Broker
    prefix: str
    partitions: int
    triggers: Path
    scratch: Path
    name: str
    commands: str
    """The topic that the commands go to."""
    port: int
    """A free port for whatever the program serves."""

    @property
    def group(self) -> str:
        """The consumer group whose committed offsets say how far the run is."""
        return f"{self.prefix}{self.name}"


@dataclass(frozen=True)
class Contestant:
    """One way to do the work. `merges`: it takes both topics in the order of their timestamps."""

    key: str
    title: str
    merges: bool = True

    async def prepare(self, task: Task) -> None:
        """Make the topics that the run writes to."""
        await topics.create(task.broker.bootstrap, [task.commands], task.partitions)

    async def forget(self, task: Task) -> None:
        """Delete what the run wrote, so that the next one finds the broker as this one did."""
        async with topics.admin(task.broker.bootstrap) as client:
            found = await client.list_topics()
            await client.delete_topics([each for each in found if each == task.commands or task.group in each])

    def command(self, task: Task) -> tuple[list[str], dict[str, str]]:
        """Return the command line and the environment of the program."""
        raise NotImplementedError

    def commands_topic(self, prefix: str, name: str) -> str:
        """Return the topic that the run of that name writes its commands to."""
        return f"{prefix}{name}-commands"

    def versions(self) -> Mapping[str, str]:
        """Return the versions that a reader wants to know."""
        return {}


@contextmanager
def started(contestant: Contestant, task: Task) -> Iterator[Process]:
    """Run the contestant's program for the time of the block."""
    command, env = contestant.command(task)
    with Process(command, env, task.scratch / f"{task.name}.log") as process:
        yield process


def task(contestant: Contestant, ground: Ground, scratch: Path) -> Task:
    """Return a task on a ground, with a name that nobody had before."""
    name = f"{contestant.key}-{uuid.uuid4().hex[:6]}"
    commands = contestant.commands_topic(ground.prefix, name)
    return Task(ground.broker, ground.prefix, ground.partitions, ground.triggers, scratch, name, commands, free_port())


# --- Lapse ------------------------------------------------------------------------------------------------------------


class Lapse(Contestant):
    """`lapse run`, with its defaults."""

    def environment(self, task: Task) -> dict[str, str]:
        """Return the settings of the worker."""
        return settings(
            task.broker.bootstrap,
            task.prefix,
            task.triggers,
            app_id=task.name,
            log_level="warning",
            web_port=str(task.port),
        )

    async def prepare(self, task: Task) -> None:
        """Let Lapse make its own topics."""
        done = lapse("topics", "create", "--partitions", str(task.partitions), env=self.environment(task))
        if done.returncode != 0:
            raise RuntimeError(done.stdout + done.stderr)

    async def forget(self, task: Task) -> None:
        """Delete the changelogs and the outputs, which the next run makes anew."""
        await super().forget(task)
        async with topics.admin(task.broker.bootstrap) as client:
            outputs = {f"{task.prefix}{name}" for name in Output}
            await client.delete_topics([each for each in await client.list_topics() if each in outputs])

    def commands_topic(self, prefix: str, name: str) -> str:
        """Return the topic by its default name: the same for every run, so it is deleted in between."""
        return f"{prefix}action-commands"

    def command(self, task: Task) -> tuple[list[str], dict[str, str]]:
        """Return `lapse run`."""
        return [sys.executable, "-m", "streams", "run"], self.environment(task)


# --- Kafka Streams ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class KafkaStreams(Contestant):
    """The Java program of `peers/kafka-streams`: as it comes, or tuned."""

    tuned: bool = False

    TUNED = {  # noqa: RUF012
        "commit.interval.ms": "20",
        "bench.cached": "false",
        "statestore.cache.max.bytes": "0",
        "buffered.records.per.partition": "10000",
        "consumer.max.poll.records": "5000",
        "consumer.max.partition.fetch.bytes": str(4 << 20),
        "producer.linger.ms": "5",
        "producer.batch.size": str(256 << 10),
    }
    TUNED_JVM = ("-XX:+UseParallelGC", "-Xms1g", "-Xmx1g")

    def command(self, task: Task) -> tuple[list[str], dict[str, str]]:
        """Write the properties, and return `java` with them."""
        java = find_java()
        if java is None:
            raise RuntimeError("Java is missing: Kafka Streams needs Java 17 or later on the PATH or in JAVA_HOME.")
        properties = {
            "bootstrap.servers": task.broker.bootstrap,
            "application.id": task.group,
            "processing.guarantee": "exactly_once_v2",
            # Takes both topics in the order of their timestamps as far as the broker has records, as Lapse does.
            "max.task.idle.ms": "0",
            "state.dir": str(task.scratch / f"{task.name}-state"),
            "bench.tickets": f"{task.prefix}ticket-updates",
            "bench.sessions": f"{task.prefix}session-states",
            "bench.commands": task.commands,
            "bench.cached": "true",
            **(self.TUNED if self.tuned else {}),
        }
        file = task.scratch / f"{task.name}.properties"
        file.write_text("".join(f"{name}={value}\n" for name, value in properties.items()))
        home = _build_kafka_streams()
        return [
            java,
            *(self.TUNED_JVM if self.tuned else ()),
            "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
            *("-cp", f"{home / 'classes'}:{home / 'jars'}/*", "lapse.bench.LapseOnKafkaStreams", str(file)),
        ], {}

    def versions(self) -> Mapping[str, str]:
        """Return the versions of Kafka Streams and Java."""
        jar = next((_build_kafka_streams() / "jars").glob("kafka-streams-*.jar"))
        java = subprocess.run([find_java() or "java", "-version"], capture_output=True, text=True, check=True).stderr
        return {"Kafka Streams": jar.stem.removeprefix("kafka-streams-"), "Java": java.split('"')[1]}


def _build_kafka_streams() -> Path:
    """Compile the program and fetch its jars, once for each state of the sources; return where they are."""
    source = PEERS / "kafka-streams"
    files = sorted(path for path in source.rglob("*") if path.suffix in (".java", ".xml"))
    home = _cache() / f"kafka-streams-{_digest(files)}"
    with _lock("kafka-streams"):
        if not home.exists():
            mvn = shutil.which("mvn")
            if mvn is None:
                raise RuntimeError("Maven (mvn) is missing; it builds the Kafka Streams program.")
            unfinished = home.with_suffix(".unfinished")
            shutil.rmtree(unfinished, ignore_errors=True)
            shutil.copytree(source, unfinished)
            _run(
                [
                    *(mvn, "-q", "-B", "compile", "dependency:copy-dependencies"),
                    *("-DincludeScope=runtime", "-DoutputDirectory=target/jars"),
                ],
                unfinished,
            )
            (unfinished / "target").rename(home)
            shutil.rmtree(unfinished)
    return home


# --- Python peers -----------------------------------------------------------------------------------------------------


class PythonPeer(Contestant):
    """A program of `peers/` in our own interpreter."""

    def arguments(self, task: Task) -> list[str]:
        """Return what follows `python`."""
        return ["-m", f"tests.bench.peers.{self.key}"]

    def interpreter(self) -> str:
        """Return the `python` to run it with."""
        return sys.executable

    def command(self, task: Task) -> tuple[list[str], dict[str, str]]:
        """Return the program with its orders in the environment."""
        env = {
            "BENCH_BROKERS": task.broker.bootstrap,
            "BENCH_PREFIX": task.prefix,
            "BENCH_GROUP": task.group,
            "BENCH_COMMANDS": task.commands,
            "BENCH_PARTITIONS": str(task.partitions),
            "BENCH_SCRATCH": str(task.scratch),
            "FAUST_DATADIR": str(task.scratch / f"{task.name}-faust"),
            "PYTHONPATH": str(ROOT),
        }
        return [self.interpreter(), *self.arguments(task)], env


class Bare(PythonPeer):
    """aiokafka without a framework, with transactions."""

    async def prepare(self, task: Task) -> None:
        """Make the topic for its rows too."""
        await topics.create(task.broker.bootstrap, [task.commands, f"{task.commands}-changelog"], task.partitions)


class Faust(PythonPeer):
    """An app as one would write it from Faust's user guide, at least once."""

    def arguments(self, task: Task) -> list[str]:
        """Return Faust's own command line."""
        return ["-m", "faust", "-A", "tests.bench.peers.faust_app", "worker", "-l", "error", "--without-web"]


class Quix(PythonPeer):
    """Quix Streams, exactly once, in an environment of its own."""

    def interpreter(self) -> str:
        """Make the environment on first use."""
        return str(environment(PEERS / "quix-requirements.txt") / "bin" / "python")

    def versions(self) -> Mapping[str, str]:
        """Return the version of Quix Streams."""
        code = "import importlib.metadata as m; print(m.version('quixstreams'))"
        done = subprocess.run([self.interpreter(), "-c", code], capture_output=True, text=True, check=True)
        return {"Quix Streams": done.stdout.strip()}


def environment(requirements: Path) -> Path:
    """Return a virtual environment with what a requirements file pins, made on first use."""
    home = _cache() / f"{requirements.stem}-{_digest([requirements])}-{sys.implementation.cache_tag}"
    complete = home / "complete"  # an installation that was interrupted begins anew
    with _lock(requirements.stem):
        if not complete.exists():
            _run([sys.executable, "-m", "venv", "--clear", str(home)], ROOT)
            _run([str(home / "bin" / "pip"), "-q", "install", "--no-deps", "-r", str(requirements)], ROOT)
            complete.touch()
    return home


def _run(command: list[str], where: Path) -> None:
    done = subprocess.run(command, cwd=where, capture_output=True, text=True, timeout=_BUILD_SECONDS, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(command)} failed:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")


def _digest(files: list[Path]) -> str:
    return hashlib.sha256(b"\0".join(file.read_bytes() for file in files)).hexdigest()[:12]


def _cache() -> Path:
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache", "lapse", "bench")
    home.mkdir(parents=True, exist_ok=True)
    return home


@contextmanager
def _lock(name: str) -> Iterator[None]:
    with (_cache() / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


LAPSE = Lapse("lapse", "Lapse")
STREAMS = KafkaStreams("kafka-streams", "Kafka Streams, as it comes")
STREAMS_TUNED = KafkaStreams("kafka-streams-tuned", "Kafka Streams, tuned", tuned=True)
BARE = Bare("bare", "bare aiokafka loop", merges=False)
QUIX = Quix("quix_app", "Quix Streams")
FAUST = Faust("faust_app", "Faust, idiomatic", merges=False)
EVERYBODY = (LAPSE, STREAMS, STREAMS_TUNED, BARE, QUIX, FAUST)
