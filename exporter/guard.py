"""Plan + connection -> the guarded transaction in which a pipeline is measured: opened, locked, looked at, ended.

What the database refuses about one record becomes that record's fault; what keeps us from taking a snapshot at all
raises `CollectionError`.
"""

import math
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import asyncpg

from exporter.database import (
    LOST,
    PATIENCE_SECONDS,
    Circumstances,
    CollectionError,
    connect,
    is_refused_lock,
    is_rejection,
    query_fault,
)
from exporter.expressions import (
    Expression,
    called,
    compared,
    harmless,
    has_sub_query,
    is_of_its_statement,
    is_sampled,
    is_volatile,
    planned,
    qualified,
    unfound,
    written,
)
from exporter.keys import Cast, Equality, KeyType, Link, UnlikeError, cast_type, equality_of, read_key_columns
from exporter.plan import ELIGIBLE, Plan
from exporter.replica import AURORA_LOOK, LOOK, Look, lag
from exporter.schema import Database, KeyPart, Record
from exporter.snapshot import Fault
from exporter.sql import Bindings, TableName, quote
from exporter.statement import Statement
from exporter.transaction import (
    END,
    IDENTITY,
    LOCKS,
    NO_TRANSACTION_TIMEOUT,
    Found,
    Kind,
    before,
    begin,
    found_tables,
    look_again,
    patience,
    resolved,
    schema_of,
    search,
    shape,
    silent_types,
    tables_of,
)


@asynccontextmanager
async def open_snapshot(plan: Plan, *, unattended: bool = False) -> AsyncIterator["Session"]:
    """The guarded transaction of one collection, its locks held, its snapshot taken, its expressions looked at.

    Raises CollectionError.
    """
    async with _looked(plan.database) as session:
        if unattended:
            _refuse_powers(session)
        plan = (await _found(session, plan)).looking(session.look)
        await _begin(session)
        subject = f"pipelines.{plan.pipeline.name}.sessions"
        tables = {subject_of(plan, name): record.table for name, record in plan.pipeline.records.items()}
        session.tables = {subject: plan.pipeline.sessions.table, **tables}
        session.lag = _lag(session.before, session.before, plan)
        session.faults = {**session.faults, **await _lock(session, plan)}
        await _read_catalog(session, plan)
        links, unlike = await links_of(session, plan)
        session.faults = {**unlike, **session.faults}
        session.plan = plan = plan.linked(links)
        # Some services keep it from everybody: then nobody can tell.
        told = await session.attempt(IDENTITY, "identity", is_rejection)
        session.identity = None if isinstance(told, Fault) else told[0][0]
        if plan.search:
            await session.run(plan.search, subject)
        await _read_key(session)
        await _read_expressions(session)
        yield session


@asynccontextmanager
async def open_transaction(database: Database, tables: Sequence[TableName] = ()) -> AsyncIterator["Session"]:
    """The same transaction before anything was asked, for whoever does not measure; raises CollectionError.

    `found` of the session says what has the names of `tables`.
    """
    async with _looked(database) as session:
        await _find(session, tables)
        await _begin(session)
        yield session


@asynccontextmanager
async def _looked(database: Database) -> AsyncIterator["Session"]:
    async with connect(database) as connection:
        session = Session(connection, database)
        [row] = await _before(session)
        *look, deadlock_timeout, powers, searched = row
        session.before = Look(*look)
        session.deadlock_timeout = timedelta(milliseconds=deadlock_timeout)
        session.powers = tuple(powers)
        session.searched = database.search_path or tuple(searched)
        yield session


async def _before(session: "Session") -> list[Any]:
    try:
        return await session.connection.fetch(before().sql, timeout=session.patience)
    except asyncpg.FeatureNotSupportedError:
        session.look = AURORA_LOOK
    except (asyncpg.PostgresError, *LOST) as error:
        raise CollectionError(session.fault(error, "begin", before())) from None
    try:
        return await session.connection.fetch(before(AURORA_LOOK).sql, timeout=session.patience)
    except asyncpg.PostgresError:
        raise CollectionError(
            Fault(
                "replica_lag",
                "the server is a reader that does not tell how far it is behind: connect to the writer",
            )
        ) from None
    except LOST as error:
        raise CollectionError(session.fault(error, "begin", before())) from None


