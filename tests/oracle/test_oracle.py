"""The exporter against the oracle: on random databases no number differs, none lacks, and none is too many.

So it is with the list of gaps (the oracle's sessions and reasons, in order, as many as the gauges say), with the
worklist of them, and with what is said of it when the database has changed.

They are nearly always the same few, unless the environment variable SESSION_HEALTH_ORACLE_EXAMPLES says how many new
ones to try.
"""

import asyncio
import io
import os
import sys
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Final, Literal, TypeVar

import asyncpg
import pytest
from cases import DIM, Case, Lacking, cases, changes
from conftest import Database
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from model import (
    REASONS,
    RESULTS,
    STATES,
    Series,
    State,
    World,
    comparisons,
    fate,
    gaps,
    gauges,
    refused,
    verdict,
    window_start,
)
from model import Gap as OracleGap
from test_lists import LISTS, assert_explained

from exporter.config.read import parse_config
from exporter.control import control
from exporter.dimensions import DIMENSIONS
from exporter.embedded import EmbeddedPostgres
from exporter.measure.collect import collect
from exporter.mend.gaps import Gap, count_gaps, list_gaps
from exporter.mend.spool import temporary_file
from exporter.mend.verify import Verification, verify
from exporter.mend.whole import narrowed
from exporter.mend.worklist import Author, FilterPart, Worklist
from exporter.model.states import GAP_REASONS, GapReason
from exporter.plan.gaps import EVERY_GAP, GapFilter
from exporter.plan.plan import compile_plans
from exporter.state.snapshot import Snapshot

T = TypeVar("T")
EXAMPLES: Final = int(os.environ.get("SESSION_HEALTH_ORACLE_EXAMPLES", "0"))
FEW: Final = 50
CONTROLLED: Final = 1 if EXAMPLES else 4
"""Of how many databases one is measured with the control."""

LISTED: Final = 30
"""Of how many databases the gaps are listed."""

EXPLAINED: Final = 12
"""Of how many databases everything else is listed, and how many are measured with computed columns."""

VERIFIED: Final = 25
"""Of how many changes a worklist is verified."""

ROUNDS: Final = 32
"""How many times as many are tried before the cases are called tame."""

REACHED: Final = {
    *(("eligible_sessions", state) for state in ("complete", "pending", "gap")),
    *(("record_sessions", state) for state in STATES),
    *(("gap_sessions", reason) for reason in REASONS),
    ("record_sessions", "paid"),
    ("gap_sessions", "paid"),
    *(("records", label) for label in ("current", "accepted", "other", "<other>", "<none>", "<null>", "<empty>")),
    *(("record_version_sessions", label) for label in ("current", "accepted", "other", "<other>")),
    *(("sessions", label) for label in ("<other>", "<null>", "<empty>", "<none>")),
    *(("record_value_rows", label) for label in ("accepted", "invalid", "<other>", "<null>", "<empty>")),
    *(("record_value_sessions", label) for label in ("accepted", "invalid")),
    *(("check_sessions", result) for result in RESULTS),
    *(("key", rule) for rule in ("own", "texts", "numbers", "cast to text", "cast", "refused")),
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
    ("stuck_sessions",),
    *(("segment_sessions", label) for label in ("<other>", "<null>")),
    ("segment_gap_sessions", "scores"),
    ("gap_oldest_timestamp_seconds", "scores"),
    ("orphaned_records", "scores"),
    ("undated_eligible_sessions",),
    ("undated_sessions",),
    ("unlinked_records", "scores"),
}
"""What must have been more than 0 somewhere, else the cases have grown tame."""


