"""The port, asked over loopback."""

from __future__ import annotations

import asyncio
import base64
import datetime
import socket
from collections.abc import AsyncIterator
from html.parser import HTMLParser

import aiohttp
import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families

from streams.core import model
from streams.core.names import Topic
from streams.core.triggers import Action, Ruleset, Trigger
from streams.telemetry.observer import Metrics
from streams.web import server as server_module
from streams.web.journal import Journal
from streams.web.server import Server, WebServerError
from tests.telemetry.batches import a_batch, a_transition, an_evaluation, facts
from tests.web.worker import RULESET, Worker, a_partition

PROTECTED = [
    "/",
    "/tickets?id=5158",
    "/rounds/x",
    "/assets/page.js",
    "/assets/page.css",
    "/api/v1/status",
    "/api/v1/state",
    "/api/v1/triggers",
    "/api/v1/evaluations",
    "/api/v1/rates",
    "/api/v1/tickets/5158",
    "/api/v1/rounds/x",
]
OPEN = ["/metrics", "/healthz", "/readyz"]
TOKEN = "s3cret-ö"


@pytest.fixture
def worker() -> Worker:
    return Worker([a_partition(1, position=1_200, lag=3), a_partition(0)])


@pytest.fixture
def metrics() -> Metrics:
    made = Metrics(triggers=[trigger.id for trigger in RULESET.triggers], ruleset=RULESET.digest)
    made.assigned([0, 1])
    return made


@pytest.fixture
async def client() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=5)) as session:
        yield session


@pytest.fixture
async def serve(worker, metrics):
    running: list[Server] = []

    async def start(**settings) -> Server:
        server = Server(**{"port": 0, "metrics": metrics, "source": worker, "ruleset": RULESET, **settings})
        await server.start()
        running.append(server)
        return server

    yield start
    for server in running:
        await server.stop()


@pytest.fixture
async def get(serve, client):
    server = await serve()

    async def ask(path: str, **options) -> aiohttp.ClientResponse:
        answer = await client.get(server.url.rstrip("/") + path, **options)
        await answer.read()
        return answer

    return ask


async def healthz_says(status: int, client: aiohttp.ClientSession, server: Server) -> aiohttp.ClientResponse:
    for _ in range(200):
        answer = await client.get(f"{server.url}healthz")
        if answer.status == status:
            return answer
        await asyncio.sleep(0.02)
    raise AssertionError(f"/healthz did not say {status}")


# --- metrics and probes ----------------------------------------------------------------------------------------------


async def test_metrics_are_prometheus_text(get):
    answer = await get("/metrics")
    assert answer.status == 200
    assert answer.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
    families = {family.name for family in text_string_to_metric_families(await answer.text())}
    assert {"lapse_sessions", "lapse_step_seconds", "lapse_build_info"} <= families


async def test_metrics_are_openmetrics_when_asked(get):
    answer = await get("/metrics", headers={"Accept": "application/openmetrics-text;version=1.0.0,text/plain;q=0.5"})
    assert answer.headers["Content-Type"].startswith("application/openmetrics-text; version=1.0.0; charset=utf-8")
    families = {family.name for family in parse_openmetrics(await answer.text())}
    assert "lapse_sessions" in families


async def test_a_worker_is_ready_once_every_partition_is_restored(get, worker):
    worker.joined = False
    answer = await get("/readyz")
    assert answer.status == 503
    assert (await answer.json())["not_ready"][0]["code"] == "not_joined"
    worker.joined, worker.held[0].state = True, "restoring"
    answer = await get("/readyz")
    assert answer.status == 503
    assert await answer.json() == {
        "ready": False,
        "not_ready": [
            {"code": "restoring", "message": "The tables of partition 1 are being restored.", "partition": 1}
        ],
    }
    worker.held[0].state = "ready"
    answer = await get("/readyz")
    assert (answer.status, await answer.json()) == (200, {"ready": True, "not_ready": []})


