"""`serve` as a process: what it says while all is well, and while something is broken."""

import asyncio
import json
import os
import re
import signal
import socket
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import urlsplit

import asyncpg
import pytest
from conftest import SERVED, Database, NewDatabase
from processes import ANY_PORT, OPENMETRICS, Exporter, Page, environment, family
from prometheus_client.parser import text_string_to_metric_families as parse_text
from waiting import START_SECONDS, at_most

from exporter.demo.scenarios import SCENARIOS, SCHEMA
from exporter.embedded import EmbeddedPostgres
from exporter.model.fault import REASONS
from exporter.state.snapshot import RESULTS

MAX_AGE = 1.5
STOP_SECONDS = 2.0
SCRAPE_SECONDS = 0.5
"""How long /metrics may take, whatever the database does."""

COMPLETION = "completed_at: completed_at\n"
RUNNING = """
select count(*) from pg_stat_activity where application_name = 'session-health-exporter' and state = 'active'
"""


def config(folder: Path, *changes: tuple[str, str], text: str = SERVED) -> Path:
    """The tour with short intervals, and with other changes to its text."""
    for old, new in (
        ("interval: 30s", "interval: 150ms"),
        ("max_age: 5m", "max_age: 1500ms"),
        ("duty: 5%", "duty: 50%"),
        *changes,
    ):
        assert old in text, old
        text = text.replace(old, new)
    path = folder / "config.yaml"
    path.write_text(text)
    return path


def valid(sql: str) -> tuple[str, str]:
    """A change of the tour: what makes a row of fc_scores valid."""
    return "# valid: blocks_answered > 0", f"valid: {sql}"


def eligible(sql: str) -> tuple[str, str]:
    """A change of the tour: what makes a session eligible."""
    return "eligible: status = 'completed' and completed_questions > 0", f"eligible: {sql}"


def serve(path: Path, dsn: str, *arguments: str) -> Exporter:
    return Exporter("serve", "--config.file", str(path), *ANY_PORT, *arguments, environ=environment(DATABASE_URL=dsn))


@asynccontextmanager
async def locked(database: Database, table: str) -> AsyncIterator[None]:
    """Somebody alters the table and does not finish."""
    connection = await asyncpg.connect(database.dsn)
    try:
        async with connection.transaction():
            await connection.execute(f"lock table {table} in access exclusive mode")
            yield
    finally:
        await connection.close()


async def running(database: Database) -> int:
    """How many statements of the exporter the server works on."""
    return int(await database.connection.fetchval(RUNNING))


async def when_running(database: Database) -> None:
    deadline = time.monotonic() + at_most(10)
    while not await running(database):
        assert time.monotonic() < deadline, "no statement of the exporter was seen"
        await asyncio.sleep(0.02)


# --- What it serves


@pytest.fixture
def config_path(tmp_path: Path) -> Path:
    return config(tmp_path)


async def test_it_lives_at_once_and_is_ready_after_the_first_round(tables: Database, tmp_path: Path) -> None:
    path = config(tmp_path, ("lock_timeout: 1s", "lock_timeout: 20s"))
    async with locked(tables, "assessment_sessions"):
        with serve(path, tables.dsn) as it:
            assert it.get("/-/healthy").status == 200
            assert it.get("/-/ready").status == 503
            before = it.page()
            assert it.get("/").status == 200

            assert before("up") == 0
            assert {before("record_up", record=record) for record in ("profiles", "fc_scores")} == {0}
            assert {before("collections_total", result=result) for result in RESULTS} == {0}
            assert {before("collection_errors_total", reason=reason) for reason in REASONS} == {0}
            assert "eligible_sessions" not in before.names()
            assert it.end(signal.SIGTERM, STOP_SECONDS) == 0

    with serve(path, tables.dsn) as it:
        await it.measured()
        assert it.get("/-/ready").status == 200