class Laboratory:
    """One database that is made anew for each case.

    `reached` has what was more than 0: the names of gauges, each with one of its labels if it has any; and how keys
    were compared.
    """

    def __init__(self, runner: asyncio.Runner, database: Database, lacks: Lacking) -> None:
        self.runner = runner
        self.database = database
        self.lacks = lacks
        self.tried = 0
        self.reached: set[Series] = set()

    def snapshot(self, case: Case) -> Snapshot:
        """What the exporter finds in a database of this case."""
        self.runner.run(self.database.execute(case.script()))
        plan = self.database.plan(case.config())
        if self.tried % CONTROLLED == 0:
            # Whatever the database, the numbers of the control are the known ones.
            plan = replace(plan, control=control())
        snapshot = self.runner.run(collect(plan))
        self.tried += 1
        faults = {**snapshot.record_faults, **snapshot.part_faults}
        assert {name: fault.reason for name, fault in faults.items()} == dict.fromkeys(refused(case.world), "type"), (
            faults
        )
        assert snapshot.taken_at == case.world.clock.timestamp()
        return snapshot

    def measure(self, case: Case) -> dict[Series, float]:
        """Every number of it, and the verdict."""
        snapshot = self.snapshot(case)
        found: dict[Series, float] = snapshot.readings.numbers
        return {**found, ("verdict", snapshot.judgement.verdict(is_complete=not snapshot.record_faults)): 1}

    def agreed_but_for_foreign_keys(self, case: Case, changed: Case) -> set[str]:
        """The metrics above 0, if the changed case has the numbers that the oracle has for the case."""
        expected = gauges(case.world)
        expected["verdict", verdict(case.world, expected)] = 1
        found = self.measure(changed)
        for numbers in (expected, found):
            for series in [series for series in numbers if series[0] == "foreign_key_enforced"]:
                del numbers[series]
        if wrong := differences(found, expected):
            raise AssertionError(wrong)
        return {metric for (metric, *_), value in expected.items() if value}

    def gaps(self, case: Case) -> list[Gap]:
        """The gaps that the exporter lists of the case that was measured."""
        found: list[Gap] = []
        plan = self.database.plan(case.config())
        assert self.runner.run(list_gaps(plan, found.append)).count == len(found)
        return found

    def count(self, case: Case, record: str | None = None, wanted: GapFilter = EVERY_GAP) -> int:
        """How many they are, by the exporter."""
        config = narrowed(
            parse_config(case.config(), {"DATABASE_URL": self.database.dsn}), "random", [record] if record else None
        )
        return self.runner.run(count_gaps(compile_plans(config, DIMENSIONS)["random"], wanted)).count

    def worklist(self, case: Case, filters: FilterPart) -> Worklist:
        """A worklist of the case that was measured."""
        plan, body = self.database.plan(case.config()), io.BytesIO()
        author = Author(body, plan, 3)
        listing = self.runner.run(list_gaps(plan, author.take, filters.wanted))
        with temporary_file() as file:
            author.publish(file, listing, filters)
            file.seek(0)
            return Worklist(io.BytesIO(file.read()))

    def verify(
        self, case: Case, worklist: Worklist
    ) -> tuple[Verification, dict[tuple[str, ...], dict[str, GapReason]]]:
        """What is said of a worklist in a database of this case, and of those that are still a gap."""
        self.runner.run(self.database.execute(case.script()))
        still: dict[tuple[str, ...], dict[str, GapReason]] = {}
        plan = self.database.plan(case.config())
        return self.runner.run(verify(plan, worklist, lambda of: still.update({of.session: dict(of.reasons)}))), still


@pytest.fixture
def laboratory(server: EmbeddedPostgres, capsys: pytest.CaptureFixture[str]) -> Iterator[Laboratory]:
    async def lacking(database: Database) -> Lacking:
        names = await database.connection.fetch("select name from pg_available_extensions where name = 'citext'")
        found: set[Literal["citext", "icu", "not enforced"]] = set() if names else {"citext"}
        if database.connection.get_server_version().major < 18:
            found.add("not enforced")
        try:
            await database.execute(*DIM.needs)
        except asyncpg.FeatureNotSupportedError:
            found.add("icu")
        return frozenset(found)

    async def connect() -> Database:
        admin = await asyncpg.connect(server.dsn())
        await admin.execute("create database oracle")
        await admin.close()
        return Database(server.dsn("oracle"), await asyncpg.connect(server.dsn("oracle")))

    async def drop() -> None:
        await made.database.connection.close(timeout=5)
        admin = await asyncpg.connect(server.dsn())
        await admin.execute("drop database oracle with (force)")
        await admin.close()

    with asyncio.Runner() as runner:
        database = runner.run(connect())
        made = Laboratory(runner, database, runner.run(lacking(database)))
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


