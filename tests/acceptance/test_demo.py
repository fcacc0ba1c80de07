"""The demo, as whoever tries the exporter first meets it."""

import asyncio
import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import asyncpg
import pytest
from conftest import TOUR
from processes import ANY_PORT, COMMAND, Exporter, content, environment, family, nothing_left, open_folder, processes
from waiting import START_SECONDS, at_most, soon

from exporter.embedded import EmbeddedPostgres

STOP_SECONDS = 2.0
"""How long an end by SIGTERM or SIGINT may take, the server's included."""

URL_VARIABLE = "SESSION_HEALTH_POSTGRES_URL"


@pytest.fixture
def place() -> Iterator[Path]:
    with open_folder() as folder:
        yield folder


def demo(place: Path, *arguments: str, **environ: str) -> Exporter:
    """A demo whose temporary files are all in `place`."""
    return Exporter("demo", *ANY_PORT, *arguments, environ=environment(TMPDIR=str(place), **environ))


async def _databases(server: EmbeddedPostgres) -> list[str]:
    connection = await asyncpg.connect(server.dsn())
    try:
        rows = await connection.fetch("select datname from pg_database where datname like 'session_health_demo_%'")
    finally:
        await connection.close()
    return [row[0] for row in rows]


def databases(server: EmbeddedPostgres) -> list[str]:
    """Those of demos."""
    return asyncio.run(_databases(server))


async def test_backfill_shows_the_sessions_that_wait_for_it_and_why(place: Path) -> None:
    with demo(place, "--scenario", "backfill") as it:
        page = await it.measured()
        assert soon(lambda: "Ctrl-C" in it.log)
        said = it.log[it.log.rindex("msg=collection.first") :]
        url = it.url

    assert page("eligible_sessions", state="gap") == 39
    assert page("eligible_sessions", state="complete") == 118
    assert page("eligible_sessions", state="pending") == 0
    assert page("record_sessions", record="profiles", state="missing") == 13
    assert page("record_sessions", record="fc_scores", state="missing") == 28
    assert page("record_sessions", record="fc_scores", state="outdated") == 11
    assert page.total("gap_sessions", record="fc_scores") == 39
    assert page.total("gap_sessions", record="profiles") == 13
    assert page("up") == 1
    # Its last words: where to look, and what to try next.
    assert f"{url}/metrics\n" in said
    assert f"{url}/\n" in said
    for hint in ("--scenario healthy", "--live", "queries", "gaps --worklist", "init", "Ctrl-C ends the demo"):
        assert hint in said


async def test_healthy_is_the_default_and_has_no_gap(place: Path, server: EmbeddedPostgres) -> None:
    with demo(place, "--postgres.url", server.dsn()) as it:
        page = await it.measured()

    assert page("eligible_sessions", state="complete") == 157
    assert page("eligible_sessions", state="gap") == 0
    assert page.total("gap_sessions") == 0
    assert page("gap_oldest_timestamp_seconds", record="profiles") is None


async def test_drift_shows_the_forgotten_worker(place: Path, server: EmbeddedPostgres) -> None:
    with demo(place, "--scenario", "drift", "--postgres.url", server.dsn()) as it:
        page = await it.measured()

    assert (page("drifted_records", record="profiles") or 0) > 0
    assert page("eligible_sessions", state="gap") == 0


async def test_live_keeps_writing_even_after_a_table_was_away(place: Path, server: EmbeddedPostgres) -> None:
    config = place / "config.yaml"
    config.write_text(TOUR.read_text().replace("interval: 30s", "interval: 200ms"))

    with demo(place, "--live", "--config.file", str(config), "--postgres.url", server.dsn()) as it:
        await it.measured()
        [name] = await _databases(server)
        connection = await asyncpg.connect(server.dsn(name))
        await connection.execute("alter table assessment_sessions rename to away")
        await it.when(lambda page: page("up") == 0)
        await asyncio.sleep(1.2)  # longer than a step of the writer
        await connection.execute("alter table away rename to assessment_sessions")
        before = (await it.when(lambda page: page("up") == 1)).total("sessions")
        await it.when(lambda page: page.total("sessions") > before, 20)
        await connection.close()

        assert it.end(signal.SIGTERM, STOP_SECONDS) == 0
        assert "Traceback" not in it.log


async def test_sigterm_ends_it_in_time_and_nothing_is_left(place: Path) -> None:
    with demo(place, "--live") as it:
        await it.measured()
        pids = family(it.process.pid)
        assert len(pids) > 4
        assert content(place)

        assert it.end(signal.SIGTERM, STOP_SECONDS) == 0

        assert nothing_left(pids, place)
        assert it.log.endswith("stopped; nothing is left behind\n")
        assert "Traceback" not in it.log


def test_a_signal_while_it_starts_ends_it_too(place: Path) -> None:
    with demo(place) as it:
        assert soon(lambda: "Making a PostgreSQL cluster" in it.log, START_SECONDS)
        pids = family(it.process.pid)

        assert it.end(signal.SIGINT, START_SECONDS) == 0

        assert nothing_left(pids, place)
        assert "Traceback" not in it.log


async def test_nothing_is_left_when_it_is_killed(place: Path) -> None:
    with demo(place, "--live") as it:
        await it.measured()
        pids = family(it.process.pid)

        assert it.end(signal.SIGKILL, STOP_SECONDS) == -signal.SIGKILL

        assert soon(lambda: nothing_left(pids, place), 5)


