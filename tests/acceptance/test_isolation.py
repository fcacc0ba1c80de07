"""One database or pipeline that is slow, silent or dead delays no number of another's, and no scrape."""

import asyncio
import os
import signal
import socket
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import asyncpg
import pytest
from conftest import SERVED, Database
from processes import ANY_PORT, Exporter, Page, environment, family
from test_serve_process import SCRAPE_SECONDS, STOP_SECONDS, config, eligible, locked
from waiting import at_most

from exporter.demo.scenarios import SCENARIOS, SCHEMA
from exporter.embedded import EmbeddedPostgres

ROUNDS = 6
"""So many new snapshots of the sound pipeline are waited for, at an interval of 150 ms."""
WATCH_SECONDS = 10.0
"""Within so long: shorter than what the ailing one waits for."""

SLOW_NAME = "slow.invalid"
SLOW_FILE = "slow-secret"
SLOW_SYSTEM = f"""
import os, socket, time
_resolve, _open = socket.getaddrinfo, os.open
def _slow_resolve(host, *arguments, **keys):
    if host in ({SLOW_NAME!r}, {SLOW_NAME.encode()!r}):
        time.sleep(60)
    return _resolve(host, *arguments, **keys)
def _slow_open(path, *arguments, **keys):
    if str(path).endswith({SLOW_FILE!r}):
        time.sleep(60)
    return _open(path, *arguments, **keys)
socket.getaddrinfo, os.open = _slow_resolve, _slow_open
"""
"""For the process under test: a DNS and a file system that take a minute, for one name each."""


def two(ailing_database: str, *changes: tuple[str, str], number: int = 1) -> str:
    """The tour, after `number` pipelines like it on databases of these keys, which are changed in their text."""
    text = SERVED
    head, pipeline = text.split("  assessments:\n")
    for n in range(number):
        other = pipeline
        for old, new in changes:
            assert old in other, old
            other = other.replace(old, new)
        head = head.replace(
            "\ncollection:", f"\n  other_{n}: {{{ailing_database}, allow_superuser: true}}\ncollection:"
        )
        head += f"  ailing_{n}:\n" + other.replace("database: main", f"database: other_{n}") + "\n"
    return f"{head}  assessments:\n{pipeline}"


def serve(folder: Path, text: str, dsn: str) -> Exporter:
    (folder / "sitecustomize.py").write_text(SLOW_SYSTEM)
    environ = environment(DATABASE_URL=dsn)
    environ["PYTHONPATH"] = f"{folder}{os.pathsep}{environ['PYTHONPATH']}"
    return Exporter("serve", "--config.file", str(config(folder, text=text)), *ANY_PORT, environ=environ)


def taken(page: Page) -> float | None:
    return page("snapshot_timestamp_seconds", pipeline="assessments")


async def watch(it: Exporter) -> Page:
    """See the sound pipeline go on, while every scrape is answered at once; the last page."""
    assert it.url
    deadline = time.monotonic() + at_most(WATCH_SECONDS)
    seen: set[float | None] = set()
    while True:
        answer = it.get("/metrics")
        assert answer.seconds < at_most(SCRAPE_SECONDS)
        page = Page(answer.text)
        seen.add(taken(page))
        if len(seen - {None}) >= ROUNDS:
            break
        assert time.monotonic() < deadline, f"{len(seen)} snapshots within {WATCH_SECONDS} s"
        await asyncio.sleep(0.05)
    assert page("up", pipeline="assessments") == 1
    assert page("eligible_sessions", pipeline="assessments", state="complete") == 157
    assert page("collections_total", pipeline="assessments", result="failure") == 0
    assert page("collections_total", pipeline="assessments", result="partial") == 0
    return page


def assert_unknown(page: Page, pipeline: str = "ailing_0") -> None:
    assert page("up", pipeline=pipeline) == 0
    assert "eligible_sessions" not in page.names(pipeline=pipeline)


# --- From the start


