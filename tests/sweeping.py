"""Rounds in slices of a few rows, on a platform where things happen at random."""

import random
import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from conftest import Database, whole_tour

from exporter.demo.scenarios import SCHEMA
from exporter.measure import sliceable, tiers
from exporter.measure.collect import collect, snapshot_of
from exporter.measure.interpret import Counted
from exporter.measure.session import Session
from exporter.measure.tiers import sweep
from exporter.plan.plan import Plan
from exporter.state.ledger import Ledger
from exporter.state.snapshot import Snapshot
from exporter.state.swept import Swept

MORE = """
alter table assessment_sessions alter created_at drop not null, add deleted_at timestamptz;
create index on assessment_sessions (completed_at);
alter table profiles drop constraint profiles_session_id_fkey, drop constraint profiles_pkey,
  alter session_id drop not null;
create index on profiles (session_id);
"""
TEXT = whole_tour(
    deleted="deleted_at is not null",
    statement_timeout="20s",
    stuck="{statuses: [in_progress], after: 2h}",
    segment="{columns: [completed_questions], top: 2}",
)
EVERY_ROW = re.sub("satisfied_by: [a-z]+_version", "satisfied_by: every_row", TEXT)

COUNTED = TEXT.replace("satisfied_by: any_version", "rows: 1\n        satisfied_by: any_version").replace(
    "satisfied_by: current_version", "rows: {at_most: completed_questions}\n        satisfied_by: current_version"
)


class Sweeping:
    """Rounds on a database, with slices of a few rows."""

    def __init__(self, database: Database, text: str = TEXT, size: int | None = 9) -> None:
        self.plan = database.plan(text)
        self.size = size
        self.seconds = 0.0
        self.ledger: Ledger | None = None

    async def round(self) -> Snapshot:
        measured = await sweep(self.plan, self.ledger, self.seconds, nothing)
        self.ledger = ledger = measured.ledger
        if self.size is not None:
            self.ledger = replace(ledger, slice_sessions=self.size, slice_rows=2 * self.size)
        clock = measured.session.clock.timestamp()
        swept = Swept(ledger.share(self.plan.pipeline.window.start(clock)), ledger.oldest, ledger.differences)
        counted = Counted(measured.cells, measured.of_record, {}, measured.part_faults)
        return snapshot_of(measured.session, counted, (), swept)

    async def whole(self) -> Snapshot:
        """The snapshot after every slice has been counted again."""
        await self.round()
        assert self.ledger is not None
        # The clock stands: slices of before must look older than those of now.
        self.ledger = replace(
            self.ledger,
            slices=tuple(replace(one, taken_at=1.0) for one in self.ledger.slices),
            rows=tuple(replace(one, taken_at=1.0) for one in self.ledger.rows),
        )
        # Many slices in a round: each round looks at the catalog anew.
        seconds, self.seconds = self.seconds, 1.0
        for _ in range(400):
            snapshot = await self.round()
            if self.ledger.is_whole and self.ledger.oldest > 1.0:
                self.seconds = seconds
                return snapshot
        raise AssertionError("the sweep does not end")


async def nothing(_session: Session) -> None:
    return None


async def assert_same(plan: Plan, swept: Snapshot) -> None:
    whole = await collect(plan)
    assert dict(swept.readings.numbers) == dict(whole.readings.numbers)


async def in_small_slices(database: Database, monkeypatch: pytest.MonkeyPatch) -> Database:
    """The tables of the sample platform, a clock that stands, and slices of a few rows."""
    monkeypatch.setattr(tiers, "COHORT_AGE", 0.0)
    monkeypatch.setattr(sliceable, "FIRST_SESSIONS", 4)
    monkeypatch.setattr(sliceable, "FIRST_ROWS", 4)
    await database.execute(SCHEMA + MORE)
    await database.stop_clock("2026-11-20 12:00+00")
    return database


class Life:
    """What happens on a platform, at random."""

    def __init__(self, database: Database, seed: int) -> None:
        self.database = database
        self.random = random.Random(seed)  # noqa: S311 - a repeatable world
        self.now = datetime(2026, 11, 20, 12, tzinfo=UTC)

    async def pass_by(self, longest: timedelta) -> None:
        self.now += longest * self.random.random()
        await self.database.stop_clock(self.now.isoformat())

    async def act(self) -> None:
        await self.random.choice(
            [self.start, self.start, self.start, self.complete, self.derive, self.derive, self.edit, self.delete]
        )()

    async def start(self) -> None:
        ago = timedelta(seconds=self.random.choice([0, 5, 300, 4000, 90_000, 9_000_000, 40_000_000]))
        started = None if self.random.random() < 0.05 else self.now - ago * self.random.random()
        done = self.random.random() < 0.6
        await self.database.execute(
            "insert into assessment_sessions (id, status, created_at, completed_at, finalized_at, completed_questions) "
            "values (gen_random_uuid(), $1, $2, $3, $3, $4)",
            "completed" if done else "in_progress",
            started,
            started + timedelta(minutes=3 * self.random.random()) if started and done else None,
            self.random.choice([0, 100, 240, 240, 240]),
        )

    async def some(self) -> str:
        return f"(select id from assessment_sessions order by md5(id::text || {self.random.random()}) limit 1)"

    async def complete(self) -> None:
        await self.database.execute(
            f"update assessment_sessions set status = 'completed', completed_at = $1, completed_questions = 240 "
            f"where id = {await self.some()}",
            self.now,
        )

    async def derive(self) -> None:
        whose = "gen_random_uuid()" if self.random.random() < 0.1 else await self.some()
        if self.random.random() < 0.5:
            version = self.random.choice(["'v1.2.1'", "'v1.2.1'", "'v1.2.0'", "null", f"'new {self.random.random()}'"])
            who = "null" if self.random.random() < 0.1 else whose
            await self.database.execute(f"insert into profiles values ({who}, {version}, $1)", self.now)
        else:
            whose = "gen_random_uuid()" if "select" not in whose else f"coalesce({whose}, gen_random_uuid())"
            version, kind = self.random.choice(["v1.1", "v1.2", "v1.2"]), self.random.choice(["functions", "other"])
            await self.database.execute(
                f"insert into fc_scores values ({whose}, '{version}', '{kind}', 1, $1) on conflict do nothing", self.now
            )

    async def edit(self) -> None:
        change = self.random.choice(
            ["created_at = created_at - interval '3 days'", "deleted_at = now()", "finalized_at = null", "status = 'x'"]
        )
        await self.database.execute(f"update assessment_sessions set {change} where id = {await self.some()}")

    async def delete(self) -> None:
        table, key = self.random.choice(
            [("assessment_sessions", "id"), ("profiles", "session_id"), ("fc_scores", "session_id")]
        )
        await self.database.execute(f"delete from {table} where {key} = {await self.some()}")
