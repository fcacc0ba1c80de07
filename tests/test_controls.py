"""The controls: a platform of known numbers, counted in each collection by the same statements."""

import asyncio
import json
import os
import re
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any, cast

import pytest
import yaml
from conftest import Beginning, Database, care, whole_tour
from planted import FILES_OF_SLICES, Planted, outcome, planted
from sweeping import nothing

from exporter.control import CLOCK, control, pipeline_text, tables
from exporter.dimensions import DIMENSIONS
from exporter.measure.collect import collect
from exporter.measure.controls import PROVEN_FOR, Count, SeldomProof, every_number, measured
from exporter.measure.elsewhere import open_snapshot
from exporter.measure.rounds import Rounds
from exporter.measure.session import Session
from exporter.measure.sliceable import UnsliceableError
from exporter.measure.tiers import every_number_in_slices, sweep
from exporter.mend.gaps import count_gaps, gaps_of_control, list_gaps
from exporter.mend.lists import count_members, known_members, list_members, members_of_control
from exporter.mend.whole import Listing
from exporter.model.fault import CollectionError, Fault
from exporter.model.sections import CollectionSettings
from exporter.plan.control import Told
from exporter.plan.plan import Plan
from exporter.plan.transaction import UNKNOWN_SERVER

sys.path.insert(0, str(Path(__file__).parent / "oracle"))

from model import Base, Row, Table, Truth, Type, World, gauges

NUMBERS = Path(__file__).parent.parent / "exporter" / "control" / "numbers.json"

BEGINNING = Beginning(
    """
    create table visits (id int primary key, status text, started_at timestamptz, completed_at timestamptz,
      done boolean);
    create table scores (id int, visit_id int);
    insert into visits select n, 'x', '2025-01-01', '2025-01-02', true from generate_series(1, 3) n;
    insert into scores select n, n from generate_series(1, 2) n;
    """
)
CONFIG = care(scores="")


async def numbers_of(database: Database, count: Count = every_number) -> Told:
    async with open_snapshot(database.plan(CONFIG)) as session:
        found = await measured(session, control(), count)
        return {name: values for name, values in found.items() if values}


async def rows_of(database: Database, name: str) -> tuple[list[dict[str, Any]], dict[str, Type]]:
    sql = f"with {tables()[name]} select * from {name}"
    prepared = await database.connection.prepare(sql)
    kinds = {column.name: column.type.name for column in prepared.get_attributes()}
    types = {name: Type(kind, cast("Base", kind)) for name, kind in kinds.items()}
    return [{key: as_modelled(value) for key, value in row.items()} for row in await prepared.fetch()], types


def as_modelled(value: object) -> object:
    """A value of the driver as the oracle has it."""
    return "-infinity" if isinstance(value, datetime) and value.year == 1 else value


def as_written(told: Told) -> str:
    """The numbers as the file has them: a line for each series."""
    parts = []
    for name in sorted(told):
        series = ",\n    ".join(json.dumps([*labels, value]) for labels, value in sorted(told[name].items()))
        parts.append(f'  "{name}": [\n    {series}\n  ]')
    return "{\n" + ",\n".join(parts) + "\n}\n"


BOOLEANS = ("is_complete", "is_eligible", "is_deleted", "is_right", "needs_lenient")


def says(name: str) -> Callable[[Row], Truth]:
    return lambda row: row[name]


TRUTHS: Mapping[str, Callable[[Row], Truth]] = {name: says(name) for name in BOOLEANS} | {
    "score > 0": lambda row: None if row["score"] is None else row["score"] > 0,
    "status is distinct from 'test'": lambda row: row["status"] != "test",
    "not is_hidden": lambda row: None if row["is_hidden"] is None else not row["is_hidden"],
}


async def test_the_numbers_are_those_of_the_oracle(visits: Database) -> None:
    config: Mapping[str, Any] = yaml.safe_load(re.sub(r"(\d{4}-\d\d-\d\d)", r"'\1'", pipeline_text()))
    found = {name: await rows_of(visits, name) for name in tables()}
    world = World(
        CLOCK,
        config,
        {name: Table(rows) for name, (rows, _) in found.items()},
        {name: types for name, (_, types) in found.items()},
        TRUTHS,
        50,
    )
    expected: dict[str, dict[tuple[str, ...], float]] = {}
    for (name, *labels), value in gauges(world).items():
        expected.setdefault(f"session_health_{name}", {})[tuple(labels)] = float(value)

    assert await numbers_of(visits) == expected
    # If the platform has changed on purpose, the file is written anew from this text.
    assert NUMBERS.read_text() == as_written(expected)