_TRANSACTION_TIMEOUT_SINCE: Final = 17


async def _begin(session: "Session") -> None:
    await session.run(begin(session.database), "begin")
    if session.connection.get_server_version().major >= _TRANSACTION_TIMEOUT_SINCE:
        await session.run(NO_TRANSACTION_TIMEOUT, "begin")


def _refuse_powers(session: "Session") -> None:
    """A view or a function of the platform runs as our role: what that may do, its owner may."""
    if session.powers and not session.database.allow_superuser:
        raise CollectionError(
            Fault(
                "permission",
                f"the role may do more than read, by the rights of {', '.join(session.powers)}: whoever owns a view or "
                "a function that is read could run programs on the database's host: use a role that may only SELECT, "
                "or write allow_superuser: true in the section of the database",
            )
        )


async def _find(session: "Session", tables: Sequence[TableName]) -> None:
    if tables:
        rows = await session.run(found_tables(tables, session.searched), "begin")
        session.found = {table: Found(*row) for table, row in zip(tables, rows, strict=True)}
        bare = {table: found.schema for table, found in session.found.items() if table.schema is None}
        session.schemas = {table.name: schema for table, schema in bare.items() if schema is not None}


async def _found(session: "Session", plan: Plan) -> Plan:
    """The plan with the schema of each table that the config names without one."""
    await _find(session, tables_of(plan.pipeline))
    plan = plan.about(resolved(plan.pipeline, session.found))
    if plan.pipeline.sessions.table.schema is None:
        raise CollectionError(_nowhere(f"pipelines.{plan.pipeline.name}.sessions", plan.pipeline.sessions.table))
    session.faults = {
        name: _nowhere(subject_of(plan, name), record.table)
        for name, record in plan.pipeline.records.items()
        if record.table.schema is None
    }
    return plan


def _nowhere(subject: str, table: TableName) -> Fault:
    return Fault(
        "missing_object",
        f"{subject}: relation {table.sql} does not exist in a schema that is searched: write its schema, as in "
        f"schema.{table.written}, or create the table",
    )


_NO_CLOCK: Final = datetime.min.replace(tzinfo=UTC)


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
    clock: datetime = _NO_CLOCK
    look: tuple[str, ...] = LOOK
    before: Look = field(default_factory=lambda: Look(_NO_CLOCK, None, None, None))
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


_UNLOCK = Statement("unlock", "rollback to savepoint locks", returns_rows=False)

_SESSIONS: Final = ""
"""Stands for the sessions among the names of records, of which none is empty."""


async def _lock(session: Session, plan: Plan) -> dict[str, Fault]:
    """Hold every table that is there; a record's that is not is that record's fault.

    The first is waited for as long as `lock_timeout` says, while nothing is held.  Where a later one is locked, all are
    let go and that one comes first, once: so nobody waits for us while we wait.  A view brings the tables beneath it,
    one by one, so it is never waited for so long.  After `lock_timeout` none comes first any more: however many are
    locked, a round waits little longer than for one.
    """
    statements = {_SESSIONS: plan.lock_sessions, **plan.lock_records}
    order = [name for name in statements if name not in session.faults]
    faults: dict[str, Fault] = {}
    been_first: set[str] = set()
    patient_until = time.monotonic() + plan.database.lock_timeout.total_seconds()
    await session.run(LOCKS, "begin")
    held = 0
    while held < len(order):
        name = order[held]
        subject = subject_of(plan, name) if name else f"pipelines.{plan.pipeline.name}.sessions"
        if held == 1 or (not held and _is_view(session, plan, name)):
            await session.run(patience(plan.database, session.deadlock_timeout), subject)
        locked = await session.attempt(statements[name], subject, is_refused_lock)
        if not isinstance(locked, Fault):
            held += 1
        elif locked.reason in _BUSY and held and name not in been_first and time.monotonic() < patient_until:
            been_first.add(name)
            order.insert(0, order.pop(held))
            held = 0
            await session.run(_UNLOCK, subject)
        elif name == _SESSIONS:
            raise CollectionError(locked)
        else:
            faults[name] = locked
            order.remove(name)
    # What a statement still locks, a partition or a table of a sub-query, is no more waited for.
    await session.run(patience(plan.database, session.deadlock_timeout), "begin")
    return faults