async def test_a_worker_is_alive_until_a_partition_stalls(serve, client, worker, monkeypatch):
    monkeypatch.setattr(server_module, "LOOK_EVERY", 0.01)
    server = await serve(stalled_after=0.1)
    worker.held[0].topics[Topic.TICKETS].lag = 0
    await asyncio.sleep(0.2)
    answer = await client.get(f"{server.url}healthz")
    assert (answer.status, await answer.json()) == (200, {"alive": True, "stalled": []})
    worker.held[0].topics[Topic.TICKETS].lag = 3
    stalled = (await (await healthz_says(503, client, server)).json())["stalled"]
    assert [partition["partition"] for partition in stalled] == [1]
    status = await (await client.get(f"{server.url}api/v1/status")).json()
    assert [(partition["partition"], partition["state"]) for partition in status["partitions"]] == [
        (0, "ready"),
        (1, "stalled"),
    ]
    assert (status["working"], status["ready"]) == (False, True)
    assert status["summary"] == "Stalled: 1 of 2 partitions have records to take and take none."
    worker.broker_reachable = False
    await healthz_says(200, client, server)


async def test_a_status_that_raises_does_not_end_the_watch(serve, client, worker, monkeypatch, caplog):
    monkeypatch.setattr(server_module, "LOOK_EVERY", 0.01)
    whole = worker.partitions

    def broken():
        raise LookupError("between two assignments")

    worker.partitions = broken
    server = await serve(stalled_after=0.05)
    await asyncio.sleep(0.05)
    assert (await client.get(f"{server.url}healthz")).status == 200
    assert "can't read the worker's status" in caplog.text
    worker.partitions = whole
    await healthz_says(503, client, server)


# --- API -------------------------------------------------------------------------------------------------------------


async def test_the_status_tells_partitions_positions_lag_ruleset_and_figures(get, metrics):
    told = facts(
        (model.SESSION, ("web",)), (model.SESSION, ("web",)), (model.SESSION_ABANDONED, ("web",)), (model.COMMAND,)
    )
    metrics.batch_committed(0, a_batch(facts=told), 0.1)
    metrics.pending_rounds(1, 4)
    answer = await get("/api/v1/status")
    assert answer.headers["Content-Type"] == "application/json; charset=utf-8"
    status = await answer.json()
    assert status["ruleset"] == {"digest": "9f2c41d0a7be", "cycle": "restart", "triggers": 2, "active": 1}
    assert (status["working"], status["ready"], status["summary"]) == (True, True, "Ready.")
    assert (status["figures"]["sessions"], status["figures"]["commands"]) == (2, 1)
    assert status["figures"]["pending_rounds"] == 4
    assert status["abandonment_rate"] == 0.5
    assert status["false_abandonment_rate"] is None
    assert [partition["partition"] for partition in status["partitions"]] == [0, 1]
    assert status["partitions"][1] == {
        "partition": 1,
        "state": "ready",
        "stream_time": "2026-03-01T10:05:00Z",
        "stalled_seconds": None,
        "topics": {
            "ticket-updates": {"position": 1_200, "lag": 3, "lag_seconds": None},
            "session-states": {"position": 1_200, "lag": 0, "lag_seconds": None},
        },
    }


@pytest.mark.parametrize(
    ("change", "summary"),
    [
        ({"joined": False}, "The consumer group has not assigned partitions to this worker yet."),
        ({"broker_reachable": False}, "The broker does not answer."),
        ({"held": [a_partition(2, state="restoring")]}, "The tables of partition 2 are being restored."),
        (
            {"held": [a_partition(n, state="restoring" if n else "ready") for n in range(3)]},
            "The tables of 2 of 3 partitions are being restored.",
        ),
    ],
)
async def test_the_summary_names_what_is_the_matter(get, worker, change, summary):
    for member, value in change.items():
        setattr(worker, member, value)
    status = await (await get("/api/v1/status")).json()
    assert (status["working"], status["summary"]) == (False, summary)


async def test_the_triggers_are_told_as_they_are_in_use(get, metrics):
    metrics.batch_committed(0, a_batch(facts=facts((model.TRIGGER_FIRED, ("solve-abandoned",)))), 0.1)
    told = await (await get("/api/v1/triggers")).json()
    assert told["ruleset"]["digest"] == "9f2c41d0a7be"
    solve, retired = told["triggers"]
    assert (solve["id"], solve["active"], solve["wait_ms"], solve["fired"]) == ("solve-abandoned", True, 60_000, 1)
    assert solve["all"] == [
        {"field": "status", "operator": "is", "value": "open"},
        {"field": "priority", "operator": "present", "value": None},
    ]
    assert solve["any"] == []
    assert solve["actions"][1] == {"field": "add_tags", "value": ["abandoned_conversation"]}
    assert (retired["active"], retired["fired"]) == (False, 0)


