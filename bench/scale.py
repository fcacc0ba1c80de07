"""What a collection costs the server, beside the bare scans of its tables and beside one query per number.

    make bench-scale                                   # 1,000,000 sessions
    make bench-scale ARGS="--sessions 10000000 --wide"
    make bench-scale ARGS="--query-exporter --plot docs/pictures/performance.svg"

On a private PostgreSQL, in turn: the bare scans (`select count(*)` of each table), the tables joined by key with
nothing computed (the floor of every answer about missing records), one plain query for each number, the cheapest
queries by hand, a generic SQL exporter with seven queries (from PyPI, in an environment of its own), a full pass,
rounds of slices until everything is measured, and rounds while 100 sessions a second start, beside the floor of a
round.  The figures are CPU seconds of the server, from the kernel's account of ended backends, pages and bytes of
temporary files.  Quote the ratios: seconds belong to the machine.
"""

import argparse
import asyncio
import math
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Final

import asyncpg
from collection import OBVIOUS
from costs import Cost, Server
from load import load

from exporter import APPLICATION_NAME
from exporter.config.read import parse_config
from exporter.dimensions import DIMENSIONS
from exporter.embedded import EmbeddedPostgres
from exporter.measure.collect import collect
from exporter.measure.database import connect
from exporter.measure.ending import end
from exporter.measure.guard import snapshot_on
from exporter.measure.tiers import count_changing, sweep
from exporter.plan.plan import Plan, compile_plan
from exporter.state.ledger import Ledger

TOUR: Final = Path(__file__).parent.parent / "config.yaml"
PEER: Final = Path(__file__).parent / "query-exporter.yaml"
TABLES: Final = ("assessment_sessions", "profiles", "fc_scores")
COVERING: Final = """
create index on assessment_sessions (id)
  include (status, created_at, completed_at, finalized_at, completed_questions);
create index on profiles (session_id) include (results_version, created_at);
create index on fc_scores (session_id) include (version, fc_kind, created_at);
vacuum analyze;
"""
JOINED: Final = """
select count(*)
from assessment_sessions s
full join (
  profiles p
  full join (select session_id from fc_scores group by session_id) f on f.session_id = p.session_id
) on coalesce(p.session_id, f.session_id) = s.id
"""
"""The least that tells whether each session has its records, and each row its session: nothing is computed."""

BY_HAND: Final = (
    """
    select status, word, count(*), min(completed_at), max(created_at)
    from (
      select s.status, s.completed_at, s.created_at,
        case when s.completed_questions > 0 then 1 else 0 end
        + case when s.finalized_at is not null then 2 else 0 end
        + case when s.completed_at >= now() - interval '5 minutes' then 4 else 0 end
        + case when p.session_id is null then 8 when p.results_version = 'v1.2.1' then 16 else 0 end
        + case when f.session_id is not null then 32 else 0 end as word
      from assessment_sessions s
      left join profiles p on p.session_id = s.id
      left join fc_scores f on f.session_id = s.id and f.version = 'v1.2' and f.fc_kind = 'functions'
      where s.created_at >= '2025-08-01'
    ) packed
    group by status, word
    """,
    "select count(*) from profiles r where not exists (select 1 from assessment_sessions s where s.id = r.session_id)",
    "select count(*) from fc_scores r where not exists (select 1 from assessment_sessions s where s.id = r.session_id)",
    "select results_version, count(*), max(created_at) from profiles group by results_version",
    "select version, fc_kind, count(*), max(created_at) from fc_scores group by version, fc_kind",
)
"""The cheapest queries that we could write by hand for some 20 of the numbers, with one word for each session."""

ARRIVED: Final = """
select count(p.session_id), count(f.session_id)
from assessment_sessions s
left join lateral (select session_id from profiles where session_id = s.id offset 0) p on true
left join lateral (select session_id from fc_scores where session_id = s.id offset 0) f on true
where s.created_at >= now() - interval '30 seconds'
"""
"""The sessions of one interval and their rows, by indexes: nothing is computed."""

BUDGET: Final = 1.5
"""Seconds of a round of slices: the defaults, 5% of 30 s."""

INTERVAL: Final = 30.0
"""Seconds between two rounds beside new sessions: the default."""

A_SECOND: Final = 100
"""Sessions that start in a second beside the rounds."""


async def ask(server: Server, queries: Iterable[str]) -> None:
    """Run queries in one serial transaction of their own."""
    connection = await asyncpg.connect(server.server.dsn())
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


# --- A generic SQL exporter


def installed(directory: Path) -> Path:
    """The program of query-exporter, installed from PyPI into a directory."""
    subprocess.run([sys.executable, "-m", "venv", str(directory)], check=True)
    wanted = ["query-exporter==5.0.2", "psycopg2-binary"]
    subprocess.run([str(directory / "bin" / "pip"), "install", "--quiet", *wanted], check=True)
    return directory / "bin" / "query-exporter"


