"""Plan + database -> Snapshot.  The only module that runs measuring SQL.

What the database refuses about one record becomes a value in the snapshot; what keeps us from taking a
snapshot at all raises `CollectionError`.
"""

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import asyncpg

from exporter.database import (
    LOST,
    PATIENCE_SECONDS,
    CollectionError,
    connect,
    is_refused_lock,
    is_rejection,
    query_fault,
)
from exporter.dimension import (
    CatalogMeasure,
    Cells,
    Dimension,
    Measure,
    Metric,
    Part,
    PartMeasure,
    Readings,
    RecordMeasure,
    Rows,
    SessionMeasure,
    Values,
)
from exporter.judge import judge
from exporter.plan import END, IDENTITY, REPLICA, Plan, Statement, begin
from exporter.replica import LOOK, Look, lag
from exporter.schema import Database
from exporter.snapshot import Fault, Sample, Snapshot, fold, folded, label_text
from exporter.sql import TableName


@dataclass(frozen=True, slots=True)
class Counted:
    """The answers of the database: cells by record, and what was refused.

    `sessions` has the cells of the sessions (with the states of every record, where all were counted together),
    `of_record` those for each measured record with its own rows, `parts` the paths of the parts that were measured.
    """

    sessions: Cells
    of_record: Mapping[str, tuple[Cells, Rows]]
    parts: frozenset[str]
    record_faults: Mapping[str, Fault]
    part_faults: Mapping[str, Fault]


async def collect(plan: Plan) -> Snapshot:
    """Measure one pipeline; raises CollectionError when no snapshot could be taken."""
    async with open_snapshot(plan) as session:
        measurable = tuple(name for name in plan.pipeline.records if name not in session.faults)
        counted = await _count(session, plan, measurable)
        restricted = await see_what_was_read(session, plan)
        await session.run(END, "end")
    measured = interpret(plan, counted, session.facts)
    limit = plan.max_label_values
    kept = {metric: fold(metric, values, limit) for metric, values in measured.items()}
    faults = {name: counted.record_faults[name] for name in plan.pipeline.records if name in counted.record_faults}
    return Snapshot(
        pipeline=plan.pipeline.name,
        taken_at=session.clock.timestamp(),
        samples=tuple(Sample(metric, *series) for metric, values in kept.items() for series in values.items()),
        record_faults=faults,
        part_faults=counted.part_faults,
        restricted=restricted,
        folded={m.full_name: folded(m, values, limit) for m, values in measured.items() if m.open_label},
        judgement=judge(
            plan.dimensions,
            Readings(plan.pipeline, session.clock.timestamp(), {m.name: values for m, values in kept.items()}),
            frozenset(faults),
            frozenset(counted.part_faults),
            restricted,
        ),
        replica_lag=None if session.lag is None else session.lag.total_seconds(),
        identity=session.identity,
    )


@asynccontextmanager
async def open_snapshot(plan: Plan) -> AsyncIterator["Session"]:
    """The guarded transaction of one collection, its locks held and its snapshot taken; raises CollectionError."""
    async with open_transaction(plan.database) as session:
        tables = {subject_of(plan, name): record.table for name, record in plan.pipeline.records.items()}
        session.tables = {f"pipelines.{plan.pipeline.name}.sessions": plan.pipeline.sessions.table, **tables}
        session.lag = _lag(session.before, session.before, plan)
        session.faults = await _lock(session, plan)
        await _read_catalog(session, plan)
        # Some services keep it from everybody: then nobody can tell.
        told = await session.attempt(IDENTITY, "identity", is_rejection)
        session.identity = None if isinstance(told, Fault) else told[0][0]
        yield session


@asynccontextmanager
async def open_transaction(database: Database) -> AsyncIterator["Session"]:
    """The same transaction before anything was asked, for whoever does not measure; raises CollectionError."""
    async with connect(database) as connection:
        session = Session(connection, database)
        [row] = await session.run(REPLICA, "begin")
        session.before = Look(*row)
        await session.run(begin(database), "begin")
        yield session


_NO_CLOCK: Final = datetime.min.replace(tzinfo=UTC)