async def test_a_date_in_a_trigger_is_shown_as_text(serve, client):
    due = Trigger("t", "t", 1, actions=(Action("custom_fields_1", datetime.date(2026, 3, 1)),))
    server = await serve(ruleset=Ruleset((due,)))
    told = await (await client.get(f"{server.url}api/v1/triggers")).json()
    assert told["triggers"][0]["actions"] == [{"field": "custom_fields_1", "value": "2026-03-01"}]


async def test_recent_evaluations_are_told_as_the_topic_has_them(serve, client):
    journal = Journal()
    fired = an_evaluation("5158", outcome=model.RoundOutcome.COMMANDED, triggers=("solve-abandoned",), command_id="c-1")
    journal.batch_committed(a_batch(records=[a_transition("5158"), an_evaluation("1"), fired]))
    journal.batch_committed(a_batch(records=[an_evaluation(str(n)) for n in range(2, 10)]))
    server = await serve(journal=journal)
    told = await (await client.get(f"{server.url}api/v1/evaluations")).json()
    assert [record["ticket_id"] for record in told["evaluations"]] == [*map(str, range(9, 1, -1)), "5158", "1"]
    told["evaluations"] = told["evaluations"][8:]
    assert told["evaluations"][0] == {
        "type": "evaluation",
        "ticket_id": "5158",
        "event_id": "e",
        "occurred_at": "2026-03-01T10:05:00Z",
        "episode": 1,
        "wait_ms": 0,
        "outcome": "commanded",
        "triggers": ["solve-abandoned"],
        "command_id": "c-1",
    }
    assert told["transitions"][0]["kind"] == "lapsed"


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH"])
@pytest.mark.parametrize("path", ["/", "/api/v1/status", "/metrics"])
async def test_nothing_can_be_changed(serve, client, method, path):
    server = await serve()
    answer = await client.request(method, server.url.rstrip("/") + path, data=b"{}")
    assert answer.status == 405


# --- who may read ----------------------------------------------------------------------------------------------------


def basic(user: str, password: str) -> dict[str, str]:
    return {"Authorization": "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()}


@pytest.mark.parametrize("path", [*PROTECTED, "/unheard-of", "//metrics", "/metrics/", "/healthz/../api/v1/status"])
async def test_with_a_token_set_nothing_but_metrics_and_probes_is_open(serve, client, path):
    server = await serve(token=TOKEN)
    answer = await client.get(server.url.rstrip("/") + path)
    assert answer.status == 401
    assert [challenge.split(" ")[0] for challenge in answer.headers.getall("WWW-Authenticate")] == ["Basic", "Bearer"]
    assert "partitions" not in await answer.text()


@pytest.mark.parametrize("path", OPEN)
async def test_metrics_and_probes_stay_open(serve, client, path):
    server = await serve(token=TOKEN)
    assert (await client.get(server.url.rstrip("/") + path)).status == 200


@pytest.mark.parametrize("path", PROTECTED)
@pytest.mark.parametrize(
    "headers",
    [
        {"Authorization": f"Bearer {TOKEN}"},
        {"Authorization": f"bearer  {TOKEN}"},
        basic("", TOKEN),
        basic("anybody", TOKEN),
    ],
    ids=["bearer", "bearer, loosely written", "basic", "basic with a user name"],
)
async def test_the_token_opens_everything(serve, client, path, headers):
    server = await serve(token=TOKEN)
    # 404: nothing is known of this ticket and this round.
    assert (await client.get(server.url.rstrip("/") + path, headers=headers)).status in {200, 404}


@pytest.mark.parametrize(
    "headers",
    [
        {"Authorization": "Bearer wrong"},
        {"Authorization": f"Bearer {TOKEN}x"},
        {"Authorization": "Bearer"},
        {"Authorization": TOKEN},
        {"Authorization": f"Token {TOKEN}"},
        {"Authorization": "Basic !!!"},
        {"Authorization": "Basic " + base64.b64encode(TOKEN.encode()).decode()},
        {"Authorization": "Basic " + base64.b64encode(b"\xff:\xfe").decode()},
        basic(TOKEN, ""),
        basic("", ""),
        {"Authorization": ""},
    ],
)
async def test_a_wrong_token_opens_nothing(serve, client, headers):
    server = await serve(token=TOKEN)
    assert (await client.get(f"{server.url}api/v1/status", headers=headers)).status == 401


async def test_the_token_is_not_taken_from_the_address(serve, client):
    server = await serve(token="plain")
    assert (await client.get(f"{server.url}api/v1/status?token=plain")).status == 401


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("127.0.0.1:6066", 200),
        ("localhost", 200),
        ("[::1]:6066", 200),
        ("lapse.localhost:80", 200),
        ("evil.example", 403),
        ("127.0.0.1.evil.example", 403),
        ("", 403),
    ],
)
async def test_without_a_token_a_foreign_host_name_is_refused(get, host, status):
    assert (await get("/api/v1/status", headers={"Host": host})).status == status
    assert (await get("/metrics", headers={"Host": host})).status == 200


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "lapse.example"])
@pytest.mark.parametrize("token", [None, ""])
def test_a_host_that_is_not_loopback_needs_a_token(host, token, metrics, worker):
    with pytest.raises(WebServerError, match="web_token"):
        Server(host=host, token=token, metrics=metrics, source=worker, ruleset=RULESET)


