"""Settings of the worker and the command line: flags over environment over `lapse.yaml` over defaults (SPEC section 7).

Every source gives text (a list, for list settings), so a value means the same wherever it is written. In the settings,
durations and instants are in microseconds.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from enum import Enum
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import BeforeValidator, Field, PrivateAttr, SecretStr, ValidationError, ValidationInfo, field_validator
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, InitSettingsSource, PydanticBaseSettingsSource, SettingsConfigDict

from streams.core.errors import Refused
from streams.core.model import SECOND, Micros
from streams.documents.problems import did_you_mean
from streams.settings import values
from streams.settings.sources import (
    PREFIX,
    Given,
    Layer,
    SettingsProblem,
    from_environment,
    from_file,
    from_flags,
    with_secrets,
)

DEFAULT_CONFIG = Path("lapse.yaml")


def _reads(field: FieldInfo, reader: Callable[[Any], Any]) -> bool:
    """Whether a setting is read by this function of `values`."""
    return any(getattr(mark, "func", None) is reader for mark in field.metadata)


class Use(Enum):
    """The commands, besides `run`, that have the flag of a setting; used as a marker in the setting's declaration."""

    CONNECTION = "every verb that talks to brokers"
    DECISION = "backtest and explain, which run the engine without a broker"
    INGEST = "ingest, and not `run`"
    APPLY = "apply, and not `run`"
    FILE = "none: it is set in lapse.yaml or the environment"


class Cost(NamedTuple):
    """What a setting costs, or what goes wrong at the ends of its range; for its page, too long for `--help`."""

    text: str


CONNECTION, DECISION, INGEST, APPLY = Use.CONNECTION, Use.DECISION, Use.INGEST, Use.APPLY
FILE = Use.FILE

Duration = Annotated[Micros, BeforeValidator(values.duration)]
PositiveDuration = Annotated[Micros, BeforeValidator(values.positive_duration)]
Boolean = Annotated[bool, BeforeValidator(values.boolean)]
FilePath = Annotated[Path | None, BeforeValidator(values.existing_file)]
Secret = Annotated[SecretStr | None, BeforeValidator(values.secret)]
Secrets = Annotated[SecretStr | None, BeforeValidator(values.secrets)]
TopicName = Annotated[str, BeforeValidator(values.topic_name)]

_LAYERS = "layers"
_KUBERNETES_LINK = re.compile(rf"{PREFIX}(SERVICE_(HOST|PORT)|PORT)(_|$)")
"""Variables that Kubernetes sets in every pod beside a Service named `lapse`."""


