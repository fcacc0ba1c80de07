"""A guarded transaction: runs statements, and survives a refused statement."""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import asyncpg

from exporter.measure.query_faults import LOST, PATIENCE_SECONDS, Circumstances, query_fault
from exporter.model.elsewhere import Elsewhere
from exporter.model.fault import CollectionError, Fault
from exporter.model.sections import Database
from exporter.model.sql import TableName
from exporter.plan.plan import Plan
from exporter.plan.replica import STATUS_SQL, ReplicationStatus
from exporter.plan.statement import Statement
from exporter.plan.transaction import UNKNOWN_SERVER, Abilities, Found

NO_CLOCK: Final = datetime.min.replace(tzinfo=UTC)


@dataclass(slots=True)
class Session:
    """A guarded transaction: runs statements, and survives refused statements.

    `before`: the replication status before the transaction.  `abilities` of the server.  `deadlock_timeout`: the
    server's setting.  `powers`: roles that give the exporter's role more rights than reading.  `clock`: the time of the
    snapshot; on a replica `lag` earlier.  `clock_offset`: the database's clock minus the exporter's, in seconds.
    `plan`: the plan adapted to the types of this database.  `tables`: tables by the keys of the config.  `found`:
    relations by table.  `schemas`: the schemas of names without a schema, from the schemas `searched`.  `faults`:
    unmeasured records by name.  `part_faults`: unmeasured parts by path.  `elsewhere`: records of other databases,
    `row_keys`: the primary keys of their rows, and `restricted`: their tables with rows that policies may hide.
    `facts`: the catalog readings of the plan.
    `computed_keys`: the types of computed key columns.
    `is_key_proven`: whether an index makes `sessions.key` unique; asked in slices.  `identity`: a hash that identifies
    the database, None if unknown.
    """

    connection: asyncpg.Connection
    database: Database
    clock: datetime = NO_CLOCK
    look: tuple[str, ...] = STATUS_SQL
    before: ReplicationStatus = field(default_factory=lambda: ReplicationStatus(NO_CLOCK, None, None, None))
    lag: timedelta | None = None
    clock_offset: float = 0.0
    tables: Mapping[str, TableName] = field(default_factory=dict)
    faults: Mapping[str, Fault] = field(default_factory=dict)
    facts: Sequence[Any] = ()
    computed_keys: Sequence[Any] = ()
    is_key_proven: bool = False
    identity: str | None = None
    abilities: Abilities = UNKNOWN_SERVER
    deadlock_timeout: timedelta = timedelta(0)
    powers: tuple[str, ...] = ()
    searched: tuple[str, ...] = ()
    found: Mapping[TableName, Found] = field(default_factory=dict)
    schemas: Mapping[str, str] = field(default_factory=dict)
    part_faults: Mapping[str, Fault] = field(default_factory=dict)
    elsewhere: Mapping[str, Elsewhere] = field(default_factory=dict)
    restricted: tuple[str, ...] = ()
    row_keys: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    asking_until: float = math.inf
    is_parsing: bool = False
    _plan: Plan | None = None

    @property
    def plan(self) -> Plan:
        """The plan adapted to this database; raises LookupError in a session that does not measure."""
        if self._plan is None:
            raise LookupError("nothing is measured in this session")
        return self._plan

    @plan.setter
    def plan(self, plan: Plan) -> None:
        self._plan = plan

    def located(self, table: TableName) -> TableName:
        """The table with a schema: its own, or the schema found in the search path."""
        return TableName(table.schema or self.schemas.get(table.name), table.name)

    async def run(self, statement: Statement, subject: str) -> list[Any]:
        """The rows of a required statement; raises CollectionError."""
        try:
            return await self._ask(statement)
        except (asyncpg.PostgresError, *LOST) as error:
            raise CollectionError(self.fault(error, subject, statement)) from None

    async def attempt(
        self,
        statement: Statement,
        subject: str,
        refusals: Callable[[asyncpg.PostgresError], bool],
        *,
        refused: Callable[[asyncpg.PostgresError], None] = lambda _: None,
    ) -> list[Any] | Fault:
        """The rows of a statement, or the fault; the snapshot stays usable.

        `refused` gets the error.  Raises CollectionError for errors that `refusals` rejects.
        """
        await self.save(subject)
        try:
            rows = await self._ask(statement)
        except asyncpg.PostgresError as error:
            fault = self.fault(error, subject, statement)
            if self.connection.is_closed() or not refusals(error):
                raise CollectionError(fault) from None
            await self.back(subject)
            refused(error)
            # A materialized view cannot be locked, and a REFRESH does not make it look empty.  A foreign table cannot
            # be locked either: the catalog statement reports foreign tables.
            unlockable = not statement.returns_rows and isinstance(error, asyncpg.WrongObjectTypeError)
            return [] if unlockable else fault
        except LOST as error:
            raise CollectionError(self.fault(error, subject, statement)) from None
        await self.run(_RELEASE, subject)
        return rows

    async def save(self, subject: str) -> None:
        """Remember this place in the transaction, for `back`."""
        await self.run(_SAVE, subject)

    async def back(self, subject: str) -> None:
        """Go back to the place of the last `save`: the snapshot is usable again after an error."""
        await self.run(_BACK, subject)

    async def _ask(self, statement: Statement) -> list[Any]:
        if not statement.returns_rows:
            await self.connection.execute(statement.sql, timeout=self.patience)
            return []
        self.is_parsing = True
        # Unnamed, for a pooler in transaction mode.
        parsed = await self.connection.prepare(statement.sql, name="", timeout=self.patience)
        self.is_parsing = False
        return await parsed.fetch(*statement.arguments(self.clock), timeout=self.patience)

    @property
    def patience(self) -> float:
        """Seconds to wait for an answer."""
        return self.database.statement_timeout.total_seconds() + PATIENCE_SECONDS

    def fault(self, error: BaseException, subject: str, statement: Statement) -> Fault:
        """The fault of a failed statement about a subject."""
        given = Circumstances(
            statement_timeout=self.database.statement_timeout.total_seconds(),
            is_replica=self.before.paused is not None,
            is_parsed=not self.is_parsing and statement.returns_rows,
            is_ours=statement.is_ours,
            is_of_rows=self._plan is not None and not self._plan.is_of_sessions,
            casts=self._casts(subject),
            schemas=self.schemas,
        )
        return query_fault(error, subject, self._table_of(subject), given)

    def _table_of(self, subject: str) -> TableName | None:
        """The table of a key of the config, or of the section around the key."""
        while subject and subject not in self.tables:
            subject = subject.rpartition(".")[0]
        return self.tables.get(subject)

    def _casts(self, subject: str) -> tuple[str, ...]:
        """The casts of the session key of a record, for people."""
        records = self._plan.pipeline.records if self._plan is not None else {}
        return tuple(
            f"cast: {part.cast} of {part.column}"
            for name, record in records.items()
            for part in record.session_key
            if part.cast and subject.endswith(f".records.{name}")
        )

    def begin_asking_apart(self) -> None:
        """Start the time for asking apart: half of `statement_timeout` in total, so that what is left fits in it."""
        self.asking_until = time.monotonic() + self.database.statement_timeout.total_seconds() / 2

    def out_of_time(self, subject: str) -> Fault | None:
        """The fault if the time for asking apart is over; None while there is time."""
        if time.monotonic() < self.asking_until:
            return None
        return Fault(
            "statement_timeout",
            f"{subject}: skipped: after another fault, counting apart took longer than half of statement_timeout "
            f"({self.database.statement_timeout.total_seconds():g} s): correct the other fault",
        )


_SAVE = Statement("save", "savepoint attempt", returns_rows=False)
_BACK = Statement("back", "rollback to savepoint attempt", returns_rows=False)
_RELEASE = Statement("release", "release savepoint attempt", returns_rows=False)


def subject_of(plan: Plan, record: str) -> str:
    """The path of a record in the config, for messages."""
    return f"pipelines.{plan.pipeline.name}.records.{record}"
