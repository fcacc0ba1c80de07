"""What a collection costs the server, beside the bare scans of its tables and beside one query per number.

    make bench-scale                                   # 1,000,000 sessions
    make bench-scale ARGS="--sessions 10000000 --wide"

On a private PostgreSQL, in turn: the bare scans (`select count(*)` of each table, the floor), one plain query for each
number, a full pass, and rounds of slices until everything is measured.  The figures are CPU seconds of the server,
from the kernel's account of ended backends, and bytes of temporary files.  Quote the ratios: seconds belong to the
machine.
"""

import argparse
import asyncio
import os
import resource
import statistics
import sys
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from pathlib import Path

import asyncpg
from collection import OBVIOUS
from load import load

from exporter.config.read import parse_config
from exporter.dimensions import DIMENSIONS
from exporter.embedded import EmbeddedPostgres
from exporter.measure.collect import collect
from exporter.measure.tiers import sweep
from exporter.plan.plan import Plan, compile_plan

TOUR = Path(__file__).parent.parent / "config.yaml"
TABLES = ("assessment_sessions", "profiles", "fc_scores")
COVERING = """
create index on assessment_sessions (id)
  include (status, created_at, completed_at, finalized_at, completed_questions);
create index on profiles (session_id) include (results_version, created_at);
create index on fc_scores (session_id) include (version, fc_kind, created_at);
vacuum analyze;
"""


@dataclass(frozen=True)
class Cost:
    """What some work costs the server: CPU seconds, and bytes of temporary files."""

    cpu: float
    temporary: int


class Server:
    """A private server with the sample platform."""

    def __init__(self, server: EmbeddedPostgres) -> None:
        self.server = server
        self.connection: asyncpg.Connection

    def cpu(self) -> float:
        """CPU seconds of all backends that have ended."""
        fields = Path(f"/proc/{self.server.process_id}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
        return (int(fields[13]) + int(fields[14])) / os.sysconf("SC_CLK_TCK")

    async def temporary(self) -> int:
        """Bytes of temporary files so far."""
        await asyncio.sleep(0.5)  # a backend reports at its end
        return int(await self.connection.fetchval("select sum(temp_bytes)::bigint from pg_stat_database"))

    async def cost(self, work: Callable[[], Awaitable[object]]) -> Cost:
        """The cost of some work that opens its own connections."""
        before = self.cpu(), await self.temporary()
        await work()
        after = await self.temporary()
        return Cost(self.cpu() - before[0], after - before[1])

    async def ask(self, *queries: str) -> None:
        """Run queries in one serial transaction of their own."""
        connection = await asyncpg.connect(self.server.dsn())
        await connection.execute("set max_parallel_workers_per_gather = 0; set jit = off")
        async with connection.transaction(isolation="repeatable_read", readonly=True):
            for query in queries:
                await connection.fetch(query)
        await connection.close()


async def bare(server: Server) -> None:
    """Read every row of every table, and nothing of it."""
    off = "set local enable_indexonlyscan = off; set local enable_indexscan = off"
    connection = await asyncpg.connect(server.server.dsn())
    await connection.execute("set max_parallel_workers_per_gather = 0; set jit = off")
    async with connection.transaction():
        await connection.execute(off)
        for table in TABLES:
            await connection.fetch(f"select count(*) from {table}")
    await connection.close()


async def no_ledger(_session: object) -> None:
    """Begin without a ledger."""


async def sweeping(plan: Plan, duty_seconds: float) -> tuple[int, float, float]:
    """Slices until everything is measured: the number of rounds, seconds, and seconds to the first numbers."""
    began, ledger, rounds, first = time.monotonic(), None, 0, 0.0
    while ledger is None or not ledger.is_whole:
        ledger = (await sweep(plan, ledger, duty_seconds, no_ledger)).ledger
        rounds += 1
        first = first or time.monotonic() - began
    sweeping.ledger = ledger  # type: ignore[attr-defined]
    return rounds, time.monotonic() - began, first


async def median(server: Server, times: int, work: Callable[[], Awaitable[object]]) -> Cost:
    """The median cost of some work, done several times after a warm-up."""
    costs = [await server.cost(work) for _ in range(times + 1)][1:]
    return Cost(statistics.median(c.cpu for c in costs), max(c.temporary for c in costs))


async def measure(embedded: EmbeddedPostgres, sessions: int, times: int, *, wide: bool) -> None:
    """Load, run everything, print a table."""
    server = Server(embedded)
    server.connection = await asyncpg.connect(embedded.dsn())
    await load(server.connection, sessions, wide=wide)
    text = TOUR.read_text(encoding="utf-8").replace("statement_timeout: 30s", "statement_timeout: 60m")
    config = parse_config(text, {"DATABASE_URL": embedded.dsn()})
    plan = compile_plan(config, config.pipelines["assessments"], DIMENSIONS)
    rows: list[tuple[str, Cost]] = []
    floor = await median(server, times, lambda: bare(server))
    rows.append(("the bare scans", floor))
    rows.append((f"{len(OBVIOUS)} plain queries", await median(server, 1, lambda: server.ask(*OBVIOUS.values()))))
    rows.append(("a full pass", await median(server, times, lambda: collect(plan))))
    whole: list[tuple[int, float, float]] = []

    async def swept() -> None:
        whole.append(await sweeping(plan, 1.5))

    rows.append(("a sweep in slices", await server.cost(swept)))
    ledger = sweeping.ledger  # type: ignore[attr-defined]
    quiet = replace(plan, pipeline=plan.pipeline.model_copy(update={"cohort": None}))

    async def hot() -> None:
        # The time of the listed sessions and of slices is bounded; this is what each round costs besides.
        await sweep(quiet, ledger, 0.0, no_ledger)

    rows.append(("a round with one slice", await median(server, times * 2, hot)))
    for statement in COVERING.split(";")[:-1]:
        await server.connection.execute(statement)
    rows.append(("a full pass, covering indexes", await median(server, times, lambda: collect(plan))))
    keys = await server.connection.fetchval(
        "select sum(pg_relation_size(oid))::float8 from pg_class where relname ~ '_pkey$'"
    )
    await server.connection.close()
    say = sys.stdout.write
    say(f"{sessions:,} sessions{', wide rows' if wide else ''}\n\n")
    say("| work | CPU s | times the bare scans | temporary MB |\n|---|---|---|---|\n")
    for title, cost in rows:
        say(f"| {title} | {cost.cpu:.2f} | {cost.cpu / floor.cpu:.1f} | {cost.temporary / 1e6:.0f} |\n")
    rounds, seconds, first = whole[0]
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    say(
        f"\nKey indexes: {keys / 1e6:.0f} MB.  First numbers in slices after {first:.1f} s; everything after {rounds} "
        f"rounds, {seconds:.0f} s of measuring.\n"
        f"Exporter: {memory:.0f} MiB at most, with {ledger.listed:,} sessions listed.\n"
    )


def main() -> None:
    """Parse the arguments and run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sessions", type=int, default=1_000_000)
    parser.add_argument("--times", type=int, default=3)
    parser.add_argument("--wide", action="store_true", help="rows as wide as those of a real platform")
    options = parser.parse_args()
    with EmbeddedPostgres(settings={"max_wal_size": "4GB", "fsync": "off", "autovacuum": "off"}) as server:
        asyncio.run(measure(server, options.sessions, options.times, wide=options.wide))


if __name__ == "__main__":
    main()
