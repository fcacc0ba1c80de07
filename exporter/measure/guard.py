"""Plan + connection -> the guarded transaction of one collection, with locks held and expressions checked.

A refusal that concerns one record becomes a fault of the record.  A fault that prevents the snapshot raises
`CollectionError`.
"""

import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import asyncpg

from exporter.measure.carry import NOTHING, Gathered, carry
from exporter.measure.database import connect
from exporter.measure.ending import foreign_table
from exporter.measure.expressions import read_expressions
from exporter.measure.links import links_of
from exporter.measure.locks import LOCKS_SHARE, hold_locks, too_many_locks
from exporter.measure.query_faults import LOST, is_rejection
from exporter.measure.session import Session, subject_of
from exporter.model.fault import CollectionError, Fault
from exporter.model.sections import Database
from exporter.model.sql import TableName
from exporter.plan.plan import Plan
from exporter.plan.replica import AURORA_STATUS_SQL, STATUS_SQL, ReplicationStatus, lag
from exporter.plan.statement import Statement
from exporter.plan.transaction import (
    END,
    IDENTITY,
    Abilities,
    Found,
    before,
    begin,
    busy,
    found_tables,
    resolved,
    search,
    tables_of,
)


async def snapshot_on(
    connection: asyncpg.Connection,
    plan: Plan,
    *,
    unattended: bool = False,
    in_slices: bool = False,
    gathered: Gathered = NOTHING,
) -> "Session":
    """Begin the guarded transaction: locks held, snapshot taken, expressions checked; raises CollectionError.

    After `end` the connection is ready for another.  `in_slices`: without an index that proves the key of the sessions
    unique, the slices check the key.  `gathered`: the rows of records in other databases.
    """
    session = await _looked(connection, plan.database)
    if unattended:
        _refuse_powers(session)
        await _refuse_while_busy(session, plan)
    plan = (await _found(session, plan)).looking(session.look)
    await _begin(session, plan.begin)
    subject = plan.subject
    tables = {subject_of(plan, name): record.table for name, record in plan.pipeline.records.items()}
    session.tables = {subject: plan.pipeline.sessions.table, **tables}
    session.lag = _lag(session.before, session.before, plan)
    session.faults = {**session.faults, **gathered.faults, **await hold_locks(session, plan)}
    await _read_catalog(session, plan)
    plan, carried = await carry(session, plan, gathered)
    if plan.computed:
        plan = await _computed(session, plan)
    session.computed_keys = [*session.computed_keys, *carried]
    links, unlike, types = await links_of(session, plan)
    session.faults = {**unlike, **session.faults}
    [proofs] = await session.run(plan.indexes, subject)
    session.plan = plan = plan.linked(links, types).with_indexes(proofs)
    # Some managed services forbid pg_control_system(): then the identity is None.
    told = await session.attempt(IDENTITY, "identity", is_rejection)
    session.identity = None if isinstance(told, Fault) else told[0][0]
    if plan.search:
        await session.run(plan.search, subject)
    if in_slices:
        [[session.is_key_proven]] = await session.run(plan.key_proof, subject)
    elif not (await session.run(plan.unique_key, subject))[0][0]:
        raise CollectionError(repeated_key(plan))
    await read_expressions(session, are_columns=False)
    return session


@asynccontextmanager
async def open_transaction(database: Database, tables: Sequence[TableName] = ()) -> AsyncIterator["Session"]:
    """The guarded transaction without a measurement, for `init` and `config check`; raises CollectionError.

    `found` of the session has the relations with the names of `tables`.
    """
    async with connect(database) as connection:
        session = await _looked(connection, database)
        await _find(session, tables)
        await _begin(session, begin(database))
        yield session


async def _looked(connection: asyncpg.Connection, database: Database) -> "Session":
    session = Session(connection, database)
    [row] = await _before(session)
    *look, deadlock_timeout, can_watch, powers, searched = row
    session.abilities = Abilities(connection.get_server_version().major, can_watch)
    session.before = ReplicationStatus(*look)
    session.deadlock_timeout = timedelta(milliseconds=deadlock_timeout)
    session.powers = tuple(powers)
    session.searched = database.search_path or tuple(searched)
    return session


async def _before(session: "Session") -> list[Any]:
    try:
        return await session.connection.fetch(before().sql, timeout=session.patience)
    except asyncpg.FeatureNotSupportedError:
        session.look = AURORA_STATUS_SQL
    except (asyncpg.PostgresError, *LOST) as error:
        raise CollectionError(session.fault(error, "begin", before())) from None
    try:
        return await session.connection.fetch(before(AURORA_STATUS_SQL).sql, timeout=session.patience)
    except asyncpg.PostgresError:
        raise CollectionError(
            Fault(
                "replica_lag",
                "the server is a replica that does not report its lag: connect to the writer",
            )
        ) from None
    except LOST as error:
        raise CollectionError(session.fault(error, "begin", before())) from None


async def _begin(session: "Session", statement: Statement) -> None:
    await session.run(session.abilities.extend(statement), "begin")