async def test_every_path_answers_as_it_should(backfill: Database, config_path: Path) -> None:
    with serve(config_path, backfill.dsn) as it:
        await it.measured()

        page = it.get("/")
        assert (page.status, page.headers["content-type"]) == (200, "text/html; charset=utf-8")
        assert "assessments" in page.text
        assert it.get("/nonsense").status == 404
        assert it.get("/metrics/").status == 404
        assert it.get("/metrics", method="POST").status == 405
        for where in ("/", "/metrics", "/-/healthy", "/-/ready"):
            head = it.get(where, method="HEAD")
            assert (head.status, head.body) == (200, b"")


async def test_the_page_links_where_it_was_told_and_says_when_the_next_look_is_due(
    backfill: Database, tmp_path: Path
) -> None:
    path = config(tmp_path, ("interval: 150ms", "interval: 60s"), ("max_age: 1500ms", "max_age: 5m"))
    links = ("--web.runbook-url", "https://wiki.example/runbooks/", "--web.dashboard-url", "https://grafana.example")
    with serve(path, backfill.dsn, *links) as it:
        await it.measured()
        page = it.get("/")

    assert "https://wiki.example/runbooks/coverage.md#sessionhealthsessionswithgap" in page.text
    assert "https://grafana.example/d/session-health-overview?var-database=main" in page.text
    assert "39 of 157 sessions need a backfill" in page.text
    assert re.search(r"Next collection in <b>(5\ds|1m)</b>", page.text)
    assert page.headers["refresh"] == "60"


async def test_a_scraper_gets_the_format_and_the_packing_that_it_asks_for(backfill: Database, tmp_path: Path) -> None:
    with serve(config(tmp_path, ("lock_timeout: 1s", "lock_timeout: 50ms")), backfill.dsn) as it:
        await it.measured()
        async with locked(backfill, "assessment_sessions"):  # so that the page stands still
            await it.when(lambda page: page("up") == 0)
            texts = {}
            for accept in ("*/*", OPENMETRICS):
                plain = it.get("/metrics", accept=accept)
                packed = it.get("/metrics", accept=accept, accept_encoding="gzip")
                assert "content-encoding" not in plain.headers
                assert packed.headers["content-encoding"] == "gzip"
                assert len(packed.body) < len(plain.body) / 2
                texts[accept] = plain, packed

    text, openmetrics = texts["*/*"][0], texts[OPENMETRICS][0]
    assert text.headers["content-type"].startswith("text/plain; version=0.0.4")
    assert openmetrics.headers["content-type"].startswith("application/openmetrics-text; version=1.0.0")
    assert openmetrics.text.endswith("# EOF\n")
    pages = [Page(text.text), Page(openmetrics.text, openmetrics=True)]
    ours = [{key: v for key, v in page.series.items() if not key[0].startswith("process_")} for page in pages]
    assert ours[0] == ours[1]
    assert pages[0]("eligible_sessions", state="gap") == 39
    for number, accept in enumerate(texts):
        assert Page(texts[accept][1].text, openmetrics=number == 1).series.keys() == pages[0].series.keys()
    names = [family.name for family in parse_text(text.text)]
    assert len(names) == len(set(names))


async def test_fresh_numbers_replace_the_old_ones(backfill: Database, config_path: Path) -> None:
    with serve(config_path, backfill.dsn) as it:
        assert (await it.measured())("eligible_sessions", state="gap") == 39

        await backfill.execute("update fc_scores set version = 'v1.2'")
        await backfill.execute(
            "insert into profiles select id, 'v1.2.1' from assessment_sessions on conflict do nothing"
        )
        await backfill.execute(
            "insert into fc_scores select id, 'v1.2', 'functions', 30 from assessment_sessions on conflict do nothing"
        )

        page = await it.when(lambda page: page("eligible_sessions", state="gap") == 0)
        assert page("eligible_sessions", state="complete") == 157


# --- What is broken is said, and stays where it is


