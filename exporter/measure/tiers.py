"""Plan + ledger + database -> Snapshot and the next ledger: a round that reads what changes, and some slices.

A round counts the sessions that started lately, reads the sessions that are not settled again by key, and counts as
many slices as its time allows, in short transactions.  The sums of all slices are the numbers.
"""

import asyncio
import json
import logging
import math
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Final

import asyncpg

from exporter.measure.controls import Prove, prove, told
from exporter.measure.database import connect
from exporter.measure.ending import end
from exporter.measure.guard import repeated_key, snapshot_on
from exporter.measure.interpret import Counted as Answers
from exporter.measure.records import UnknownValueError, read_spreads, with_values_named
from exporter.measure.session import Session, subject_of
from exporter.measure.sliceable import LATE, Tables, begun, cuttable_tables
from exporter.measure.summed import summed
from exporter.model.counting import COHORT_PART, Cells, Rows, Total, Value, Values
from exporter.model.fault import CollectionError, Fault
from exporter.model.metric import CellValue
from exporter.model.ranges import Keyed, Started
from exporter.plan.control import Told
from exporter.plan.plan import MakeRegion, Plan
from exporter.plan.rows import VALUES_AT_ONCE, values_of
from exporter.plan.sessions import KEYS
from exporter.state.ledger import NOTHING, Cohort, Ledger, RowSlice, SessionSlice, added

log = logging.getLogger(__name__)

LISTED_AT_ONCE: Final = 500
"""Sessions that one statement reads again by key, about."""

LISTED_SHARE: Final = 0.2
"""The share (0 to 1) of a round's time for sessions that are read again by key; the rest wait for their turn."""

LISTED: Final = 50_000
"""Sessions that are kept by key, at most; the sweep alone sees changes of the others."""

COHORT_AGE: Final = 60.0
"""Seconds after which the cohort is counted again, if that is cheap."""

COHORT_SHARE: Final = 0.3
"""The share (0 to 1) of the time for slices that the cohort may take, in the long run."""

SLICE_TIMEOUT: Final = timedelta(seconds=5)
"""Longest time of a statement about a slice: a standby cancels queries that hold up its replay for longer than 30 s.
https://www.postgresql.org/docs/current/runtime-config-replication.html#GUC-MAX-STANDBY-STREAMING-DELAY"""

MOST_SESSIONS: Final = 25_000
"""Sessions of a slice, at most: they are sorted in the default work_mem."""

MOST_ROWS: Final = 100_000
"""Rows of a slice, at most."""

HELD: Final = 0.3
"""Seconds after which a transaction begins no other slice."""

_AIM: Final = 0.3
"""Seconds that a slice should take, about: together with `HELD` a snapshot is held for less than a second."""


@dataclass(frozen=True, slots=True)
class Counted:
    """What a statement about a region says: its columns and totals, and the cells and keys of each slice."""

    columns: tuple[str, ...]
    totals: tuple[Total, ...]
    settled: Mapping[int | None, Cells]
    open: Mapping[int | None, Cells]
    keys: Mapping[int | None, tuple[str, ...]]


@dataclass(frozen=True, slots=True)
class Round:
    """A round that was measured: the session it began with, the ledger, and what it says of policies.

    `part_faults`: as in the snapshot.
    """

    session: Session
    ledger: Ledger
    restricted: tuple[str, ...]
    part_faults: Mapping[str, Fault]
    cells: Cells
    of_record: Mapping[str, tuple[Cells, Rows]]


Restore = Callable[[Session], Awaitable[Ledger | None]]
"""Finds the ledger of an earlier process."""