def once(program: Path, server: Server, port: int = 19560) -> None:
    """Run each query once, and end the exporter."""
    dsn = server.server.dsn().replace("postgresql://", "postgresql+psycopg2://")
    process = subprocess.Popen(
        [str(program), "--config", str(PEER), "-H", "127.0.0.1", "-p", str(port), "-L", "error"],
        env={**os.environ, "PLATFORM": dsn},
    )
    wanted = sum(
        line.startswith("    sql:") or ", sql:" in line for line in PEER.read_text(encoding="utf-8").split("\n")
    )
    try:
        while True:
            time.sleep(1)
            with suppress(OSError):
                page = urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10).read().decode()
                told = [line for line in page.split("\n") if line.startswith("queries_total{")]
                if any('status="success"' not in line for line in told):
                    raise SystemExit("query-exporter could not run a query: see its messages above")
                if len(told) == wanted:
                    return
    finally:
        process.terminate()
        process.wait()


# --- Slices


class Holds:
    """How long the exporter's transactions are open, as another backend sees them, a hundred times a second."""

    def __init__(self) -> None:
        self.longest: dict[tuple[int, str], float] = {}

    async def watch(self, server: Server) -> None:
        """Look until cancelled."""
        connection = await asyncpg.connect(server.server.dsn())
        seen = (
            "select pid, xact_start::text as begun, extract(epoch from clock_timestamp() - xact_start)::float8 as held "
            f"from pg_stat_activity where application_name = '{APPLICATION_NAME}' and xact_start is not null"
        )
        while True:
            for row in await connection.fetch(seen):
                transaction = (row["pid"], row["begun"])
                self.longest[transaction] = max(self.longest.get(transaction, 0.0), row["held"])
            await asyncio.sleep(0.01)

    def p95(self) -> float:
        """Seconds that 95 of 100 transactions are open at most."""
        return statistics.quantiles(self.longest.values(), n=20)[-1]


async def no_ledger(_session: object) -> None:
    """Begin without a ledger."""


async def sweeping(plan: Plan) -> tuple[Ledger, int, float, float]:
    """Slices until everything is measured: the ledger, the rounds, seconds, and seconds to the first numbers."""
    began = time.monotonic()
    ledger = (await sweep(plan, None, BUDGET, no_ledger)).ledger
    first, rounds = time.monotonic() - began, 1
    while not ledger.is_whole:
        ledger = (await sweep(plan, ledger, BUDGET, no_ledger)).ledger
        rounds += 1
    return ledger, rounds, time.monotonic() - began, first


@asynccontextmanager
async def new_sessions(server: Server) -> AsyncIterator[None]:
    """Sessions start all the time, as on a busy platform; the writer is one backend that does not end meanwhile."""
    connection = await asyncpg.connect(server.server.dsn())

    async def write() -> None:
        while True:
            await connection.execute(
                "insert into assessment_sessions select gen_random_uuid(), 'in_progress', now(), null, null, 3 "
                f"from generate_series(1, {A_SECOND // 4})"
            )
            await asyncio.sleep(0.25)

    writer = asyncio.create_task(write())
    try:
        yield
    finally:
        writer.cancel()
        with suppress(asyncio.CancelledError):
            await writer
        await connection.close()


async def steady(server: Server, plan: Plan, ledger: Ledger) -> tuple[float, float, float]:
    """CPU seconds beside new sessions: of their rows alone, of a round without slices and listed sessions, with one."""
    quiet = replace(plan, pipeline=plan.pipeline.model_copy(update={"cohort": None}))
    floors, changing, rounds = [], [], []
    async with new_sessions(server):
        await asyncio.sleep(90)
        for _ in range(4):
            before = await server.account()
            ledger = (await sweep(quiet, ledger, 0.0, no_ledger)).ledger
            rounds.append((await server.account()).cpu - before.cpu)
            before = await server.account()
            async with connect(plan.database) as connection:
                session = await snapshot_on(connection, quiet, in_slices=True)
                await count_changing(session, replace(ledger, slices=()), 0.0)
                await end(session)
            changing.append((await server.account()).cpu - before.cpu)
            floors.append((await server.cost(lambda: ask(server, [ARRIVED]))).cpu)
            await asyncio.sleep(INTERVAL)
    return statistics.median(floors), statistics.median(changing), statistics.median(rounds)


# --- The whole


