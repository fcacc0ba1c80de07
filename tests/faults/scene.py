"""The stage of a fault: a server, a healthy platform, and two exporters, each behind a proxy of its own."""

import asyncio
import itertools
import secrets
import shutil
import tempfile
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

import asyncpg
from conftest import TOUR, memory
from pooler import Pooler
from process import RESOLVER, Exporter, Launch, Watcher, verdict
from proxy import HOST, Proxy
from standby import Standby, binaries_with_basebackup
from tls import Certificates
from truth import GAPS, SPOIL
from waiting import START_SECONDS, at_most

from exporter.demo.scenarios import SCENARIOS, SCHEMA
from exporter.embedded import EmbeddedPostgres

Place = Literal["shared", "own", "standby", "pgbouncer", "tls"]
"""The server of a row: shared by the rows that do not hurt it, or of the row's own."""

INTERVAL: Final = 0.5
MAX_AGE: Final = 6.0
STATEMENT_TIMEOUT: Final = 2.0
SHORT: Final = {
    "interval: 30s": "interval: 500ms",
    "max_age: 5m": "max_age: 6s",
    "duty: 5%": "duty: 100%",
    "connect_timeout: 5s": "connect_timeout: 2s",
    "statement_timeout: 30s": "statement_timeout: 2s",
    "lock_timeout: 1s": "lock_timeout: 500ms",
    "max_replica_lag: 5m": "max_replica_lag: 3s",
}
"""Changes of the sample config, which every row has."""

DURABLE: Final = {"synchronous_commit": "on"}
"""What was committed survives the end of the server's processes."""
CONNECT_SECONDS: Final = 10.0
_numbers: Final = itertools.count(1)


@dataclass(frozen=True)
class Scene:
    """Two exporters on a healthy platform: `watched` outlives the fault, `leaving` ends during the fault.

    `server` has the truth, and `measured` is the server of the exporters: a replica of `server`, or the same.
    """

    server: EmbeddedPostgres
    measured: EmbeddedPostgres
    database: str
    role: str
    password: str
    watched: Exporter
    leaving: Exporter
    proxies: tuple[Proxy, Proxy]
    pooler: Pooler | None = None
    certificates: Certificates | None = None

    @property
    def exporters(self) -> tuple[Exporter, Exporter]:
        return self.watched, self.leaving

    def filled(self, sql: str) -> str:
        """The SQL with the names of this scene for {role}, {password} and {database}."""
        names = {"role": self.role, "password": self.password, "database": self.database}
        for name, value in names.items():
            sql = sql.replace(f"{{{name}}}", value)
        return sql

    async def connect(self, database: str | None = None, server: EmbeddedPostgres | None = None) -> asyncpg.Connection:
        """A superuser's connection that goes through no proxy; by default to the database with the truth."""
        dsn = (server or self.server).dsn(database or self.database)
        return await asyncpg.connect(dsn, timeout=at_most(CONNECT_SECONDS), statement_cache_size=0)

    async def execute(self, *sql: str, database: str | None = None, server: EmbeddedPostgres | None = None) -> None:
        """Run statements as superuser, each in a transaction of its own."""
        connection = await self.connect(database, server)
        try:
            for one in sql:
                await connection.execute(self.filled(one))
        finally:
            await connection.close(timeout=at_most(5))

    async def spoil(self) -> None:
        """Make the truth bad."""
        await self.execute(SPOIL)

    async def gaps(self) -> int:
        """The gaps in truth."""
        connection = await self.connect()
        try:
            return int(await connection.fetchval(GAPS))
        finally:
            await connection.close(timeout=at_most(5))

    async def backends(self, proxy: Proxy, *, busy: bool = False) -> list[tuple[int, str]]:
        """Process id and state of the backends that came through a proxy; `busy`: only those in a transaction."""
        connection = await self.connect("postgres", self.measured)
        try:
            found = await connection.fetch(
                "select pid, coalesce(state, 'starting') as state from pg_stat_activity "
                "where application_name = 'session-health-exporter' "
                "and ($1::int[] is null or client_port = any($1)) and (not $2 or state not in ('idle', 'starting'))",
                # Behind a pooler the ports are the pooler's, and idle backends belong to its pool.
                None if self.pooler else [*proxy.ports],
                busy or self.pooler is not None,
            )
        finally:
            await connection.close(timeout=at_most(5))
        return [(int(row["pid"]), str(row["state"])) for row in found]

    async def sleepers(self, proxy: Proxy) -> list[int]:
        """The process ids of the backends that came through a proxy and are in `pg_sleep`."""
        connection = await self.connect("postgres", self.measured)
        try:
            found = await connection.fetch(
                "select pid from pg_stat_activity where client_port = any($1) and wait_event = 'PgSleep'",
                [*proxy.ports],
            )
        finally:
            await connection.close(timeout=at_most(5))
        return [int(row["pid"]) for row in found]


