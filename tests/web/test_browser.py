"""The page in a real Chromium: it updates itself without getting in anybody's way."""

from __future__ import annotations

import os
import shutil
from collections.abc import AsyncIterator

import pytest
from playwright.async_api import Browser, BrowserContext, Page, async_playwright

from streams.web.server import Server
from tests.web.desk import Desk

pytestmark = pytest.mark.timeout(120)

FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]


def chromium() -> str:
    found = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if found is None:
        message = "No Chromium: the page was NOT tried in a browser. Install Debian's chromium to run these tests."
        if os.environ.get("CI"):
            pytest.fail(message)
        pytest.skip(message)
    return found


@pytest.fixture
async def browser() -> AsyncIterator[Browser]:
    async with async_playwright() as playwright:
        running = await playwright.chromium.launch(executable_path=chromium(), args=FLAGS)
        yield running
        await running.close()


@pytest.fixture
def desk() -> Desk:
    made = Desk()
    for number in range(5):
        made.abandoned(str(100 + number))
    return made


@pytest.fixture
async def server(desk: Desk) -> AsyncIterator[Server]:
    async with desk.server() as running:
        yield running


@pytest.fixture
async def page(browser: Browser, server: Server) -> AsyncIterator[Page]:
    """The page, opened; fails when the browser complains of anything: a script's error, the security policy."""
    complaints: list[str] = []
    context: BrowserContext = await browser.new_context(viewport={"width": 1280, "height": 900})
    opened = await context.new_page()
    opened.on("console", lambda said: complaints.append(said.text) if said.type in {"error", "warning"} else None)
    opened.on("pageerror", lambda error: complaints.append(str(error)))
    await opened.goto(server.url)
    yield opened
    assert complaints == []
    await context.close()


async def test_it_updates_itself_and_leaves_focus_scroll_selection_and_open_tables_alone(page: Page, desk: Desk):
    await page.set_viewport_size({"width": 1280, "height": 500})
    await page.click("text=As a table")
    row = await page.query_selector("#fired ~ table tbody tr")
    await page.fill("#ticket-id", "51")
    await page.evaluate("window.scrollTo(0, 300)")
    await page.evaluate("getSelection().selectAllChildren(document.querySelector('#partitions'))")
    desk.abandoned("999")
    await page.wait_for_selector("#fired ~ table >> text=999", timeout=40_000)
    assert await page.evaluate("document.activeElement.id") == "ticket-id"
    assert await page.input_value("#ticket-id") == "51"
    assert await page.evaluate("scrollY") == 300
    assert await page.evaluate("getSelection().toString()") == "Partitions"
    assert await page.evaluate("document.querySelector('#rate ~ details').open")
    assert row is not None
    assert await row.evaluate("row => row.isConnected && row.rowIndex") == 2, "the row that was first moved, not anew"


async def test_a_paused_page_stands_still(page: Page, desk: Desk):
    await page.click("#pause")
    assert await page.get_attribute("#pause", "aria-pressed") == "true"
    desk.abandoned("999")
    await page.wait_for_timeout(3_000)
    assert not await page.is_visible("#fired ~ table >> text=999")
    await page.click("#pause")
    await page.wait_for_selector("#fired ~ table >> text=999", timeout=40_000)


async def test_trouble_is_announced_and_so_is_a_worker_that_is_gone(browser: Browser, desk: Desk):
    server = desk.server()
    await server.start()
    page = await (await browser.new_context()).new_page()
    await page.goto(server.url)
    desk.worker.broker_reachable = False
    await page.wait_for_selector("#summary[data-ready=no]", timeout=40_000)
    assert await page.text_content("#summary") == "The broker does not answer."
    await server.stop()
    await page.wait_for_selector("#summary >> text=No answer from the worker since", timeout=40_000)
    assert await page.is_visible("#fired"), "what was last known stays"


@pytest.mark.parametrize(
    ("status", "told"),
    [(401, "The worker asks for its token anew: reload the page"), (500, "The worker answers with an error (500)")],
)
async def test_a_worker_that_refuses_is_not_said_to_be_gone(browser: Browser, server: Server, status: int, told: str):
    page = await (await browser.new_context()).new_page()
    await page.goto(server.url)
    await page.route("**/?part=live", lambda route: route.fulfill(status=status, body=""))
    await page.wait_for_selector(f"#summary >> text={told}", timeout=40_000)
    await page.context.close()