class Settings(BaseSettings):
    """All settings, resolved. `load_settings` creates them from the sources; `Settings()` has the defaults.

    A setting is declared only here. Its flag, its environment variable, its line in `lapse.yaml` and its entry in
    `docs/settings.md` are derived from this declaration. A `Secret` also has a `<name>_file`, and a field of the same
    name in `KafkaConfig` gets its value.
    """

    model_config = SettingsConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True, validate_default=False)

    brokers: Annotated[tuple[str, ...], BeforeValidator(values.brokers), CONNECTION] = Field(
        default=("127.0.0.1:9092",), description="Kafka brokers to start from, `host:port`, separated by commas."
    )
    topic_prefix: Annotated[str, BeforeValidator(values.kafka_prefix), CONNECTION] = Field(
        default="", description="Goes, with nothing between, before every topic name, group and transactional id."
    )
    app_id: Annotated[str, BeforeValidator(values.kafka_name), CONNECTION, DECISION] = Field(
        default="lapse", description="Name of this application: consumer group, transactional ids, changelogs."
    )
    tickets_topic: Annotated[TopicName, CONNECTION] = Field(
        default="ticket-updates", description="Topic of ticket updates."
    )
    sessions_topic: Annotated[TopicName, CONNECTION] = Field(
        default="session-states", description="Topic of session states."
    )
    commands_topic: Annotated[TopicName, CONNECTION] = Field(
        default="action-commands", description="Topic for commands."
    )
    transitions_topic: Annotated[TopicName, CONNECTION] = Field(
        default="session-transitions", description="Topic for transition and evaluation records."
    )
    dead_letters_topic: Annotated[
        TopicName,
        CONNECTION,
        Cost(
            "Captures, metrics, the API and generated event ids use the default names of all five topics, so that "
            "captures and dashboards of differently named installations can be compared. Log messages and the header "
            "`lapse.source.topic` use the names on the broker."
        ),
    ] = Field(default="dead-letters", validate_default=True, description="Topic for records that could not be used.")
    triggers: Annotated[Path | None, BeforeValidator(values.path)] = Field(
        default=None, description="The trigger file."
    )
    rules: Annotated[
        Literal["file", "topic"],
        BeforeValidator(values.rules),
        CONNECTION,
        Cost(
            "With `topic` the rules come from the topic `<app id>-rules` and change while workers run: "
            "`docs/changing-rules.md`."
        ),
    ] = Field(
        default="file",
        validate_default=True,
        description="Where the rules come from: the `file` of `triggers`, or the `topic` of `lapse rules publish`.",
    )
    act_from: Annotated[
        Micros | None,
        BeforeValidator(values.act_from),
        Cost(
            "`now` is fixed for each partition when a worker first opens it, and stored with the group's committed "
            "offsets: restarts do not move it. It is fixed anew when the offsets are reset by other tools, and when "
            "`act_from` becomes `now` again after it had another value."
        ),
    ] = Field(
        default=None,
        description="Lapses before this time are counted and not acted upon: an RFC 3339 time, `beginning`, or `now` "
        "(the first start of the worker).",
    )
    dry_run: Annotated[Boolean, DECISION] = Field(default=False, description="Do everything but write commands.")
    first_inactive: Annotated[Literal["lapse", "first_seen"], BeforeValidator(values.first_inactive), DECISION] = Field(
        default="lapse", description="What a first event `inactive` is: a `lapse`, or only `first_seen`."
    )
    join_wait: Annotated[Duration, DECISION] = Field(
        default=30 * SECOND, description="How long a round waits for a ticket that has no row."
    )
    clock_grace: Duration = Field(default=SECOND, description="How far stream time stays behind the wall clock.")
    state_ttl: Annotated[PositiveDuration, DECISION] = Field(
        default=30 * 86_400 * SECOND, description="How long rows of closed tickets and ended sessions are kept."
    )
    abandonment_reasons: Annotated[frozenset[str], BeforeValidator(values.names), DECISION] = Field(
        default=frozenset({"user_inactive_or_offline"}), description="Reasons that make a lapse an abandonment."
    )
    false_abandonment_window: Annotated[Duration, DECISION] = Field(
        default=300 * SECOND, description="Who returns within this time has not really abandoned."
    )
    dead_letter_limit: Annotated[float, BeforeValidator(values.share)] = Field(
        default=0.5, description="Share of bad records in a topic-partition above which the worker stops."
    )

    mapping: FilePath = Field(
        default=None, description="A mapping file, for input records of another shape (docs/own-records.md)."
    )
    schema_registry_url: Annotated[str | None, BeforeValidator(values.text)] = Field(
        default=None, description="Schema registry, for input records in Avro or Protobuf, `https://host:port`."
    )
    schema_registry_username: Annotated[str | None, BeforeValidator(values.text)] = Field(
        default=None, description="User at the schema registry."
    )
    schema_registry_password: Secret = Field(default=None, description="Password at the schema registry.")

    compression: Annotated[
        Literal["none", "gzip", "snappy", "lz4", "zstd"],
        BeforeValidator(values.compression),
        CONNECTION,
        Cost(
            "Inputs may be compressed with any codec, whatever this is. Consumers of the outputs need the codec's "
            "library. Processor time and sizes of each codec: `deploy/decisions/0013-compression.md`."
        ),
    ] = Field(default="zstd", description="Codec of what Lapse writes: `none`, `gzip`, `snappy`, `lz4` or `zstd`.")
    session_timeout: Annotated[
        Duration,
        BeforeValidator(values.session_timeout),
        Cost(
            "Shorter: the partitions of a killed worker are taken over sooner, and a worker that is frozen, swapped "
            "out or cut off for that long loses its partitions and reads their tables again. Longer: the reverse. The "
            "brokers accept values between `group.min.session.timeout.ms` (6s) and `group.max.session.timeout.ms` "
            "(30m). A worker that stops by SIGTERM leaves the group at once, whatever this is, unless it has an "
            "`instance_id`. Heartbeats are sent five times in this time, and every 3 s at least."
        ),
    ] = Field(
        default=15 * SECOND,
        description="After how long without heartbeats the group gives a worker's partitions to others, 1s to 30m.",
    )
    instance_id: Annotated[
        str | None,
        BeforeValidator(values.instance_id),
        Cost(
            "A worker that comes back under the same name within `session_timeout` gets its partitions back without a "
            "rebalance of the others. The price: nobody takes over its partitions before `session_timeout` is over, "
            "after a clean stop too. Each worker needs a name of its own that survives restarts, such as the pod name "
            "of a StatefulSet; two workers with one name would take the partitions from each other, again and again."
        ),
    ] = Field(default=None, description="Name of this worker in the group for static membership.")
    broker_patience: Annotated[
        PositiveDuration,
        Cost(
            "Longer: an outage of the brokers is survived without restarts, and what waiting does not mend is noticed "
            "later by whoever watches for exits."
        ),
    ] = Field(default=1800 * SECOND, description="How long a worker tries again without progress before it stops.")

    web_port: Annotated[int, BeforeValidator(values.port)] = Field(
        default=6066, description="Port of metrics, probes, API and page; 0 takes any free one."
    )
    web_token: Secret = Field(default=None, description="Needed to read the page and the API from elsewhere.")
    web_host: Annotated[str, BeforeValidator(values.host)] = Field(
        default="127.0.0.1", description="Address to serve on; one that is not loopback needs `web_token`."
    )

    ingest_port: Annotated[int, BeforeValidator(values.port), INGEST] = Field(
        default=6067, description="Port of `lapse ingest`: webhooks, metrics and probes; 0 takes any free one."
    )
    ingest_host: Annotated[
        str,
        BeforeValidator(values.host),
        INGEST,
        Cost(
            "Every request to `/zendesk` needs a valid signature, so this may be an address that others reach. Zendesk "
            "sends to HTTPS only: put a proxy that ends TLS before it."
        ),
    ] = Field(default="127.0.0.1", description="Address that `lapse ingest` serves on.")
    ingest_secrets: Annotated[
        Secrets,
        INGEST,
        Cost(
            "To change a secret, add the new one, change it in Zendesk, and remove the old one an `ingest_max_age` "
            "later. In a file, write one secret a line."
        ),
    ] = Field(default=None, description="Signing secrets of Zendesk's webhooks, separated by commas.")
    ingest_max_age: Annotated[
        PositiveDuration,
        INGEST,
        Cost(
            "Shorter: a recorded request can be replayed for less time. Longer: what Zendesk sends again late is still "
            "taken. A replay of a ticket event is a `duplicate` for the worker either way."
        ),
    ] = Field(default=3600 * SECOND, description="Older signatures are refused with 403.")
    ingest_keep_bodies: Annotated[Boolean, INGEST] = Field(
        default=False, description="Whether dead letters of `lapse ingest` carry the body, with whatever persons wrote."
    )
    zendesk_command_field: Annotated[str | None, BeforeValidator(values.text), INGEST, APPLY] = Field(
        default=None, description="Id of the custom field that holds the id of the command applied last."
    )

    apply_port: Annotated[int, BeforeValidator(values.port), APPLY] = Field(
        default=6068, description="Port of `lapse apply`: metrics and probes; 0 takes any free one."
    )
    apply_host: Annotated[str, BeforeValidator(values.host), APPLY] = Field(
        default="127.0.0.1", description="Address that `lapse apply` serves on."
    )
    apply_max_age: Annotated[
        PositiveDuration,
        APPLY,
        Cost(
            "The age counts from `issued_at`, or from the release of a held command. Longer: a backlog after an outage "
            "is carried out late, when the customer may have written by other ways. Shorter: more of it ends as "
            "`expired`."
        ),
    ] = Field(default=3600 * SECOND, description="Older commands are not carried out.")
    zendesk_subdomain: Annotated[str | None, BeforeValidator(values.subdomain), APPLY] = Field(
        default=None, description="Name of the account: `example` of `example.zendesk.com`."
    )
    zendesk_client_id: Annotated[str | None, BeforeValidator(values.text), APPLY] = Field(
        default=None, description="Identifier of the OAuth client."
    )
    zendesk_client_secret: Annotated[Secret, APPLY] = Field(default=None, description="Secret of the OAuth client.")
    zendesk_updates_per_minute: Annotated[
        int,
        BeforeValidator(values.quota),
        APPLY,
        Cost(
            "A ceiling: a lower quota that Zendesk's answers tell is kept to as well. Lower: other programs of the "
            "account keep a part of the quota. Raise it to 300 with the High Volume API add-on."
        ),
    ] = Field(default=100, description="Updates of tickets that the account allows in a minute.")
    zendesk_url: Annotated[
        str | None,
        BeforeValidator(values.base_url),
        APPLY,
        Cost(
            "For accounts behind a proxy, and for tests. Plain HTTP is taken for loopback addresses only, because the "
            "client's secret goes there."
        ),
    ] = Field(default=None, description="Base URL of the API in place of `https://<zendesk_subdomain>.zendesk.com`.")
    silence: Annotated[
        dict[str, Micros],
        BeforeValidator(values.waits),
        FILE,
        Cost(
            "A guess for channels without presence: who does not write may still read. Shorter: sooner, and wrong more "
            "often. Do not name a channel whose sessions Zendesk reports as inactive by itself. A wait that is running "
            "keeps its length when this is changed. What counts as a message: `docs/silence.md`."
        ),
    ] = Field(
        default={},
        description="After how long without a message of the customer `lapse ingest --silence` makes a session "
        "inactive, by channel: `mobile=15m,whatsapp=30m`, or a table in `lapse.yaml`.",
    )
    silence_port: Annotated[int, BeforeValidator(values.port), INGEST] = Field(
        default=6069, description="Port of `lapse ingest --silence`: metrics and probes; 0 takes any free one."
    )

    log_level: Annotated[
        Literal["debug", "info", "warning", "error", "critical"], BeforeValidator(values.log_level)
    ] = Field(default="info", description="Least important message to log.")
    log_format: Annotated[Literal["text", "json"] | None, BeforeValidator(values.log_format)] = Field(
        default=None, description="`text` or `json`; when not set, text on a terminal and JSON elsewhere."
    )

    sasl_mechanism: Annotated[
        Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"], BeforeValidator(values.sasl_mechanism), CONNECTION
    ] = Field(default="PLAIN", description="How to log in at the brokers.")
    sasl_username: Annotated[str | None, BeforeValidator(values.text), CONNECTION] = Field(
        default=None, description="User at the brokers."
    )
    sasl_password: Annotated[Secret, CONNECTION] = Field(default=None, description="Password at the brokers.")
    ssl_cafile: Annotated[FilePath, CONNECTION] = Field(
        default=None, description="Certificates (PEM) of authorities to trust."
    )
    ssl_certfile: Annotated[FilePath, CONNECTION] = Field(
        default=None, description="Our certificate (PEM), for mutual TLS."
    )
    ssl_keyfile: Annotated[FilePath, CONNECTION] = Field(default=None, description="Its private key (PEM).")
    ssl_key_password: Annotated[Secret, CONNECTION] = Field(default=None, description="Password of the private key.")
    ssl_check_hostname: Annotated[Boolean, CONNECTION] = Field(
        default=True, description="Whether a broker's certificate must name its host."
    )
    security_protocol: Annotated[
        Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"],
        BeforeValidator(values.security_protocol),
        CONNECTION,
    ] = Field(default="PLAINTEXT", validate_default=True, description="How to talk to the brokers.")

    _warnings: tuple[str, ...] = PrivateAttr(default=())

    @property
    def warnings(self) -> tuple[str, ...]:
        """Problems with the sources that did not prevent their use."""
        return self._warnings

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Read only the layers that `load_settings` passes, highest first."""
        given = dict(init_settings.init_kwargs) if isinstance(init_settings, InitSettingsSource) else {}
        layers: Sequence[Layer] = given.pop(_LAYERS, ())
        named = [{name: one.value for name, one in layer.items()} for layer in layers]
        return tuple(InitSettingsSource(settings_cls, init_kwargs=layer) for layer in [given, *named])

    # Checks of one setting against others only use valid settings declared above it, so that all errors are found in
    # one pass.

    @field_validator("app_id")
    @classmethod
    def _names_fit(cls, app_id: str, info: ValidationInfo) -> str:
        longest = f"{info.data.get('topic_prefix', '')}{app_id}-sessions-changelog"
        if len(longest) > values.LONGEST_TOPIC:
            raise ValueError(
                f"with `topic_prefix` the topic `{longest[:40]}…` has {len(longest)} characters; "
                f"Kafka takes at most {values.LONGEST_TOPIC}"
            )
        return app_id

    @field_validator("dead_letters_topic")
    @classmethod
    def _topics_differ(cls, last: str, info: ValidationInfo) -> str:
        named = {name: info.data[name] for name in TOPICS if name in info.data} | {"dead_letters_topic": last}
        app_id, prefix = info.data.get("app_id", ""), info.data.get("topic_prefix", "")
        taken = {
            f"{app_id}-{suffix}": "`app_id`"
            for suffix in (
                "tickets-changelog",
                "sessions-changelog",
                "silence-changelog",
                "rules",
                "replays",
                "apply",
            )
        }
        taken |= dict.fromkeys(("held-commands", "action-results", "apply-dead-letters"), "a fixed name")
        # Kafka rejects two topics whose names differ only in `.` and `_`.
        users = {_alike(name): (name, user) for name, user in taken.items()}
        found = []
        for setting, name in named.items():
            if len(prefix) + len(name) > values.LONGEST_TOPIC:
                found.append(
                    f"`{setting}` with `topic_prefix` has {len(prefix) + len(name)} characters; Kafka takes at most "
                    f"{values.LONGEST_TOPIC}"
                )
            other, user = users.setdefault(_alike(name), (name, f"`{setting}`"))
            if user != f"`{setting}`":
                alike = "" if other == name else f", which Kafka does not tell from `{other}`"
                found.append(f"`{setting}` is `{name}`{alike}: that topic is already in use by {user}")
        if found:
            raise ValueError("; ".join(found))
        return last

    @field_validator("rules")
    @classmethod
    def _one_source_of_rules(cls, rules: str, info: ValidationInfo) -> str:
        if rules == "topic" and info.data.get("triggers") is not None:
            raise ValueError("`topic` takes the rules from the rules topic: leave `triggers` out, or use `file`")
        return rules

    @field_validator("web_host")
    @classmethod
    def _others_need_a_token(cls, host: str, info: ValidationInfo) -> str:
        if "web_token" in info.data and info.data["web_token"] is None and not values.is_loopback(host):
            raise ValueError(f"`{host}` can be reached from other machines: set `web_token` too, or use 127.0.0.1")
        return host

    @field_validator("security_protocol")
    @classmethod
    def _security_is_whole(cls, protocol: str, info: ValidationInfo) -> str:
        given = {name for name, value in info.data.items() if value is not None}
        lacking = [name for name in ("sasl_username", "sasl_password") if name in info.data and name not in given]
        if protocol.startswith("SASL_") and lacking:
            raise ValueError(f"`{protocol}` needs {' and '.join(f'`{name}`' for name in lacking)}")
        for prefix, wanted in (("sasl_", "SASL_SSL"), ("ssl_", "SSL")):
            unused = sorted(name for name in given if name.startswith(prefix) and name not in _HAVE_DEFAULTS)
            if unused and prefix[:-1].upper() not in protocol.split("_"):
                raise ValueError(f"`{protocol}` makes no use of `{unused[0]}`, which is set; is `{wanted}` meant?")
        return protocol


def _alike(name: str) -> str:
    return name.replace(".", "_")


_HAVE_DEFAULTS = {"sasl_mechanism", "ssl_check_hostname"}
TOPICS = ("tickets_topic", "sessions_topic", "commands_topic", "transitions_topic", "dead_letters_topic")
SECRETS = frozenset(
    name
    for name, field in Settings.model_fields.items()
    if _reads(field, values.secret) or _reads(field, values.secrets)
)
"""Settings that hold a secret; each can also be given as `<name>_file`, the path of a file that holds it."""
SECRET_FILES = {f"{name}_file": name for name in sorted(SECRETS)}
PATHS = frozenset(
    name
    for name, field in Settings.model_fields.items()
    if _reads(field, values.path) or _reads(field, values.existing_file)
) | frozenset(SECRET_FILES)
"""Settings whose value is a path; in `lapse.yaml`, relative to that file."""

TABLES = frozenset(name for name, field in Settings.model_fields.items() if _reads(field, values.waits))
"""Settings that take a table; in `lapse.yaml`, a mapping."""


class SettingsError(Refused):
    """Settings that can't be used; `problems` lists everything that is wrong, and where."""

    def __init__(self, problems: Sequence[SettingsProblem]) -> None:
        """Store the problems; the text of the error has one line for each."""
        super().__init__("\n".join(map(str, problems)))
        self.problems = tuple(problems)


