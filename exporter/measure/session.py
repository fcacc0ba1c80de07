"""A guarded transaction: runs statements, and survives a refused statement."""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import asyncpg

from exporter.measure.query_faults import LOST, PATIENCE_SECONDS, Circumstances, query_fault
from exporter.model.fault import CollectionError, Fault
from exporter.model.sections import Database
from exporter.model.sql import TableName
from exporter.plan.plan import Plan
from exporter.plan.replica import STATUS_SQL, ReplicationStatus
from exporter.plan.statement import Statement
from exporter.plan.transaction import (
    Found,
)

NO_CLOCK: Final = datetime.min.replace(tzinfo=UTC)


@dataclass(slots=True)
class Session:
    """A guarded transaction: runs statements, and survives those that are refused.

    `before` is the look at its recovery before it began, `deadlock_timeout` the server's, `powers` the names of roles
    that make ours more than a reader.  `clock` is the snapshot's: on a replica, `lag` ago.  `plan` is the one that fits
    the types of this database, `tables` has what is read by the keys of the config that name it, `found` what has the
    names of tables, `schemas` the schemas of names without one, of those `searched`.  `faults` are the records that
    cannot be measured, `part_faults` the parts, by their paths; `facts` are the values of the plan's catalog readings,
    `identity` tells the database from others, None where it says nothing.
    """

    connection: asyncpg.Connection
    database: Database
    clock: datetime = NO_CLOCK
    look: tuple[str, ...] = STATUS_SQL
    before: ReplicationStatus = field(default_factory=lambda: ReplicationStatus(NO_CLOCK, None, None, None))
    lag: timedelta | None = None
    tables: Mapping[str, TableName] = field(default_factory=dict)
    faults: Mapping[str, Fault] = field(default_factory=dict)
    facts: Sequence[Any] = ()
    identity: str | None = None
    deadlock_timeout: timedelta = timedelta(0)
    powers: tuple[str, ...] = ()
    searched: tuple[str, ...] = ()
    found: Mapping[TableName, Found] = field(default_factory=dict)
    schemas: Mapping[str, str] = field(default_factory=dict)
    part_faults: Mapping[str, Fault] = field(default_factory=dict)
    asking_until: float = math.inf
    is_parsing: bool = False
    _plan: Plan | None = None

    @property
    def plan(self) -> Plan:
        """The plan that fits this database; of a session that measures."""
        if self._plan is None:
            raise LookupError("nothing is measured in this session")
        return self._plan

    @plan.setter
    def plan(self, plan: Plan) -> None:
        self._plan = plan

    def located(self, table: TableName) -> TableName:
        """The table with the schema in which it was found, where it has none."""
        return TableName(table.schema or self.schemas.get(table.name), table.name)

    async def run(self, statement: Statement, subject: str) -> list[Any]:
        """The rows of a statement; raises CollectionError, for whoever calls this cannot do without."""
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
        """The rows of a statement, or why the server refused it; the snapshot stays usable either way.

        `refused` is told the error.  Raises CollectionError for one that is not among `refusals`.
        """
        await self.run(_SAVE, subject)
        try:
            rows = await self._ask(statement)
        except asyncpg.PostgresError as error:
            fault = self.fault(error, subject, statement)
            if self.connection.is_closed() or not refusals(error):
                raise CollectionError(fault) from None
            await self.run(_BACK, subject)
            refused(error)
            # A materialized view cannot be locked, nor does a REFRESH make it look empty; the catalog tells it
            # from a foreign table, which is refused there.
            unlockable = not statement.returns_rows and isinstance(error, asyncpg.WrongObjectTypeError)
            return [] if unlockable else fault
        except LOST as error:
            raise CollectionError(self.fault(error, subject, statement)) from None
        await self.run(_RELEASE, subject)
        return rows

    async def _ask(self, statement: Statement) -> list[Any]:
        if not statement.returns_rows:
            await self.connection.execute(statement.sql, timeout=self.patience)
            return []
        self.is_parsing = True
        # Without a name, as a pooler in transaction mode wants it.
        parsed = await self.connection.prepare(statement.sql, name="", timeout=self.patience)
        self.is_parsing = False
        return await parsed.fetch(*statement.arguments(self.clock), timeout=self.patience)

    @property
    def patience(self) -> float:
        """Seconds that we wait for an answer."""
        return self.database.statement_timeout.total_seconds() + PATIENCE_SECONDS

    def fault(self, error: BaseException, subject: str, statement: Statement) -> Fault:
        """Why a statement about a subject failed."""
        given = Circumstances(
            statement_timeout=self.database.statement_timeout.total_seconds(),
            is_replica=self.before.paused is not None,
            is_parsed=not self.is_parsing and statement.returns_rows,
            is_ours=statement.is_ours,
            schemas=self.schemas,
        )
        return query_fault(error, subject, self.tables.get(subject), given)

    def begin_asking_apart(self) -> None:
        """Something was refused for its values: from now on there is as much time as for one more statement."""
        self.asking_until = time.monotonic() + self.database.statement_timeout.total_seconds()

    def out_of_time(self, subject: str) -> Fault | None:
        """Why nothing more is asked in this round; None while there is time."""
        if time.monotonic() < self.asking_until:
            return None
        return Fault(
            "statement_timeout",
            f"{subject}: not asked any more, for something else was refused and asking for the rest apart took longer "
            f"than statement_timeout ({self.database.statement_timeout.total_seconds():g} s): mend what was refused",
        )


_SAVE = Statement("save", "savepoint attempt", returns_rows=False)
_BACK = Statement("back", "rollback to savepoint attempt", returns_rows=False)
_RELEASE = Statement("release", "release savepoint attempt", returns_rows=False)


def subject_of(plan: Plan, record: str) -> str:
    """The keys of the config that lead to a record: what its faults are about."""
    return f"pipelines.{plan.pipeline.name}.records.{record}"