async def sweep(
    plan: Plan,
    ledger: Ledger | None,
    seconds: float,
    restore: Restore,
    *,
    unattended: bool = False,
    proof: Prove = prove,
) -> Round:
    """One round that takes about so many seconds; raises CollectionError.  `proof` as in `collect`."""
    until = time.monotonic() + seconds
    async with connect(plan.database) as connection:
        short = plan.within(SLICE_TIMEOUT)
        session = await snapshot_on(connection, short, unattended=unattended, in_slices=True)
        _refuse_faults(session)
        tables = await cuttable_tables(session, plan.database.statement_timeout)
        await proof(session, every_number_in_slices)
        ledger = _of_tables(ledger or await restore(session), session, tables)
        clock = session.clock.timestamp()
        ledger = ledger.resumed(session.clock, LATE).since(
            datetime.fromtimestamp(session.plan.pipeline.window.start(clock), UTC)
        )
        ledger, totals = await count_changing(session, ledger, seconds * LISTED_SHARE)
        restricted = set(await end(session))
        counted, is_cut_short = ledger, False
        # From the first round on there is something of every table.
        while not is_cut_short and (counted is ledger or time.monotonic() < until or not _has_every_record(ledger)):
            try:
                later = await snapshot_on(connection, short, unattended=unattended, in_slices=True)
                ledger, more = await _slices(later, ledger, totals, until)
                restricted |= set(more)
            except CollectionError as error:
                # The slices of before are whole; the others follow in the next round.
                is_cut_short = ledger is not counted and error.fault.reason in _PASSING
                if not is_cut_short:
                    raise
        # Last: a statement that is cancelled can end the connection.
        if not is_cut_short and _is_cohort_due(session, ledger, seconds):
            cohort, more = await _cohort(connection, plan, ledger, unattended=unattended)
            ledger = replace(ledger, cohort=cohort)
            restricted |= set(more)
    ledger = ledger.next_sweep(clock)
    lost = {COHORT_PART.path: ledger.cohort.fault} if ledger.cohort and ledger.cohort.fault else {}
    # Sums of thousands of slices take time, and scrapes go on.
    cells, of_record = await asyncio.to_thread(summed, session.plan, ledger, totals)
    return Round(session, ledger, tuple(sorted(restricted)), lost, cells, of_record)


_PASSING: Final = frozenset({"recovery_conflict", "lock_timeout", "deadlock", "busy"})
"""Faults of a moment, on a busy server."""


def _of_tables(ledger: Ledger | None, session: Session, tables: Tables) -> Ledger:
    """The ledger if its slices are of these tables, else one without a slice."""
    if ledger is None:
        return begun(session, tables)
    if ledger.tables == tables.identities:
        return ledger
    log.warning(
        "ledger.rebuilt",
        extra={"pipeline": session.plan.pipeline.name, "error": "another table has the name of a measured table"},
    )
    return begun(session, tables)


def _has_every_record(ledger: Ledger) -> bool:
    return set(ledger.keys) <= {one.record for one in ledger.rows}


def _refuse_faults(session: Session) -> None:
    """Raises CollectionError for a fault of a record or a part: slices add up only if each counts everything."""
    for fault in (*session.faults.values(), *session.part_faults.values()):
        raise CollectionError(fault)


async def count_changing(session: Session, ledger: Ledger, seconds: float) -> tuple[Ledger, tuple[Total, ...]]:
    """Count what changes: the latest starts, and the listed sessions."""
    plan, clock = session.plan, session.clock
    sealed = max(ledger.watermark, clock - LATE)
    region = plan.started_in(Started(low=ledger.watermark), [sealed])
    ledger, hot = await _count(session, ledger, region)
    fresh = SessionSlice(
        Started(ledger.watermark, sealed),
        clock.timestamp(),
        hot.settled.get(0, NOTHING),
        hot.open.get(0, NOTHING),
        hot.keys.get(0, ()),
    )
    of_hot = [Cells(hot.columns, ()), *(cells.get(1, NOTHING) for cells in (hot.settled, hot.open))]
    ledger = replace(ledger, watermark=sealed, hot=added(of_hot, hot.totals))
    if fresh.part.low != fresh.part.high:
        ledger = _with_newest(ledger, fresh, hot.totals)
    until = time.monotonic() + seconds
    # The newest sessions in each round, the others in turn.
    ledger, at = await _listed_again(session, ledger, hot.totals, 0)
    at = max(at, ledger.turn)
    while at and time.monotonic() < until:
        ledger, at = await _listed_again(session, ledger, hot.totals, at)
    return replace(ledger, turn=at), hot.totals


