"""The exporter against the oracle: on random databases no number differs, none lacks, and none is too many.

So it is with the list of gaps: the oracle's sessions and reasons, in order, as many as the gauges say.

They are always the same few, unless the environment variable SESSION_HEALTH_ORACLE_EXAMPLES says how many new
ones to try.
"""

import asyncio
import os
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from typing import Final

import asyncpg
import pytest
from cases import Case, cases
from conftest import Database
from hypothesis import HealthCheck, Phase, given, settings
from model import REASONS, STATES, Series, gaps, gauges, verdict

from exporter.config import parse_config
from exporter.embedded import EmbeddedPostgres
from exporter.gaps import Gap, count_gaps, list_gaps, narrowed
from exporter.serve import compile_plans
from exporter.snapshot import Snapshot
from exporter.states import GAP_REASONS, GapReason

EXAMPLES: Final = int(os.environ.get("SESSION_HEALTH_ORACLE_EXAMPLES", "0"))
FEW: Final = 400
LISTED: Final = 200
"""Of how many databases the gaps are listed."""

REACHED: Final = {
    *(("eligible_sessions", state) for state in ("complete", "pending", "gap")),
    *(("record_sessions", state) for state in STATES),
    *(("gap_sessions", reason) for reason in REASONS),
    *(("records", label) for label in ("current", "accepted", "other", "<other>", "<none>", "<null>", "<empty>")),
    *(("record_version_sessions", label) for label in ("current", "accepted", "other", "<other>")),
    *(("sessions", label) for label in ("<other>", "<null>", "<empty>")),
    *(("record_value_rows", label) for label in ("accepted", "invalid", "<other>", "<null>", "<empty>")),
    *(("record_value_sessions", label) for label in ("accepted", "invalid")),
    *(("check_sessions", result) for result in ("pass", "fail")),
    *(("cohort_sessions", step) for step in ("started", "completed", "covered")),
    *(("processing_delay_seconds", percentile) for percentile in ("50", "95", "99")),
    *(("newest_session_timestamp_seconds", step) for step in ("started", "completed")),
    *(("verdict", name) for name in ("healthy", "degraded", "unhealthy", "no_data", "unknown")),
    ("detached_records", "scores"),
    ("duplicate_records", "scores"),
    ("invalid_records", "scores"),
    ("newest_due_timestamp_seconds", "scores"),
    ("newest_record_timestamp_seconds", "scores"),
    ("processing_delay_sessions", "scores"),
    ("drifted_records", "scores"),
    ("foreign_key_enforced", "scores"),
    ("future_sessions",),
    ("gap_oldest_timestamp_seconds", "scores"),
    ("orphaned_records", "scores"),
    ("undated_eligible_sessions",),
    ("undated_sessions",),
    ("unlinked_records", "scores"),
}
"""What must have been more than 0 somewhere, else the cases have grown tame."""


class Laboratory:
    """One database that is made anew for each case.

    `reached` has what was more than 0: the names of gauges, each with one of its labels if it has any.
    """

    def __init__(self, runner: asyncio.Runner, database: Database) -> None:
        self.runner = runner
        self.database = database
        self.tried = 0
        self.reached: set[Series] = set()

    def snapshot(self, case: Case) -> Snapshot:
        """What the exporter finds in a database of this case."""
        self.runner.run(self.database.execute(case.script()))
        snapshot = self.runner.run(self.database.measure(case.config())).snapshot
        self.tried += 1
        assert snapshot.record_faults == {}
        assert snapshot.taken_at == case.world.clock.timestamp()
        return snapshot

    def measure(self, case: Case) -> dict[Series, float]:
        """Every number of it, and the verdict."""
        snapshot = self.snapshot(case)
        found: dict[Series, float] = {(s.metric.name, *s.labels): s.value for s in snapshot.samples}
        return {**found, ("verdict", snapshot.judgement.verdict(is_complete=True)): 1}

    def gaps(self, case: Case) -> list[Gap]:
        """The gaps that the exporter lists of the case that was measured."""
        found: list[Gap] = []
        plan = self.database.plan(case.config())
        assert self.runner.run(list_gaps(plan, found.append)).sessions == len(found)
        return found

    def count(self, case: Case, record: str | None = None, reasons: Sequence[GapReason] = GAP_REASONS) -> int:
        """How many they are, by the exporter."""
        config = narrowed(parse_config(case.config(), {"DATABASE_URL": self.database.dsn}), "random", record)
        return self.runner.run(count_gaps(compile_plans(config)["random"], reasons)).sessions


