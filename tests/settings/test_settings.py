"""Settings: sources, precedence, values, and every error at once, with its source."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.assembly import runtime_config
from streams.core.model import SECOND
from streams.core.names import Topic
from streams.settings import values
from streams.settings.settings import SECRETS, Settings, SettingsError, load_settings
from streams.settings.sources import SettingsProblem
from streams.settings.values import each_secret

NAMES_OF_THE_CONTRACT = {
    "brokers",
    "app_id",
    "topic_prefix",
    "triggers",
    "act_from",
    "dry_run",
    "first_inactive",
    "join_wait",
    "clock_grace",
    "state_ttl",
    "abandonment_reasons",
    "false_abandonment_window",
    "dead_letter_limit",
    "rules",
    "ingest_port",
    "ingest_host",
    "ingest_secrets",
    "ingest_max_age",
    "ingest_keep_bodies",
    "silence",
    "silence_port",
    "zendesk_command_field",
    "apply_port",
    "apply_host",
    "apply_max_age",
    "zendesk_subdomain",
    "zendesk_client_id",
    "zendesk_client_secret",
    "zendesk_updates_per_minute",
    "zendesk_url",
    "tickets_topic",
    "sessions_topic",
    "commands_topic",
    "transitions_topic",
    "dead_letters_topic",
    "compression",
    "session_timeout",
    "instance_id",
    "broker_patience",
    "web_host",
    "web_port",
    "web_token",
    "log_level",
    "log_format",
    "security_protocol",
    "sasl_mechanism",
    "sasl_username",
    "sasl_password",
    "ssl_cafile",
    "ssl_certfile",
    "ssl_keyfile",
    "ssl_key_password",
    "ssl_check_hostname",
    "mapping",
    "schema_registry_url",
    "schema_registry_username",
    "schema_registry_password",
}


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """No `lapse.yaml` but the test's own."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def env(**variables: str) -> dict[str, str]:
    return {f"LAPSE_{name.upper()}": value for name, value in variables.items()}


def problems(**sources) -> list[SettingsProblem]:
    with pytest.raises(SettingsError) as caught:
        load_settings(**sources)
    assert str(caught.value).splitlines() == [str(problem) for problem in caught.value.problems]
    return list(caught.value.problems)


def problem_of(setting: str, value: str) -> str:
    (problem,) = problems(environ=env(**{setting: value}))
    assert problem.setting == setting
    assert problem.origin == f"environment variable LAPSE_{setting.upper()}"
    return problem.message


def test_defaults_are_those_of_the_contract():
    settings = load_settings()
    assert set(Settings.model_fields) == NAMES_OF_THE_CONTRACT
    assert settings.brokers == ("127.0.0.1:9092",)
    assert (settings.app_id, settings.topic_prefix, settings.triggers) == ("lapse", "", None)
    assert (settings.act_from, settings.dry_run, settings.first_inactive) == (None, False, "lapse")
    assert (settings.join_wait, settings.clock_grace) == (30 * SECOND, SECOND)
    assert (settings.state_ttl, settings.false_abandonment_window) == (30 * 86_400 * SECOND, 300 * SECOND)
    assert settings.abandonment_reasons == {"user_inactive_or_offline"}
    assert settings.dead_letter_limit == 0.5
    assert (settings.web_host, settings.web_port, settings.web_token) == ("127.0.0.1", 6066, None)
    assert (settings.log_level, settings.log_format) == ("info", None)
    assert settings.security_protocol == "PLAINTEXT"
    assert (settings.tickets_topic, settings.sessions_topic) == ("ticket-updates", "session-states")
    assert (settings.commands_topic, settings.transitions_topic) == ("action-commands", "session-transitions")
    assert settings.dead_letters_topic == "dead-letters"
    assert (settings.session_timeout, settings.broker_patience) == (15 * SECOND, 1800 * SECOND)
    assert (settings.instance_id, settings.compression) == (None, "zstd")
    assert settings.rules == "file"
    assert (settings.ingest_host, settings.ingest_port) == ("127.0.0.1", 6067)
    assert (settings.ingest_secrets, settings.ingest_max_age) == (None, 3600 * SECOND)
    assert (settings.ingest_keep_bodies, settings.zendesk_command_field) == (False, None)
    assert (settings.apply_host, settings.apply_port) == ("127.0.0.1", 6068)
    assert (settings.apply_max_age, settings.zendesk_updates_per_minute) == (3_600_000_000, 100)
    assert (settings.silence, settings.silence_port) == ({}, 6069)
    assert settings.warnings == ()