def _is_view(session: Session, plan: Plan, name: str) -> bool:
    table = plan.pipeline.records[name].table if name else plan.pipeline.sessions.table
    return any(one.kind == "v" for as_named, one in session.found.items() if session.located(as_named) == table)


_BUSY: Final = frozenset({"lock_timeout", "deadlock"})


def subject_of(plan: Plan, record: str) -> str:
    """The keys of the config that lead to a record: what its faults are about."""
    return f"pipelines.{plan.pipeline.name}.records.{record}"


def _lag(before: Look, now: Look, plan: Plan) -> timedelta | None:
    found = lag(before, now, plan.database.max_replica_lag)
    if isinstance(found, Fault):
        raise CollectionError(found)
    return found


async def _read_catalog(session: Session, plan: Plan) -> None:
    """Note the snapshot's clock and lag, the values of the plan's catalog readings, and what cannot be measured."""
    subject = f"pipelines.{plan.pipeline.name}.sessions"
    [row] = await session.run(plan.catalog, subject)
    now = Look(*row[: len(LOOK)])
    session.lag = _lag(session.before, now, plan)
    session.clock = now.clock - (session.lag or timedelta(0))
    foreign, zones, locks, room, *session.facts = row[len(LOOK) :]
    if None in foreign:
        raise CollectionError(_foreign(subject))
    if None in zones:
        raise CollectionError(_abbreviated(subject))
    if locks > room * LOCKS_SHARE:
        raise CollectionError(_too_many_locks(f"pipelines.{plan.pipeline.name}", locks, room))
    session.faults = {
        **session.faults,
        **{name: _foreign(subject_of(plan, name)) for name in foreign},
        **{name: _abbreviated(subject_of(plan, name)) for name in zones},
    }


async def _read_key(session: Session) -> None:
    """Find out whether the key tells sessions apart; what a view calls is found where the config's SQL is."""
    plan = session.plan
    subject = f"pipelines.{plan.pipeline.name}.sessions"
    if not (await session.run(plan.unique, subject))[0][0]:
        key = ", ".join(plan.pipeline.sessions.key)
        raise CollectionError(
            Fault(
                "duplicate_key",
                f"{subject}.key: several rows share a value of ({key}): name columns that tell sessions apart",
            )
        )


LOCKS_SHARE: Final = 0.5
"""How much of the server's room for locks a collection may take: the rest is the platform's."""


def _too_many_locks(subject: str, locks: int, room: int) -> Fault:
    return Fault(
        "internal",
        f"{subject}: to read these tables takes about {locks} locks, one for each partition and each index, of {room} "
        "that the server has room for: raise max_locks_per_transaction of the server",
    )


def _abbreviated(subject: str) -> Fault:
    return Fault(
        "type",
        f"{subject}.timezone: an abbreviation stands for a fixed offset without summer time, and for several "
        "countries: name the zone, as in Europe/Berlin or Asia/Kolkata",
    )


async def links_of(session: Session, plan: Plan) -> tuple[dict[str, Link], dict[str, Fault]]:
    """How the key of each record is compared with that of the sessions, and why those of the others cannot be."""
    pipeline = plan.pipeline
    rows = await session.run(plan.keys, f"pipelines.{pipeline.name}.sessions")
    types = {(column.record, column.place): column.type for column in read_key_columns(rows)}
    links: dict[str, Link] = {}
    faults: dict[str, Fault] = {}
    for name, record in pipeline.records.items():
        pairs = [
            (types[None, place], types[name, place], part)
            for place, part in enumerate(record.session_key)
            if (None, place) in types and (name, place) in types
        ]
        # A column that is not there is the measuring statement's to tell.
        if len(pairs) == len(record.session_key):
            link = await _link(session, record, pairs, subject_of(plan, name))
            if isinstance(link, Fault):
                faults[name] = link
            else:
                links[name] = link
    return links, faults