@asynccontextmanager
async def black_hole(_other: Database, _folder: Path) -> AsyncIterator[str]:
    """Its connections are accepted, by the system, and nobody answers."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        yield two(f"url: 'postgresql://x:y@127.0.0.1:{silent.getsockname()[1]}/z', connect_timeout: 60s")


@asynccontextmanager
async def locked_sessions(other: Database, _folder: Path) -> AsyncIterator[str]:
    async with locked(other, "assessment_sessions"):
        yield two(f"url: '{other.dsn}', lock_timeout: 60s, statement_timeout: 60s")


@asynccontextmanager
async def slow_statement(other: Database, _folder: Path) -> AsyncIterator[str]:
    yield two(
        f"url: '{other.dsn}', statement_timeout: 60s",
        eligible("pg_sleep(60) is not null"),
    )


@asynccontextmanager
async def slow_name(_other: Database, _folder: Path) -> AsyncIterator[str]:
    """More of them than asyncio has threads to look names up."""
    yield two(f"url: 'postgresql://x:y@{SLOW_NAME}:5432/z', connect_timeout: 60s", number=40)


@asynccontextmanager
async def unknown_name(_other: Database, _folder: Path) -> AsyncIterator[str]:
    yield two("url: 'postgresql://x:y@no-such-host.invalid:5432/z', connect_timeout: 60s")


@asynccontextmanager
async def slow_file(_other: Database, folder: Path) -> AsyncIterator[str]:
    (folder / SLOW_FILE).write_text("geheim")
    yield two(f"url: 'postgresql://x@127.0.0.1:1/z', password_file: '{folder}/{SLOW_FILE}', connect_timeout: 60s")


def silent_file(key: str, more: str = "") -> Callable[[Database, Path], AbstractAsyncContextManager[str]]:
    @asynccontextmanager
    async def fifo(_other: Database, folder: Path) -> AsyncIterator[str]:
        """To open one waits until somebody writes to it, and nobody does."""
        os.mkfifo(folder / "secret")
        yield two(f"{key}: '{folder}/secret', connect_timeout: 60s{more}")

    return fifo


AILMENTS = {
    "black hole": black_hole,
    "locked sessions": locked_sessions,
    "slow statement": slow_statement,
    "slow name": slow_name,
    "unknown name": unknown_name,
    "slow file": slow_file,
    "password from nobody": silent_file("password_file", ", url: 'postgresql://x@127.0.0.1:1/z'"),
    "url from nobody": silent_file("url_file"),
}
SAID_AT_ONCE = {"unknown name", "password from nobody", "url from nobody"}


@pytest.mark.parametrize("ailment", AILMENTS)
async def test_one_that_ails_from_the_start_delays_no_other(
    healthy: Database, backfill: Database, tmp_path: Path, ailment: str
) -> None:
    async with AILMENTS[ailment](backfill, tmp_path) as text:
        with serve(tmp_path, text, healthy.dsn) as it:
            page = await watch(it)

            assert_unknown(page)
            if ailment in SAID_AT_ONCE:
                page = await it.when(
                    lambda page: page("collection_errors_total", pipeline="ailing_0", reason="connect")
                )
                assert it.get("/-/ready").status == 200
            else:
                # Nothing ends the collection before max_age does.
                ended = page("collections_total", pipeline="ailing_0", result="failure")
                assert page("collection_errors_total", pipeline="ailing_0", reason="collection_timeout") == ended
            assert it.end(signal.SIGTERM, STOP_SECONDS) == 0
            assert "Traceback" not in it.log


async def test_a_round_that_was_given_up_makes_ready(healthy: Database, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"postgresql://x:y@127.0.0.1:{silent.getsockname()[1]}/z"
        with serve(tmp_path, two(f"url: '{url}', connect_timeout: 1s"), healthy.dsn) as it:
            await watch(it)
            await it.when(lambda _page: it.get("/-/ready").status == 200)
            page = await watch(it)

    assert_unknown(page)
    assert (page("collection_errors_total", pipeline="ailing_0", reason="connect") or 0) >= 1


async def test_a_file_that_is_none_is_named_with_its_remedy(healthy: Database, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "secret")
    text = two(f"url: 'postgresql://x@127.0.0.1:1/z', password_file: '{tmp_path}/secret'")
    with serve(tmp_path, text, healthy.dsn) as it:
        await it.when(lambda page: page("collection_errors_total", pipeline="ailing_0", reason="connect"))

        [line] = it.events("collection.failing")

    assert "the file of password_file cannot be read (not a regular file)" in line
    assert str(tmp_path) not in line


# --- From one moment to the next


async def test_a_locked_pipeline_delays_no_other_of_the_same_database(healthy: Database, tmp_path: Path) -> None:
    await healthy.execute("create table own_sessions as select * from assessment_sessions")
    text = SERVED
    text += (
        text[text.index("  assessments:\n") :]
        .replace("  assessments:\n", "  ailing_0:\n")
        .replace("table: public.assessment_sessions", "table: own_sessions")
    )
    text = text.replace("lock_timeout: 1s", "lock_timeout: 60s").replace(
        "statement_timeout: 30s", "statement_timeout: 60s"
    )
    with serve(tmp_path, text, healthy.dsn) as it:
        await it.when(lambda page: page("up", pipeline="ailing_0") == 1)
        async with locked(healthy, "own_sessions"):
            await watch(it)
            page = await it.when(lambda page: page("up", pipeline="ailing_0") == 0)
            assert_unknown(page)  # its numbers are withdrawn
            await watch(it)
        await it.when(lambda page: page("up", pipeline="ailing_0") == 1)


async def test_a_server_that_freezes_delays_no_other(healthy: Database, tmp_path: Path) -> None:
    with EmbeddedPostgres() as server:
        connection = await asyncpg.connect(server.dsn())
        await connection.execute(SCHEMA + SCENARIOS["backfill"].sql)
        await connection.close()
        with serve(tmp_path, two(f"url: '{server.dsn()}'"), healthy.dsn) as it:
            await it.when(lambda page: page("up", pipeline="ailing_0") == 1)
            assert server.process_id
            frozen = family(server.process_id)
            for pid in frozen:
                os.kill(pid, signal.SIGSTOP)
            try:
                await watch(it)
                page = await it.when(lambda page: page("up", pipeline="ailing_0") == 0)
                assert_unknown(page)
                await watch(it)
            finally:
                for pid in frozen:
                    os.kill(pid, signal.SIGCONT)
            await it.when(lambda page: page("up", pipeline="ailing_0") == 1, 20)