async def test_a_collection_with_the_control_has_the_same_numbers(visits: Database) -> None:
    plan = visits.plan(CONFIG)

    snapshot = await collect(replace(plan, control=control()))

    assert snapshot.readings.numbers == (await collect(plan)).readings.numbers


async def test_a_wrong_number_voids_the_collection(visits: Database) -> None:
    known = control()
    wrong: Told = {**known.expected, "session_health_orphaned_records": {("bare",): 2.0}}
    plan = replace(visits.plan(CONFIG), control=replace(known, expected=wrong))

    with pytest.raises(CollectionError, match="session_health_orphaned_records") as refused:
        await collect(plan)

    assert refused.value.fault.reason == "control_failed"


@pytest.mark.parametrize(
    ("kind", "operator", "other"), [("int8", "=", "int8ne"), ("timestamptz", ">=", "timestamptz_lt")]
)
async def test_a_server_that_compares_wrongly_is_found(visits: Database, kind: str, operator: str, other: str) -> None:
    """An operator of the server itself, changed by a superuser: as a damaged catalog or extension may be."""
    await visits.execute(
        f"set allow_system_table_mods = on; update pg_operator set oprcode = '{other}'::regproc "
        f"where oprname = '{operator}' and oprleft = '{kind}'::regtype and oprright = '{kind}'::regtype"
    )
    plan = visits.plan(CONFIG)

    with pytest.raises(CollectionError) as refused:
        await collect(replace(plan, control=control()))

    assert refused.value.fault.reason == "control_failed"


async def test_slices_count_the_same_numbers(visits: Database) -> None:
    assert await numbers_of(visits, every_number_in_slices) == control().expected


async def test_slices_that_are_impossible_are_not_proved(visits: Database) -> None:
    """A pipeline without indexes for slices tries slices in each round, before a full pass."""

    async def proof(_session: Session, _count: Count) -> None:
        pytest.fail("the control was counted")

    with pytest.raises(UnsliceableError):
        await sweep(visits.plan(CONFIG), None, 1.0, nothing, proof=proof)


async def test_slices_have_the_control_too(visits: Database) -> None:
    await visits.execute("create index on visits (started_at); create index on scores (visit_id); analyze")
    known = control()
    wrong: Told = {**known.expected, "session_health_orphaned_records": {}}
    settings = CollectionSettings(mode="tiered")
    plan = visits.plan(care(database="allow_superuser: true", scores=""))

    rounds = Rounds(settings)
    assert (await rounds(replace(plan, control=known))).swept is not None
    assert (await rounds(replace(plan, control=replace(known, expected=wrong)))).swept is not None, "not counted again"
    with pytest.raises(CollectionError) as refused:
        await Rounds(settings)(replace(plan, control=replace(known, expected=wrong)))

    assert refused.value.fault.reason == "control_failed"


class Counting:
    """A clock that only counts of the control and the tests move; each count takes 0.04 s."""

    def __init__(self) -> None:
        self.now = 0.0
        self.counts = 0
        self.seldom = SeldomProof(lambda: self.now)

    async def count(self, session: Session) -> Told:
        self.now += 0.04
        self.counts += 1
        return await every_number(session)

    async def round(self, session: Session, seconds: float) -> bool:
        """A collection that takes so many seconds; whether the control was counted."""
        before = self.counts
        with self.seldom.collecting():
            await self.seldom(session, self.count)
            self.now += seconds
        return self.counts > before


@pytest.fixture
async def proved(visits: Database) -> AsyncIterator[tuple[Counting, Session]]:
    async with open_snapshot(replace(visits.plan(CONFIG), control=control())) as session:
        counting = Counting()
        assert await counting.round(session, 0.1)
        yield counting, session


async def test_counts_of_the_control_take_a_hundredth_of_the_time(proved: tuple[Counting, Session]) -> None:
    counting, session = proved

    told = [await counting.round(session, 0.1) for _ in range(200)]

    assert [nth for nth, is_counted in enumerate(told) if is_counted] == [39, 79, 119, 159, 199]
    await counting.round(session, 4.0)
    assert all([await counting.round(session, 4.0) for _ in range(5)]), "each long collection is proved"


async def test_the_control_is_counted_once_an_hour_at_least(proved: tuple[Counting, Session]) -> None:
    counting, session = proved
    assert not await counting.round(session, 0.1)

    counting.now += PROVEN_FOR

    assert await counting.round(session, 0.1)


async def test_the_control_is_counted_again_after_a_failure(proved: tuple[Counting, Session]) -> None:
    counting, session = proved
    with pytest.raises(CollectionError), counting.seldom.collecting():
        raise CollectionError(Fault("connect", "gone"))

    assert await counting.round(session, 0.1)