def _is_cohort_due(session: Session, ledger: Ledger, seconds: float) -> bool:
    """Whether the cohort is counted in a round of so many seconds."""
    if ledger.cohort is None:
        return session.plan.pipeline.cohort is not None
    interval = session.plan.pipeline.interval.total_seconds()
    rest = ledger.cohort.took * interval / (seconds * COHORT_SHARE) if seconds else 0.0
    return session.clock.timestamp() - ledger.cohort.taken_at >= max(COHORT_AGE, rest)


async def _cohort(
    connection: asyncpg.Connection, plan: Plan, ledger: Ledger, *, unattended: bool
) -> tuple[Cohort, tuple[str, ...]]:
    """Count the cohort, and how its delays are spread, in a transaction; returns also what `end` returns.

    A cohort with too many sessions for one statement is a fault of the cohort alone.
    """
    began = time.monotonic()
    session = await snapshot_on(connection, plan, unattended=unattended, in_slices=True)
    _refuse_faults(session)
    plan, clock = session.plan, session.clock
    try:
        counted = await _count_cohort(session, ledger)
        restricted = await end(session)
    except CollectionError as error:
        if error.fault.reason not in _CANCELLED:
            raise
        fault = Fault(
            error.fault.reason,
            f"{_subject(plan)}.{COHORT_PART.path}: too many sessions to count before the server cancels the statement: "
            "shorten cohort.window, or raise statement_timeout (on a replica max_standby_streaming_delay)",
        )
        return Cohort(clock.timestamp(), time.monotonic() - began, fault=fault), ()
    return replace(counted, took=time.monotonic() - began), restricted


async def _count_cohort(session: Session, ledger: Ledger) -> Cohort:
    plan, clock, cohort = session.plan, session.clock, session.plan.pipeline.cohort
    if cohort is None:
        return Cohort(clock.timestamp(), 0.0)
    part = Started(clock - cohort.maturity - cohort.window, clock - cohort.maturity)
    _, found = await _count(session, ledger, plan.started_in(part, (), "cohort"))
    delays = plan.delays(tuple(plan.pipeline.records), plan.parts)
    spreads = read_spreads(delays, await session.run(delays, _subject(plan)) if delays else [])
    cells = added([*found.settled.values(), *found.open.values()], found.totals)
    return Cohort(clock.timestamp(), 0.0, cells, spreads)


async def every_number_in_slices(session: Session) -> Told:
    """Every number of the control platform, by the statements of rounds in slices."""
    plan = session.plan
    ledger = replace(begun(session, Tables((), {})), slice_sessions=_FEW, slice_rows=_FEW)
    ledger, totals = await count_changing(session, ledger, math.inf)
    while not ledger.is_whole:
        ledger, _ = await _one_slice(session, ledger, totals)
    ledger, totals = await count_changing(session, ledger, math.inf)
    ledger = replace(ledger, cohort=await _count_cohort(session, ledger))
    cells, of_record = summed(plan, ledger, totals)
    return told(plan, Answers(cells, of_record, {}, {}))


_FEW: Final = 10
"""Sessions or rows of the first slices of the control platform."""

_CANCELLED: Final = frozenset({"statement_timeout", "recovery_conflict"})


def _with_newest(ledger: Ledger, fresh: SessionSlice, totals: Sequence[Total]) -> Ledger:
    """The ledger with the sessions between two watermarks: added to the newest slice while that is small."""
    fresh = _within_limit(ledger, fresh, totals)
    newest = max(
        (one for one in ledger.slices if one.part.high == fresh.part.low and not one.part.undated),
        key=lambda one: one.taken_at,
        default=None,
    )
    if newest is None or newest.size >= ledger.slice_sessions:
        return replace(ledger, slices=(*ledger.slices, fresh))
    together = SessionSlice(
        Started(newest.part.low, fresh.part.high),
        newest.taken_at,
        added([newest.settled, fresh.settled], totals),
        added([newest.open, fresh.open], totals),
        (*newest.keys, *fresh.keys),
    )
    return replace(ledger, slices=(*(one for one in ledger.slices if one is not newest), together))