async def test_a_dropped_record_table_takes_its_own_numbers_with_it_and_no_others(
    backfill: Database, config_path: Path
) -> None:
    with serve(config_path, backfill.dsn) as it:
        whole = await it.measured()

        await backfill.execute("alter table fc_scores rename to away")
        page = await it.when(lambda page: page("up") == 0)

        assert page("record_up", record="fc_scores") == 0
        assert page.names(record="fc_scores") == {"record_up", "limit_level"}
        assert page("limit_level", limit="outdated_sessions", record="fc_scores", check="") == 4
        assert "eligible_sessions" not in page.names()
        assert (page("collection_errors_total", reason="missing_object") or 0) >= 1
        assert page("record_up", record="profiles") == 1
        assert page.names(record="profiles") == whole.names(record="profiles")
        assert page("record_sessions", record="profiles", state="missing") == 13
        assert page("sessions", status="completed") == whole("sessions", status="completed")

        rounds = page("collections_total", result="partial") or 0
        again = await it.when(lambda page: (page("collections_total", result="partial") or 0) >= rounds + 2)
        assert again("collection_errors_total", reason="missing_object") == again("collections_total", result="partial")

        await backfill.execute("alter table away rename to fc_scores")
        page = await it.when(lambda page: page("up") == 1)

        assert page("eligible_sessions", state="gap") == 39
        assert page.names() == whole.names()
        assert len(it.events("collection.failing")) == 1
        assert len(it.events("collection.failing", "record=fc_scores", "reason=missing_object")) == 1
        assert len(it.events("collection.recovered", "record=fc_scores")) == 1


async def watch_withdrawal(it: Exporter) -> None:
    """The last numbers are served until they are max_age old, counted from the start of their collection."""
    page = await it.when(lambda page: page("up") == 0)
    assert page("eligible_sessions", state="gap") == 39
    taken = page("snapshot_timestamp_seconds")
    assert taken is not None
    # Between the start of a collection and its snapshot are the connection and the locks.
    began = taken - at_most(0.3)
    assert {page("record_up", record=record) for record in ("profiles", "fc_scores")} == {0}

    page = await it.when(lambda page: "eligible_sessions" not in page.names())
    assert time.time() >= began + MAX_AGE
    assert page.names() == {
        "verdict",
        "verdict_level",
        "limit",
        "limit_level",
        "limit_min_sessions",
        "max_age_seconds",
        "collection_interval_seconds",
        "up",
        "record_up",
        "last_success_timestamp_seconds",
        "collection_duration_seconds",
        "collections_total",
        "collection_errors_total",
        "config_last_reload_success_timestamp_seconds",
        "config_last_reload_successful",
        "exporter_build_info",
    }
    assert page("up") == 0
    assert page("verdict", verdict="unknown") == 1


async def test_without_the_sessions_the_old_numbers_are_served_until_they_are_too_old(
    backfill: Database, config_path: Path
) -> None:
    with serve(config_path, backfill.dsn) as it:
        await it.measured()

        await backfill.execute("alter table assessment_sessions rename to away")
        await watch_withdrawal(it)

        await backfill.execute("alter table away rename to assessment_sessions")
        page = await it.when(lambda page: page("up") == 1)
        assert page("eligible_sessions", state="gap") == 39
        assert [len(it.events(event)) for event in ("collection.failing", "collection.recovered")] == [1, 1]


@pytest.fixture(scope="module")
def own_server() -> Iterator[EmbeddedPostgres]:
    """A server that may be stopped, with the sample platform in its first database."""

    async def load(dsn: str) -> None:
        connection = await asyncpg.connect(dsn)
        await connection.execute(SCHEMA + SCENARIOS["backfill"].sql)
        await connection.close()

    with EmbeddedPostgres() as started:
        asyncio.run(load(started.dsn()))
        yield started


async def test_an_outage_is_seen_survived_and_said_once(own_server: EmbeddedPostgres, config_path: Path) -> None:
    with serve(config_path, own_server.dsn()) as it:
        await it.measured()

        await asyncio.to_thread(own_server.stop_server)
        await watch_withdrawal(it)
        assert it.get("/-/ready").status == 200
        assert it.get("/-/healthy").status == 200

        await asyncio.to_thread(own_server.start_server)
        page = await it.when(lambda page: page("up") == 1)
        assert page("eligible_sessions", state="gap") == 39
        assert (page("collection_errors_total", reason="connect") or 0) >= 1
        assert len(it.events("collection.failing", "level=ERROR")) == 1
        assert len(it.events("collection.recovered")) == 1