async def test_a_lost_server_neither_ends_it_nor_spoils_its_end(place: Path) -> None:
    with demo(place, "--live") as it:
        await it.measured()
        pids = family(it.process.pid)
        status = content(place)[0] / "data" / "postmaster.pid"
        os.kill(int(status.read_text().splitlines()[0]), signal.SIGQUIT)
        assert soon(lambda: not status.exists())
        await asyncio.sleep(1.2)  # longer than a step of the writer
        assert it.get("/-/healthy").status == 200

        assert it.end(signal.SIGTERM, STOP_SECONDS) == 0

        assert nothing_left(pids, place)
        assert "Traceback" not in it.log


async def test_it_needs_neither_home_nor_a_config_and_ctrl_c_leaves_nothing(place: Path) -> None:
    bare = {"PATH": os.environ["PATH"], "HOME": "", "TMPDIR": str(place)}
    for name in ("SESSION_HEALTH_POSTGRES_BIN", "PYTHONPATH"):
        if name in environment():
            bare[name] = environment()[name]
    (place / "work").mkdir()

    with Exporter("demo", *ANY_PORT, environ=bare, cwd=place / "work") as it:
        page = await it.measured()
        pids = family(it.process.pid)
        assert it.end(signal.SIGINT, STOP_SECONDS) == 0
        assert not pids & processes().keys()
        assert "Traceback" not in it.log

    assert page("eligible_sessions", state="complete") == 157
    assert content(place) == [place / "work"]
    assert content(place / "work") == []


def test_an_unknown_scenario_is_a_usage_error_that_names_the_known(place: Path) -> None:
    with demo(place, "--scenario", "nonsense") as it:
        assert it.process.wait(at_most(START_SECONDS)) == 2

        for name in ("nonsense", "healthy", "backfill", "drift"):
            assert name in it.log
        assert not content(place)


def test_a_port_in_use_is_said_with_the_remedy_and_nothing_is_left(place: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        with demo(place, "--web.listen-address", address) as it:
            assert it.process.wait(at_most(START_SECONDS)) == 2

            last = it.log.splitlines()[-1]
            assert address in last
            assert "--web.listen-address" in last
            assert "Traceback" not in it.log
            assert nothing_left(set(), place)


def test_a_broken_config_is_said_and_nothing_is_left(place: Path, server: EmbeddedPostgres) -> None:
    with demo(place, "--config.file", "/no/such/config.yaml", "--postgres.url", server.dsn()) as it:
        assert it.process.wait(at_most(START_SECONDS)) == 2

        assert "--config.file" in it.log
        assert "Traceback" not in it.log
        assert databases(server) == []


@pytest.mark.parametrize("named_by", ["flag", "environment"])
def test_on_a_server_of_yours_it_makes_a_database_and_drops_it(
    place: Path, server: EmbeddedPostgres, named_by: str
) -> None:
    how = (["--postgres.url", server.dsn()], {}) if named_by == "flag" else ([], {URL_VARIABLE: server.dsn()})
    with demo(place, "--live", *how[0], **how[1]) as it:
        assert soon(lambda: it.page()("up") == 1, START_SECONDS)
        assert len(databases(server)) == 1
        [folder] = content(place)
        assert soon(lambda: [path.name for path in content(folder)] == ["url"])

        assert it.end(signal.SIGTERM, STOP_SECONDS) == 0

    assert databases(server) == []
    assert not content(place)


def test_a_database_that_cannot_be_dropped_is_named(place: Path) -> None:
    with EmbeddedPostgres() as own, demo(place, "--postgres.url", own.dsn()) as it:
        assert soon(lambda: it.page()("up") == 1, START_SECONDS)
        [name] = databases(own)
        own.stop_server()

        assert it.end(signal.SIGTERM, STOP_SECONDS) == 3

        last = it.log.splitlines()[-1]
        assert name in last
        assert "by hand" in last
        assert "Traceback" not in it.log


@pytest.mark.parametrize(
    "url", ["postgresql://postgres:wrong@{host}:{port}/postgres", "postgresql://postgres@127.0.0.1:1/x", "nonsense"]
)
def test_a_server_of_yours_that_cannot_be_used_is_said(place: Path, server: EmbeddedPostgres, url: str) -> None:
    with demo(place, "--postgres.url", url.format(host=server.host, port=server.port)) as it:
        assert it.process.wait(at_most(START_SECONDS)) == 3

        assert "--postgres.url" in it.log
        assert "Traceback" not in it.log
        assert "wrong" not in it.log


def test_its_end_does_not_depend_on_who_reads_its_output(place: Path) -> None:
    """As in `demo 2>&1 | head`: whoever read along is gone."""
    read, write = os.pipe()
    with subprocess.Popen(
        [*COMMAND, "demo", *ANY_PORT], stdout=write, stderr=write, env=environment(TMPDIR=str(place))
    ) as process:
        os.close(write)
        os.read(read, 1)
        os.close(read)
        deadline = time.monotonic() + at_most(START_SECONDS)
        while process.poll() is None and time.monotonic() < deadline:
            process.send_signal(signal.SIGTERM)
            time.sleep(0.1)
        assert process.returncode is not None
        process.kill()
    assert soon(lambda: nothing_left(set(), place), 5)