@pytest.mark.parametrize("text", ["mobile=15m,WhatsApp=30m", '{"mobile": "15m", "whatsapp": "30m"}'])
def test_silence_is_a_table_in_the_environment_and_in_the_file(tmp_path, text):
    wanted = {"mobile": 900 * SECOND, "whatsapp": 1800 * SECOND}
    assert load_settings(environ=env(silence=text)).silence == wanted
    for written in ("silence:\n  mobile: 15m\n  whatsapp: 30m\n", "silence: mobile=15m,whatsapp=30m\n"):
        file = tmp_path / "lapse.yaml"
        file.write_text(written)
        assert load_settings(config_file=file).silence == wanted


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("mobile", "`mobile` is not a channel with its time"),
        ("mobile=15", "`mobile`: `15`"),
        ("mobile=0s", "`mobile`: `0s` is no time at all"),
        ("mobile=1m,Mobile=2m", "`mobile` is named twice"),
        ("{mobile}", "is not JSON"),
        ('{"mobile": 15}', "every time is a text"),
    ],
)
def test_a_wait_that_cant_be_used_is_named(text, says):
    with pytest.raises(SettingsError) as error:
        load_settings(environ=env(silence=text))
    assert says in str(error.value)


def test_a_table_of_lists_is_refused_with_its_place(tmp_path):
    file = tmp_path / "lapse.yaml"
    file.write_text("silence:\n  mobile: [15m]\n")
    with pytest.raises(SettingsError, match=r"lapse.yaml:2:3\): takes a table of names and texts"):
        load_settings(config_file=file)


def test_every_setting_says_what_it_is_for():
    assert all(field.description for field in Settings.model_fields.values())


def test_rules_from_their_topic_take_no_trigger_file():
    with pytest.raises(SettingsError, match="leave `triggers` out"):
        load_settings(environ=env(rules="topic", triggers="mine.yaml"))
    assert load_settings(environ=env(rules="topic")).rules == "topic"


@pytest.mark.parametrize("text", ["alpha, beta", "alpha\nbeta\n", "alpha,beta,"])
def test_secrets_can_be_several_and_are_hidden(text: str):
    settings = load_settings(environ=env(ingest_secrets=text))
    assert each_secret(settings.ingest_secrets) == [b"alpha", b"beta"]
    assert "alpha" not in repr(settings)


def test_secrets_in_a_file_are_alpha_a_line(elsewhere: Path):
    (elsewhere / "secrets").write_bytes(b"alpha\r\nbeta\r\n")
    settings = load_settings(environ=env(ingest_secrets_file=str(elsewhere / "secrets")))
    assert each_secret(settings.ingest_secrets) == [b"alpha", b"beta"]
    (elsewhere / "lapse.yaml").write_text("ingest_secrets: [alpha, beta]\n")
    assert each_secret(load_settings().ingest_secrets) == [b"alpha", b"beta"]


def test_flags_go_over_environment_over_file_over_defaults(elsewhere: Path):
    (elsewhere / "lapse.yaml").write_text("join_wait: 1s\nclock_grace: 1ms\nstate_ttl: 1d\n")
    settings = load_settings(
        flags={"join_wait": "3s", "clock_grace": None}, environ=env(join_wait="2s", clock_grace="2ms")
    )
    assert settings.join_wait == 3 * SECOND
    assert settings.clock_grace == 2_000
    assert settings.state_ttl == 86_400 * SECOND
    assert settings.false_abandonment_window == 300 * SECOND


