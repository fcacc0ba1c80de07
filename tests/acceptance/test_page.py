"""The page and the report in a real Chromium: read, narrow, dark, without scripts, by whoever cannot see them."""

import asyncio
import json
import os
import re
import tempfile
import time
from collections.abc import Callable, Coroutine, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from threading import Thread
from typing import Any, Literal, TypeVar

import asyncpg
import pytest
from aiohttp import web
from axe_playwright_python.base import AXE_SCRIPT  # type: ignore[import-untyped]
from conftest import TOUR, plan_of
from playwright.sync_api import Browser, Page, sync_playwright
from processes import Page as Metrics
from tools import find_tool
from waiting import at_most

from exporter.demo.scenarios import SCENARIOS, SCHEMA
from exporter.dimensions import DIMENSIONS
from exporter.embedded import EmbeddedPostgres
from exporter.measure.collect import collect
from exporter.measure.supervise import initial_status, measure
from exporter.model.fault import Fault
from exporter.model.metric import LABEL_LENGTH
from exporter.model.standing import VERDICTS
from exporter.present.report.account import report_on
from exporter.present.report.html import as_html
from exporter.present.report.links import Links
from exporter.serve.web import application
from exporter.state.board import Latest, PipelineStatus
from exporter.state.snapshot import Collection
from exporter.text.terminal import printable

T = TypeVar("T")