async def _listed_again(session: Session, ledger: Ledger, totals: Sequence[Total], at: int) -> tuple[Ledger, int]:
    """Read some listed sessions again: whole slices, from the place `at` in the order of the newest.

    Returns also the place of the next slice, 0 at the end.
    """
    plan = session.plan
    chosen: list[SessionSlice] = []
    most = min(LISTED_AT_ONCE, ledger.slice_sessions)
    waiting = sorted((one for one in ledger.slices if one.keys), key=lambda one: -_start(one))
    for one in waiting[at:]:
        if chosen and sum(len(c.keys) for c in chosen) + len(one.keys) > most:
            break
        chosen.append(one)
    if not chosen:
        return ledger, 0
    following = at + len(chosen) if at + len(chosen) < len(waiting) else 0
    await session.save(_subject(plan))
    dated = sorted((one for one in chosen if one.part.low is not None), key=_start)
    bounds = [one.part.low for one in dated if one.part.low is not None]
    by_number: dict[int | None, SessionSlice] = dict(enumerate(dated, start=1))
    by_number[0] = (dated or chosen)[0]
    by_number[None] = next((one for one in chosen if one.part.undated), chosen[0])
    keys = [tuple(json.loads(key)) for one in chosen for key in one.keys]
    try:
        starts = [one.part for one in chosen]
        ledger, found = await _count(session, ledger, plan.sessions_with(keys, starts, bounds))
    except CollectionError as error:
        if error.fault.reason != "statement_timeout":
            raise
        # The sweep counts these slices again, and cuts them where they are too slow.
        await session.back(_subject(plan))
        return ledger, following
    slices = {one.part: replace(one, open=NOTHING, keys=()) for one in chosen}
    for number in {*found.settled, *found.open}:
        one = slices[by_number[number].part]
        slices[one.part] = replace(
            one,
            settled=added([one.settled, found.settled.get(number, NOTHING)], totals),
            open=added([one.open, found.open.get(number, NOTHING)], totals),
            keys=(*one.keys, *found.keys.get(number, ())),
        )
    others = tuple(one for one in ledger.slices if one.part not in slices)
    return replace(ledger, slices=(*others, *slices.values())), following


def _start(one: SessionSlice) -> float:
    return one.part.low.timestamp() if one.part.low else float("-inf")


async def _slices(
    session: Session, ledger: Ledger, totals: Sequence[Total], until: float
) -> tuple[Ledger, tuple[str, ...]]:
    """Count slices in one transaction, while it is young and there is time; returns also what `end` returns."""
    _refuse_faults(session)
    last = min(until, time.monotonic() + HELD)
    is_cut = False
    while not is_cut:
        ledger, is_cut = await _one_slice(session, ledger, totals)
        if time.monotonic() >= last:
            break
    return ledger, await end(session)


