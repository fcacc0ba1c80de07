"""What a collection costs the database, side by side with one query per number.

    make bench                       # 200,000 sessions
    make bench ARGS="--sessions 1000000 --rounds 5"

Both run in turn on a private PostgreSQL, as one transaction each, without parallel workers and compilation, and
must find the same numbers.  The ratio is what to quote: absolute times belong to the machine.
"""

import argparse
import asyncio
import statistics
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import asyncpg
from load import load

from exporter.config.read import parse_config
from exporter.dimensions import DIMENSIONS
from exporter.embedded import EmbeddedPostgres
from exporter.measure.collect import collect
from exporter.plan.plan import Plan, compile_plan

TOUR = Path(__file__).parent.parent / "config.yaml"

_ELIGIBLE = "s.created_at >= '2025-08-01' and s.status = 'completed' and s.completed_questions > 0"
_PROFILE = "select 1 from profiles p where p.session_id = s.id"
_SCORE = "select 1 from fc_scores f where f.session_id = s.id"
_CURRENT = f"{_SCORE} and f.version = 'v1.2' and f.fc_kind = 'functions'"
_PERCENTILES = "percentile_disc(array[0.5, 0.95, 0.99]) within group"
_COHORT = "s.created_at >= now() - interval '25 hours' and s.created_at < now() - interval '1 hour'"
_FROM = f"from assessment_sessions s where {_ELIGIBLE}"

# The questions that people write, one query each: what a generic SQL exporter would be given for the same gauges.
OBVIOUS = {
    "sessions by status": "select status, count(*) from assessment_sessions "
    "where created_at >= '2025-08-01' group by 1",
    "undated": "select count(*) from assessment_sessions where created_at is null",
    "future": "select count(*) from assessment_sessions "
    "where created_at >= '2025-08-01' and (created_at > now() or completed_at > now())",
    "gap": f"select count(*) {_FROM} and (not exists ({_PROFILE}) or not exists ({_CURRENT}))",
    "complete": f"select count(*) {_FROM} and exists ({_PROFILE}) and exists ({_CURRENT})",
    "profiles missing": f"select count(*) {_FROM} and not exists ({_PROFILE})",
    "profiles current": f"select count(*) {_FROM} and exists ({_PROFILE} and p.results_version = 'v1.2.1')",
    "profiles oldest gap": f"select min(s.completed_at) {_FROM} and not exists ({_PROFILE})",
    "scores missing": f"select count(*) {_FROM} and not exists ({_SCORE})",
    "scores outdated": f"select count(*) {_FROM} and exists ({_SCORE}) and not exists ({_CURRENT})",
    "scores current": f"select count(*) {_FROM} and exists ({_CURRENT})",
    "scores oldest gap": f"select min(s.completed_at) {_FROM} and not exists ({_CURRENT})",
    "profile versions of sessions": "select p.results_version, count(distinct p.session_id) from profiles p "
    f"join assessment_sessions s on s.id = p.session_id where {_ELIGIBLE} group by 1",
    "score versions of sessions": "select f.version, count(distinct f.session_id) from fc_scores f "
    f"join assessment_sessions s on s.id = f.session_id where {_ELIGIBLE} group by 1",
    "profiles by version": "select results_version, count(*) from profiles group by 1",
    "scores by version": "select version, count(*) from fc_scores group by 1",
    "drifted profiles": "select count(*) from profiles "
    "where created_at >= '2025-09-17' and results_version <> 'v1.2.1'",
    "orphaned profiles": "select count(*) from profiles p "
    "where not exists (select 1 from assessment_sessions s where s.id = p.session_id)",
    "orphaned scores": "select count(*) from fc_scores f "
    "where not exists (select 1 from assessment_sessions s where s.id = f.session_id)",
    "not finalized": f"select count(*) {_FROM} and s.finalized_at is null",
    "not answered": f"select count(*) {_FROM} and (s.completed_questions >= 240) is not true",
    "score kinds of sessions": "select f.fc_kind, count(distinct f.session_id) from fc_scores f "
    f"join assessment_sessions s on s.id = f.session_id where {_ELIGIBLE} group by 1",
    "scores by kind": "select fc_kind, count(*) from fc_scores group by 1",
    "invalid scores": "select count(*) from fc_scores where fc_kind is distinct from 'functions'",
    "duplicate profiles": "select coalesce(sum(n - 1), 0)::bigint "
    "from (select count(*) as n from profiles where session_id is not null group by session_id) keys",
    "duplicate scores": "select coalesce(sum(n - 1), 0)::bigint "
    "from (select count(*) as n from fc_scores group by session_id, version, fc_kind) keys",
    "cohort started": f"select count(*) from assessment_sessions s where {_COHORT}",
    "cohort completed": f"select count(*) from assessment_sessions s where {_COHORT} and s.status = 'completed'",
    "cohort covered": f"select count(*) from assessment_sessions s where {_COHORT} and s.status = 'completed' "
    f"and exists ({_PROFILE}) and exists ({_CURRENT})",
    "profile delay": f"select {_PERCENTILES} (order by p.created_at - s.completed_at) "
    f"from assessment_sessions s join profiles p on p.session_id = s.id where {_COHORT}",
    "score delay": f"select {_PERCENTILES} (order by f.created_at - s.completed_at) "
    f"from assessment_sessions s join fc_scores f on f.session_id = s.id where {_COHORT} and f.version = 'v1.2'",
    "newest started": "select max(created_at) from assessment_sessions where created_at <= now()",
    "newest completed": "select max(completed_at) from assessment_sessions where completed_at <= now()",
    "newest profile": "select max(created_at) from profiles where created_at <= now()",
    "newest score": "select max(created_at) from fc_scores where created_at <= now()",
}


