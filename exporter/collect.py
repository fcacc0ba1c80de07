"""Plan + database -> Snapshot.  The only module that runs measuring SQL.

What the database refuses about one record becomes a value in the snapshot; what keeps us from taking a
snapshot at all raises `CollectionError`.
"""

from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

import asyncpg

from exporter.database import PATIENCE_SECONDS, CollectionError, connect, is_refused_lock, is_rejection, query_fault
from exporter.dimension import Cells, Metric, RecordMeasure, SessionMeasure, Values
from exporter.plan import END, Plan, Statement
from exporter.snapshot import Fault, Sample, Snapshot, fold, label_text


@dataclass(frozen=True, slots=True)
class Counted:
    """The answers of the database: cells by record, and what was refused.

    `sessions` has the cells of the sessions (with the states of every record, where all were counted
    together), `of_record` those for each measured record with the cells of its own rows.
    """

    sessions: Cells
    of_record: Mapping[str, tuple[Cells, Cells]]
    faults: Mapping[str, Fault]


async def collect(plan: Plan) -> Snapshot:
    """Measure one pipeline; raises CollectionError when no snapshot could be taken."""
    async with open_snapshot(plan) as session:
        measurable = tuple(name for name in plan.pipeline.records if name not in session.faults)
        counted = await _count(session, plan, measurable)
        await session.run(END, "end")
    return Snapshot(
        pipeline=plan.pipeline.name,
        taken_at=session.clock.timestamp(),
        samples=tuple(interpret(plan, counted, session.facts)),
        record_faults={name: counted.faults[name] for name in plan.pipeline.records if name in counted.faults},
    )


@asynccontextmanager
async def open_snapshot(plan: Plan) -> AsyncIterator["Session"]:
    """The guarded transaction of one collection, its locks held and its snapshot taken; raises CollectionError."""
    async with connect(plan.database) as connection:
        session = Session(connection, plan)
        await session.run(plan.begin, "begin")
        session.faults = await _lock(session, plan)
        await _read_catalog(session, plan)
        yield session


_NO_CLOCK: Final = datetime.min.replace(tzinfo=UTC)


@dataclass(slots=True)
class Session:
    """The transaction of one collection: runs statements, and survives those that are refused.

    `clock` is the snapshot's, `faults` has the records whose tables could not be held, `facts` the values of
    the plan's catalog readings.
    """

    connection: asyncpg.Connection
    plan: Plan
    clock: datetime = _NO_CLOCK
    faults: Mapping[str, Fault] = field(default_factory=dict)
    facts: Sequence[Any] = ()

    async def run(self, statement: Statement, subject: str) -> list[Any]:
        """The rows of a statement; raises CollectionError, for whoever calls this cannot do without."""
        try:
            return await self._ask(statement)
        except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError) as error:
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
        except (asyncpg.InterfaceError, OSError) as error:
            raise CollectionError(self._fault(error, subject)) from None
        await self.run(_RELEASE, subject)
        return rows

    async def _ask(self, statement: Statement) -> list[Any]:
        patience = self.plan.database.statement_timeout.total_seconds() + PATIENCE_SECONDS
        if not statement.returns_rows:
            await self.connection.execute(statement.sql, timeout=patience)
            return []
        return await self.connection.fetch(statement.sql, *statement.arguments(self.clock), timeout=patience)

    def _fault(self, error: BaseException, subject: str) -> Fault:
        return query_fault(error, subject, self.plan.database.statement_timeout.total_seconds())


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
        locked = await session.attempt(statement, _subject(plan, name), is_refused_lock)
        if isinstance(locked, Fault):
            faults[name] = locked
    return faults


def _subject(plan: Plan, record: str) -> str:
    return f"pipelines.{plan.pipeline.name}.records.{record}"


async def _read_catalog(session: Session, plan: Plan) -> None:
    """Note the snapshot's clock, one value for each of the plan's catalog readings, and tables that are not ours."""
    subject = f"pipelines.{plan.pipeline.name}.sessions"
    [row] = await session.run(plan.catalog, subject)
    session.clock, unique, foreign, *session.facts = row
    if None in foreign:
        raise CollectionError(_foreign(subject))
    session.faults = {**session.faults, **{name: _foreign(_subject(plan, name)) for name in foreign}}
    if not unique:
        key = ", ".join(plan.pipeline.sessions.key)
        raise CollectionError(
            Fault(
                "duplicate_key",
                f"{subject}.key: several rows share a value of ({key}): name columns that tell sessions apart",
            )
        )


def _foreign(subject: str) -> Fault:
    return Fault(
        "row_security",
        f"{subject}: a foreign table: what its server hides from us cannot be seen from here, nor is it part of the "
        "snapshot: measure it on its own server",
    )


async def _count(session: Session, plan: Plan, names: Sequence[str]) -> Counted:
    """Count all records together; where that is rejected, each apart, so that only the culprit is lost."""
    pipeline = f"pipelines.{plan.pipeline.name}"
    together = await _count_records(session, plan, names, pipeline)
    if not isinstance(together, Fault):
        sessions, rows = together
        of_record = {name: (sessions, rows.only("record", [name])) for name in names}
        return Counted(sessions, of_record, session.faults)
    alone = plan.sessions(())
    sessions = alone.read(await session.run(alone, f"{pipeline}.sessions"))
    of_record = {}
    faults = dict(session.faults)
    for name in names:
        apart = await _count_records(session, plan, (name,), _subject(plan, name))
        if isinstance(apart, Fault):
            faults[name] = apart
        else:
            of_record[name] = apart
    if faults == session.faults:
        # Each is accepted alone but not all together: no record is the culprit, so none may look whole.
        raise CollectionError(together)
    return Counted(sessions, of_record, faults)


async def _count_records(
    session: Session, plan: Plan, names: Sequence[str], subject: str
) -> tuple[Cells, Cells] | Fault:
    cells = []
    for statement in (plan.sessions(names), plan.rows(names)) if names else (plan.sessions(names),):
        rows = await session.attempt(statement, subject, is_rejection)
        if isinstance(rows, Fault):
            return rows
        cells.append(statement.read(rows))
    return cells[0], cells[1] if names else Cells((), ())


def interpret(plan: Plan, counted: Counted, facts: Sequence[Any]) -> Iterator[Sample]:
    """Every number that the counts support, dimension by dimension; the rest is absent, never 0."""
    known = {
        (id(reading.measure), reading.record): fact for reading, fact in zip(plan.catalog_readings, facts, strict=True)
    }
    pipeline = plan.pipeline
    for dimension in plan.dimensions:
        for measure in dimension.measures:
            values: dict[tuple[str, ...], float] = {}
            if isinstance(measure, SessionMeasure):
                if not (measure.needs_every_record and counted.faults):
                    values = _labelled(measure.read(pipeline, counted.sessions))
            else:
                for name, (sessions, rows) in counted.of_record.items():
                    if isinstance(measure, RecordMeasure):
                        own = rows.only("facet", [plan.facet(dimension, name)])
                        values |= _labelled(measure.read(pipeline.records[name], sessions, own), name)
                    else:
                        values |= _labelled({(): float(known[id(measure), name])}, name)
            yield from _samples(measure.metric, values, plan.max_label_values)


def _labelled(values: Values, *prefix: str) -> dict[tuple[str, ...], float]:
    return {(*prefix, *map(label_text, labels)): float(value) for labels, value in values.items()}


def _samples(metric: Metric, values: Mapping[tuple[str, ...], float], limit: int) -> Iterator[Sample]:
    for labels, value in fold(metric, values, limit).items():
        yield Sample(metric, labels, value)