async def _one_slice(session: Session, ledger: Ledger, totals: Sequence[Total]) -> tuple[Ledger, bool]:
    """Count the next slice: what no slice covers yet, the newest sessions first, else the oldest slice.

    A slice that takes too long is cut into smaller slices, to be counted in a later turn; returns also whether it was.
    """
    subject = _subject(session.plan)
    began = time.monotonic()
    job = _next_rows(ledger)
    await session.save(subject)
    try:
        if job is not None:
            ledger = await _rows(session, ledger, job[0], job[1], is_new=job[2])
            took = time.monotonic() - began
            return replace(ledger, slice_rows=_aimed(ledger.slice_rows, took, MOST_ROWS)), False
        ledger = await _sessions(session, ledger, totals)
        took = time.monotonic() - began
        return replace(ledger, slice_sessions=_aimed(ledger.slice_sessions, took, MOST_SESSIONS)), False
    except CollectionError as error:
        size = ledger.slice_sessions if job is None else ledger.slice_rows
        if error.fault.reason != "statement_timeout" or size <= _LEAST:
            raise
        await session.back(subject)
        smaller = max(_LEAST, size // 4)
        if job is not None:
            return ledger.without_rows(job[0], job[1], smaller), True
        return ledger.without_slice(_next_start(ledger), smaller), True


_LEAST: Final = 50
"""Sessions or rows of a slice, at least."""


def _aimed(size: int, took: float, most: int) -> int:
    """The size of the next slice, after one that took so many seconds."""
    if took < _AIM / 2:
        return min(most, size * 2)
    return max(_LEAST, size // 2) if took > _AIM * 2 else size


def _next_rows(ledger: Ledger) -> tuple[str, Keyed, bool] | None:
    """The record and the range of the next slice of rows, and whether it is new; None if sessions come next.

    Sessions and the records take turns.
    """
    left = [(name, part, True) for name, parts in ledger.keys.items() for part in parts[:1]]
    if left and (not ledger.starts or ledger.is_turn_of_rows or not ledger.rows):
        return min(left, key=lambda job: sum(one.size for one in ledger.rows if one.record == job[0]))
    if ledger.starts or not ledger.rows:
        return None
    oldest = min(ledger.rows, key=lambda one: one.taken_at)
    of_sessions = min((one.taken_at for one in ledger.slices), default=0.0)
    return (oldest.record, oldest.part, False) if oldest.taken_at <= of_sessions else None


def _next_start(ledger: Ledger) -> Started:
    """The range of starts to count next: what no slice covers yet, else the oldest slice."""
    if ledger.starts:
        return ledger.starts[0]
    return min(ledger.slices, key=lambda one: one.taken_at).part


async def _sessions(session: Session, ledger: Ledger, totals: Sequence[Total]) -> Ledger:
    plan, clock = session.plan, session.clock
    first = datetime.fromtimestamp(plan.pipeline.window.start(clock.timestamp()), UTC)
    ledger = replace(ledger, is_turn_of_rows=True)
    part, left = _next_start(ledger), ledger.starts
    if ledger.starts:
        left = left[1:]
        if not part.undated:
            high = part.high or ledger.watermark
            [[low]] = await session.run(plan.earlier_start(high, ledger.slice_sessions), _subject(plan))
            floor = max(part.low or first, first)
            if low is None or low <= floor:
                part = Started(floor, high)
            else:
                part, left = Started(low, high), (Started(part.low, low), *left)
    ledger, found = await _count(session, ledger, plan.started_in(part))
    keys = tuple(key for of_slice in found.keys.values() for key in of_slice)
    settled = added([*found.settled.values()], totals)
    open_cells = added([*found.open.values()], totals)
    taken = _within_limit(ledger, SessionSlice(part, clock.timestamp(), settled, open_cells, keys), totals)
    return replace(ledger, starts=left).with_slice(taken, totals)


def _within_limit(ledger: Ledger, taken: SessionSlice, totals: Sequence[Total]) -> SessionSlice:
    """The slice without keys if more would be kept than `LISTED`: the sweep alone sees changes then."""
    listed = sum(len(one.keys) for one in ledger.slices if one.part != taken.part)
    if listed + len(taken.keys) <= LISTED:
        return taken
    return replace(taken, settled=added([taken.settled, taken.open], totals), open=NOTHING, keys=())


async def _rows(session: Session, ledger: Ledger, record: str, part: Keyed, *, is_new: bool) -> Ledger:
    plan, subject = session.plan, subject_of(session.plan, record)
    ledger = replace(ledger, is_turn_of_rows=False)
    left = ledger.keys[record]
    if is_new:
        left = left[1:]
        if not part.missing:
            high = await _later_key(session, record, part, ledger.slice_rows)
            if high is not None:
                part, left = Keyed(part.low, high), (Keyed(high, part.high), *left)
    # The ranges of one record are every key.
    if not session.is_key_proven and record == next(iter(plan.pipeline.stored)) and not part.missing:
        [[is_unique]] = await session.run(plan.unique_in(part), subject)
        if not is_unique:
            raise CollectionError(repeated_key(plan))
    statement = plan.rows_in(record, part)
    cells = statement.read(await session.run(statement, subject))
    owners = await session.run(plan.owners_in(record, part), subject) if not part.missing else []
    repeats: dict[str, int] = {}
    for of, one in plan.repeats:
        # Rows that repeat each other are in one slice only if they have one session.
        is_within = plan.pipeline.records[record].session_key[0].column in one.columns
        if of == record and (is_within or (record, one.columns) in plan.unique):
            counting = plan.repeated_in(record, one, part)
            repeats[one.name] = (await session.run(counting, subject))[0][0] if counting else 0
    counted = tuple((tuple(flags), count) for *flags, count in owners)
    taken = RowSlice(record, part, session.clock.timestamp(), cells, counted, repeats)
    found = values_of(cells, plan.facets(record))
    return replace(ledger, keys={**ledger.keys, record: left}, values=_known(ledger.values, record, found)).with_rows(
        taken
    )


async def _later_key(session: Session, record: str, part: Keyed, rows: int) -> str | None:
    """The end of the first slice of a range of keys; None if the range is one slice.

    Rows of one key stay together: with many rows of a key the slice is larger.
    """
    for _ in range(_GROWTHS):
        following = await session.run(session.plan.later_key(record, part, rows), subject_of(session.plan, record))
        if not following or following[0][0] != part.low:
            return following[0][0] if following else None
        rows *= 10
    return None


_GROWTHS: Final = 4


async def _count(session: Session, ledger: Ledger, region: MakeRegion) -> tuple[Ledger, Counted]:
    """Count the sessions of a region; learns the values of their rows where a value is new."""
    plan = session.plan
    for attempt in range(2):
        statement = plan.sessions_in(region, ledger.values)
        cells = statement.read(await session.run(statement, _subject(plan)))
        try:
            return ledger, _parted(with_values_named(cells, ledger.values), statement.totals)
        except UnknownValueError:
            if attempt:
                raise
        values = ledger.values
        for name in plan.pipeline.stored:
            near = plan.rows_near(name, region)
            rows = near.read(await session.run(near, subject_of(plan, name)))
            values = _known(values, name, values_of(rows, plan.facets(name)))
        ledger = replace(ledger, values=values)
    raise UnknownValueError


def _known(values: Values, record: str, found: Mapping[str, tuple[Value, ...]]) -> Values:
    """The values with others of a record; a facet that has too many is not told apart by session any more."""
    together = {
        facet: tuple(dict.fromkeys([*known, *found.get(facet, ())])) for facet, known in values.get(record, {}).items()
    }
    told = {name: known for name, known in together.items() if name in found and len(known) <= VALUES_AT_ONCE}
    return {**values, record: told}


def _parted(cells: Cells, totals: tuple[Total, ...]) -> Counted:
    """The cells by slice, settled or not, without the columns that part them; and the keys of each slice."""
    names = ("slice", "unsettled", KEYS)
    by_slice, unsettled, listed = (cells.columns.index(name) for name in names)
    kept = [index for index, name in enumerate(cells.columns) if name not in names]
    columns = tuple(cells.columns[index] for index in kept)
    parted: dict[tuple[int | None, bool], list[tuple[CellValue, ...]]] = {}
    keys: dict[int | None, list[str]] = {}
    for row in cells.rows:
        number = _number(row[by_slice])
        keys.setdefault(number, []).extend(filter(None, str(row[listed] or "").split("\n")))
        parted.setdefault((number, bool(row[unsettled])), []).append(tuple(row[index] for index in kept))
    return Counted(
        columns,
        tuple(total for total in totals if total.name != KEYS),
        {number: Cells(columns, tuple(rows)) for (number, is_open), rows in parted.items() if not is_open},
        {number: Cells(columns, tuple(rows)) for (number, is_open), rows in parted.items() if is_open},
        {number: tuple(found) for number, found in keys.items()},
    )


def _number(value: CellValue) -> int | None:
    return int(value) if isinstance(value, int | float) else None


def _subject(plan: Plan) -> str:
    return f"pipelines.{plan.pipeline.name}"