def test_an_overridden_value_is_not_judged():
    assert load_settings(flags={"join_wait": "3s"}, environ=env(join_wait="soon")).join_wait == 3 * SECOND


def test_the_environment_of_the_process_is_not_read_behind_the_callers_back(monkeypatch):
    monkeypatch.setenv("LAPSE_APP_ID", "other")
    monkeypatch.setenv("APP_ID", "other")
    assert load_settings().app_id == "lapse"
    assert Settings().app_id == "lapse"


def test_a_named_file_goes_instead_of_the_usual_one(elsewhere: Path):
    (elsewhere / "lapse.yaml").write_text("app_id: usual\n")
    (elsewhere / "other.yaml").write_text("log_level: debug\n")
    settings = load_settings(config_file=elsewhere / "other.yaml")
    assert (settings.app_id, settings.log_level) == ("lapse", "debug")
    (problem,) = problems(config_file=elsewhere / "none.yaml")
    assert str(problem) == f"{elsewhere / 'none.yaml'}: no such file"


@pytest.mark.parametrize("text", ["", "# nothing\n", "app_id:\n"])
def test_an_empty_file_gives_the_defaults(elsewhere: Path, text):
    (elsewhere / "lapse.yaml").write_text(text)
    assert load_settings() == Settings()


def test_paths_in_the_file_are_relative_to_it_and_elsewhere_to_here(elsewhere: Path):
    (elsewhere / "etc").mkdir()
    (elsewhere / "etc" / "lapse.yaml").write_text("triggers: rules.yaml\n")
    config = elsewhere / "etc" / "lapse.yaml"
    assert load_settings(config_file=config).triggers == elsewhere / "etc" / "rules.yaml"
    assert load_settings(environ=env(triggers="rules.yaml"), config_file=config).triggers == Path("rules.yaml")
    config.write_text("triggers: /etc/rules.yaml\n")
    assert load_settings(config_file=config).triggers == Path("/etc/rules.yaml")


def test_an_empty_variable_is_not_given():
    assert load_settings(environ=env(web_token="", join_wait="", app_id="")) == Settings()


def test_values_of_any_source_may_be_native(elsewhere: Path):
    (elsewhere / "lapse.yaml").write_text('{"web_port": 8080, "dry_run": true, "brokers": ["a:1", "b"]}')
    settings = load_settings(
        flags={"triggers": Path("x.yaml"), "ssl_check_hostname": False, "abandonment_reasons": ["a"]}
    )
    assert (settings.web_port, settings.dry_run, settings.brokers) == (8080, True, ("a:1", "b:9092"))
    assert (settings.triggers, settings.ssl_check_hostname) == (Path("x.yaml"), False)
    assert settings.abandonment_reasons == {"a"}


@pytest.mark.parametrize(
    ("setting", "written", "meant"),
    [
        ("brokers", "kafka-1, kafka-2:9093", ("kafka-1:9092", "kafka-2:9093")),
        ("brokers", "[::1]:9092", ("[::1]:9092",)),
        ("join_wait", "500ms", 500_000),
        ("join_wait", "0", 0),
        ("act_from", "beginning", values.BEGINNING),
        ("act_from", "1970-01-01T01:00:01.5+01:00", 1_500_000),
        ("act_from", "Now", values.NOW),
        ("compression", "LZ4", "lz4"),
        ("session_timeout", "45s", 45 * SECOND),
        ("instance_id", "lapse-0", "lapse-0"),
        ("tickets_topic", "zendesk.tickets_v2", "zendesk.tickets_v2"),
        ("act_from", "2026-03-01t10:00:00z", 1_772_359_200_000_000),
        ("dry_run", "Yes", True),
        ("dry_run", "0", False),
        ("first_inactive", "first_seen", "first_seen"),
        ("first_inactive", "ignore", "first_seen"),
        ("abandonment_reasons", "User inactive or offline, left", {"user_inactive_or_offline", "left"}),
        ("dead_letter_limit", "50%", 0.5),
        ("dead_letter_limit", "0.25", 0.25),
        ("dead_letter_limit", "12.5 %", 0.125),
        ("dead_letter_limit", "1", 1.0),
        ("web_port", "0", 0),
        ("web_host", "::1", "::1"),
        ("log_level", "WARN", "warning"),
        ("log_format", "JSON", "json"),
        ("topic_prefix", "staging.", "staging."),
    ],
)
def test_values_are_read_as_people_write_them(setting, written, meant):
    assert getattr(load_settings(environ=env(**{setting: written})), setting) == meant