@dataclass(slots=True)
class Session:
    """A guarded transaction: runs statements, and survives those that are refused.

    `before` is the look at its recovery before it began.  `clock` is the snapshot's: on a replica, `lag` ago.  `tables`
    has what is read by the keys of the config that name it, `faults` the records whose tables could not be held,
    `facts` the values of the plan's catalog readings, `identity` what tells the database from others, None where it
    says nothing.
    """

    connection: asyncpg.Connection
    database: Database
    clock: datetime = _NO_CLOCK
    before: Look = field(default_factory=lambda: Look(_NO_CLOCK, None, None, None))
    lag: timedelta | None = None
    tables: Mapping[str, TableName] = field(default_factory=dict)
    faults: Mapping[str, Fault] = field(default_factory=dict)
    facts: Sequence[Any] = ()
    identity: str | None = None

    async def run(self, statement: Statement, subject: str) -> list[Any]:
        """The rows of a statement; raises CollectionError, for whoever calls this cannot do without."""
        try:
            return await self._ask(statement)
        except (asyncpg.PostgresError, *LOST) as error:
            raise CollectionError(self._fault(error, subject)) from None

    async def attempt(
        self, statement: Statement, subject: str, refusals: Callable[[asyncpg.PostgresError], bool]
    ) -> list[Any] | Fault:
        """The rows of a statement, or why the server refused it; the snapshot stays usable either way.

        Raises CollectionError for an error that is not among `refusals`.
        """
        await self.run(_SAVE, subject)
        try:
            rows = await self._ask(statement)
        except asyncpg.PostgresError as error:
            fault = self._fault(error, subject)
            if self.connection.is_closed() or not refusals(error):
                raise CollectionError(fault) from None
            await self.run(_BACK, subject)
            # A materialized view cannot be locked, nor does a REFRESH make it look empty; the catalog tells it
            # from a foreign table, which is refused there.
            unlockable = not statement.returns_rows and isinstance(error, asyncpg.WrongObjectTypeError)
            return [] if unlockable else fault
        except LOST as error:
            raise CollectionError(self._fault(error, subject)) from None
        await self.run(_RELEASE, subject)
        return rows

    async def _ask(self, statement: Statement) -> list[Any]:
        patience = self.database.statement_timeout.total_seconds() + PATIENCE_SECONDS
        if not statement.returns_rows:
            await self.connection.execute(statement.sql, timeout=patience)
            return []
        return await self.connection.fetch(statement.sql, *statement.arguments(self.clock), timeout=patience)

    def _fault(self, error: BaseException, subject: str) -> Fault:
        timeout = self.database.statement_timeout.total_seconds()
        return query_fault(error, subject, self.tables.get(subject), timeout, is_replica=self.before.paused is not None)


_SAVE = Statement("save", "savepoint attempt", returns_rows=False)
_BACK = Statement("back", "rollback to savepoint attempt", returns_rows=False)
_RELEASE = Statement("release", "release savepoint attempt", returns_rows=False)


async def _lock(session: Session, plan: Plan) -> dict[str, Fault]:
    """Hold every table that is there; a record's that is not is that record's fault."""
    pipeline = plan.pipeline
    sessions = await session.attempt(plan.lock_sessions, f"pipelines.{pipeline.name}.sessions", is_refused_lock)
    if isinstance(sessions, Fault):
        raise CollectionError(sessions)
    faults = {}
    for name, statement in plan.lock_records.items():
        locked = await session.attempt(statement, subject_of(plan, name), is_refused_lock)
        if isinstance(locked, Fault):
            faults[name] = locked
    return faults


def subject_of(plan: Plan, record: str) -> str:
    """The keys of the config that lead to a record: what its faults are about."""
    return f"pipelines.{plan.pipeline.name}.records.{record}"


def _lag(before: Look, now: Look, plan: Plan) -> timedelta | None:
    found = lag(before, now, plan.database.max_replica_lag)
    if isinstance(found, Fault):
        raise CollectionError(found)
    return found


async def _read_catalog(session: Session, plan: Plan) -> None:
    """Note the snapshot's clock and lag, the values of the plan's catalog readings, and tables that are not ours."""
    subject = f"pipelines.{plan.pipeline.name}.sessions"
    [row] = await session.run(plan.catalog, subject)
    now = Look(*row[: len(LOOK)])
    session.lag = _lag(session.before, now, plan)
    session.clock = now.clock - (session.lag or timedelta(0))
    unique, foreign, unlike, *session.facts = row[len(LOOK) :]
    if None in foreign:
        raise CollectionError(_foreign(subject))
    session.faults = {
        **session.faults,
        **{name: _foreign(subject_of(plan, name)) for name in foreign},
        **{name: _unlike(subject_of(plan, name)) for name in unlike},
    }
    if not unique:
        key = ", ".join(plan.pipeline.sessions.key)
        raise CollectionError(
            Fault(
                "duplicate_key",
                f"{subject}.key: several rows share a value of ({key}): name columns that tell sessions apart",
            )
        )


def _unlike(subject: str) -> Fault:
    return Fault(
        "type",
        f"{subject}.session_key: equal values of its type are not those of the type of sessions.key: write "
        "{column: …, cast: …} with the type of sessions.key",
    )


def _foreign(subject: str) -> Fault:
    return Fault(
        "row_security",
        f"{subject}: a foreign table: what its server hides from us cannot be seen from here, nor is it part of the "
        "snapshot: measure it on its own server",
    )


