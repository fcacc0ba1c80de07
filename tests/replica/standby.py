"""A primary and a streaming replica of it, both real, private and gone after the test."""

import asyncio
import itertools
import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from functools import partial

import asyncpg
import pytest
from conftest import Database
from tools import NO_STANDBY
from waiting import at_most

from exporter.embedded import Binaries, EmbeddedPostgres, find_binaries

PATIENCE_SECONDS = 10.0
"""How long a replica may take for what it usually does in some milliseconds."""

_numbers = itertools.count(1)


def binaries_with_basebackup() -> Binaries:
    """Programs that can copy a running cluster; skips the test without them."""
    binaries = find_binaries()
    if not (binaries.directory / "pg_basebackup").exists():
        pytest.skip(NO_STANDBY)
    return binaries


def source(primary: EmbeddedPostgres, port: int) -> str:
    """How a replica finds its primary, whose port may be another's who passes on."""
    return f"host={primary.host} port={port} user=postgres password={primary.password}"


class Standby(EmbeddedPostgres):
    """A server that begins as a copy of a running `primary`, and goes on as its streaming replica."""

    def __init__(self, primary: EmbeddedPostgres, binaries: Binaries, **settings: str) -> None:
        self.primary = primary
        self._source = source(primary, primary.port)
        own = {"primary_conninfo": self._source, "wal_retrieve_retry_interval": "100ms", **settings}
        super().__init__(binaries, settings=own)

    def _initialise(self) -> None:
        self.password = self.primary.password
        self._run(
            "pg_basebackup",
            *("-D", str(self.data_directory), "--dbname", self._source),
            *("--write-recovery-conf", "--checkpoint=fast", "--no-sync"),
        )


@dataclass
class Line:
    """A network between a replica and its primary; `rate` is in bytes a second, 0 while it is cut."""

    port: int = 0
    rate: float = math.inf
    _writers: list[asyncio.StreamWriter] = field(default_factory=list)

    def cut(self) -> None:
        """End what goes over it, and let nobody connect until there is a rate again."""
        self.rate = 0
        for writer in self._writers:
            writer.close()
        self._writers.clear()

    async def lead(self, primary: EmbeddedPostgres, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if not self.rate:
            writer.close()
            return
        their_reader, their_writer = await asyncio.open_connection(primary.host, primary.port)
        self._writers += [writer, their_writer]
        with suppress(OSError):
            await asyncio.gather(self._carry(their_reader, writer), self._carry(reader, their_writer))

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while self.rate and (data := await reader.read(16384)):
            writer.write(data)
            await writer.drain()
            await asyncio.sleep(len(data) / self.rate if self.rate else 0)
        writer.close()


@asynccontextmanager
async def line_to(primary: EmbeddedPostgres) -> AsyncIterator[Line]:
    """A port that leads to the primary."""
    line = Line()
    server = await asyncio.start_server(partial(line.lead, primary), "127.0.0.1", 0)
    line.port = server.sockets[0].getsockname()[1]
    try:
        yield line
    finally:
        line.cut()
        server.close()


@dataclass(frozen=True)
class Pair:
    """One database twice: `primary`, and `replica` for a role that may only read; both connections are superusers'."""

    primary: Database
    replica: Database
    server: Standby

    async def replayed(self) -> None:
        """Return once the replica has replayed everything that the primary has written."""
        written = await self.primary.connection.fetchval("select pg_current_wal_insert_lsn()::text")
        await self.until("pg_last_wal_replay_lsn() >= $1::text::pg_lsn", written)

    async def until(self, condition: str, *arguments: object) -> None:
        """Wait until a condition holds on the replica."""
        async with asyncio.timeout(at_most(PATIENCE_SECONDS)):
            while not await self.replica.connection.fetchval(f"select {condition}", *arguments):  # noqa: ASYNC110
                await asyncio.sleep(0.01)

    async def held(self, title: str) -> None:
        """Wait until a collection on the replica sleeps in the statement of this title."""
        await self.until(
            "exists (select from pg_stat_activity where application_name = 'session-health-exporter' "
            "and wait_event = 'PgSleep' and query ~ $1)",
            title,
        )

    async def set(self, name: str, value: str) -> None:
        """A setting of the replica's server, in force on return."""
        await self.replica.execute(f"alter system set {name} = '{value}'")
        await self.replica.execute("select pg_reload_conf()")
        await self.until("current_setting($1) = $2", name, value)


@asynccontextmanager
async def replicated(primary: EmbeddedPostgres, standby: Standby, sql: str) -> AsyncIterator[Pair]:
    """A new database, made by `sql` on the primary and replayed; dropped at the end."""
    number = next(_numbers)
    database, role = f"test_{number}", f"reader_{number}"
    admin = await asyncpg.connect(primary.dsn())
    await admin.execute(f"create database {database}")
    await admin.execute(f"create role {role} login password 'wOrd-{role}'")
    writer = await asyncpg.connect(primary.dsn(database))
    await writer.execute(sql)
    await writer.execute(f"grant select on all tables in schema public to {role}")
    watcher = await asyncpg.connect(standby.dsn())
    pair = Pair(
        Database(primary.dsn(database), writer),
        Database(standby.dsn(database, role, f"wOrd-{role}"), watcher),
        standby,
    )
    await pair.replayed()
    try:
        yield pair
    finally:
        for connection in (writer, watcher, admin):
            await connection.close(timeout=5)
        admin = await asyncpg.connect(primary.dsn())
        await admin.execute(f"drop database {database} with (force)")
        await admin.close()
