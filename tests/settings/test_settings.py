"""Settings: sources, precedence, values, and every error at once, with its source."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.core.model import SECOND
from streams.settings import values
from streams.settings.settings import Settings, SettingsError, load_settings
from streams.settings.sources import SettingsProblem

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
    assert settings.warnings == ()


def test_every_setting_says_what_it_is_for():
    assert all(field.description for field in Settings.model_fields.values())


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
        ("act_from", "2026-03-01", "`2026-03-01T10:00:00Z`, or `beginning`"),
        ("act_from", "2026-03-01T10:00:00", "with its offset"),
        ("act_from", "2026-02-30T10:00:00Z", "is not a time"),
        ("act_from", "begining", "did you mean `beginning`?"),
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
        assert {problem.setting for problem in error.problems} <= {*variables, "security_protocol", "web_host"}


@given(st.text(max_size=60))
def test_no_file_breaks_the_reader(text):
    path = Path("any.yaml")
    path.write_text(text, encoding="utf-8", errors="replace")
    try:
        load_settings(config_file=path)
    except SettingsError as error:
        assert error.problems