@pytest.mark.parametrize(
    ("setting", "written", "says"),
    [
        ("brokers", "kafka 1", "write `host:port`"),
        ("brokers", "kafka://a:9092", "leave out `kafka://`"),
        ("brokers", "a:99999", "from 1 to 65535"),
        ("brokers", "a,,b", "write `host:port`"),
        ("app_id", "my app", "letters, digits"),
        ("app_id", "x" * 240, "at most 249"),
        ("topic_prefix", "a/b", "letters, digits"),
        ("join_wait", "30", "did you mean `30s`?"),
        ("clock_grace", "-1s", "is not a duration"),
        ("state_ttl", "0s", "longer than 0"),
        ("act_from", "2026-03-01", "`2026-03-01T10:00:00Z`, or `beginning`, or `now`"),
        ("act_from", "2026-03-01T10:00:00", "with its offset"),
        ("act_from", "2026-02-30T10:00:00Z", "is not a time"),
        ("act_from", "begining", "did you mean `beginning`?"),
        ("act_from", "nwo", "did you mean `now`?"),
        ("compression", "brotli", "one of `none`, `gzip`"),
        ("compression", "lz", "did you mean `lz4`?"),
        ("session_timeout", "500ms", "from `1s` to `30m`"),
        ("session_timeout", "31m", "from `1s` to `30m`"),
        ("session_timeout", "15", "did you mean `15s`?"),
        ("broker_patience", "0s", "longer than 0"),
        ("instance_id", "pod 1", "letters, digits"),
        ("instance_id", "..", "not a name that Kafka takes"),
        ("tickets_topic", "my tickets", "letters, digits"),
        ("tickets_topic", "..", "not a name that Kafka takes"),
        ("tickets_topic", "__consumer_offsets", "belong to Kafka itself"),
        ("tickets_topic", "x" * 250, "at most 249"),
        ("dry_run", "maybe", "neither `true` nor `false`"),
        ("first_inactive", "lapsed", "did you mean `lapse`?"),
        ("abandonment_reasons", "left, ...", "is no name"),
        ("dead_letter_limit", "50", "did you mean `50%`?"),
        ("dead_letter_limit", "120%", "up to `100%`"),
        ("dead_letter_limit", "half", "a percentage such as `50%`"),
        ("web_port", "70000", "from 0 to 65535"),
        ("web_port", "tcp://10.0.0.1:6066", "enableServiceLinks"),
        ("web_host", "127.0.0.1:6066", "without port"),
        ("web_host", "0.0.0.0", "set `web_token` too"),
        ("web_host", "lapse.example.org", "set `web_token` too"),
        ("log_level", "loud", "one of `debug`"),
        ("log_format", "xml", "one of `text`, `json`"),
        ("sasl_mechanism", "kerberos", "`SCRAM-SHA-512`"),
        ("security_protocol", "TLS", "`SASL_SSL`"),
        ("ssl_cafile", "/nowhere/ca.pem", "there is no file `/nowhere/ca.pem`"),
        ("ssl_cafile", ".", "is not a file"),
    ],
)
def test_a_value_that_cannot_be_one_is_refused(setting, written, says):
    if setting.startswith("ssl_"):
        found = problems(environ=env(**{setting: written, "security_protocol": "SSL"}))
        assert [problem.setting for problem in found] == [setting]
        assert says in found[0].message
    else:
        assert says in problem_of(setting, written)