async def test_lookup_leads_to_a_ticket_and_on_to_its_round_by_keyboard_alone(page: Page):
    await page.keyboard.press("Tab")
    assert await page.evaluate("document.activeElement.textContent") == "Skip to the content"
    for _ in range(10):
        await page.keyboard.press("Tab")
        if await page.evaluate("document.activeElement.id") == "ticket-id":
            break
    await page.keyboard.type("102")
    await page.keyboard.press("Enter")
    await page.wait_for_selector("h1 >> text=Ticket 102")
    assert "status is open" in await page.inner_text("main")
    await page.focus("text=This round on a page of its own")
    await page.keyboard.press("Enter")
    await page.wait_for_selector("h1 >> text=Round of ticket 102")
    assert "remind (wait 1m)" in await page.inner_text("main")


@pytest.mark.parametrize("path", ["", "tickets?id=102", "tickets?id=nobody"])
async def test_it_fits_a_phone_whatever_is_written(browser: Browser, server: Server, desk: Desk, path: str):
    desk.session("9" * 60, "active", -2.0)
    desk.session("9" * 60, "inactive", -1.0, "x" * 80)
    context = await browser.new_context(viewport={"width": 360, "height": 740}, has_touch=True, is_mobile=True)
    page = await context.new_page()
    await page.goto(server.url + path)
    assert await page.evaluate("document.documentElement.scrollWidth") == 360
    cut_off = (
        "[...document.querySelectorAll('.fired td, .fired th')].filter(e => e.getBoundingClientRect().right > 360)"
    )
    assert await page.evaluate(f"{cut_off}.length") == 0, "who fired and what came of it is seen without scrolling"
    small = await page.evaluate(
        "[...document.querySelectorAll('button, input')].filter(e => e.offsetHeight && e.offsetHeight < 32).length"
    )
    assert small == 0, "fingers are not pointers"
    await context.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_text_can_be_read_in_the_light_and_in_the_dark(browser: Browser, server: Server, scheme: str):
    """WCAG AA: 4.5 to 1 between every text and what is behind it."""
    context = await browser.new_context(color_scheme=scheme)  # type: ignore[arg-type]
    page = await context.new_page()
    await page.goto(server.url)
    weak = await page.evaluate(
        """() => {
          const rgb = (text) => text.match(/[0-9.]+/g).map(Number);
          const light = ([r, g, b]) => [r, g, b]
            .map((c) => c / 255).map((c) => (c <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4))
            .reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0);
          const behind = (e) => {
            for (; e; e = e.parentElement) {
              const colour = rgb(getComputedStyle(e).backgroundColor);
              if (colour.length === 3 || colour[3] > 0) return colour;
            }
            return [255, 255, 255];
          };
          const found = [];
          for (const e of document.querySelectorAll("body *")) {
            if (![...e.childNodes].some((n) => n.nodeType === 3 && n.data.trim())) continue;
            if (!e.getClientRects().length || e.closest("noscript")) continue;
            const style = getComputedStyle(e);
            const text = light(rgb(e.closest("svg") ? style.fill : style.color));
            const ground = light(behind(e.closest("svg")?.parentElement ?? e));
            const ratio = (Math.max(text, ground) + 0.05) / (Math.min(text, ground) + 0.05);
            if (ratio < 4.5) found.push(`${e.nodeName} ${e.textContent.trim().slice(0, 30)} ${ratio.toFixed(2)}`);
          }
          return found;
        }"""
    )
    assert weak == []
    await context.close()


async def test_without_its_script_the_page_says_so_and_shows_the_same(browser: Browser, server: Server):
    context = await browser.new_context(java_script_enabled=False)
    page = await context.new_page()
    await page.goto(server.url)
    assert "Scripts are off: reload the page to see newer figures." in await page.content()
    assert await page.is_visible("#fired ~ table >> text=104")
    await context.close()