async def measure(embedded: EmbeddedPostgres, options: argparse.Namespace) -> None:
    """Load, run everything, print a table."""
    server = await Server.of(embedded)
    await load(server.connection, options.sessions, wide=options.wide)
    text = TOUR.read_text(encoding="utf-8").replace("statement_timeout: 30s", "statement_timeout: 60m")
    config = parse_config(text, {"DATABASE_URL": embedded.dsn()})
    plan = compile_plan(config, config.pipelines["assessments"], DIMENSIONS)
    floor = await server.median(options.times, lambda: bare(server))
    rows = [("the bare scans", floor)]
    rows.append(("the tables joined by key", await server.median(options.times, lambda: ask(server, [JOINED]))))
    rows.append((f"{len(OBVIOUS)} plain queries", await server.median(1, lambda: ask(server, OBVIOUS.values()))))
    rows.append((f"{len(BY_HAND)} queries by hand", await server.median(options.times, lambda: ask(server, BY_HAND))))
    if options.query_exporter:
        with tempfile.TemporaryDirectory() as directory:
            program = installed(Path(directory))
            peer = await server.median(1, lambda: asyncio.to_thread(once, program, server))
        rows.append(("query-exporter, 7 queries", peer))
    rows.append(("a full pass", await server.median(options.times, lambda: collect(plan))))
    holds, whole = Holds(), []

    async def swept() -> None:
        watcher = asyncio.create_task(holds.watch(server))
        whole.append(await sweeping(plan))
        watcher.cancel()

    rows.append(("a sweep in slices", await server.cost(swept)))
    ledger, rounds, seconds, first = whole[0]
    p95 = holds.p95()
    arrived, changing, with_slice = await steady(server, plan, ledger)
    rows.append(("reading the new sessions of 30 s", Cost(arrived, 0, 0)))
    rows.append(("a round beside new sessions", Cost(changing, 0, 0)))
    rows.append(("the same with one slice", Cost(with_slice, 0, 0)))
    for statement in COVERING.split(";")[:-1]:
        await server.connection.execute(statement)
    rows.append(
        (
            "the tables joined by key, covering indexes",
            await server.median(options.times, lambda: ask(server, [JOINED])),
        )
    )
    rows.append(("a full pass, covering indexes", await server.median(options.times, lambda: collect(plan))))
    keys = await server.connection.fetchval(
        "select sum(pg_relation_size(oid))::float8 from pg_class where relname ~ '_pkey$'"
    )
    await server.connection.close()
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    say = sys.stdout.write
    say(f"{options.sessions:,} sessions{', wide rows' if options.wide else ''}\n\n")
    say("| work | CPU s | times the bare scans | pages | temporary MB |\n|---|---:|---:|---:|---:|\n")
    for title, cost in rows:
        pages = f"{cost.pages:,}" if cost.pages else ""
        temporary = f"{cost.temporary / 1e6:.0f}" if cost.pages else ""
        say(f"| {title} | {cost.cpu:.2f} | {cost.cpu / floor.cpu:.1f} | {pages} | {temporary} |\n")
    say(
        f"\nKey indexes: {keys / 1e6:.0f} MB.  First numbers in slices after {first:.1f} s; everything after {rounds} "
        f"rounds, {seconds:.0f} s of measuring.  95 of 100 snapshots are held for {p95:.2f} s at most.\n"
        f"Exporter: {memory:.0f} MiB at most, with {ledger.listed:,} sessions listed.\n"
    )
    if options.plot:
        options.plot.write_text(svg([(title, cost.cpu / floor.cpu) for title, cost in rows]), encoding="utf-8")


def svg(rows: list[tuple[str, float]]) -> str:
    """Horizontal bars on a logarithmic scale, each with its ratio."""
    least = min(0.1, *(ratio for _, ratio in rows))
    scale = 420 / math.log(max(ratio for _, ratio in rows) / least)
    bars = []
    for place, (title, ratio) in enumerate(rows):
        y, width = 16 + 26 * place, max(1, scale * math.log(ratio / least))
        bars.append(
            f'<text x="300" y="{y + 13}" text-anchor="end">{title}</text>'
            f'<rect x="308" y="{y}" width="{width:.0f}" height="18" fill="#3274d9"/>'
            f'<text x="{314 + width:.0f}" y="{y + 13}">{ratio:.1f}</text>'
        )
    height = 40 + 26 * len(rows)
    label = "CPU time of the server, as a multiple of the bare scans (logarithmic)"
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="810" height="{height}" font-family="sans-serif" '
        f'font-size="13"><rect width="810" height="{height}" fill="#fff"/>\n'
        + "\n".join(bars)
        + f'\n<text x="308" y="{height - 8}" fill="#555">{label}</text></svg>\n'
    )


def main() -> None:
    """Parse the arguments and run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sessions", type=int, default=1_000_000)
    parser.add_argument("--times", type=int, default=3)
    parser.add_argument("--wide", action="store_true", help="rows as wide as those of a real platform")
    parser.add_argument("--query-exporter", action="store_true", help="also run query-exporter, installed from PyPI")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="write the ratios as an SVG picture")
    options = parser.parse_args()
    with EmbeddedPostgres(settings={"max_wal_size": "4GB", "fsync": "off", "autovacuum": "off"}) as server:
        asyncio.run(measure(server, options))


if __name__ == "__main__":
    main()