def load_settings(
    flags: Mapping[str, object] | None = None,
    environ: Mapping[str, str] | None = None,
    config_file: Path | None = None,
    defaults: Mapping[str, object] | None = None,
) -> Settings:
    """Resolve the settings from their sources.

    Args:
        flags: by name of the setting; None means *not given*.
        environ: the environment; only names that begin with `LAPSE_` are used. An empty variable is *not given*.
        config_file: the file named by `--config`, which must exist; without one, `lapse.yaml` if there is one.
        defaults: values that replace a setting's own default, below all other sources.

    Raises:
        SettingsError: with every problem; a bad value that a higher source overrides is not a problem.
    """
    known = {*Settings.model_fields, *SECRET_FILES}
    given_flags = flags or {}
    problems: list[SettingsProblem] = []
    file = config_file or (DEFAULT_CONFIG if DEFAULT_CONFIG.is_file() else None)
    layers: list[Layer] = [
        from_flags(given_flags),
        from_environment(environ or {}, known),
        from_file(file, known, PATHS, problems, TABLES) if file is not None else {},
        from_flags(defaults or {}),
    ]
    problems.extend(
        SettingsProblem(name, given.origin, f"there is no such setting{did_you_mean(name, known)}")
        for name, given in layers[0].items()
        if name not in known
    )
    layers[0] = {name: given for name, given in layers[0].items() if name in known}
    layers = with_secrets([_texts(layer, problems) for layer in layers], SECRET_FILES, problems)
    settings, invalid = _validated(layers)
    problems.extend(invalid)
    if settings is None or problems:
        raise SettingsError(list(dict.fromkeys(problems)))
    settings._warnings = (
        *_unknown_variables(environ or {}, known),
        *_in_place_of(layers),
        *(_seen_by_all(name) for name in layers[0] if name in SECRETS and given_flags.get(name) is not None),
    )
    return settings


