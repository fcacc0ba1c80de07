"""HTTP: what is answered, by which route, without a database in sight."""

import asyncio
import base64
import gzip
import hashlib
import re
import threading
import time
from datetime import timedelta
from pathlib import Path

import pytest
from aiohttp.test_utils import TestClient, TestServer
from conftest import TOUR, a_pipeline

from exporter.config.read import load_and_show
from exporter.model.fault import Fault
from exporter.model.judging import Readings
from exporter.present.exposition import OPENMETRICS_TYPE, TEXT_TYPE
from exporter.present.report.document import read_document
from exporter.serve.listen import Address, parse_address
from exporter.serve.pages import FRESH_SECONDS, WAITING, Pages
from exporter.serve.web import application
from exporter.state.board import Latest, PipelineStatus
from exporter.state.judge import Judgement
from exporter.state.snapshot import Collection, Snapshot
from exporter.text.times import elapsed


def a_latest(*collections: Collection) -> Latest:
    latest = Latest([PipelineStatus(a_pipeline("assess<ments"), max_age=300)], now=1.0)
    for collection in collections:
        latest.publish(latest.board.statuses["assess<ments"].after(collection, now=0.0))
    return latest


SUCCESS = Collection(
    Snapshot(Readings(a_pipeline("assess<ments"), 1.0, {}), {}, {}, (), {}, Judgement((), ())), None, 0.1, 2.0
)
FAILURE = Collection(None, Fault("connect", "connection refused"), 0.1, 2.0)


def a_client(latest: Latest) -> TestClient:  # type: ignore[type-arg]
    # Without this the client asks for gzip by itself.
    plain = {"Accept-Encoding": "identity"}
    return TestClient(TestServer(application(latest)), auto_decompress=False, headers=plain)


async def test_metrics_in_text_for_people_and_in_openmetrics_for_who_asks() -> None:
    async with a_client(a_latest(SUCCESS)) as client:
        text = await client.get("/metrics")
        openmetrics = await client.get("/metrics", headers={"Accept": "application/openmetrics-text;version=1.0.0"})

        assert text.headers["Content-Type"] == TEXT_TYPE
        assert openmetrics.headers["Content-Type"] == OPENMETRICS_TYPE
        assert (await openmetrics.text()).endswith("# EOF\n")
        assert "# EOF" not in await text.text()


async def test_gzip_for_who_takes_it_and_plain_for_who_does_not() -> None:
    async with a_client(a_latest(SUCCESS)) as client:
        plain = await client.get("/metrics")
        packed = await client.get("/metrics", headers={"Accept-Encoding": "gzip"})

        assert "Content-Encoding" not in plain.headers
        assert packed.headers["Content-Encoding"] == "gzip"
        own = re.compile(rb"^process_.*$", re.MULTILINE)
        body = gzip.decompress(await packed.read())
        assert own.sub(b"", body) == own.sub(b"", await plain.read())
        assert len(own.findall(body)) >= 6
        assert packed.headers["Vary"] == "Accept, Accept-Encoding"


async def test_alive_at_once_and_ready_after_the_first_round_well_or_not() -> None:
    latest = a_latest()
    async with a_client(latest) as client:
        assert (await client.get("/-/healthy")).status == 200
        assert (await client.get("/-/ready")).status == 503

        latest.publish(latest.board.statuses["assess<ments"].after(FAILURE, now=0.0))

        assert (await client.get("/-/ready")).status == 200

        # Another config begins, and must not take us out of service: there is something to scrape.
        latest.reloaded([PipelineStatus(a_pipeline("assess<ments"), max_age=300)], now=3.0)

        assert (await client.get("/-/ready")).status == 200


@pytest.mark.parametrize(
    "path", ["/", "/metrics", "/report.md", "/report.json", "/report.html", "/-/healthy", "/-/ready"]
)
async def test_head_is_answered_as_get(path: str) -> None:
    async with a_client(a_latest(SUCCESS)) as client:
        assert (await client.head(path)).status == 200


@pytest.mark.parametrize("path", ["/nothing", "/-/", "/metrics/"])
async def test_other_paths_are_not_found(path: str) -> None:
    async with a_client(a_latest(SUCCESS)) as client:
        response = await client.get(path)

        assert response.status == 404
        assert response.headers["X-Content-Type-Options"] == "nosniff"


async def test_reloading_over_http_must_be_allowed() -> None:
    async with a_client(a_latest(SUCCESS)) as client:
        response = await client.post("/-/reload")

        assert response.status == 403
        assert "--web.enable-lifecycle" in await response.text()