def test_all_errors_are_told_at_once_each_with_its_source(elsewhere: Path):
    (elsewhere / "lapse.yaml").write_text(
        "join_wait: 30\nbroker: x\ndry_run: {a: 1}\nweb_host: 0.0.0.0\njoin_wait: 5s\n"
    )
    found = problems(
        flags={"log_level": "loud", "colour": "red"}, environ=env(clock_grace="-1s", security_protocol="SASL_SSL")
    )
    assert sorted((problem.setting, problem.origin) for problem in found) == [
        ("", "lapse.yaml:5:1"),
        ("broker", "lapse.yaml:2:1"),
        ("clock_grace", "environment variable LAPSE_CLOCK_GRACE"),
        ("colour", "--colour"),
        ("dry_run", "lapse.yaml:3:10"),
        ("join_wait", "lapse.yaml:1:12"),
        ("log_level", "--log-level"),
        ("security_protocol", "environment variable LAPSE_SECURITY_PROTOCOL"),
        ("web_host", "lapse.yaml:4:11"),
    ]


@pytest.mark.parametrize(
    ("text", "origin", "says"),
    [
        ("brokr: x\n", "lapse.yaml:1:1", "did you mean `brokers`?"),
        ("web-port: 1\n", "lapse.yaml:1:1", "did you mean `web_port`?"),
        ("kafka: x\n", "lapse.yaml:1:1", "settings are `abandonment_reasons`"),
        ("- a\n", "lapse.yaml:1:1", "this is a list"),
        ("app_id: [\n", "lapse.yaml:2:1", "did not find expected"),
        ("app_id: [a, b]\n", "lapse.yaml:1:9", "takes one value"),
        ("brokers: [[a]]\n", "lapse.yaml:1:10", "a list of texts"),
    ],
)
def test_what_is_wrong_with_the_file_is_told_with_its_place(elsewhere: Path, text, origin, says):
    (elsewhere / "lapse.yaml").write_text(text)
    (problem,) = problems()
    assert problem.origin == origin
    assert says in problem.message


def test_an_unknown_variable_is_a_warning():
    settings = load_settings(environ=env(join_wiat="1s", foo="x") | {"LAPSED": "y", "HOME": "/"})
    assert settings.warnings == (
        "environment variable LAPSE_FOO: there is no such setting",
        "environment variable LAPSE_JOIN_WIAT: there is no such setting; did you mean `LAPSE_JOIN_WAIT`?",
    )


def test_variables_that_kubernetes_sets_beside_a_service_are_none_of_ours():
    links = {"service_host": "10.0.0.1", "service_port": "6066", "port": "tcp://10.0.0.1:6066", "port_6066_tcp": "x"}
    assert load_settings(environ=env(**links)).warnings == ()


@pytest.mark.parametrize("host", ["127.0.0.1", "127.9.9.9", "::1", "localhost"])
def test_this_machine_alone_needs_no_token(host):
    assert load_settings(environ=env(web_host=host)).web_host == host


def test_a_token_opens_the_page_to_others():
    settings = load_settings(environ=env(web_host="0.0.0.0", web_token="hunter2hunter2"))
    assert settings.web_token is not None
    assert settings.web_token.get_secret_value() == "hunter2hunter2"


def test_a_login_needs_user_and_password():
    assert "`sasl_username` and `sasl_password`" in problem_of("security_protocol", "SASL_SSL")
    settings = load_settings(environ=env(security_protocol="sasl-ssl", sasl_username="u", sasl_password="p"))
    assert (settings.security_protocol, settings.sasl_mechanism) == ("SASL_SSL", "PLAIN")


@pytest.mark.parametrize(
    ("given", "meant"), [({"sasl_username": "u", "sasl_password": "p"}, "SASL_SSL"), ({"ssl_key_password": "p"}, "SSL")]
)
def test_security_that_would_not_be_used_is_refused(given, meant):
    (problem,) = problems(environ=env(**given))
    assert (problem.setting, problem.origin) == ("security_protocol", "default")
    assert f"is `{meant}` meant?" in problem.message


def test_certificates_are_files_that_are_there(elsewhere: Path):
    (elsewhere / "ca.pem").write_text("x")
    (elsewhere / "lapse.yaml").write_text("security_protocol: SSL\nssl_cafile: ca.pem\n")
    assert load_settings().ssl_cafile == Path("ca.pem")