def _texts(layer: Layer, problems: list[SettingsProblem]) -> Layer:
    """Return the values that are text. Flags and variables can be any bytes, which Python makes half surrogates of."""
    found = {}
    for name, given in layer.items():
        try:
            for text in [given.value] if isinstance(given.value, str) else given.value:
                text.encode()
        except UnicodeEncodeError:
            problems.append(SettingsProblem(name, given.origin, "is not UTF-8"))
        else:
            found[name] = given
    return found


def _seen_by_all(secret: str) -> str:
    return (
        f"{secret} is on the command line, where every user of this machine can read it; give "
        f"LAPSE_{secret.upper()} or {secret}_file instead"
    )


def _in_place_of(layers: Sequence[Layer]) -> tuple[str, ...]:
    """List values of environment or file that replace a command's own default: they are easily overlooked."""
    *_, defaults = layers
    found = []
    for name, default in defaults.items():
        given = next(layer[name] for layer in layers if name in layer)
        if given not in layers[0].values() and given.value != default.value:
            undo = f"{default.origin} {default.value} undoes it"
            found.append(f"{name} ({given.origin}) is `{given.value}` here too; {undo}")
    return tuple(found)


def _validated(layers: Sequence[Layer]) -> tuple[Settings | None, list[SettingsProblem]]:
    given: dict[str, Any] = {_LAYERS: layers}
    try:
        return Settings(**given), []
    except ValidationError as error:
        return None, [_problem(details, layers) for details in error.errors(include_url=False)]