async def test_a_reload_says_whether_the_config_could_be_used() -> None:
    answers: list[Exception | None] = [None, ValueError("/etc/secret.yaml: 1 problem")]

    async def reload() -> Exception | None:
        return answers.pop(0)

    app = application(a_latest(SUCCESS), reload=reload)
    async with TestClient(TestServer(app)) as client:
        assert (await client.get("/-/reload")).status == 405
        assert (await client.post("/-/reload")).status == 200

        refused = await client.put("/-/reload")

        assert refused.status == 500
        assert await refused.text() == "The config was not reloaded: see the exporter's log.\n"


@pytest.mark.parametrize(
    "headers", [{"Origin": "https://evil.example"}, {"Origin": "null"}, {"Sec-Fetch-Site": "cross-site"}]
)
async def test_a_page_of_another_site_reloads_nothing(headers: dict[str, str]) -> None:
    async def reload() -> Exception | None:
        pytest.fail("reloaded")

    async with TestClient(TestServer(application(a_latest(SUCCESS), reload=reload))) as client:
        refused = await client.post("/-/reload", headers=headers)

        assert refused.status == 403
        assert "another site" in await refused.text()


async def test_many_requests_for_a_page_are_one_rendering(monkeypatch: pytest.MonkeyPatch) -> None:
    rendered: list[str] = []

    def slowly(form: str, *_: object) -> str:
        rendered.append(form)
        time.sleep(0.3)
        return "a report"

    monkeypatch.setattr("exporter.serve.web.report_as", slowly)
    async with a_client(a_latest(SUCCESS)) as client:
        answers = await asyncio.gather(*(client.get("/report.md") for _ in range(100)), client.get("/metrics"))

        assert rendered == ["markdown"]
        assert answers[-1].status == 200
        assert {answer.status for answer in answers} == {200, 503}
        assert sum(answer.status == 200 for answer in answers) == WAITING + 1
        assert next(answer for answer in answers if answer.status == 503).headers["Retry-After"] == "1"


async def test_a_slow_page_is_not_rendered_twice_at_once() -> None:
    pages, release, begun = Pages(), threading.Event(), []

    def slowly() -> bytes:
        begun.append(1)
        release.wait()
        return b"a page"

    waiting = [asyncio.create_task(pages.get("page", about, slowly)) for about in ("before", "after")]
    await asyncio.sleep(FRESH_SECONDS * 1.1)
    waiting.append(asyncio.create_task(pages.get("page", "before", slowly)))
    await asyncio.sleep(0.1)
    release.set()

    assert await asyncio.gather(*waiting) == [b"a page"] * 3
    assert len(begun) == 1


async def test_a_page_that_cannot_be_rendered_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    results: list[str | Exception] = [ValueError("a bug"), "a report"]

    def report(*_: object) -> str:
        result = results.pop(0)
        if isinstance(result, Exception):
            raise result
        return result

    monkeypatch.setattr("exporter.serve.web.report_as", report)
    async with a_client(a_latest(SUCCESS)) as client:
        assert (await client.get("/report.md")).status == 500
        assert await (await client.get("/report.md")).text() == "a report"