async def test_with_a_token_any_host_name_will_do(serve, client):
    server = await serve(host="0.0.0.0", token="plain")
    headers = {"Host": "lapse.example", "Authorization": "Bearer plain"}
    assert (await client.get(f"http://127.0.0.1:{server.port}/api/v1/status", headers=headers)).status == 200


@pytest.mark.parametrize("path", [*PROTECTED, *OPEN, "/unheard-of"])
async def test_every_answer_carries_the_security_headers(get, path):
    headers = (await get(path)).headers
    assert "default-src 'none'" in headers["Content-Security-Policy"]
    assert "unsafe" not in headers["Content-Security-Policy"]
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["X-Frame-Options"] == "DENY"
    assert headers["Referrer-Policy"] == "no-referrer"
    assert headers["Cache-Control"] == "no-store"
    assert "aiohttp" not in headers["Server"]


@pytest.mark.parametrize("path", ["/assets/page.html", "/assets/../server.py", "/assets/%2e%2e%2fserver.py"])
async def test_no_other_file_is_served(get, path):
    assert (await get(path)).status == 404


# --- the page --------------------------------------------------------------------------------------------------------


class Page(HTMLParser):
    """What the page refers to, shows and how it is built."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.shown: dict[str, str] = {}
        self._open: list[str | None] = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        attributes = dict(attrs)
        self.tags.append((tag, attributes))
        self._name = attributes.get("data-value") or attributes.get("data-percent") or attributes.get("id")

    def handle_data(self, data):
        if getattr(self, "_name", None) and data.strip():
            self.shown.setdefault(self._name, data.strip())
            self._name = None

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


async def test_the_page_shows_partitions_and_health_without_its_script(get, metrics):
    metrics.batch_committed(0, a_batch(facts=facts(*[(model.COMMAND,)] * 7)), 0.1)
    answer = await get("/")
    assert answer.headers["Content-Type"] == "text/html; charset=utf-8"
    text = await answer.text()
    page = Page(text)
    assert page.shown["summary"] == "Ready."
    rows = [attributes["data-partition"] for attributes in page.all("tr") if "data-partition" in attributes]
    assert rows == ["0", "1"]
    assert "2026-03-01 10:05:00" in text
    assert '<dt>commands sent</dt><dd class="figure">7</dd>' in text


async def test_the_page_asks_nobody_else_for_anything(get):
    page = Page(await (await get("/")).text())
    references = [a[key] for _, a in page.tags for key in ("src", "href") if a.get(key)]
    assert all(reference[0] in "/#" or reference == "data:," for reference in references)
    assert not page.all("style")
    assert not [a for _, a in page.tags if "style" in a or any(key.startswith("on") for key in a)]
    for reference in references:
        if reference.startswith("/"):
            assert (await get(reference)).status == 200, reference
    for asset in ("/assets/page.css", "/assets/page.js"):
        assert "http:" not in (text := await (await get(asset)).text())
        assert "https:" not in text
        assert "url(" not in text


async def test_the_page_can_be_read_without_eyes_and_used_without_a_mouse(get):
    text = await (await get("/")).text()
    page = Page(text)
    assert page.all("html")[0]["lang"] == "en"
    assert len(page.all("h1")) == len(page.all("main")) == 1
    assert len(page.all("caption")) == len(page.all("table"))
    assert all("scope" in attributes for attributes in page.all("th"))
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    labels = [attributes["aria-labelledby"] for _, attributes in page.tags if "aria-labelledby" in attributes]
    assert set(labels) <= set(ids)
    (live,) = [attributes for _, attributes in page.tags if attributes.get("role") == "status"]
    assert live["id"] == "summary", "figures that change every two seconds must not be read out"
    _, pause = page.all("button")
    assert pause["aria-pressed"] == "false"
    (field,) = page.all("input")
    assert [label["for"] for label in page.all("label")] == [field["id"]]


async def test_what_others_wrote_is_shown_as_text(serve, client, worker):
    worker.held = [a_partition(0, state="<i>odd</i>")]
    server = await serve(app_id="<script>alert(1)</script>", ruleset=Ruleset((), digest='"><b>'))
    text = await (await client.get(server.url)).text()
    assert "<script>alert" not in text
    assert "<i>odd" not in text
    assert '"><b>' not in text
    assert "&lt;script&gt;alert(1)" in text


async def test_a_worker_without_partitions_says_so(get, worker):
    assert "This worker holds no partitions." not in await (await get("/")).text()
    worker.held = []
    text = await (await get("/")).text()
    assert "This worker holds no partitions." in text


# --- start and stop --------------------------------------------------------------------------------------------------


async def test_port_0_takes_a_free_port_and_stop_gives_it_back(serve, client):
    server = await serve()
    port = server.port
    assert port > 0
    assert server.url == f"http://127.0.0.1:{port}/"
    await server.stop()
    with pytest.raises(aiohttp.ClientConnectorError):
        await client.get(f"http://127.0.0.1:{port}/healthz")
    await server.stop()
    again = await serve(port=port)
    assert (await client.get(f"{again.url}healthz")).status == 200


async def test_a_port_in_use_is_told_with_host_port_and_setting(serve):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(WebServerError) as told:
            await serve(port=port)
    assert f"127.0.0.1:{port}" in str(told.value)
    assert "web_port" in str(told.value)
    assert told.value.__cause__ is None
    assert told.value.__suppress_context__


@pytest.mark.parametrize(
    ("settings", "setting"),
    [
        ({"host": "192.0.2.1", "token": "t"}, "web_host"),
        ({"host": "no-such-host.invalid", "token": "t"}, "web_host"),
        ({"port": 70_000}, "web_port"),
    ],
)
async def test_an_address_that_cannot_be_listened_on_names_its_setting(serve, settings, setting):
    with pytest.raises(WebServerError, match=setting):
        await serve(**settings)


async def test_a_server_that_could_not_start_leaves_nothing_running(serve):
    before = asyncio.all_tasks()
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(WebServerError):
        await serve(port=taken.getsockname()[1])
    assert asyncio.all_tasks() == before


async def test_a_stop_does_not_wait_for_a_reader_that_stays_connected(serve, client):
    server = await serve()
    await (await client.get(f"{server.url}healthz")).read()
    async with asyncio.timeout(3):
        await server.stop()


async def test_it_serves_for_as_long_as_a_block_runs(client, metrics, worker):
    async with Server(port=0, metrics=metrics, source=worker, ruleset=RULESET) as server:
        url = server.url
        assert (await client.get(f"{url}readyz")).status == 200
    with pytest.raises(aiohttp.ClientConnectorError):
        await client.get(f"{url}readyz")


async def test_two_workers_in_one_process_serve_their_own_figures(serve, client, metrics):
    other = Metrics()
    one, two = await serve(), await serve(metrics=other)
    metrics.batch_committed(0, a_batch(facts=facts((model.COMMAND,))), 0.1)
    figures = [(await (await client.get(f"{s.url}api/v1/status")).json())["figures"] for s in (one, two)]
    assert [each["commands"] for each in figures] == [1, 0]


@pytest.mark.parametrize(
    "request_bytes",
    [b"GARBAGE\r\n\r\n", b"\x16\x03\x01\x02\x00\x01", b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + b"a" * 20_000],
    ids=["not HTTP", "TLS", "a header without end"],
)
async def test_a_strangers_bad_request_is_refused_and_leaves_no_traceback_in_the_log(serve, caplog, request_bytes):
    server = await serve()
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    writer.write(request_bytes + b"\r\n\r\n")
    assert (await asyncio.wait_for(reader.readline(), 5)).startswith(b"HTTP/1.0 400")
    writer.close()
    await writer.wait_closed()
    assert caplog.records == []