async def _link(
    session: Session, record: Record, pairs: Sequence[tuple[KeyType, KeyType, KeyPart]], subject: str
) -> Link | Fault:
    link: list[Equality] = []
    for theirs, ours, part in pairs:
        cast = await _cast(session, record, part, subject) if part.cast else None
        if isinstance(cast, Fault):
            return cast
        try:
            link.append(equality_of(theirs, ours, part, cast))
        except UnlikeError as error:
            return Fault("type", f"{subject}.session_key: {part.column} {error}")
    return tuple(link)


async def _cast(session: Session, record: Record, part: KeyPart, subject: str) -> Cast | Fault:
    """What a cast converts to: a type that it names with its schema, or one that is found as tables are."""
    name = part.cast or ""
    while True:
        bind = Bindings()
        sql = cast_type(record, part, name, bind)
        found = await session.attempt(Statement("type of a cast", sql, tuple(bind.values)), subject, is_rejection)
        if found and not isinstance(found, Fault):
            *kind, is_lossless = found[0]
            return Cast(KeyType(*kind), name, is_lossless)
        schemas = await session.run(schema_of("type", name, session.searched), subject)
        if not schemas or name != part.cast:
            return Fault(
                "type",
                f"{subject}.session_key: the server has no type {part.cast}: write its name as in SQL, such as uuid or "
                "bigint",
            )
        name = f"{quote(schemas[0][0])}.{quote(name)}"


async def _read_expressions(session: Session) -> None:
    """Find out which expressions of the config the server refuses, before any row is read."""
    plan = session.plan
    subject = f"pipelines.{plan.pipeline.name}"
    asked = [one for one in plan.expressions if one.record is None or one.record not in session.faults]
    if isinstance(await look_at(session, asked, f"{subject}.{plan.part_of(asked[0])}"), Fault):
        for one in asked:
            whole, refused = await qualify(session, one, f"{subject}.{plan.part_of(one)}")
            if isinstance(refused, Fault):
                _lose(session, one, refused)
            else:
                session.plan = session.plan.about(written(session.plan.pipeline, whole))
    for one, fault in await misread(session, plan, asked):
        _lose(session, one, fault)


def _lose(session: Session, one: Expression, fault: Fault) -> None:
    """An expression cannot be used: its record or its part is lost, or everything."""
    if one.record is not None:
        session.faults = {one.record: fault, **session.faults}
    elif one.path == ELIGIBLE:
        raise CollectionError(fault)
    else:
        session.part_faults = {session.plan.part_of(one): fault, **session.part_faults}


async def misread(session: Session, plan: Plan, asked: Sequence[Expression]) -> list[tuple[Expression, Fault]]:
    """Expressions that the server takes and reads otherwise than their author: by operators of another type.

    Where a type converts to one of the server's own, as citext does to text, and its operators are not searched, the
    server falls back on those of text without a word.  They must have been planned, which locks what they read.
    """
    if not asked:
        return []
    words = {one.path: frozenset(compared(one.sql)) for one in asked}
    columns = sorted(frozenset().union(*words.values()))
    found = await session.run(silent_types(columns, session.database.search_path), f"pipelines.{plan.pipeline.name}")
    return [
        (
            one,
            Fault(
                "invalid_sql",
                f"pipelines.{plan.pipeline.name}.{plan.part_of(one)}: {column} is {kind}, whose operators are in a "
                f"schema that is not searched: write search_path: [{schema}] in the section of the database or, where "
                f"its text is meant, {column}::text",
            ),
        )
        for one in asked
        for column, kind, schema in found
        if column in words[one.path]
    ]


NAMES_LIMIT: Final = 20
"""Names without a schema that are looked for in one expression."""


async def qualify(session: Session, one: Expression, subject: str) -> tuple[Expression, list[str] | Fault]:
    """An expression whose bare names of tables and functions have their schemas, and what `look_at` says of it.

    Ours is not the search_path of the role, so that nobody can put an operator or a function in the way of the
    server's own.  A name that the server itself does not have is looked for in that path, once.
    """
    left = NAMES_LIMIT
    while True:
        errors: list[asyncpg.PostgresError] = []
        found = await look_at(session, [one], subject, errors.append)
        named = _unfound(one, errors[-1]) if errors and left else None
        if named is None:
            return one, found
        at, name, kind = named
        schemas = await session.run(schema_of(kind, name, session.searched), subject)
        if not schemas:
            return one, found
        [[schema]] = schemas
        session.schemas = {**session.schemas, name: schema}
        one, left = qualified(one, at, schema), left - 1