async def ask_one_by_one(connection: asyncpg.Connection) -> dict[str, float]:
    """The numbers of the obvious queries that both sides know."""
    found = {}
    async with connection.transaction(isolation="repeatable_read", readonly=True):
        for name, sql in OBVIOUS.items():
            rows = await connection.fetch(sql)
            if len(rows) == 1 and isinstance(rows[0][0], int):
                found[name] = float(rows[0][0])
    return found


async def collect_once(plan: Plan) -> dict[str, float]:
    """The same numbers from one collection."""
    samples = (await collect(plan)).readings.numbers
    return {
        "undated": samples["undated_sessions",],
        "future": samples["future_sessions",],
        "gap": samples["eligible_sessions", "gap"],
        "complete": samples["eligible_sessions", "complete"],
        "profiles missing": samples["record_sessions", "profiles", "missing"],
        "profiles current": samples["record_sessions", "profiles", "current"],
        "scores missing": samples["record_sessions", "fc_scores", "missing"],
        "scores outdated": samples["record_sessions", "fc_scores", "outdated"],
        "scores current": samples["record_sessions", "fc_scores", "current"],
        "drifted profiles": samples["drifted_records", "profiles"],
        "orphaned profiles": samples["orphaned_records", "profiles"],
        "orphaned scores": samples["orphaned_records", "fc_scores"],
        "not finalized": samples["check_sessions", "finalized", "fail"],
        "not answered": samples["check_sessions", "answered", "fail"],
        "invalid scores": samples["invalid_records", "fc_scores"],
        "duplicate profiles": samples["duplicate_records", "profiles"],
        "duplicate scores": samples["duplicate_records", "fc_scores"],
    }


async def timed(work: Callable[[], Awaitable[dict[str, float]]]) -> tuple[float, dict[str, float]]:
    """Seconds, and what was found."""
    started = time.perf_counter()
    found = await work()
    return time.perf_counter() - started, found


async def pages_read(connection: asyncpg.Connection, work: Callable[[], Awaitable[dict[str, float]]]) -> int:
    """Pages of 8 kB that the statements of `work` asked for."""
    await connection.execute("select pg_stat_statements_reset()")
    await work()
    pages = await connection.fetchval(
        "select sum(shared_blks_hit + shared_blks_read) from pg_stat_statements "
        "where query ~ 'assessment_sessions|profiles|fc_scores'"
    )
    return int(pages or 0)


async def compare(server: EmbeddedPostgres, sessions: int, rounds: int) -> None:
    """Load, run both in turn, print."""
    connection = await asyncpg.connect(server.dsn())
    await connection.execute("create extension pg_stat_statements")
    await connection.execute("set max_parallel_workers_per_gather = 0; set jit = off")
    await load(connection, sessions)
    config = parse_config(TOUR.read_text(encoding="utf-8"), {"DATABASE_URL": server.dsn()})
    plan = compile_plan(config, config.pipelines["assessments"], DIMENSIONS)

    async def ours() -> dict[str, float]:
        return await collect_once(plan)

    async def theirs() -> dict[str, float]:
        return await ask_one_by_one(connection)

    times: list[tuple[float, float]] = []
    for _ in range(rounds + 1):
        ours_seconds, ours_found = await timed(ours)
        theirs_seconds, theirs_found = await timed(theirs)
        differing = {name for name, value in ours_found.items() if value != theirs_found[name]}
        if differing:
            sys.exit(f"the two disagree on: {', '.join(sorted(differing))}")
        times.append((ours_seconds, theirs_seconds))
    ratios = [theirs_seconds / ours_seconds for ours_seconds, theirs_seconds in times[1:]]
    ours_pages, theirs_pages = await pages_read(connection, ours), await pages_read(connection, theirs)
    await connection.close()
    say = sys.stdout.write
    say(f"{sessions:,} sessions, {rounds} rounds in turn after a warm-up, the same numbers from both\n\n")
    say(f"{'':28}{'one collection':>16}{f'{len(OBVIOUS)} queries':>16}{'ratio':>24}\n")
    say(
        f"{'seconds, median':28}{statistics.median(t[0] for t in times[1:]):>16.2f}"
        f"{statistics.median(t[1] for t in times[1:]):>16.2f}"
        f"{f'{statistics.median(ratios):.1f} ({min(ratios):.1f} to {max(ratios):.1f})':>24}\n"
    )
    say(f"{'pages asked for':28}{ours_pages:>16,}{theirs_pages:>16,}{f'{theirs_pages / ours_pages:.1f}':>24}\n")


def main() -> None:
    """Parse the arguments and run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sessions", type=int, default=200_000)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    with EmbeddedPostgres() as server:
        asyncio.run(compare(server, options.sessions, options.rounds))


if __name__ == "__main__":
    main()
