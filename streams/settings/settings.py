"""Settings of the worker and the command line: flags over environment over `lapse.yaml` over defaults (SPEC section 7).

Every source gives text (a list, for the settings that are lists), so a value means the same wherever it is written.
Durations and instants are microseconds once they are settings.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, PrivateAttr, SecretStr, ValidationError, ValidationInfo, field_validator
from pydantic_settings import BaseSettings, InitSettingsSource, PydanticBaseSettingsSource, SettingsConfigDict

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
)

DEFAULT_CONFIG = Path("lapse.yaml")

Duration = Annotated[Micros, BeforeValidator(values.duration)]
PositiveDuration = Annotated[Micros, BeforeValidator(values.positive_duration)]
Boolean = Annotated[bool, BeforeValidator(values.boolean)]
FilePath = Annotated[Path | None, BeforeValidator(values.existing_file)]
Secret = Annotated[SecretStr | None, BeforeValidator(values.secret)]

_LAYERS = "layers"
_KUBERNETES_LINK = re.compile(rf"{PREFIX}(SERVICE_(HOST|PORT)|PORT)(_|$)")
"""Variables that Kubernetes sets in every pod beside a Service named `lapse`."""


class Settings(BaseSettings):
    """All settings, resolved. `load_settings` makes one from its sources; called by itself it has the defaults."""

    model_config = SettingsConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True, validate_default=False)

    brokers: Annotated[tuple[str, ...], BeforeValidator(values.brokers)] = Field(
        default=("127.0.0.1:9092",), description="Kafka brokers to start from, `host:port`, separated by commas."
    )
    topic_prefix: Annotated[str, BeforeValidator(values.kafka_prefix)] = Field(
        default="", description="Goes, with nothing between, before every topic name, group and transactional id."
    )
    app_id: Annotated[str, BeforeValidator(values.kafka_name)] = Field(
        default="lapse", description="Name of this application: consumer group, transactional ids, changelogs."
    )
    triggers: Annotated[Path | None, BeforeValidator(values.path)] = Field(
        default=None, description="The trigger file."
    )
    act_from: Annotated[Micros | None, BeforeValidator(values.act_from)] = Field(
        default=None,
        description="Lapses before this time are counted and not acted upon: an RFC 3339 time, or `beginning`.",
    )
    dry_run: Boolean = Field(default=False, description="Do everything but write commands.")
    first_inactive: Annotated[Literal["lapse", "first_seen"], BeforeValidator(values.first_inactive)] = Field(
        default="lapse", description="What a first event `inactive` is: a `lapse`, or only `first_seen`."
    )
    join_wait: Duration = Field(default=30 * SECOND, description="How long a round waits for a ticket that has no row.")
    clock_grace: Duration = Field(default=SECOND, description="How far stream time stays behind the wall clock.")
    state_ttl: PositiveDuration = Field(
        default=30 * 86_400 * SECOND, description="How long rows of closed tickets and ended sessions are kept."
    )
    abandonment_reasons: Annotated[frozenset[str], BeforeValidator(values.names)] = Field(
        default=frozenset({"user_inactive_or_offline"}), description="Reasons that make a lapse an abandonment."
    )
    false_abandonment_window: Duration = Field(
        default=300 * SECOND, description="Who returns within this time has not really abandoned."
    )
    dead_letter_limit: Annotated[float, BeforeValidator(values.share)] = Field(
        default=0.5, description="Share of bad records in a topic-partition above which the worker stops."
    )

    web_port: Annotated[int, BeforeValidator(values.port)] = Field(
        default=6066, description="Port of metrics, probes, API and page; 0 takes any free one."
    )
    web_token: Secret = Field(default=None, description="Needed to read the page and the API from elsewhere.")
    web_host: Annotated[str, BeforeValidator(values.host)] = Field(
        default="127.0.0.1", description="Address to serve on; one that is not loopback needs `web_token`."
    )

    log_level: Annotated[
        Literal["debug", "info", "warning", "error", "critical"], BeforeValidator(values.log_level)
    ] = Field(default="info", description="Least important message to log.")
    log_format: Annotated[Literal["text", "json"] | None, BeforeValidator(values.log_format)] = Field(
        default=None, description="`text` or `json`; when not set, text on a terminal and JSON elsewhere."
    )

    sasl_mechanism: Annotated[
        Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"], BeforeValidator(values.sasl_mechanism)
    ] = Field(default="PLAIN", description="How to log in at the brokers.")
    sasl_username: Annotated[str | None, BeforeValidator(values.text)] = Field(
        default=None, description="User at the brokers."
    )
    sasl_password: Secret = Field(default=None, description="Password at the brokers.")
    ssl_cafile: FilePath = Field(default=None, description="Certificates (PEM) of authorities to trust.")
    ssl_certfile: FilePath = Field(default=None, description="Our certificate (PEM), for mutual TLS.")
    ssl_keyfile: FilePath = Field(default=None, description="Its private key (PEM).")
    ssl_key_password: Secret = Field(default=None, description="Password of the private key.")
    ssl_check_hostname: Boolean = Field(default=True, description="Whether a broker's certificate must name its host.")
    security_protocol: Annotated[
        Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"], BeforeValidator(values.security_protocol)
    ] = Field(default="PLAINTEXT", validate_default=True, description="How to talk to the brokers.")

    _warnings: tuple[str, ...] = PrivateAttr(default=())

    @property
    def warnings(self) -> tuple[str, ...]:
        """What was odd about the sources, and did not keep them from being used."""
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
        """Read the layers that `load_settings` hands over, highest first, and nothing behind its back."""
        given = dict(init_settings.init_kwargs) if isinstance(init_settings, InitSettingsSource) else {}
        layers: Sequence[Layer] = given.pop(_LAYERS, ())
        named = [{name: one.value for name, one in layer.items()} for layer in layers]
        return tuple(InitSettingsSource(settings_cls, init_kwargs=layer) for layer in [given, *named])

    # Checks of one setting against others look only at those declared above it that are valid, so that all errors
    # are found in one go.

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


_HAVE_DEFAULTS = {"sasl_mechanism", "ssl_check_hostname"}
_SECRETS = {"sasl_password", "ssl_key_password", "web_token"}


class SettingsError(Exception):
    """Settings that can't be used; `problems` has all that is wrong with them, and where."""

    def __init__(self, problems: Sequence[SettingsProblem]) -> None:
        """Keep the problems; the text of the error is one line for each."""
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
        flags: by name of the setting; None as a value is *not given*.
        environ: the environment; of it, names that begin with `LAPSE_`. An empty variable is *not given*.
        config_file: the file named by `--config`, which must exist; without one, `lapse.yaml` if there is one.
        defaults: what takes the place of a setting's own default, below all other sources.

    Raises:
        SettingsError: with everything that is wrong; a bad value that a higher source overrides is not.
    """
    known = set(Settings.model_fields)
    problems: list[SettingsProblem] = []
    file = config_file or (DEFAULT_CONFIG if DEFAULT_CONFIG.is_file() else None)
    layers: list[Layer] = [
        from_flags(flags or {}),
        from_environment(environ or {}, known),
        from_file(file, known, problems) if file is not None else {},
        from_flags(defaults or {}),
    ]
    problems.extend(
        SettingsProblem(name, given.origin, f"there is no such setting{did_you_mean(name, known)}")
        for name, given in layers[0].items()
        if name not in known
    )
    layers[0] = {name: given for name, given in layers[0].items() if name in known}
    settings, invalid = _validated(layers)
    problems.extend(invalid)
    if settings is None or problems:
        raise SettingsError(list(dict.fromkeys(problems)))
    settings._warnings = (*_unknown_variables(environ or {}, known), *_in_place_of(layers))
    return settings


def _in_place_of(layers: Sequence[Layer]) -> tuple[str, ...]:
    """Name what environment or file say in place of a default that is a verb's own: there it is easily forgotten."""
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
    message = f"{reason}{_kubernetes_hint(given)}" if setting not in _SECRETS else "is not a text"
    return SettingsProblem(setting, given.origin if given else "default", message)


def _unknown_variables(environ: Mapping[str, str], known: set[str]) -> tuple[str, ...]:
    names = [name for name in sorted(environ) if name.startswith(PREFIX) and not _KUBERNETES_LINK.match(name)]
    unknown = [name for name in names if name.removeprefix(PREFIX).lower() not in known]
    return tuple(
        f"environment variable {name}: there is no such setting"
        f"{did_you_mean(name, [f'{PREFIX}{setting.upper()}' for setting in known])}"
        for name in unknown
    )


def _kubernetes_hint(given: Given | None) -> str:
    """Explain the value that Kubernetes puts into LAPSE_WEB_PORT beside a Service named `lapse-web`."""
    if given is None or not given.origin.startswith("environment") or not str(given.value).startswith("tcp://"):
        return ""
    return "; Kubernetes sets this variable for a Service of that name: set `enableServiceLinks: false` in the pod"