@pytest.fixture
def laboratory(server: EmbeddedPostgres, capsys: pytest.CaptureFixture[str]) -> Iterator[Laboratory]:
    async def connect() -> Database:
        admin = await asyncpg.connect(server.dsn())
        await admin.execute("create database oracle")
        await admin.close()
        database = Database(server.dsn("oracle"), await asyncpg.connect(server.dsn("oracle")))
        await database.stop_clock("now")
        return database

    async def drop() -> None:
        await made.database.connection.close(timeout=5)
        admin = await asyncpg.connect(server.dsn())
        await admin.execute("drop database oracle with (force)")
        await admin.close()

    with asyncio.Runner() as runner:
        made = Laboratory(runner, runner.run(connect()))
        yield made
        runner.run(drop())
    if EXAMPLES:
        with capsys.disabled():
            sys.stdout.write(f"\noracle: {made.tried} databases tried\n")


def differences(found: dict[Series, float], expected: dict[Series, float]) -> str:
    """A line for each series of which the two say something else."""
    return "\n".join(
        f"{series[0]}{list(series[1:])}: the exporter says {found.get(series)}, the oracle {expected.get(series)}"
        for series in sorted(found.keys() | expected.keys())
        if found.get(series) != expected.get(series)
    )


def on_random_databases(number: int, laboratory: Laboratory, claim: Callable[[Case], None]) -> None:
    """Hold a claim on so many cases, or on as many as the environment asks for."""

    @settings(
        max_examples=number,
        derandomize=not EXAMPLES,
        database=None,
        deadline=None,
        phases=[Phase.generate, Phase.shrink],
        suppress_health_check=list(HealthCheck),
        print_blob=bool(EXAMPLES),
    )
    @given(case=cases())
    def holds(case: Case) -> None:
        claim(case)

    holds()
    while laboratory.tried < EXAMPLES:
        holds()


def test_the_exporter_and_the_oracle_agree(laboratory: Laboratory) -> None:
    def agree(case: Case) -> None:
        expected = gauges(case.world)
        expected["verdict", verdict(case.world, expected)] = 1
        found = laboratory.measure(case)
        for (metric, *labels), value in expected.items():
            if value:
                laboratory.reached |= {(metric, label) for label in labels} if labels else {(metric,)}
        if wrong := differences(found, expected):
            raise AssertionError(wrong)

    on_random_databases(FEW, laboratory, agree)

    assert laboratory.reached >= REACHED


def test_the_list_of_gaps_is_the_oracles_and_as_long_as_the_gauges_say(laboratory: Laboratory) -> None:
    listed: Counter[str] = Counter()

    def agree(case: Case) -> None:
        numbers = laboratory.measure(case)
        expected = {gap.session: gap for gap in gaps(case.world)}
        found = laboratory.gaps(case)

        assert [gap.session for gap in found] == list(dict.fromkeys(gap.session for gap in found))
        assert {gap.session: dict(gap.reasons) for gap in found} == {k: dict(g.reasons) for k, g in expected.items()}
        assert {gap.session: moment(gap.completed_at) for gap in found} == {
            key: gap.completed_at for key, gap in expected.items()
        }
        due = [expected[gap.session].since for gap in found]
        assert due == sorted(due)
        assert laboratory.count(case) == numbers["eligible_sessions", "gap"]
        reason = GAP_REASONS[laboratory.tried % len(GAP_REASONS)]
        for name in case.world.pipeline["records"]:
            assert laboratory.count(case, name, [reason]) == numbers["gap_sessions", name, reason]
        for gap in found:
            listed.update(gap.reasons.values())
            listed[f"{len(gap.reasons)} reasons"] += 1
            listed["undated" if gap.completed_at is None else "dated"] += 1
            listed["NULL in the key" if None in gap.session else "keyed"] += 1

    on_random_databases(LISTED, laboratory, agree)

    assert listed.keys() >= {*GAP_REASONS, "1 reasons", "2 reasons", "3 reasons", "undated", "dated", "NULL in the key"}


def moment(text: str | None) -> str | None:
    """A time of the list as the oracle writes it."""
    return None if text is None else datetime.fromisoformat(text).astimezone(UTC).isoformat()