def _problem(details: Any, layers: Sequence[Layer]) -> SettingsProblem:
    setting = str(details["loc"][0]) if details["loc"] else ""
    given = next((layer[setting] for layer in layers if setting in layer), None)
    reason = details.get("ctx", {}).get("error", details["msg"])
    message = f"{reason}{_kubernetes_hint(given)}" if setting not in SECRETS else "is not a text"
    return SettingsProblem(setting, given.origin if given else "default", message)


def _unknown_variables(environ: Mapping[str, str], known: set[str]) -> tuple[str, ...]:
    names = [name for name in sorted(environ) if name.startswith(PREFIX) and not _KUBERNETES_LINK.match(name)]
    unknown = [name for name in names if name.removeprefix(PREFIX).lower() not in known]
    return tuple(
        f"environment variable {name.encode(errors='backslashreplace').decode()}: there is no such setting"
        f"{did_you_mean(name, [f'{PREFIX}{setting.upper()}' for setting in known])}"
        for name in unknown
    )


def _kubernetes_hint(given: Given | None) -> str:
    """Explain the value that Kubernetes assigns to LAPSE_WEB_PORT next to a Service named `lapse-web`."""
    if given is None or not given.origin.startswith("environment") or not str(given.value).startswith("tcp://"):
        return ""
    return "; Kubernetes sets this variable for a Service of that name: set `enableServiceLinks: false` in the pod"