def configured(folder: Path, changes: Mapping[str, str]) -> None:
    """Write the sample config with short times and with other changes of its text."""
    text = TOUR.read_text(encoding="utf-8")
    for old, new in {**SHORT, **changes}.items():
        assert old in text, old
        text = text.replace(old, new.replace("{folder}", str(folder)))
    (folder / "config.yaml").write_text(text)


async def _platform(server: EmbeddedPostgres, database: str, role: str, password: str, before: str) -> None:
    admin = await asyncpg.connect(server.dsn())
    try:
        await admin.execute(f"create database {database}")
        await admin.execute(f"create role {role} login password '{password}'")
    finally:
        await admin.close()
    owner = await asyncpg.connect(server.dsn(database))
    try:
        await owner.execute(SCHEMA)
        await owner.execute(SCENARIOS["healthy"].sql)
        await owner.execute(f"grant select on all tables in schema public to {role}")
        if before:
            await owner.execute(before)
        await owner.execute("analyze")
    finally:
        await owner.close()


async def _drop(server: EmbeddedPostgres, database: str, role: str) -> None:
    admin = await asyncpg.connect(server.dsn())
    try:
        await admin.execute(f"drop database if exists {database} with (force)")
        await admin.execute(f"drop role if exists {role}")
    finally:
        await admin.close()


@asynccontextmanager
async def _running(server: EmbeddedPostgres) -> AsyncIterator[EmbeddedPostgres]:
    await asyncio.to_thread(server.start)
    try:
        yield server
    finally:
        await asyncio.to_thread(server.stop)


@asynccontextmanager
async def staged(
    place: Place,
    shared: EmbeddedPostgres,
    settings: Mapping[str, str],
    changes: Mapping[str, str],
    launch: Launch,
    before: str,
) -> AsyncIterator[Scene]:
    """Everything of a row, up and measured as healthy; gone at the end."""
    number = next(_numbers)
    database, role, password = f"fault_{number}", f"reader_{number}", secrets.token_urlsafe(12)
    async with AsyncExitStack() as stack:
        server = shared
        if place in {"own", "standby"}:
            server = await stack.enter_async_context(
                _running(EmbeddedPostgres(settings={**DURABLE, **settings}, directory=memory()))
            )
        else:
            stack.push_async_callback(_drop, server, database, role)
        measured = server
        if place == "standby":
            measured = await stack.enter_async_context(_running(Standby(server, binaries_with_basebackup())))
        await _platform(server, database, role, password, before.replace("{role}", role))
        folder = Path(tempfile.mkdtemp(prefix="fault-"))
        stack.callback(shutil.rmtree, folder)
        pooler = certificates = None
        if place == "pgbouncer":
            pooler = await stack.enter_async_context(Pooler(server, {role: password}))
        if place == "tls":
            certificates = Certificates.made(folder)
        tls = certificates.valid if certificates else None
        upstream = pooler.port if pooler else measured.port
        first = await stack.enter_async_context(Proxy(upstream, tls))
        second = await stack.enter_async_context(Proxy(upstream, tls))
        exporters = []
        host = "database.invalid" if launch.system == RESOLVER else HOST
        query = f"?sslmode=verify-full&sslrootcert={certificates.root}" if certificates else ""
        for name, proxy in (("watched", first), ("leaving", second)):
            own = folder / name
            own.mkdir()
            (own / "password").write_text(password)
            configured(own, changes)
            exporter = Exporter(own, f"postgresql://{role}:{password}@{host}:{proxy.port}/{database}{query}", launch)
            stack.push_async_callback(exporter.end)
            exporter.start()
            exporters.append(exporter)
        watched, leaving = exporters
        scene = Scene(
            server, measured, database, role, password, watched, leaving, (first, second), pooler, certificates
        )
        await asyncio.gather(*(_healthy(exporter) for exporter in exporters))
        yield scene


async def _healthy(exporter: Exporter) -> None:
    async with Watcher(exporter) as watcher:
        scrape = await watcher.until(lambda page: verdict(page) == "healthy", 0, at_most(START_SECONDS))
    last = exporter.scrapes[-1] if exporter.scrapes else None
    told = (last.page.text if last.page else last.error) if last else ""
    assert scrape is not None, f"not healthy before the fault:\n{exporter.log}\n{told}"