@pytest.mark.parametrize("secret", ["sasl_password", "ssl_key_password", "web_token"])
def test_secrets_show_themselves_nowhere(elsewhere: Path, secret):
    common = {"security_protocol": "SASL_SSL", "sasl_username": "u", "sasl_password": "other"}
    settings = load_settings(environ=env(**common | {secret: "hunter2hunter2"}))
    for shown in (repr(settings), str(settings), str(settings.model_dump()), settings.model_dump_json()):
        assert "hunter2" not in shown
    (elsewhere / "lapse.yaml").write_text(f"{secret}: [hunter2]\njoin_wait: x\n")
    assert "hunter2" not in "\n".join(str(problem) for problem in problems())


def test_a_password_of_digits_stays_as_it_was_written(elsewhere: Path):
    (elsewhere / "lapse.yaml").write_text(
        "sasl_password: 0123\nsasl_username: 1.10\nsecurity_protocol: SASL_PLAINTEXT\n"
    )
    settings = load_settings()
    assert settings.sasl_password is not None
    assert (settings.sasl_username, settings.sasl_password.get_secret_value()) == ("1.10", "0123")


def test_settings_do_not_change():
    with pytest.raises(ValueError, match="frozen"):
        load_settings().join_wait = 5


@given(st.dictionaries(st.sampled_from(sorted(NAMES_OF_THE_CONTRACT)), st.text(max_size=30), max_size=5))
def test_no_environment_breaks_the_reader(variables):
    try:
        load_settings(environ=env(**variables))
    except SettingsError as error:
        assert {problem.setting for problem in error.problems} <= {
            *variables,
            "security_protocol",
            "web_host",
            "dead_letters_topic",
        }


@given(st.text(max_size=60))
def test_no_file_breaks_the_reader(text):
    path = Path("any.yaml")
    path.write_text(text, encoding="utf-8", errors="replace")
    try:
        load_settings(config_file=path)
    except SettingsError as error:
        assert error.problems


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"tickets_topic": "dead-letters"}, "`dead_letters_topic` is `dead-letters`: that topic is already in use by"),
        ({"tickets_topic": "x", "sessions_topic": "x"}, "`sessions_topic` is `x`: that topic is already in use by"),
        ({"tickets_topic": "a.b", "sessions_topic": "a_b"}, "which Kafka does not tell from `a.b`"),
        ({"commands_topic": "lapse-tickets-changelog"}, "in use by `app_id`"),
        ({"commands_topic": "mine-rules", "app_id": "mine"}, "in use by `app_id`"),
        ({"transitions_topic": "held-commands"}, "in use by a fixed name"),
        ({"topic_prefix": "p" * 200, "sessions_topic": "s" * 50}, "`sessions_topic` with `topic_prefix` has 250"),
    ],
)
def test_names_of_topics_that_collide_are_refused(given, says):
    (problem,) = problems(environ=env(**given))
    assert problem.setting == "dead_letters_topic"
    assert says in problem.message


@pytest.mark.parametrize("secret", sorted(SECRETS))
@pytest.mark.parametrize("ending", ["", "\n", "\r\n"])
def test_a_secret_can_be_in_a_file(elsewhere: Path, secret, ending):
    (elsewhere / "secret").write_text(f"hunter2 {ending}", newline="")
    common = {"security_protocol": "SASL_SSL", "sasl_username": "u"}
    if secret != "sasl_password":
        common["sasl_password"] = "other"
    for settings in (
        load_settings(environ=env(**common, **{f"{secret}_file": "secret"})),
        load_settings(flags={f"{secret}_file": "secret"}, environ=env(**common)),
    ):
        assert getattr(settings, secret).get_secret_value() == "hunter2 "