async def test_a_database_that_never_was_there_is_down_and_the_exporter_ready(tmp_path: Path) -> None:
    with serve(config(tmp_path), "postgresql://nobody:geheim@127.0.0.1:1/nowhere") as it:
        page = await it.when(lambda page: page("collection_errors_total", reason="connect"))

        assert page("up") == 0
        assert it.get("/-/ready").status == 200
        assert it.process.poll() is None


async def test_a_dead_database_does_not_touch_the_numbers_of_another(
    backfill: Database, healthy: Database, tmp_path: Path
) -> None:
    text = SERVED
    start = text.index("  assessments:\n")
    second = text[start:].replace("  assessments:\n", "  dead:\n").replace("database: main", "database: other")
    text = (text + second).replace(
        "\ncollection:", f"\n  other: {{url: {backfill.dsn.replace(f':{_port(backfill)}', ':1')}}}\ncollection:"
    )
    with serve(config(tmp_path, text=text), healthy.dsn) as it:
        page = await it.when(lambda page: page("up", pipeline="assessments") == 1 and it.get("/-/ready").status == 200)
        assert page("up", pipeline="dead", database="other") == 0
        assert page("eligible_sessions", pipeline="assessments", state="complete") == 157
        assert page("eligible_sessions", pipeline="dead", state="complete") is None

        await healthy.execute("delete from profiles")
        page = await it.when(lambda page: page("eligible_sessions", pipeline="assessments", state="gap") == 157)
        assert page("collections_total", pipeline="assessments", result="failure") == 0
        assert page("collections_total", pipeline="dead", result="success") == 0


def _port(database: Database) -> int:
    return int(database.dsn.rpartition("/")[0].rpartition(":")[2])


@pytest.mark.parametrize(
    ("lose", "give_back", "reason"),
    [
        ("revoke select on profiles from {role}", "grant select on profiles to {role}", "permission"),
        (
            "alter table profiles enable row level security; create policy some_rows on profiles using (false)",
            "alter table profiles disable row level security",
            "row_security",
        ),
        ("alter role {role} nobypassrls", "alter role {role} bypassrls", "row_security"),
    ],
)
async def test_a_privilege_lost_while_serving_is_seen_within_an_interval_and_so_is_its_return(
    backfill: Database, config_path: Path, lose: str, give_back: str, reason: str
) -> None:
    role = f"reader_{reason}_{len(lose)}"
    await backfill.execute(f"create role {role} login password 'reading' bypassrls")
    await backfill.execute(f"grant select on all tables in schema public to {role}")
    if "alter role" in lose:
        await backfill.execute("alter table profiles enable row level security")
    elif reason == "row_security":
        await backfill.execute(f"alter role {role} nobypassrls")
    parts = urlsplit(backfill.dsn)
    dsn = parts._replace(netloc=f"{role}:reading@{parts.hostname}:{parts.port}").geturl()
    with serve(config_path, dsn) as it:
        await it.measured()
        rounds = it.page()("collections_total", result="success") or 0
        await backfill.execute(lose.format(role=role))

        page = await it.when(lambda page: page("up") == 0)
        # One round may have been under way.
        assert (page("collections_total", result="success") or 0) <= rounds + 1
        assert page("record_up", record="profiles") == 0
        assert page("collection_errors_total", reason=reason)
        assert page("verdict", verdict="healthy") == 0
        assert page("record_sessions", record="profiles", state="current") is None
        assert "eligible_sessions" not in page.names()

        await backfill.execute(give_back.format(role=role))
        page = await it.when(lambda page: page("up") == 1)
        assert page("eligible_sessions", state="gap") == 39
        assert role not in it.log
    await backfill.execute(f"drop owned by {role}; drop role {role}")