def on_random_databases(
    number: int, claim: Callable[[T], None], drawn: st.SearchStrategy[T], unreached: Callable[[], Collection[object]]
) -> None:
    """Hold a claim on so many cases, or on as many as the environment asks for.

    `unreached` has what no case was yet.  While something is left of it, as many cases follow, up to `ROUNDS` times:
    a seed alone does not decide what is drawn, for Hypothesis draws constants of the loaded modules as well.
    """
    rounds = -(-EXAMPLES // number) or 1
    for round_ in range(max(rounds, ROUNDS)):
        if round_ >= rounds and not unreached():
            break

        @settings(
            max_examples=number,
            database=None,
            deadline=None,
            phases=[Phase.generate, Phase.shrink],
            suppress_health_check=list(HealthCheck),
            print_blob=bool(EXAMPLES),
        )
        @given(case=drawn)
        def holds(case: T) -> None:
            claim(case)

        always_the_same = seed(round_)(holds)
        (holds if EXAMPLES else always_the_same)()
    assert not unreached(), "the cases have grown tame"


def test_the_exporter_and_the_oracle_agree(laboratory: Laboratory) -> None:
    def agree(case: Case) -> None:
        expected = gauges(case.world)
        expected["verdict", verdict(case.world, expected)] = 1
        found = laboratory.measure(case)
        for (metric, *labels), value in expected.items():
            if value:
                laboratory.reached |= {(metric,), *((metric, label) for label in labels)}
        for record in case.world.pipeline["records"].values():
            if "exists" not in record:
                found_rules = comparisons(case.world, record)
                laboratory.reached |= {("key", how.rule if how else "refused") for how in found_rules}
        if wrong := differences(found, expected):
            raise AssertionError(wrong)

    drawn = cases(lacks=laboratory.lacks, refusals=True)
    on_random_databases(FEW, agree, drawn, lambda: REACHED - laboratory.reached)


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
            assert laboratory.count(case, name, GapFilter((reason,))) == numbers.get(("gap_sessions", name, reason), 0)
        if "segment" in case.world.pipeline["sessions"]:
            for segment, number in Counter(gap.segment for gap in expected.values()).most_common(1):
                assert laboratory.count(case, wanted=GapFilter(segment=segment)) == number
                listed["segment"] += 1
        for gap in found:
            listed.update(gap.reasons.values())
            listed[f"{len(gap.reasons)} reasons"] += 1
            listed["undated" if gap.completed_at is None else "dated"] += 1
            listed["NULL in the key" if None in gap.session else "keyed"] += 1

    wanted = {*GAP_REASONS, "1 reasons", "2 reasons", "3 reasons", "undated", "dated", "NULL in the key", "segment"}
    on_random_databases(LISTED, agree, cases(lacks=laboratory.lacks), lambda: wanted - listed.keys())


def test_computed_columns_that_repeat_columns_change_no_number(laboratory: Laboratory) -> None:
    compared: set[str] = set()

    def agree(case: Case) -> None:
        if any(kind.base == "citext" for of in case.world.types.values() for kind in of.values()):
            return  # SQL with such a column is refused without its schema in the search path.
        # The catalog knows no foreign key of a computed column.
        compared.update(laboratory.agreed_but_for_foreign_keys(case, replace(case, is_computed=True)))

    wanted = {series[0] for series in REACHED} - {"key", "foreign_key_enforced"}
    on_random_databases(EXPLAINED, agree, cases(lacks=laboratory.lacks, refusals=True), lambda: wanted - compared)


def test_records_of_another_database_give_the_numbers_of_one(
    laboratory: Laboratory, monkeypatch: pytest.MonkeyPatch
) -> None:
    compared: set[str] = set()
    # The clock of the database stands, and so no time passes between its two snapshots.
    monkeypatch.setattr("exporter.measure.carry.elapsed_since", lambda _: 0.0)

    def agree(case: Case) -> None:
        if any(kind.base in ("citext", "mood") for of in case.world.types.values() for kind in of.values()):
            return  # A type of the other database is compared as text, or refused with the cast to write.
        # No constraint reaches another database.
        compared.update(laboratory.agreed_but_for_foreign_keys(case, replace(case, is_apart=True)))

    wanted = {series[0] for series in REACHED} - {"key", "foreign_key_enforced"}
    on_random_databases(EXPLAINED, agree, cases(lacks=laboratory.lacks, refusals=True), lambda: wanted - compared)


def test_every_list_has_as_many_as_the_number_says(laboratory: Laboratory) -> None:
    explained: Counter[str] = Counter()

    def agree(case: Case) -> None:
        snapshot = laboratory.snapshot(case)
        plan = laboratory.database.plan(case.config())
        explained.update(laboratory.runner.run(assert_explained(plan, snapshot)))

    wanted = LISTS.keys()
    on_random_databases(EXPLAINED, agree, cases(lacks=laboratory.lacks), lambda: wanted - (+explained).keys())


def test_what_is_said_of_a_worklist_is_what_the_oracle_says(laboratory: Laboratory) -> None:
    told: Counter[str] = Counter()

    def agree(change: tuple[Case, Case]) -> None:
        before, after = change
        laboratory.measure(before)
        reason = [None, None, *GAP_REASONS][laboratory.tried % 7]
        wanted = [reason] if reason else REASONS
        lacking = gaps(before.world)
        is_cut = "segment" in before.world.pipeline["sessions"] and laboratory.tried % 2 and lacking
        segment = lacking[0].segment if is_cut else None
        list_of_then = {key: why for key, why in named(lacking, wanted, segment) if None not in key}
        worklist = laboratory.worklist(before, FilterPart(record=None, reason=reason, segment=segment))

        assert {listed.session: dict(listed.reasons) for listed in worklist.sessions()} == list_of_then

        judged = in_window_of(after.world, before.world)
        fates = {key: fate(judged, key, why, wanted) for key, why in list_of_then.items()}
        now = dict(named(gaps(judged), wanted, segment))
        new = Counter(
            (name, why)
            for key, reasons in now.items()
            for name, why in reasons.items()
            if None not in key and name not in list_of_then.get(key, {})
        )
        found, still = laboratory.verify(after, worklist)

        assert +Counter(found.sessions) == Counter(one.session for one in fates.values())
        for name in before.world.pipeline["records"]:
            of_record = Counter(one.records[name] for one in fates.values() if name in one.records)
            assert +Counter(found.records[name]) == of_record
            assert {why: number for why, number in found.new[name].items() if number} == {
                why: number for (of, why), number in new.items() if of == name
            }
        assert still == {key: one.lacks for key, one in fates.items() if one.lacks}
        assert found.new_sessions == len([key for key in now if None not in key and key not in list_of_then])
        for one in fates.values():
            told.update({one.session, *one.records.values()})
        told.update({"new": sum(new.values()), "unnamed": found.unnamed, "of a segment": segment is not None})

    fated = {"fixed", "gap", "pending", "gone", "left_window", "not_eligible", "new"}
    # Of the numbers of rows the list of gaps tells every reason.
    all_told = {*fated, "missing", "outdated", "invalid", "unnamed", "of a segment"}
    on_random_databases(VERIFIED, agree, changes(lacks=laboratory.lacks), lambda: all_told - (+told).keys())


def in_window_of(after: World, before: World) -> World:
    """The world with the window that a worklist of an earlier world was made with, to the second."""
    if "last" not in after.pipeline["window"]:
        return after
    start = window_start(replace(before, clock=before.clock.replace(microsecond=0)))
    return replace(after, pipeline={**after.pipeline, "window": {"since": start.isoformat()}})


def named(
    found: Sequence[OracleGap], wanted: Sequence[str], segment: str | None = None
) -> Iterator[tuple[tuple[str | None, ...], dict[str, State]]]:
    """Those gaps of the oracle, by key, that are one for a wanted reason, of one segment or of all."""
    for gap in found:
        if segment is not None and gap.segment != segment:
            continue
        reasons = {name: why for name, why in gap.reasons.items() if why in wanted}
        if reasons:
            yield gap.session, reasons


def moment(text: str | None) -> str | None:
    """A time of the list as the oracle writes it."""
    return None if text is None else datetime.fromisoformat(text).astimezone(UTC).isoformat()
