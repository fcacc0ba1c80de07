"""A list is whole or nothing: one snapshot, every table locked, and no end before the last row and the last check.

A truncated table, a lost connection or a time-out would leave a shorter list, and a backfill would miss sessions.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from exporter.measure.controls import Count, prove
from exporter.measure.counts import repeated
from exporter.measure.elsewhere import open_snapshot
from exporter.measure.ending import end
from exporter.measure.query_faults import is_rejection
from exporter.measure.session import Session, subject_of
from exporter.model.elsewhere import identities_of
from exporter.model.fault import Fault
from exporter.model.sections import Config
from exporter.model.terms import terms_of
from exporter.plan.control import Told
from exporter.plan.plan import Plan
from exporter.plan.statement import Cursor, Statement


@dataclass(frozen=True, slots=True)
class Listing:
    """The facts about a complete list.

    `count`: the number that the list explains.  `restricted`: tables with rows that policies may hide.  `taken_at`:
    the time of the snapshot by the database's clock, in Unix seconds.  `identity`: a hash that identifies the
    database, None if unknown, `identities` those of other databases by name.  `terms`: digests of the config keys
    that decide about gaps, with the schemas found in the search path.  The last four do not count for equality.
    """

    count: int
    restricted: tuple[str, ...]
    taken_at: float = field(compare=False)
    identity: str | None = field(compare=False)
    identities: Mapping[str, str] = field(default_factory=dict, compare=False)
    terms: Mapping[str, str] = field(default_factory=dict, compare=False)


class ListNotMeasuredError(Exception):
    """The list is unknown: `faults` prevent the measurement of records or parts."""

    def __init__(self, faults: Sequence[Fault]) -> None:
        super().__init__("\n".join(fault.message for fault in faults))
        self.faults = tuple(faults)


def narrowed(config: Config, pipeline: str, records: Collection[str] | None = None) -> Config:
    """The config with only one pipeline and, if given, some records: no other table is locked or read."""
    chosen = config.pipelines[pipeline]
    if records is not None:
        kept = {name: record for name, record in chosen.records.items() if name in records}
        chosen = chosen.model_copy(update={"records": kept})
    return config.model_copy(update={"pipelines": {pipeline: chosen}})


OnProgress = Callable[[int], None]
"""Takes the number of items so far."""


def ignore_progress(_items: int) -> None:
    """Show no progress."""


@asynccontextmanager
async def whole_snapshot(plan: Plan, count: Count, expected: Told | None = None) -> AsyncIterator[Session]:
    """A snapshot with every record table locked; raises CollectionError and ListNotMeasuredError.

    `count` counts the control platform with the conditions of the list; `expected` as in `prove`.
    """
    async with open_snapshot(plan) as session:
        if session.faults:
            raise ListNotMeasuredError(tuple(session.faults.values()))
        await prove(session, count, expected)
        yield session


async def ended(session: Session, count: int) -> Listing:
    """The facts about a list of so many items, after the checks at the end of a collection."""
    restricted = await end(session)
    plan = session.plan
    terms = terms_of(plan.as_written, plan.sections)
    others = identities_of(session.elsewhere)
    return Listing(count, restricted, session.clock.timestamp(), session.identity, others, terms)


def check_unrepeated(plan: Plan, rows: int, members: int) -> None:
    """Raises ListNotMeasuredError if the list would have a session or a row twice."""
    if rows != members:
        raise ListNotMeasuredError((repeated(_all(plan)),))


Blame = Callable[[Session], Awaitable[Sequence[Fault]]]
"""Finds the faults behind a refused statement; raises CollectionError for the sessions."""


async def fetch_or_blame(session: Session, statement: Statement, blame: Blame) -> list[Any]:
    """The rows of a statement; raises ListNotMeasuredError with the faults that `blame` finds, or else the refusal."""
    rows = await session.attempt(statement, _all(session.plan), is_rejection)
    if isinstance(rows, Fault):
        raise ListNotMeasuredError(tuple(await blame(session)) or (rows,))
    return rows


async def fetch_in_chunks(session: Session, cursor: Cursor, blame: Blame) -> AsyncIterator[list[Any]]:
    """The rows of a cursor, in pieces; raises CollectionError and ListNotMeasuredError.

    The first fetch computes and sorts every row, and so meets every value that does not fit.
    """
    subject = _all(session.plan)
    await session.run(cursor.prepare, subject)
    await fetch_or_blame(session, cursor.open, blame)
    rows = await fetch_or_blame(session, cursor.fetch, blame)
    while rows:
        yield rows
        rows = await session.run(cursor.fetch, subject)
    await session.run(cursor.close, subject)


async def refused_records(session: Session) -> Sequence[Fault]:
    """The faults of refused records, after a refused joint statement; raises CollectionError for the sessions."""
    plan = session.plan
    await check_sessions(session)
    alone = [
        await session.attempt(plan.gap_count((name,)), subject_of(plan, name), is_rejection)
        for name in plan.pipeline.records
    ]
    return [fault for fault in alone if isinstance(fault, Fault)]


async def check_sessions(session: Session) -> None:
    """Raises CollectionError if the sessions alone cannot be counted."""
    await session.run(session.plan.sessions(()), f"{_all(session.plan)}.sessions")


def _all(plan: Plan) -> str:
    return f"pipelines.{plan.pipeline.name}"


def iso(text: str) -> str:
    """PostgreSQL's text of a UTC time as ISO 8601; as text, because the driver supports fewer years."""
    return text.replace(" ", "T", 1).replace("+00", "Z", 1)