def _unfound(one: Expression, error: asyncpg.PostgresError) -> tuple[int, str, Kind] | None:
    kind: Kind
    match error:
        case asyncpg.UndefinedTableError():
            kind = "table"
        case asyncpg.UndefinedFunctionError():
            kind = "function"
        case asyncpg.UndefinedObjectError():
            kind = "type"
        case _:
            return None
    named = unfound(one, int(getattr(error, "position", None) or 0))
    return (*named, kind) if named else None


async def look_at(
    session: Session,
    asked: Sequence[Expression],
    subject: str,
    refused: Callable[[asyncpg.PostgresError], None] = lambda _: None,
) -> list[str] | Fault:
    """How the server would compute expressions, line by line, or why they cannot be used; no row is read.

    `refused` is told the error of the server, if there is one.
    """
    rows = await session.attempt(planned(asked), subject, is_refused_lock, refused=refused)
    if isinstance(rows, Fault):
        return rows
    lines = [row[0] for row in rows]
    if why := await _unsteady(session, asked, lines, subject):
        return Fault("invalid_sql", f"{subject}: {why}")
    return lines


def _foreign(subject: str) -> Fault:
    return Fault(
        "row_security",
        f"{subject}: a foreign table: what its server hides from us cannot be seen from here, nor is it part of the "
        "snapshot: measure it on its own server",
    )


async def _unsteady(session: Session, asked: Sequence[Expression], plan: Sequence[str], subject: str) -> str | None:
    """Why expressions may have another value each time they are computed; None where they have not."""
    if any(is_sampled(plan) or is_of_its_statement(one.sql) for one in asked):
        return "samples rows or asks when its statement began, and is computed in several: use now() for the time"
    if not is_volatile(plan):
        return None
    if len(asked) == 1 and not has_sub_query(asked[0].sql):
        [[returns_nothing]] = await session.run(harmless(called(asked[0].sql)), subject)
        if returns_nothing:
            return None
    return (
        "calls a volatile function, which may have another value each time it is asked: call a stable one (now() for "
        "the time), or declare yours: ALTER FUNCTION <function> STABLE"
    )


async def end(session: Session) -> tuple[str, ...]:
    """The end of the snapshot; returns the tables of which policies show us only some rows.

    Raises CollectionError where what was read is not whole, or not all by the same catalog.
    """
    plan = session.plan
    subject = f"pipelines.{plan.pipeline.name}"
    if plan.search:
        await session.run(search(()), subject)
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
    restricted = [table for table in tables if table["restricted"]]
    switched = any(table["row_security"] != "off" for table in tables)
    if plan.database.row_security == "strict" and (restricted or switched):
        raise CollectionError(_switched(subject, tables, restricted))
    then = shape([table["id"] for table in tables])
    [[before]] = await session.run(then, subject)
    await session.run(END, "end")
    await session.run(look_again(plan.database), subject)
    [[after]] = await session.run(then, subject)
    await session.run(END, "end")
    if before != after:
        raise CollectionError(
            Fault(
                "catalog_change",
                f"{subject}: a partition was attached or detached, or a function was replaced, or a schema or an enum "
                "renamed, while we read: tried again at the next interval",
            )
        )
    return tuple(table["name"] for table in restricted)


def _switched(subject: str, tables: Sequence[Mapping[str, Any]], restricted: Sequence[Mapping[str, Any]]) -> Fault:
    who = tables[0]["switches"] or "what the config's SQL or a view calls"
    hidden = ", ".join(table["name"] for table in restricted) or "any table"
    return Fault(
        "row_security",
        f"{subject}: {who} switches row_security on, so rows of {hidden} may be hidden from a reader whom a policy "
        "binds: ALTER ROLE <owner> BYPASSRLS for the owners of the functions and views that read it, or take the "
        "setting out of the function",
    )