@pytest.mark.parametrize("change", ["identity", "abilities", "statements"])
async def test_the_control_is_counted_again_on_another_server(proved: tuple[Counting, Session], change: str) -> None:
    counting, session = proved
    if change == "identity":
        session.identity = "of another cluster"
    elif change == "abilities":
        session.abilities = UNKNOWN_SERVER
    else:
        counting.count = partial(counting.count)  # type: ignore[method-assign]

    assert await counting.round(session, 0.1)


async def test_a_running_exporter_counts_the_control_seldom(visits: Database) -> None:
    known, rounds = control(), Rounds(CollectionSettings())
    plan = visits.plan(care(database="allow_superuser: true", scores=""))
    right, wrong = (replace(plan, control=replace(known, expected=told)) for told in (known.expected, {}))

    await rounds(right)
    await rounds(wrong)
    await visits.execute("alter table visits rename to gone")
    with pytest.raises(CollectionError):
        await rounds(right)
    await visits.execute("alter table gone rename to visits")
    with pytest.raises(CollectionError) as refused:
        await rounds(wrong)

    assert refused.value.fault.reason == "control_failed"


SAMPLE = int(os.environ.get("SESSION_HEALTH_PLANTED_EVERY", "10"))
"""One of so many planted faults is tried."""


async def test_the_control_alone_finds_planted_faults(backfill: Database) -> None:
    """Faults in the SQL and its reading that make a number of the sample platform wrong, without any error."""
    wrong, missed = await found_by_the_control(backfill, [*planted()][::SAMPLE])

    assert wrong >= 3
    assert len(missed) <= wrong * 0.05, missed


async def test_the_control_alone_finds_faults_planted_into_slices(backfill: Database) -> None:
    await backfill.execute("create index on assessment_sessions (created_at); create index on fc_scores (session_id)")

    faults = [one for one in planted(FILES_OF_SLICES) if SAMPLE == 1 or one.text in ("is null", "is not null")]

    wrong, missed = await found_by_the_control(backfill, faults, in_slices=True)

    assert wrong >= 2
    assert missed == []


LISTS = {
    "gaps": lambda plan: list_gaps(plan, lambda _: None),
    "count of gaps": count_gaps,
    "list": lambda plan: list_members(plan, "orphaned_records", ["scores"], lambda _: None),
    "count of a list": lambda plan: count_members(plan, "orphaned_records", ["scores"]),
}


@pytest.mark.parametrize("measure", LISTS.values(), ids=LISTS)
async def test_a_list_of_a_detector_that_miscounts_is_no_list(
    visits: Database, measure: Callable[[Plan], Awaitable[Listing]]
) -> None:
    known = control()
    wrong: Told = {
        **known.expected,
        "session_health_orphaned_records": {**known.expected["session_health_orphaned_records"], ("strict",): 7.0},
        "session_health_gap_sessions": {},
    }
    plan = visits.plan(CONFIG)

    await measure(replace(plan, control=known))
    with pytest.raises(CollectionError) as refused:
        await measure(replace(plan, control=replace(known, expected=wrong)))

    assert refused.value.fault.reason == "control_failed"


@pytest.mark.parametrize("name", [name for d in DIMENSIONS for name in d.every_list])
async def test_every_list_of_the_control_is_as_long_as_the_number_says(visits: Database, name: str) -> None:
    plan = replace(visits.plan(CONFIG), control=control())
    known = known_members(plan, name)

    assert await numbers_of(visits, members_of_control(name)) == ({name: known[name]} if known[name] else {})


async def test_the_gaps_of_the_control_are_those_of_the_gauges(visits: Database) -> None:
    name = "session_health_gap_sessions"
    assert await numbers_of(visits, gaps_of_control) == {name: control().expected[name]}


async def found_by_the_control(
    backfill: Database, faults: Sequence[Planted], *, in_slices: bool = False
) -> tuple[int, list[str]]:
    """How many of the faults make a number wrong, and those of them that the control does not find."""
    text = whole_tour(deleted="status = 'abandoned'")
    # The cohort is relative to the clock: with the time that passes, every number would change.
    await backfill.stop_clock(await backfill.connection.fetchval("select now()::text"))
    truth = outcome(None, backfill.dsn, text, in_slices=in_slices)
    assert (truth["reason"], truth["control"]) == (None, None)

    wrong, missed = 0, []
    for fault in faults:
        told = await asyncio.to_thread(outcome, fault, backfill.dsn, text, in_slices=in_slices)
        if told.get("numbers", truth["numbers"]) != truth["numbers"]:
            wrong += 1
            missed += [] if told["control"] == "control_failed" else [str(fault)]
    return wrong, missed