async def test_a_rotated_password_needs_no_restart(backfill: Database, tmp_path: Path) -> None:
    secret = tmp_path / "password"
    secret.write_text("first\n")
    await backfill.execute("create role rotating login password 'first'")
    await backfill.execute("grant select on assessment_sessions, profiles, fc_scores to rotating")
    try:
        path = config(tmp_path, ("# password_file: /run/secrets/password", f"password_file: {secret}"))
        dsn = re.sub("//.*@", "//rotating@", backfill.dsn)
        with serve(path, dsn) as it:
            await it.measured()

            await backfill.execute("alter role rotating password 'second'")
            page = await it.when(lambda page: page("up") == 0)
            assert (page("collection_errors_total", reason="authentication") or 0) >= 1

            secret.write_text("second\n")
            await it.when(lambda page: page("up") == 1)
    finally:
        await backfill.execute("drop owned by rotating; drop role rotating")


# --- A request never waits for the database, and the database is never asked twice at once


async def test_a_locked_table_does_not_keep_a_scrape_waiting(backfill: Database, tmp_path: Path) -> None:
    # The numbers of the other record stay, however long this takes on a busy machine.
    path = config(tmp_path, ("lock_timeout: 1s", "lock_timeout: 500ms"), ("max_age: 1500ms", "max_age: 1m"))
    with serve(path, backfill.dsn) as it:
        await it.measured()
        async with locked(backfill, "fc_scores"):
            await when_running(backfill)
            while it.page()("up") == 1:
                assert it.get("/metrics").seconds < at_most(SCRAPE_SECONDS)
                await asyncio.sleep(0.02)
            page = it.page()
            assert (page("collection_errors_total", reason="lock_timeout") or 0) >= 1
            assert page("record_sessions", record="profiles", state="missing") == 13
        await it.when(lambda page: page("up") == 1)


async def test_a_slow_query_keeps_no_scrape_waiting_and_is_never_joined_by_another(
    backfill: Database, tmp_path: Path
) -> None:
    # At every record that is read: a round takes several intervals.
    path = config(tmp_path, valid("pg_sleep(0.005) is not null"))
    with serve(path, backfill.dsn) as it:
        await when_running(backfill)
        rounds, most, seen = 0.0, 0, 0
        async with asyncio.timeout(at_most(START_SECONDS)):
            # One whole round, which takes several intervals, and the beginning of the next.
            while not (rounds and seen):
                answer = it.get("/metrics")
                assert answer.seconds < at_most(SCRAPE_SECONDS)
                rounds = Page(answer.text)("collections_total", result="success") or 0
                seen = await running(backfill)
                most = max(most, seen)
                await asyncio.sleep(0.02)

        assert most == 1
        assert it.page()("eligible_sessions", state="gap") == 39


# --- The end


@pytest.mark.parametrize(
    ("number", "change"),
    [
        (signal.SIGTERM, valid("pg_sleep(30) is not null")),
        (signal.SIGINT, eligible("pg_sleep(30) is not null")),
    ],
    ids=["SIGTERM-valid", "SIGINT-eligible"],
)
async def test_a_signal_ends_it_in_time_and_what_it_runs_on_the_server_too(
    backfill: Database, tmp_path: Path, number: signal.Signals, change: tuple[str, str]
) -> None:
    with serve(config(tmp_path, change), backfill.dsn) as it:
        await when_running(backfill)

        assert it.end(number, STOP_SECONDS) == 0

        assert await running(backfill) == 0
        assert "Traceback" not in it.log


async def test_the_server_ends_the_statement_of_an_exporter_that_was_killed(backfill: Database, tmp_path: Path) -> None:
    with serve(config(tmp_path, valid("pg_sleep(30) is not null")), backfill.dsn) as it:
        await when_running(backfill)

        it.process.kill()

        # The server looks for its client each second.
        deadline = time.monotonic() + at_most(3)
        while await running(backfill) and time.monotonic() < deadline:  # noqa: ASYNC110 - the server tells no event
            await asyncio.sleep(0.05)
        assert await running(backfill) == 0


