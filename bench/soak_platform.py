"""The platform of the soak: its config, the transactions that change it all the time, and the truth by plain SQL."""

import asyncio
import random
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final

import asyncpg
from scene import Scene
from waiting import at_most

SESSIONS_KEPT: Final = 2_000
WRITE_EVERY: Final = 0.05

_TOP: Final = """
database: {{url: "${{DATABASE_URL}}", connect_timeout: 2s, statement_timeout: 2s, lock_timeout: 500ms}}
collection: {{interval: {slow}, max_age: {max_age:g}s, mode: {mode}, duty: {duty}, max_label_values: {labels}}}
pipelines:
"""
_PIPELINE: Final = """
  {name}:
    interval: {interval}
    window: {{since: {since}}}
    grace: 20s
    sessions:
      table: public.assessment_sessions
      key: id
      status: status
      started_at: created_at
      completed_at: completed_at
      eligible: status = 'completed' and completed_questions > 0
      checks: {{finalized: finalized_at is not null}}
    records:
{records}
    limits:
      sessions_with_gap: {{critical: 0}}
      invalid_records: {{warning: 0}}
      orphaned_records: {{warning: 0}}
      failed_checks: {{warning: 0}}
"""
_RECORDS: Final = {
    "profiles": """
      profiles:
        table: public.profiles
        session_key: session_id
        created_at: created_at
        version: {column: results_version, current: v1.2.1, accepted: [v1.2.0]}
        satisfied_by: current_version
        unique: [session_id]""",
    "fc_scores": """
      fc_scores:
        table: public.fc_scores
        session_key: session_id
        created_at: created_at
        version: {column: version, current: v1.2}
        accepted_values: {fc_kind: [functions]}
        satisfied_by: current_version
        unique: [session_id, version, fc_kind]""",
}
PIPELINES: Final[Mapping[str, tuple[str, ...]]] = {
    "assessments": ("profiles", "fc_scores"),
    "scores": ("fc_scores",),
    "profiles": ("profiles",),
}
"""The records of each pipeline."""

SINCE: Final = "2025-08-01"
"""The start of the windows; `scores` has another."""


