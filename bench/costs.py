"""What work costs a PostgreSQL server: CPU seconds, pages, temporary files; for every benchmark."""

import asyncio
import os
import statistics
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

import asyncpg

from exporter.embedded import EmbeddedPostgres

AWAITED: Final = 0.5
"""Seconds before an account: a backend reports at its end."""


@dataclass(frozen=True)
class Cost:
    """CPU seconds of the server's processes, pages asked for (8 kB), and bytes of temporary files."""

    cpu: float
    pages: int
    temporary: int


class Server:
    """A private server: the kernel's account of its ended backends, and the server's own statistics."""

    def __init__(self, server: EmbeddedPostgres, connection: asyncpg.Connection) -> None:
        self.server = server
        self.connection = connection

    @classmethod
    async def of(cls, server: EmbeddedPostgres) -> Self:
        """The server with a connection for questions about it."""
        return cls(server, await asyncpg.connect(server.dsn()))

    async def account(self) -> Cost:
        """The costs so far, of backends that have ended."""
        await asyncio.sleep(AWAITED)
        cpu = _of_ended_children(self.server.process_id or 0)
        [row] = await self.connection.fetch(
            "select sum(blks_hit + blks_read)::bigint, sum(temp_bytes)::bigint from pg_stat_database"
        )
        return Cost(cpu, *row)

    async def cost(self, work: Callable[[], Awaitable[object]]) -> Cost:
        """The cost of some work that opens its own connections."""
        before = await self.account()
        await work()
        after = await self.account()
        return Cost(after.cpu - before.cpu, after.pages - before.pages, after.temporary - before.temporary)

    async def median(self, times: int, work: Callable[[], Awaitable[object]]) -> Cost:
        """The median cost of some work, done several times after a warm-up."""
        costs = [await self.cost(work) for _ in range(times + 1)][1:]
        return Cost(
            statistics.median(one.cpu for one in costs),
            int(statistics.median(one.pages for one in costs)),
            max(one.temporary for one in costs),
        )


def _of_ended_children(process: int) -> float:
    """User and system seconds: https://man7.org/linux/man-pages/man5/proc_pid_stat.5.html."""
    fields = Path(f"/proc/{process}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(fields[13]) + int(fields[14])) / os.sysconf("SC_CLK_TCK")
