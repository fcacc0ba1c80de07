"""Scenario -> a sample database, removed at the end of the demo."""

import asyncio
import os
import secrets
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from urllib.parse import urlsplit, urlunsplit

import asyncpg

from exporter.demo.scenarios import SCHEMA, Scenario
from exporter.embedded import EmbeddedPostgres, find_binaries
from exporter.model.sql import quote

Report = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class SamplePlatform:
    """`dsn` is for the exporter (if possible a role with only SELECT), `writer_dsn` for the platform.

    `url_file` has the same URL as `dsn`, for other commands during the demo, and is removed with the platform.
    """

    dsn: str
    writer_dsn: str
    url_file: Path


class SampleError(Exception):
    """The sample database cannot be made; the message names the remedy."""


@asynccontextmanager
async def sample_platform(
    scenario: Scenario,
    report: Report,
    server_url: str | None = None,
    binaries: Path | None = None,
) -> AsyncIterator[SamplePlatform]:
    """The sample database on the server at `server_url` or on an embedded server.

    Raises EmbeddedPostgresError and SampleError.
    """
    if server_url is not None:
        with TemporaryDirectory(prefix="she-") as folder:
            async with _database_on(server_url, report) as dsn:
                await _load(dsn, scenario, report)
                yield SamplePlatform(dsn, dsn, _written(dsn, Path(folder)))
        return
    server = EmbeddedPostgres(find_binaries(binaries), report=report)
    await asyncio.to_thread(server.start)
    try:
        await _load(server.dsn(), scenario, report)
        dsn = await _reader(server)
        yield SamplePlatform(dsn, server.dsn(), _written(dsn, server.run_directory))
    finally:
        await asyncio.to_thread(server.stop)


@asynccontextmanager
async def _database_on(server_url: str, report: Report) -> AsyncIterator[str]:
    """A new database on the server at `server_url`; yields the URL."""
    name = f"session_health_demo_{os.getpid()}"
    report(f"creating the database {name}; the demo drops the database at the end")
    await _administer(server_url, f"create database {quote(name)}", "cannot create a database")
    try:
        yield urlunsplit(urlsplit(server_url)._replace(path=f"/{name}"))
    finally:
        refusal = f"cannot drop the database {name}: drop it by hand"
        await _administer(server_url, f"drop database {quote(name)} with (force)", refusal)


async def _administer(server_url: str, sql: str, refusal: str) -> None:
    """Run one statement in a new connection: a connection held through the demo may break.  Raises SampleError."""
    try:
        admin = await asyncpg.connect(server_url)
    except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, ValueError) as error:
        raise SampleError(
            f"the demo {refusal}: no connection to the server of --postgres.url ({type(error).__name__})"
        ) from None
    try:
        await admin.execute(sql)
    except asyncpg.PostgresError as error:
        raise SampleError(f"the role of --postgres.url {refusal} ({type(error).__name__})") from None
    finally:
        await admin.close()


async def _load(dsn: str, scenario: Scenario, report: Report) -> None:
    report(f"loading sample data: {scenario.summary}")
    connection = await asyncpg.connect(dsn)
    try:
        await connection.execute(SCHEMA)
        await connection.execute(scenario.sql)
        await connection.execute("analyze")
    finally:
        await connection.close()


async def _reader(server: EmbeddedPostgres) -> str:
    """The URL of a new role like an operator would make: it may read three tables and nothing else."""
    password = secrets.token_urlsafe(16)
    connection = await asyncpg.connect(server.dsn())
    try:
        await connection.execute(f"create role session_health login password '{password}'")
        await connection.execute("grant select on assessment_sessions, profiles, fc_scores to session_health")
    finally:
        await connection.close()
    return server.dsn(user="session_health", password=password)


def _written(dsn: str, folder: Path) -> Path:
    """A file with the URL, readable only for the owner."""
    file = folder / "url"
    file.touch(mode=0o600)
    file.write_text(f"{dsn}\n", encoding="utf-8")
    return file