def config(mode: str, scores_since: str, max_age: float, variant: int) -> str:
    """The config of an exporter; each variant has another interval or another cap.

    A round in slices has time for a whole sweep of the small tables, so that a quiet moment ends soon.
    """
    slow, duty = ("1s", "100%") if mode == "full" else ("2s", "80%")
    fast = ("150ms", "160ms")[variant % 2] if mode == "full" else slow
    pipelines = (
        _PIPELINE.format(
            name=name,
            interval=fast if name == "assessments" else slow,
            since=scores_since if name == "scores" else SINCE,
            records="".join(_RECORDS[record] for record in records),
        )
        for name, records in PIPELINES.items()
    )
    top = _TOP.format(slow=slow, max_age=max_age, mode=mode, duty=duty, labels=(50, 40)[variant // 2 % 2])
    return top + "".join(pipelines)


_STATE: Final = {
    "profiles": """
      case
        when exists (select 1 from public.profiles p where p.session_id = e.id and p.results_version = 'v1.2.1')
          then 'current'
        when exists (select 1 from public.profiles p where p.session_id = e.id and p.results_version = 'v1.2.0')
          then 'accepted'
        when e.early then 'pending'
        when exists (select 1 from public.profiles p where p.session_id = e.id) then 'outdated'
        else 'missing'
      end""",
    "fc_scores": """
      case
        when exists (select 1 from public.fc_scores f
                     where f.session_id = e.id and f.version = 'v1.2' and f.fc_kind = 'functions') then 'current'
        when e.early then 'pending'
        when exists (select 1 from public.fc_scores f where f.session_id = e.id and f.version = 'v1.2') then 'invalid'
        when exists (select 1 from public.fc_scores f where f.session_id = e.id) then 'outdated'
        else 'missing'
      end""",
}
_VERSION: Final = {"profiles": "results_version", "fc_scores": "version"}
_INVALID: Final = {"profiles": "false", "fc_scores": "fc_kind <> 'functions'"}

# $1: the moment in Unix seconds; $2: the start of the window.
_SESSIONS: Final = """
with eligible as (
  select id, finalized_at is not null as finalized,
    coalesce(completed_at > to_timestamp($1::float8) - interval '20 s', false) as early
  from public.assessment_sessions
  where status = 'completed' and completed_questions > 0 and created_at >= ($2::text)::timestamptz
), judged as materialized (
  select e.early, e.finalized{states}
  from eligible e
)
select 'eligible_sessions' as metric, '' as record,
  case when {gap} then 'gap' when {pending} then 'pending' else 'complete' end as value, count(*) as n
from judged group by 3
union all
select 'check_sessions', 'finalized', case when finalized then 'pass' when early then 'pending' else 'fail' end,
  count(*)
from judged group by 3
union all
select 'sessions', '', status, count(*) from public.assessment_sessions
where created_at >= ($2::text)::timestamptz group by 3
"""
_RECORD: Final = """
union all
select 'record_sessions', '{record}', of_{record}, count(*) from judged group by 3
union all
select 'records', '{record}', {version}::text, count(*) from public.{record} group by 3
union all
select 'invalid_records', '{record}', '', count(*) from public.{record} where {invalid}
union all
select 'orphaned_records', '{record}', '', count(*) from public.{record} r
where not exists (select 1 from public.assessment_sessions s where s.id = r.session_id)
"""

Truth = Mapping[tuple[str, str, str], int]
"""Numbers by metric, record or check, and state, status or version; without zeros."""


def truth_sql(pipeline: str) -> str:
    """The statement that counts a pipeline, without a line of the exporter."""
    records = PIPELINES[pipeline]
    states = "".join(f",{_STATE[record]} as of_{record}" for record in records)
    gap = " or ".join(f"of_{record} in ('missing', 'outdated', 'invalid')" for record in records)
    pending = " or ".join(f"of_{record} = 'pending'" for record in records)
    return _SESSIONS.format(states=states, gap=gap, pending=pending) + "".join(
        _RECORD.format(record=record, version=_VERSION[record], invalid=_INVALID[record]) for record in records
    )


def verdict_of(truth: Truth) -> str:
    """The verdict under the limits of the config."""
    if truth.get(("eligible_sessions", "", "gap"), 0):
        return "unhealthy"
    is_bad = any(
        key[0] in {"invalid_records", "orphaned_records"} or key == ("check_sessions", "finalized", "fail")
        for key in truth
    )
    return "degraded" if is_bad else "healthy"


# Each statement is a transaction; `{n}` is a random number.  Times of completion are whole minutes: sessions become
# gaps together, 20 s after a minute.
_NEW: Final = """
with fresh as (
  insert into assessment_sessions (id, status, created_at, completed_at, finalized_at, completed_questions)
  select gen_random_uuid(), 'completed', moment - interval '20 minutes', moment, moment, 240
  from (select date_bin('60 s', now() - random() * interval '{days} days', 'epoch') as moment
        from generate_series(1, {rows})) m
  returning id
)"""
_SCORED: Final = """, scored as (
  insert into fc_scores (session_id, version, fc_kind) select id, '{version}', '{kind}' from fresh
)"""
_PROFILED: Final = "\ninsert into profiles (session_id, results_version) select id, '{profile}' from fresh"
_SOME: Final = (
    "(select id from assessment_sessions where status = 'completed' and completed_questions > 0 "
    "order by md5(id::text || '{n}') limit {rows})"
)
LATE_PROFILES: Final = """
insert into profiles (session_id, results_version)
select id, 'v1.2.1' from assessment_sessions s
where status = 'completed' and not exists (select 1 from profiles p where p.session_id = s.id) limit {rows}
on conflict do nothing"""
LATE_SCORES: Final = """
insert into fc_scores (session_id, version, fc_kind)
select id, 'v1.2', 'functions' from assessment_sessions s
where status = 'completed' and not exists (
  select 1 from fc_scores f where f.session_id = s.id and f.version = 'v1.2' and f.fc_kind = 'functions') limit {rows}
on conflict do nothing"""
_TRIM: Final = f"""
with old as (
  select id from assessment_sessions where status = 'completed' order by md5(id::text) offset {SESSIONS_KEPT}
), without_scores as (delete from fc_scores where session_id in (select id from old)),
without_profiles as (delete from profiles where session_id in (select id from old) returning session_id)
update assessment_sessions set status = 'abandoned' where id in (select id from old)"""
_SWEPT_OUT: Final = (
    "delete from assessment_sessions s where status = 'abandoned' and completed_questions >= 240 "
    "and not exists (select 1 from profiles p where p.session_id = s.id)"
)
_ORPHANS: Final = (
    "delete from fc_scores f where not exists (select 1 from assessment_sessions s where s.id = f.session_id)"
)
WRITES: Final[tuple[tuple[int, str], ...]] = (
    (6, _NEW + _SCORED + _PROFILED),
    (4, _NEW + "\nselect count(*) from fresh"),
    (2, _NEW + _PROFILED),
    (4, LATE_PROFILES),
    (4, LATE_SCORES),
    (1, f"delete from fc_scores where session_id in {_SOME}"),
    (1, f"delete from profiles where session_id in {_SOME}"),
    (1, f"update profiles set results_version = '{{profile}}' where session_id in {_SOME}"),
    (1, f"update fc_scores set fc_kind = '{{kind}}' where session_id in {_SOME}"),
    (1, f"update assessment_sessions set finalized_at = null where id in {_SOME}"),
    (2, "update assessment_sessions set finalized_at = completed_at where status = 'completed'"),
    (1, f"update assessment_sessions set status = 'in_progress' where id in {_SOME}"),
    (
        1,
        "update assessment_sessions set status = 'completed' where status = 'in_progress' and completed_at is not null",
    ),
    (2, _TRIM),
    (2, _SWEPT_OUT),
    (1, _ORPHANS),
    (1, "insert into fc_scores (session_id, version, fc_kind) values (gen_random_uuid(), 'v1.1', 'functions')"),
)
"""How often, and what: new sessions, late records, deletions, backfills, versions, invalid rows and orphans."""

HEAL: Final = (
    "delete from profiles where results_version not in ('v1.2.1', 'v1.2.0')",
    "delete from fc_scores where fc_kind <> 'functions'",
    _ORPHANS,
    "update assessment_sessions set finalized_at = completed_at where status = 'completed' and finalized_at is null",
    LATE_PROFILES.format(rows=1_000_000),
    LATE_SCORES.format(rows=1_000_000),
)
"""Everything is complete after this."""


@dataclass
class Writer:
    """Changes the platform, 20 times a second at most; `pause` holds while the lock is taken."""

    scene: Scene
    chance: random.Random
    pause: asyncio.Lock = field(default_factory=asyncio.Lock)
    done: int = 0
    refused: int = 0

    async def run(self) -> None:
        """Write until cancelled, also over the end of the server."""
        while True:
            with suppress(OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError):
                connection = await self.scene.connect()
                try:
                    # A table of a fault stays locked: the writer never holds up the end of a fault.
                    await connection.execute("set lock_timeout = '200ms'; set search_path = public")
                    while not connection.is_closed():
                        await self._write(connection)
                        await asyncio.sleep(WRITE_EVERY)
                finally:
                    connection.terminate()
            await asyncio.sleep(0.2)

    async def _write(self, connection: asyncpg.Connection) -> None:
        weights, statements = zip(*WRITES, strict=True)
        [statement] = self.chance.choices(statements, weights)
        filled = statement.format(
            n=self.chance.randrange(10**9),
            rows=self.chance.randint(1, 8),
            days=self.chance.choice((0, 0, 1, 80)),
            version=self.chance.choice(("v1.1", "v1.2", "v1.2")),
            kind=self.chance.choice(("functions", "functions", "other")),
            profile=self.chance.choice(("v1.2.1", "v1.2.1", "v1.2.0", "v1.1.9")),
        )
        async with self.pause:
            try:
                await connection.execute(filled)
            except asyncpg.PostgresError:
                # In a fault of a table.
                self.refused += 1
            else:
                self.done += 1

    async def heal(self) -> None:
        """Derive what is missing, as a backfill does."""
        await self.scene.execute(*HEAL)


async def truth_at(scene: Scene, pipeline: str, since: str, moment: float) -> Truth:
    """The numbers of a pipeline at a moment."""
    connection = await scene.connect()
    try:
        rows = await connection.fetch(truth_sql(pipeline), moment, f"{since} 00:00+00")
    finally:
        await connection.close(timeout=at_most(5))
    return {(row["metric"], row["record"], row["value"]): row["n"] for row in rows if row["n"]}