def test_the_file_of_a_secret_is_relative_to_the_settings_file(elsewhere: Path):
    (elsewhere / "etc").mkdir()
    (elsewhere / "etc" / "token").write_text("hunter2\n")
    (elsewhere / "etc" / "lapse.yaml").write_text("web_token_file: token\n")
    settings = load_settings(config_file=elsewhere / "etc" / "lapse.yaml")
    assert settings.web_token is not None
    assert settings.web_token.get_secret_value() == "hunter2"


def test_a_higher_source_goes_over_the_file_of_a_secret_which_is_not_even_read(elsewhere: Path):
    (elsewhere / "lapse.yaml").write_text("web_token_file: nowhere\n")
    settings = load_settings(environ=env(web_token="hunter2"))
    assert settings.web_token is not None
    assert settings.web_token.get_secret_value() == "hunter2"


def test_a_secret_given_twice_in_one_source_is_refused(elsewhere: Path):
    (elsewhere / "token").write_text("a")
    (problem,) = problems(environ=env(web_token="b", web_token_file="token"))
    assert (problem.setting, problem.origin) == ("web_token_file", "environment variable LAPSE_WEB_TOKEN_FILE")
    assert "`web_token` is set too" in problem.message


@pytest.mark.parametrize(
    ("content", "says"), [(None, "can't read `token`: No such file"), (b"\n", "is empty"), (b"\xff", "not UTF-8")]
)
def test_the_file_of_a_secret_that_cannot_be_used_is_named(elsewhere: Path, content, says):
    if content is not None:
        (elsewhere / "token").write_bytes(content)
    (problem,) = problems(environ=env(sasl_password_file="token", sasl_username="u", security_protocol="SASL_SSL"))
    assert problem.setting == "sasl_password_file"
    assert says in problem.message


def test_the_runtime_gets_every_setting_that_it_has_a_field_for(elsewhere: Path):
    given = {
        "brokers": "a:1",
        "app_id": "mine",
        "topic_prefix": "p.",
        "tickets_topic": "t",
        "sessions_topic": "s",
        "commands_topic": "c",
        "transitions_topic": "x",
        "dead_letters_topic": "d",
        "compression": "lz4",
        "dead_letter_limit": "0.25",
        "clock_grace": "2s",
        "session_timeout": "6s",
        "instance_id": "pod-1",
        "broker_patience": "1m",
        "act_from": "now",
    }
    config = runtime_config(load_settings(environ=env(**given)))
    assert (config.brokers, config.group, config.compression_type) == (("a:1",), "p.mine", "lz4")
    assert [config.topic(name) for name in ("ticket-updates", "session-states", "action-commands")] == [
        "p.t",
        "p.s",
        "p.c",
    ]
    assert [config.topic(name) for name in ("session-transitions", "dead-letters")] == ["p.x", "p.d"]
    assert config.inputs == {"p.t": Topic.TICKETS, "p.s": Topic.SESSIONS}
    assert set(config.written) == {"p.c", "p.x", "p.d", "p.mine-tickets-changelog", "p.mine-sessions-changelog"}
    assert (config.dead_letter_limit, config.clock_grace) == (0.25, 2 * SECOND)
    assert (config.session_timeout, config.heartbeat_interval) == (6 * SECOND, 6 * SECOND // 5)
    assert (config.group_instance_id, config.broker_patience) == ("pod-1", 60 * SECOND)
    assert runtime_config(Settings()).heartbeat_interval == 3 * SECOND


@pytest.mark.parametrize(
    ("name", "value"), [("brokers", "a:1,b:\udccc"), ("web_token", "\udcff"), ("app_id", "\udc80")]
)
def test_a_value_that_is_no_text_is_told(name: str, value: str):
    (found,) = problems(environ=env(**{name: value}))
    assert str(found) == f"{name} (environment variable LAPSE_{name.upper()}): is not UTF-8"
    (found,) = problems(flags={name: value})
    assert str(found) == f"{name} (--{name.replace('_', '-')}): is not UTF-8"


def test_a_variable_whose_name_is_no_text_is_told():
    (warning,) = load_settings(environ={"LAPSE_\udccc": "x"}).warnings
    assert warning.startswith("environment variable LAPSE_\\udccc: there is no such setting")