async def see_what_was_read(session: Session, plan: Plan) -> tuple[str, ...]:
    """The tables of which policies show us only some rows; raises CollectionError where what was read is not whole."""
    subject = f"pipelines.{plan.pipeline.name}"
    tables = await session.run(plan.touched, subject)
    if rewritten := [table["name"] for table in tables if table["rewritten"]]:
        raise CollectionError(
            Fault(
                "table_rewrite",
                f"{subject}: {', '.join(rewritten)} was rewritten (TRUNCATE, ALTER TABLE, REFRESH) while we read, and "
                "would look empty: tried again at the next interval",
            )
        )
    if foreign := [table["name"] for table in tables if table["is_foreign"]]:
        raise CollectionError(_foreign(f"{subject}: {', '.join(foreign)}, read through a view or a sub-query"))
    if plan.database.row_security == "strict":
        return ()  # A policy that applied would have been refused; one that the owner of a view escapes hides nothing.
    return tuple(table["name"] for table in tables if table["restricted"])


async def _count(session: Session, plan: Plan, names: Sequence[str]) -> Counted:
    """Count all together; where that is rejected, parts and records apart, so that only the culprit is lost."""
    pipeline = f"pipelines.{plan.pipeline.name}"
    counted = together = await _count_records(session, plan, names, plan.parts, pipeline)
    part_faults = await _part_faults(session, plan) if isinstance(together, Fault) else {}
    parts = tuple(part for part in plan.parts if part.path not in part_faults)
    if part_faults:
        counted = await _count_records(session, plan, names, parts, pipeline)
    faults = dict(session.faults)
    if not isinstance(counted, Fault):
        sessions, rows = counted
        of_record = {name: (sessions, plan.rows_of(name, rows)) for name in names}
    else:
        alone = plan.sessions((), parts)
        sessions = alone.read(await session.run(alone, f"{pipeline}.sessions"))
        of_record, apart = await _count_records_apart(session, plan, names, parts)
        if not apart:
            # Each is accepted alone but not all together: none is the culprit, so none may look whole.
            raise CollectionError(counted)
        faults |= apart
    return Counted(sessions, of_record, frozenset(part.path for part in parts), faults, part_faults)


async def _count_records_apart(
    session: Session, plan: Plan, names: Sequence[str], parts: Sequence[Part]
) -> tuple[dict[str, tuple[Cells, Rows]], dict[str, Fault]]:
    counted, faults = {}, {}
    for name in names:
        found = await _count_records(session, plan, (name,), parts, subject_of(plan, name))
        if isinstance(found, Fault):
            faults[name] = found
        else:
            counted[name] = (found[0], plan.rows_of(name, found[1]))
    return counted, faults


async def _part_faults(session: Session, plan: Plan) -> dict[str, Fault]:
    """Why parts are refused, by their paths; where all are accepted together none is asked for by itself."""
    pipeline = f"pipelines.{plan.pipeline.name}"
    if not plan.parts or not isinstance(await _count_records(session, plan, (), plan.parts, pipeline), Fault):
        return {}
    faults = {}
    for part in plan.parts:
        found = await _count_records(session, plan, (), (part,), f"{pipeline}.{part.path}")
        if isinstance(found, Fault):
            faults[part.path] = found
    return faults


async def _count_records(
    session: Session, plan: Plan, names: Sequence[str], parts: Sequence[Part], subject: str
) -> tuple[Cells, Cells] | Fault:
    cells = []
    statements = (plan.sessions(names, parts), *((plan.rows(names, parts),) if names else ()))
    for statement in statements:
        rows = await session.attempt(statement, subject, is_rejection)
        if isinstance(rows, Fault):
            return rows
        cells.append(statement.read(rows))
    return cells[0], cells[1] if names else Cells((), ())


def interpret(plan: Plan, counted: Counted, facts: Sequence[Any]) -> dict[Metric, dict[tuple[str, ...], float]]:
    """Every number that the counts support, by metric and labels; the rest is absent, never 0."""
    known = {
        (id(reading.measure), reading.record): fact for reading, fact in zip(plan.catalog_readings, facts, strict=True)
    }
    found: dict[Metric, dict[tuple[str, ...], float]] = {}
    for dimension in plan.dimensions:
        for measure in dimension.measures:
            found.setdefault(measure.metric, {}).update(_measured(plan, dimension, measure, counted, known))
    return found


def _measured(
    plan: Plan, dimension: Dimension, measure: Measure, counted: Counted, known: Mapping[tuple[int, str], Any]
) -> dict[tuple[str, ...], float]:
    pipeline = plan.pipeline
    values: dict[tuple[str, ...], float] = {}
    match measure:
        case SessionMeasure():
            if not (measure.needs_every_record and counted.record_faults):
                values = _labelled(measure.read(pipeline, counted.sessions))
        case PartMeasure():
            for part in dimension.parts(pipeline):
                if part.path in counted.parts:
                    values |= _labelled(measure.read(pipeline, part, counted.sessions), part.name)
        case RecordMeasure():
            for name, (sessions, rows) in counted.of_record.items():
                values |= _labelled(measure.read(pipeline.records[name], sessions, rows), name)
        case CatalogMeasure():
            for name in counted.of_record:
                values |= _labelled({(): float(known[id(measure), name])}, name)
    return values


def _labelled(values: Values, *prefix: str) -> dict[tuple[str, ...], float]:
    return {(*prefix, *map(label_text, labels)): float(value) for labels, value in values.items()}