async def test_the_config_in_force_is_shown_without_secrets(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    text = TOUR.read_text().replace("${DATABASE_URL}", "${DATABASE_URL:-postgresql://u:geheim@host/db}")
    path.write_text(text.replace("# password_file: /run/secrets/password", "password_file: /run/secrets/password"))
    loaded = load_and_show(path, {"DATABASE_URL": "postgresql://x:verborgen@server/db"})
    async with TestClient(TestServer(application(a_latest(SUCCESS), lambda: loaded.shown))) as client:
        answer = await client.get("/config")
        shown = await answer.text()

    assert answer.content_type == "text/plain"
    assert not any(secret in shown for secret in ("geheim", "verborgen", "/run/secrets", "server/db", "host/db"))
    assert "url: <secret>" in shown
    assert "eligible: status = 'completed' and completed_questions > 0" in shown
    assert "#" not in shown


def test_a_variable_is_shown_by_its_name(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(TOUR.read_text())

    assert "url: ${DATABASE_URL}\n" in load_and_show(path, {"DATABASE_URL": "postgresql://x:verborgen@server/db"}).shown


async def test_only_reading_is_allowed() -> None:
    async with a_client(a_latest(SUCCESS)) as client:
        assert (await client.post("/metrics")).status == 405


async def test_the_page_escapes_names_and_says_what_failed() -> None:
    async with a_client(a_latest(FAILURE)) as client:
        response = await client.get("/")
        text = await response.text()

        assert response.headers["Content-Type"] == "text/html; charset=utf-8"
        assert '<article id="pipeline-assess&lt;ments" aria-label="assess&lt;ments">' in text
        assert "assess<ments" not in text
        assert "the last collection failed" in text
        assert "connection refused" in text


async def test_nothing_is_run_or_loaded_and_only_our_style_is_applied() -> None:
    async with a_client(a_latest(SUCCESS)) as client:
        for path in ("/", "/report.html"):
            response = await client.get(path)
            [style] = re.findall(r"(?s)<style>(.*?)</style>", await response.text())
            allowed = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()

            assert response.headers["Content-Security-Policy"].split("; ") == [
                "default-src 'none'",
                f"style-src 'sha256-{allowed}'",
                "base-uri 'none'",
                "form-action 'none'",
                "frame-ancestors 'none'",
            ]
            assert response.headers["Referrer-Policy"] == "no-referrer"
            assert response.headers["Cache-Control"] == "no-store"


async def test_the_page_refreshes_at_the_shortest_interval_unless_it_is_paused() -> None:
    pipelines = [a_pipeline(name, interval=timedelta(seconds=seconds)) for name, seconds in (("a", 70), ("b", 20))]
    latest = Latest([PipelineStatus(pipeline, max_age=300) for pipeline in pipelines], now=1.0)
    async with a_client(latest) as client:
        assert (await client.get("/")).headers["Refresh"] == "20"
        assert "Refresh" not in (await client.get("/?pause")).headers
        assert "Refresh" not in (await client.get("/report.html")).headers


async def test_the_report_is_served_in_each_of_its_forms_and_packed_for_who_takes_it() -> None:
    latest = a_latest()
    latest.publish(latest.board.statuses["assess<ments"].after(SUCCESS, now=elapsed()))
    async with a_client(latest) as client:
        markdown = await client.get("/report.md")
        document = await client.get("/report.json")
        html = await client.get("/report.html")
        packed = await client.get("/report.html", headers={"Accept-Encoding": "gzip"})

        assert markdown.headers["Content-Type"] == "text/markdown; charset=utf-8"
        assert (await markdown.text()).startswith("# ✅ HEALTHY: no session needs a backfill\n")
        assert document.headers["Content-Type"] == "application/json; charset=utf-8"
        assert read_document(await document.text()).verdict == "healthy"
        assert html.headers["Content-Type"] == "text/html; charset=utf-8"
        assert gzip.decompress(await packed.read()) == await html.read()


async def test_a_browser_finds_the_icon_that_it_asks_for() -> None:
    async with a_client(a_latest(SUCCESS)) as client:
        icon = await client.get("/favicon.ico")

        assert (icon.status, icon.headers["Content-Type"]) == (200, "image/svg+xml")
        assert (await icon.text()).startswith("<svg ")


async def test_what_a_scraper_sends_too_large_is_refused_not_swallowed() -> None:
    async with a_client(a_latest(SUCCESS)) as client:
        assert (await client.get("/metrics", headers={"X-Long": "x" * 100_000})).status == 400


@pytest.mark.parametrize(
    ("text", "address"),
    [
        (":10157", Address(None, 10157)),
        ("127.0.0.1:0", Address("127.0.0.1", 0)),
        ("[::1]:10157", Address("::1", 10157)),
        ("localhost:80", Address("localhost", 80)),
    ],
)
def test_addresses_are_written_as_for_every_exporter(text: str, address: Address) -> None:
    assert parse_address(text) == address


@pytest.mark.parametrize("text", ["10157", "host", "host:", ":x", ":70000", "::1:80", ":-1", ""])
def test_what_is_no_address_says_how_to_write_one(text: str) -> None:
    with pytest.raises(ValueError, match=r"write :10157"):
        parse_address(text)


async def test_the_index_tells_the_verdict_and_forgets_what_is_withdrawn() -> None:
    latest = a_latest(SUCCESS)
    latest.publish(latest.board.statuses["assess<ments"].after(SUCCESS, now=elapsed() - 301))
    async with a_client(latest) as client:
        withdrawn = await (await client.get("/")).text()
        latest.publish(latest.board.statuses["assess<ments"].after(SUCCESS, now=elapsed()))
        fresh = await (await client.get("/")).text()

    assert "<title>? Unknown: the last measurement is older than max_age</title>" in withdrawn
    assert "<title>✓ Healthy: no session needs a backfill</title>" in fresh