ARGUMENTS = (
    "--no-sandbox",  # as root there is none
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
WIDTHS = (1400, 360)
SCHEMES: tuple[Literal["light", "dark"], ...] = ("light", "dark")
HEIGHT = 1480
INTERVAL = 30.0
PICTURES = os.environ.get("SESSION_HEALTH_PICTURES")
"""A folder for what was seen: so the pictures in docs/pictures are made."""

HOSTILE = (
    "<script>document.title = 'owned'</script>",
    "<img src=x onerror=alert(1)>",
    "</style><style>body{display:none}</style>",
    '" onmouseover="alert(1)',
    "{{ 7 * 7 }}{% raw %}",
    "&lt;b&gt; `code` **bold** \\*",
    "\x1b[31mred\x7f",
    "\u202eright to left",
    "x" * 300,
)


@dataclass(frozen=True)
class Rounds:
    """What was once measured of the sample platform in each of its states, and its empty status."""

    initial_status: PipelineStatus
    collections: dict[str, Collection]

    def status(self, *names: str, ago: float = INTERVAL / 2) -> PipelineStatus:
        """After these rounds, an interval apart, of which the last ended so many seconds ago."""
        status = self.initial_status
        for number, name in enumerate(names, start=1):
            before = ago + (len(names) - number) * INTERVAL
            collection = replace(self.collections[name], ended_at=time.time() - before)
            status = status.after(collection, time.monotonic() - before)
        return replace(status, due=time.time() + INTERVAL - ago)


@pytest.fixture(scope="module")
def rounds(server: EmbeddedPostgres) -> Rounds:
    return asyncio.run(_rounds(server))


async def _rounds(server: EmbeddedPostgres) -> Rounds:
    admin = await asyncpg.connect(server.dsn())
    await admin.execute("create database page")
    dsn = server.dsn("page")
    plan = plan_of(TOUR.read_text(), dsn)
    collections = {"failed": Collection(None, Fault("connect", "refused: is the server running?"), 0.1, 0.0)}
    for name, spoil in (
        ("healthy", ""),
        ("unhealthy", ""),
        ("degraded", ""),
        ("no_data", "truncate assessment_sessions, profiles, fc_scores"),
        ("unknown", "drop table fc_scores"),
        ("hostile", ""),
    ):
        connection = await asyncpg.connect(dsn)
        await connection.execute("drop schema public cascade; create schema public")
        await connection.execute(SCHEMA)
        scenario = {"unhealthy": "backfill", "degraded": "drift"}.get(name, "healthy")
        await connection.execute(SCENARIOS[scenario].sql + spoil)
        for number, text in enumerate(HOSTILE if name == "hostile" else ()):
            await connection.execute(
                "insert into assessment_sessions (id, status, created_at) values (gen_random_uuid(), $1, now())", text
            )
            await connection.execute(
                "update fc_scores set version = $1 where session_id = md5('session ' || $2::text)::uuid",
                text,
                str(number + 1),
            )
        collections[name] = await measure(plan, collect)
        await connection.close()
    await admin.execute("drop database page with (force)")
    await admin.close()
    return Rounds(initial_status(plan, 300), collections)


class Site:
    """The web server in a thread of its own, on a board that a test sets."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = Thread(target=self._loop.run_forever)
        self._thread.start()
        self._opened: list[web.AppRunner] = []

    def serve(self, *statuses: PipelineStatus, links: Links | None = None) -> tuple[str, Latest]:
        """Serve these; the address, and the cell to publish more in."""
        return self._do(self._serve(statuses, links))

    async def _serve(self, statuses: Sequence[PipelineStatus], links: Links | None) -> tuple[str, Latest]:
        latest = Latest(statuses, now=time.time())
        runner = web.AppRunner(application(latest, links=links))
        await runner.setup()
        self._opened.append(runner)
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        return f"http://127.0.0.1:{runner.addresses[0][1]}/", latest

    def _do(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(10)

    def close(self) -> None:
        for runner in self._opened:
            self._do(runner.cleanup())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    opened = Site()
    yield opened
    opened.close()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    chromium = find_tool("chromium")
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=chromium, args=list(ARGUMENTS))
        yield opened
        opened.close()


@dataclass
class View:
    """A tab, with all that it asked for and complained about."""

    page: Page
    requests: list[str] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)

    @property
    def text(self) -> str:
        """What is read, without line ends."""
        return " ".join(self.page.inner_text("body").split())

    @property
    def width(self) -> int:
        """How wide its content is."""
        return int(self.page.evaluate("document.documentElement.scrollWidth"))

    @property
    def height(self) -> int:
        """How high its content is."""
        return int(self.page.evaluate("document.documentElement.scrollHeight"))

    def unfold(self) -> None:
        """Open all that is folded."""
        self.page.evaluate("document.querySelectorAll('details').forEach(one => { one.open = true })")

    def become(self, width: int, scheme: Literal["light", "dark"]) -> None:
        """Change the window."""
        self.page.set_viewport_size({"width": width, "height": HEIGHT})
        self.page.emulate_media(color_scheme=scheme)

    def violations(self) -> list[str]:
        """What axe-core has against it, https://github.com/dequelabs/axe-core/blob/develop/doc/rule-descriptions.md."""
        self.page.evaluate(AXE_SCRIPT)
        found = self.page.evaluate("axe.run({resultTypes: ['violations']})")
        return [f"{v['id']}: {json.dumps([n['html'][:120] for n in v['nodes'][:3]])}" for v in found["violations"]]


Open = Callable[..., View]


@pytest.fixture
def open_page(browser: Browser) -> Iterator[Open]:
    """Opens an address in a window of some width; axe-core needs scripts, the page does not."""
    contexts = []

    def opened(url: str, width: int = 1400, *, scripts: bool = False) -> View:
        context = browser.new_context(viewport={"width": width, "height": HEIGHT}, java_script_enabled=scripts)
        contexts.append(context)
        view = View(context.new_page())
        view.page.on("request", lambda request: view.requests.append(request.url))
        view.page.on("console", lambda message: view.complaints.append(message.text))
        view.page.on("pageerror", lambda error: view.complaints.append(str(error)))
        view.page.on("dialog", lambda dialog: view.complaints.append(dialog.message))
        view.page.goto(url)
        return view

    yield opened
    for context in contexts:
        context.close()


def in_every_verdict(rounds: Rounds) -> dict[str, PipelineStatus]:
    before = ["healthy"] * 50 + ["failed"] * 4 + ["unhealthy"] * 12 + ["healthy"] * 40
    return {verdict: rounds.status(*before, *[verdict] * 24) for verdict in VERDICTS}


# --- Seen


@pytest.mark.parametrize("verdict", VERDICTS)
def test_in_each_verdict_anybody_can_read_it_on_any_screen(
    rounds: Rounds, site: Site, open_page: Open, verdict: str
) -> None:
    links = Links("https://wiki.example", "https://grafana.example")
    url, _ = site.serve(in_every_verdict(rounds)[verdict], links=links)
    view = open_page(url)
    for scheme in SCHEMES:
        for width in WIDTHS:
            view.become(width, scheme)

            assert view.page.inner_text("h1 .verdict").lower().replace(" ", "_") == verdict
            assert view.width <= width, "it scrolls sideways"
            assert view.page.locator("h1").evaluate("e => e.getBoundingClientRect().bottom") < 500, "not at a glance"
            if PICTURES:
                view.page.screenshot(path=Path(PICTURES) / f"page-{verdict}-{width}-{scheme}.png")
    assert (view.requests, view.complaints) == ([url], [])
    assert view.page.locator("script").count() == 0

    audited = open_page(url, scripts=True)
    for scheme, width in zip(SCHEMES, WIDTHS, strict=True):
        audited.become(width, scheme)
        assert audited.violations() == []


def test_several_pipelines_fit_a_phone_and_have_one_list(rounds: Rounds, site: Site, open_page: Open) -> None:
    statuses = []
    for verdict, status in in_every_verdict(rounds).items():
        config = status.config.model_copy(update={"name": f"{verdict}-and-of-a-long-name-indeed"})
        statuses.append(replace(status, config=config))
    url, _ = site.serve(*statuses)

    view = open_page(url, 360, scripts=True)

    rows = view.page.locator(".glance tbody tr").all_inner_texts()
    assert [row.split("-")[0] for row in rows] == ["unhealthy", "unknown", "degraded", "no_data"]
    assert view.page.locator(".fine > summary").inner_text() == "1 healthy pipeline"
    assert view.width <= 360
    assert view.violations() == []
    view.unfold()
    assert view.width <= 360
    assert view.violations() == []


def many(rounds: Rounds, count: int = 30) -> list[PipelineStatus]:
    """Pipelines with the longest names, two of them unhealthy, one that never breaks in its name."""
    found = []
    for number in range(count):
        status = rounds.status(*["healthy"] * 9, *["unhealthy" if number in (4, 17) else "healthy"] * 3)
        name = f"p{number:02d}" + ("x" * 37 if number == 17 else "-of-a-name-as-long-as-a-name-may-be-in")[:37]
        found.append(replace(status, config=status.config.model_copy(update={"name": name})))
    return found


def test_thirty_pipelines_fit_a_few_screens_with_the_unhealthy_on_top(
    rounds: Rounds, site: Site, open_page: Open
) -> None:
    statuses = many(rounds)
    assert {len(status.pipeline) for status in statuses} == {40}
    view = open_page(site.serve(*statuses)[0])

    assert view.height <= 3000
    assert view.page.title() == "✕ 2 unhealthy, 28 healthy"
    assert view.page.inner_text("h1 .headline") == "2 unhealthy, 28 healthy"
    assert [row[:3] for row in view.page.locator(".glance tbody th").all_inner_texts()] == ["p04", "p17"]
    opened = [one.inner_text()[:3] for one in view.page.locator(".pipeline[open] > summary h2").all()]
    assert opened == ["p04", "p17"]
    assert not view.page.locator(".fine .pipeline").first.is_visible()
    if PICTURES:
        view.page.screenshot(path=Path(PICTURES) / "page-thirty-1400-light.png", full_page=True)
    view.become(360, "light")
    assert view.width <= 360
    # What a link on top leads to unfolds.
    healthy = statuses[0].pipeline
    view.page.goto(f"{view.page.url}#pipeline-{healthy}")
    assert view.page.locator(f"#pipeline-{healthy} .summary").is_visible()


def test_on_paper_nothing_is_folded(rounds: Rounds, site: Site, open_page: Open) -> None:
    view = open_page(site.serve(rounds.status("healthy"))[0])
    numbers = view.page.locator(".lines").first
    assert not numbers.is_visible()

    view.page.emulate_media(media="print")

    assert numbers.is_visible()


def test_a_click_selects_a_command_and_no_command_is_cut(rounds: Rounds, site: Site, open_page: Open) -> None:
    view = open_page(site.serve(rounds.status("unhealthy"))[0], 360)
    command = view.page.locator(".command").first

    command.click()

    selected = view.page.evaluate("getSelection().toString().trim()")
    assert selected == "session-health-exporter gaps --pipeline assessments --config.file config.yaml"
    assert command.evaluate("e => e.scrollWidth <= e.clientWidth")
    words = command.locator("span")
    assert {words.nth(place).evaluate("e => e.getClientRects().length") for place in range(words.count())} == {1}


def test_the_verdict_says_for_how_long(rounds: Rounds, site: Site, open_page: Open) -> None:
    lasting = open_page(site.serve(rounds.status(*["healthy"] * 5, *["unhealthy"] * 9))[0])
    always = open_page(site.serve(rounds.status(*["unhealthy"] * 9))[0])

    assert "Unhealthy for 4 minutes, since 20" in lasting.text
    assert "Unhealthy for 4 minutes or longer, since 20" in always.text


def test_unknown_looks_like_nothing_else(rounds: Rounds, site: Site, open_page: Open) -> None:
    """The frame is hatched, and so is every bar: by a pattern, for whoever sees no colours."""
    seen = {}
    for verdict, status in in_every_verdict(rounds).items():
        view = open_page(site.serve(status)[0])
        frame = view.page.locator(".hero").evaluate("e => getComputedStyle(e).borderImageSource")
        seen[verdict] = ("repeating" in frame, view.page.locator(".stack .hatched").count() > 0)

    assert seen == {verdict: (verdict == "unknown", verdict == "unknown") for verdict in VERDICTS}


def test_the_keyboard_reaches_every_link_and_shows_where_it_is(rounds: Rounds, site: Site, open_page: Open) -> None:
    view = open_page(site.serve(rounds.status("unhealthy"))[0])
    wanted = view.page.locator("a[href], summary").count()

    reached = set()
    for _ in range(wanted):
        view.page.keyboard.press("Tab")
        element, outline = view.page.evaluate(
            "() => [document.activeElement.outerHTML, getComputedStyle(document.activeElement).outlineStyle]"
        )
        assert outline != "none", element
        reached.add(element)

    assert len(reached) == wanted


# --- Said


def test_every_number_is_that_of_metrics(rounds: Rounds, site: Site, open_page: Open) -> None:
    url, _ = site.serve(rounds.status("healthy", "unhealthy"))
    view = open_page(url)
    view.unfold()
    metrics = Metrics(view.page.request.get(url + "metrics").text())

    legends = {
        figure.locator("figcaption").inner_text(): dict(
            re.findall(r"([a-z ]+?) (\d+)/157", " ".join(figure.locator(".legend").inner_text().split()))
        )
        for figure in view.page.locator(".breakdown").all()
    }
    for caption, labels, name in (
        ("Sessions analysed 157", {}, "eligible_sessions"),
        ("Sessions by the state of profiles 157", {"record": "profiles"}, "record_sessions"),
        ("Sessions by the state of fc_scores 157", {"record": "fc_scores"}, "record_sessions"),
    ):
        told = {state.strip(): float(count) for state, count in legends[caption].items()}
        assert told == {state: metrics(name, state=state.replace(" ", "_"), **labels) for state in told}
        assert sum(told.values()) == 157
    trend = view.page.locator(".trend p > b").all_inner_texts()
    assert [float(number) for number in trend] == [
        metrics("eligible_sessions", state="gap"),
        metrics("eligible_sessions", state="complete"),
    ]
    versions = (
        view.page.locator(".lines tbody tr").filter(has_text=re.compile(r"\((current|other)\)")).all_inner_texts()
    )
    assert [re.findall(r"(v\S+) \((\w+)\)\s+(\S+)", text) for text in versions] == [
        [("v1.2.1", "current", "144/157")],
        [("v1.2", "current", "118/157")],
        [("v1.1", "other", "11/157")],
    ]
    assert metrics("record_version_sessions", record="fc_scores", version="v1.1", **{"class": "other"}) == 11


def test_whatever_the_database_holds_is_text(rounds: Rounds, site: Site, open_page: Open) -> None:
    url, _ = site.serve(rounds.status("hostile"))

    for path in ("", "report.html"):
        view = open_page(url + path, 360)
        view.unfold()
        text = view.page.inner_text("body")

        for hostile in HOSTILE:
            assert " ".join(printable(hostile[:LABEL_LENGTH]).split()) in " ".join(text.split())
        assert view.width <= 360
        assert view.page.locator("script, img, iframe, [onmouseover], [onerror]").count() == 0
        assert view.page.locator("style").count() == 1
        assert "owned" not in view.page.title()
        assert (view.requests, view.complaints) == ([url + path], [])


def test_it_shows_by_itself_what_is_new(rounds: Rounds, site: Site, open_page: Open) -> None:
    config = rounds.initial_status.config.model_copy(update={"interval": timedelta(seconds=1)})
    begun = replace(rounds, initial_status=replace(rounds.initial_status, config=config))
    url, latest = site.serve(begun.status("healthy"))
    view = open_page(url)
    paused = open_page(url + "?pause")
    assert "The trend needs two collections" in view.text

    latest.publish(begun.status("healthy", "unhealthy"))
    view.page.wait_for_selector(".hero-unhealthy", timeout=at_most(10_000))

    assert view.page.locator(".trend .curve").count() == 2
    assert paused.page.locator(".hero-healthy").count() == 1
    assert set(view.requests) == {url}


def test_the_trend_is_drawn_and_told(rounds: Rounds, site: Site, open_page: Open) -> None:
    names = ["healthy"] * 10 + ["failed"] * 3 + ["unhealthy"] * 10
    view = open_page(site.serve(rounds.status(*names))[0])

    plot = view.page.locator(".plot").first
    assert plot.locator(".curve").count() == 2, "an outage breaks the line"
    assert "least 0, most 39, at the end 39." in (plot.locator("desc").text_content() or "")
    strip = view.page.locator(".strip")
    assert strip.locator("title").text_content() == "Verdicts over time: healthy, then unknown, then unhealthy"
    boxes = [strip.locator("rect").nth(place).bounding_box() for place in range(3)]
    widths = [box["width"] for box in boxes if box]
    assert widths[1] < widths[0] / 2
    assert widths[0] == pytest.approx(widths[2], rel=0.1)


# --- The report as one file


def test_the_report_is_one_file_that_needs_nothing_else(rounds: Rounds, open_page: Open) -> None:
    report = report_on([rounds.status("unhealthy")], DIMENSIONS, time.time())
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "report.html"
        file.write_text(as_html(report), encoding="utf-8")
        view = open_page(file.as_uri(), scripts=True)
        for scheme, width in zip(SCHEMES, WIDTHS, strict=True):
            view.become(width, scheme)

            assert view.width <= width
            assert view.violations() == []
        assert (view.requests, view.complaints) == ([file.as_uri()], [])
        # On paper it is dark on white, whatever the screen.
        view.page.emulate_media(media="print")
        ink = view.page.locator("body").evaluate("e => getComputedStyle(e).color")
        assert max(map(int, re.findall(r"\d+", ink)[:3])) < 80
        assert view.page.pdf(format="A4")[:5] == b"%PDF-"
