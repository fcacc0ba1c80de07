"""Plan + databases -> the guarded transaction of one collection, with the rows of records in other databases.

The other databases are read first, each in a guarded transaction of its own: a record is written after its session, so
that a row has its session in the later snapshot, unless the session is deleted in between.  A fault there is a fault of
the record.
"""

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace

from exporter.measure.carry import Gathered
from exporter.measure.database import connect
from exporter.measure.ending import end
from exporter.measure.guard import snapshot_on
from exporter.measure.query_faults import is_uncountable
from exporter.measure.session import Session, subject_of
from exporter.model.fault import CollectionError, Fault
from exporter.model.keys import KeyType, read_key_columns
from exporter.plan.elsewhere import (
    MOST,
    TEXT,
    Carried,
    UncarriedError,
    conditions_there,
    named_columns,
    plan_there,
    rows_there,
    type_here,
    with_types_of_all,
)
from exporter.plan.plan import Plan


@asynccontextmanager
async def open_snapshot(plan: Plan, *, unattended: bool = False) -> AsyncIterator[Session]:
    """The guarded transaction of one collection, on a connection of its own; raises CollectionError."""
    gathered = await _gather(plan, unattended=unattended)
    async with connect(plan.database) as connection:
        yield await snapshot_on(connection, plan, unattended=unattended, gathered=gathered)


async def _gather(plan: Plan, *, unattended: bool) -> Gathered:
    """The rows of every record in another database, one database after the other."""
    found = Gathered()
    for name in plan.pipeline.elsewhere:
        began = time.monotonic()
        try:
            read = await _read(plan, name, unattended=unattended)
        except CollectionError as error:
            fault = _of_record(plan, name, error.fault)
            found = replace(found, faults={**found.faults, name: fault})
            continue
        found = replace(
            found,
            rows={**found.rows, name: read.carried},
            restricted=(*found.restricted, *read.restricted),
            as_of={**found.as_of, name: began - read.lag},
            identities={**found.identities, name: read.identity},
        )
    return found


def _of_record(plan: Plan, name: str, fault: Fault) -> Fault:
    """The fault as one of the record, with the database; a message about the connection names no place."""
    place, said = subject_of(plan, name), fault.message
    if said.startswith("pipelines."):
        place, _, said = said.partition(": ")
    return replace(fault, message=f"{place}: database {plan.pipeline.records[name].database}: {said}")


@dataclass(frozen=True, slots=True)
class _Read:
    """The rows of a record; of the other database the lag in seconds, the identity, and the tables with hidden rows."""

    carried: Carried
    lag: float
    identity: str | None
    restricted: tuple[str, ...]


async def _read(plan: Plan, name: str, *, unattended: bool) -> _Read:
    """Read a record in the other database; raises CollectionError."""
    there, subject = with_types_of_all(plan_there(plan, name), name), subject_of(plan, name)
    row_key: tuple[str, ...] = ()
    async with connect(there.database) as connection:
        session = await snapshot_on(connection, there, unattended=unattended, in_slices=True)
        there = session.plan
        if name in session.faults:
            raise CollectionError(session.faults[name])
        if there.keeps_row_keys:
            row_key = tuple([column for (column,) in await session.run(there.primary_key(name), subject)])
            there = with_types_of_all(there, name, row_key)
        columns = [*await session.run(there.keys, subject), *session.computed_keys]
        types = {column.place: column.type for column in read_key_columns(columns) if column.record == name}
        rows = await session.attempt(rows_there(there, name), subject, is_uncountable)
        if isinstance(rows, Fault):
            raise CollectionError(rows)
        restricted = await end(session)
    count = sum(row[0] for row in rows)
    if count > MOST:
        raise CollectionError(
            Fault(
                "statement_timeout",
                f"{subject}: more than {MOST} rows in another database: write where with a condition on the time of "
                "the rows that the window needs, or copy the keys into the database of the sessions",
            )
        )
    named = {column: types[place] for place, column in enumerate(named_columns(there, name))}
    # A key of a row is only shown.
    shown = frozenset(row_key).difference(named_columns(plan, name))
    _check_types(subject, {column: kind for column, kind in named.items() if column not in shown})
    named = {column: TEXT if column in shown else kind for column, kind in named.items()}
    database = plan.pipeline.records[name].database
    carried = Carried(named, conditions_there(there, name), tuple(tuple(row[1:]) for row in rows), row_key)
    lag = 0.0 if session.lag is None else session.lag.total_seconds()
    return _Read(carried, lag, session.identity, tuple(f"{table} of {database}" for table in restricted))


def _check_types(subject: str, named: dict[str, KeyType]) -> None:
    """Raises CollectionError for a column whose type this server may not have."""
    for column, kind in named.items():
        try:
            type_here(column, kind)
        except UncarriedError as error:
            raise CollectionError(Fault("type", f"{subject}: {error}")) from None