async def _refuse_while_busy(session: "Session", plan: Plan) -> None:
    """Raises CollectionError while the database is busy by the SQL of the config."""
    sql = session.database.busy_when
    if sql is None:
        return
    await _begin(session, begin(session.database))
    if plan.search:
        await session.run(plan.search, "begin")
    [[is_busy]] = await session.run(busy(sql), f"databases.{plan.pipeline.database}.busy_when")
    await session.run(END, "begin")
    if is_busy:
        raise CollectionError(
            Fault(
                "busy",
                f"databases.{plan.pipeline.database}.busy_when is true: the exporter tries again at the next interval",
            )
        )


async def _computed(session: "Session", plan: Plan) -> Plan:
    """The plan with computed columns as the server finds them; the session has the types of computed keys."""
    subject = plan.subject
    session.plan = plan
    if plan.search:
        await session.run(plan.search, subject)
    await read_expressions(session, are_columns=True)
    plan = session.plan
    known = {name: record for name, record in plan.pipeline.records.items() if name not in session.faults}
    measurable = plan.about(plan.pipeline.model_copy(update={"records": known}))
    session.computed_keys = await session.run(measurable.computed_keys, subject)
    await session.run(search(()), subject)
    return plan


def _refuse_powers(session: "Session") -> None:
    """Raises CollectionError for a powerful role: functions behind a view run with the rights of the role."""
    if session.powers and not session.database.allow_superuser:
        raise CollectionError(
            Fault(
                "permission",
                f"the role may do more than read ({', '.join(session.powers)}): the owner of a view or function could "
                "run programs on the database host through the exporter: use a role that may only SELECT, or write "
                "allow_superuser: true in the section of the database",
            )
        )


async def _find(session: "Session", tables: Sequence[TableName]) -> None:
    if tables:
        rows = await session.run(found_tables(tables, session.searched), "begin")
        session.found = {table: Found(*row) for table, row in zip(tables, rows, strict=True)}
        bare = {table: found.schema for table, found in session.found.items() if table.schema is None}
        session.schemas = {table.name: schema for table, schema in bare.items() if schema is not None}


async def _found(session: "Session", plan: Plan) -> Plan:
    """The plan with a schema for each table that the config names without a schema."""
    await _find(session, tables_of(plan.pipeline))
    plan = plan.about(resolved(plan.pipeline, session.found))
    if plan.pipeline.sessions.table.schema is None:
        raise CollectionError(_nowhere(plan.subject, plan.pipeline.sessions.table))
    session.faults = {
        name: _nowhere(subject_of(plan, name), record.table)
        for name, record in plan.pipeline.records.items()
        if record.database is None and record.table.schema is None
    }
    return plan


def _nowhere(subject: str, table: TableName) -> Fault:
    return Fault(
        "missing_object",
        f"{subject}: relation {table.sql} does not exist in the search path: write the schema before the table "
        f"(schema.{table.written}), or create the table",
    )


def _lag(before: ReplicationStatus, now: ReplicationStatus, plan: Plan) -> timedelta | None:
    found = lag(before, now, plan.database.max_replica_lag)
    if isinstance(found, Fault):
        raise CollectionError(found)
    return found


async def _read_catalog(session: Session, plan: Plan) -> None:
    """Read the clock, the lag, the catalog readings of the plan, and the faults of foreign tables and time zones."""
    subject = plan.subject
    asked = time.time()
    await session.run(plan.snapshot, subject)
    ours = (asked + time.time()) / 2
    [[taken, *row]] = await session.run(plan.catalog, subject)
    now = ReplicationStatus(*row[: len(STATUS_SQL)])
    session.clock_offset = taken.timestamp() - ours
    session.lag = _lag(session.before, now, plan)
    # On a replica the rows are as of the last replayed commit.
    session.clock = taken if session.lag is None else now.clock - session.lag
    foreign, zones, locks, room, *session.facts = row[len(STATUS_SQL) :]
    if None in foreign:
        raise CollectionError(foreign_table(subject))
    if None in zones:
        raise CollectionError(_abbreviated(subject))
    if locks > room * LOCKS_SHARE:
        raise CollectionError(too_many_locks(f"pipelines.{plan.pipeline.name}", locks, room))
    session.faults = {
        **session.faults,
        **{name: foreign_table(subject_of(plan, name)) for name in foreign},
        **{name: _abbreviated(subject_of(plan, name)) for name in zones},
    }


def repeated_key(plan: Plan) -> Fault:
    """The fault of sessions that share a key."""
    key = ", ".join(plan.pipeline.sessions.key)
    return Fault(
        "duplicate_key",
        f"pipelines.{plan.pipeline.name}.sessions.key: several rows share a value of ({key}): name columns that are "
        "unique for each session",
    )


def _abbreviated(subject: str) -> Fault:
    return Fault(
        "type",
        f"{subject}.timezone: an abbreviation is ambiguous and has no summer time: write the IANA name of the zone, "
        "such as Europe/Berlin or Asia/Kolkata",
    )