async def test_a_signal_ends_it_while_it_waits_for_a_lock(backfill: Database, tmp_path: Path) -> None:
    path = config(tmp_path, ("lock_timeout: 1s", "lock_timeout: 30s"))
    async with locked(backfill, "fc_scores"):
        with serve(path, backfill.dsn) as it:
            await when_running(backfill)

            assert it.end(signal.SIGTERM, STOP_SECONDS) == 0

            assert await running(backfill) == 0


async def test_a_signal_ends_it_while_clients_keep_their_connections(backfill: Database, config_path: Path) -> None:
    with serve(config_path, backfill.dsn) as it:
        await it.measured()
        with (
            socket.create_connection(("127.0.0.1", it.port)) as idle,
            socket.create_connection(("127.0.0.1", it.port)) as half,
        ):
            idle.sendall(b"GET /-/healthy HTTP/1.1\r\nHost: x\r\n\r\n")
            assert idle.recv(1000).startswith(b"HTTP/1.1 200")
            half.sendall(b"GET /metrics HT")

            assert it.end(signal.SIGTERM, STOP_SECONDS) == 0


async def test_a_server_that_does_not_answer_is_down_after_the_timeout(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        path = config(tmp_path, ("connect_timeout: 5s", "connect_timeout: 300ms"))
        with serve(path, f"postgresql://x:y@127.0.0.1:{silent.getsockname()[1]}/z") as it:
            page = await it.when(lambda page: page("collection_errors_total", reason="connect"))
            assert page("up") == 0


def test_a_signal_ends_it_while_a_server_does_not_answer(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        silent.settimeout(at_most(START_SECONDS))
        with serve(config(tmp_path), f"postgresql://x:y@127.0.0.1:{silent.getsockname()[1]}/z") as it:
            connection, _ = silent.accept()
            with connection:
                assert it.url
                assert it.end(signal.SIGTERM, STOP_SECONDS) == 0


async def test_a_signal_ends_it_while_the_server_is_frozen(own_server: EmbeddedPostgres, tmp_path: Path) -> None:
    """As when a network swallows everything: the request to cancel is not answered either."""
    connection = await asyncpg.connect(own_server.dsn())
    with serve(config(tmp_path, valid("pg_sleep(3) is not null")), own_server.dsn()) as it:
        await when_running(Database(own_server.dsn(), connection))
        assert own_server.process_id
        frozen = family(own_server.process_id)
        for pid in frozen:
            os.kill(pid, signal.SIGSTOP)
        try:
            assert it.end(signal.SIGTERM, STOP_SECONDS) == 0
            assert "Traceback" not in it.log
        finally:
            for pid in frozen:
                os.kill(pid, signal.SIGCONT)
    await connection.close()


# --- Its log


LOGFMT = re.compile(r'[a-z_]+=(?:"(?:[^"\\]|\\.)*"|[^\s"=]+)(?: [a-z_]+=(?:"(?:[^"\\]|\\.)*"|[^\s"=]+))*')


BROKEN_AND_MENDED = {
    "alter table fc_scores rename to away": "alter table away rename to fc_scores",
    "alter role talkative password 'other'": "alter role talkative password 'Ge heim%1'",
    "revoke select on assessment_sessions from talkative": "grant select on assessment_sessions to talkative",
    "alter role talkative nologin": "alter role talkative login",
}


@pytest.mark.parametrize(("style", "times"), [("logfmt", 4), ("json", 1)])
async def test_every_line_of_the_log_is_well_formed_and_tells_no_secret(
    backfill: Database, tmp_path: Path, style: str, times: int
) -> None:
    await backfill.execute("create role talkative login password 'Ge heim%1'")
    await backfill.execute("grant select on assessment_sessions, profiles, fc_scores to talkative")
    dsn = re.sub("//.*@", "//talkative:Ge%20heim%251@", backfill.dsn)
    arguments = ("--log.format", style, "--log.level", "debug", "--web.listen-address", "0.0.0.0:0")
    try:
        path = config(tmp_path)
        with Exporter("serve", "--config.file", str(path), *arguments, environ=environment(DATABASE_URL=dsn)) as it:
            page = await it.measured()
            for breaking, mending in list(BROKEN_AND_MENDED.items())[:times]:
                await backfill.execute(breaking)
                await it.when(lambda page: page("up") == 0)
                await backfill.execute(mending)
                page = await it.when(lambda page: page("up") == 1)
            assert it.end(signal.SIGTERM, STOP_SECONDS) == 0
            log = it.log
    finally:
        await backfill.execute("drop owned by talkative; drop role talkative")

    lines = log.splitlines()
    for event in ("collection.failing", "collection.recovered"):
        assert len([line for line in lines if event in line]) == times
    for line in lines:
        if style == "json":
            assert {"time", "level", "msg"} <= json.loads(line).keys()
        else:
            assert LOGFMT.fullmatch(line), line
    for secret in ("postgresql:", "heim", "talkative", "127.0.0.1", str(_port(backfill))):
        assert secret not in log
        assert secret not in page.text


# --- Other names


OTHER_NAMES = """
databases:
  main: {url: "${DATABASE_URL}", allow_superuser: true}
collection: {interval: 250ms, max_age: 2s, duty: 50%}
pipelines:
  "2nd_orders":
    window: {since: 2020-01-01}
    grace: 5m
    sessions:
      table: '"My Schema"."Or ders"'
      key: order
      status: select
      started_at: from
      completed_at: to
      eligible: "\\"select\\" = 'done'"
    records:
      invoice-s:
        table: '"My Schema"."table"'
        session_key: user
        created_at: when
        version: {column: group, current: "1.10"}
"""

OTHER_TABLES = """
create schema "My Schema";
create table "My Schema"."Or ders" (
  "order" bigint primary key, "select" text, "from" timestamptz not null, "to" timestamptz
);
create table "My Schema"."table" ("user" bigint, "when" timestamptz, "group" text);
insert into "My Schema"."Or ders"
  select 9000000000 + n, case when n <= 7 then 'done' else 'open' end,
         now() - interval '1 day', now() - interval '1 hour'
  from generate_series(1, 10) n;
insert into "My Schema"."table"
  select 9000000000 + n, now() - interval '1 hour', case when n = 4 then '1.1' else '1.10' end
  from generate_series(1, 4) n;
insert into "My Schema"."table" values (1, now(), '1.10'), (null, now(), '1.10');
"""


async def test_pipelines_over_other_names_are_served_side_by_side(
    backfill: Database, tmp_path: Path, new_database: NewDatabase
) -> None:
    other = await new_database(None)
    await other.execute(OTHER_TABLES)
    text = SERVED
    text = text.replace("\ncollection:", f"\n  second: {{url: '{other.dsn}', allow_superuser: true}}\ncollection:")
    text += OTHER_NAMES[OTHER_NAMES.index('  "2nd_orders"') :].replace(
        "    window", "    database: second\n    window", 1
    )
    with serve(config(tmp_path, text=text), backfill.dsn) as it:
        page = await it.when(
            lambda page: page("up", pipeline="assessments") == 1 and page("up", pipeline="2nd_orders") == 1
        )

    own = {"database": "second", "pipeline": "2nd_orders"}
    assert page("sessions", **own, status="done") == 7
    assert page("sessions", **own, status="open") == 3
    assert page("eligible_sessions", **own, state="complete") == 3
    assert page("eligible_sessions", **own, state="gap") == 4
    assert page("gap_sessions", **own, record="invoice-s", reason="missing") == 3
    assert page("gap_sessions", **own, record="invoice-s", reason="outdated") == 1
    assert page("orphaned_records", **own, record="invoice-s") == 1
    assert page("unlinked_records", **own, record="invoice-s") == 1
    assert page("eligible_sessions", database="main", pipeline="assessments", state="gap") == 39


async def test_one_database_alone_needs_no_name_and_may_have_any_names_within(empty: Database, tmp_path: Path) -> None:
    await empty.execute(OTHER_TABLES)
    path = tmp_path / "config.yaml"
    path.write_text(OTHER_NAMES)
    with serve(path, empty.dsn) as it:
        page = await it.measured()

    assert page("eligible_sessions", database="main", state="gap") == 4
