"""Config + database -> everything that keeps it from being measured, at once, each with its remedy.

Said to the operator's terminal and nowhere else: findings name tables, types and, in the SQL to type, our role.
They hold no address, password or value of a row, save statuses and versions, which are labels anyway.
"""

import asyncio
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final, Literal

from exporter.catalog import (
    Column,
    Named,
    Names,
    Relation,
    RowSecurity,
    Server,
    Source,
    read_creators,
    read_names,
    read_relation,
    read_server,
)
from exporter.collect import collect
from exporter.config import dotted
from exporter.database import ROLE, CollectionError, is_exposed, is_refused_lock
from exporter.dimensions import DIMENSIONS
from exporter.dimensions.conformance import RECORDS
from exporter.dimensions.coverage import ELIGIBLE, RECORD_SESSIONS
from exporter.dimensions.integrity import ORPHANED, UNLINKED
from exporter.dimensions.volume import SESSIONS
from exporter.expressions import Expression, expressions, is_detached
from exporter.guard import LOCKS_SHARE, Session, links_of, misread, open_transaction, qualify
from exporter.names import nearest
from exporter.plan import Plan, compile_plan
from exporter.schema import Config, KeyPath, Pipeline, Record, Sessions
from exporter.snapshot import Fault, Snapshot
from exporter.sql import STRINGS, TableName, quote
from exporter.statement import Statement
from exporter.terminal import printable
from exporter.transaction import resolved, search, tables_of

Severity = Literal["ok", "note", "error"]

LARGE_TABLE: Final = 10_000
"""Rows from which on an index for the window is worth a note."""

MANY_LOCKS: Final = 100
"""Locks of one collection from which on they are worth a note."""

SHOWN_NAMES: Final = 30
"""A message lists so many names at most; beyond it says the nearest alone."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing about one place of the config.

    An error keeps something from being measured.  `remedy` is the SQL that mends it, None where it is not SQL
    that does: the message then says what.
    """

    severity: Severity
    path: str
    message: str
    remedy: str | None = None


@dataclass(frozen=True, slots=True)
class Group:
    """What was found about one database or one pipeline."""

    title: str
    findings: tuple[Finding, ...]


def has_errors(groups: Iterable[Group]) -> bool:
    """Whether something could not be measured."""
    return any(finding.severity == "error" for group in groups for finding in group.findings)


def render(groups: Sequence[Group]) -> str:
    """The findings as text, a line each with its SQL below, and how many there are."""
    parts = []
    for group in groups:
        lines = [f"\n{group.title}\n"]
        for finding in group.findings:
            lines.append(f"  {finding.severity:<5}  {printable(f'{finding.path}: {finding.message}')}\n")
            lines += [f"         {printable(line)}\n" for line in (finding.remedy or "").split("\n") if line]
        parts.append("".join(lines))
    found = [finding.severity for group in groups for finding in group.findings]
    counts = (f"{found.count(kind)} {kind}{'' if found.count(kind) == 1 else 's'}" for kind in ("error", "note"))
    return "".join([*parts, f"\n{', '.join(counts)}\n"])


async def preflight(config: Config) -> tuple[Group, ...]:
    """Look at every database of the config, all at the same time, and collect once from what can be collected."""
    looked = await asyncio.gather(*(_look_at(config, name) for name in config.databases))
    return tuple(group for groups in looked for group in groups)


async def _look_at(config: Config, name: str) -> list[Group]:
    path = f"databases.{name}"
    plans = [compile_plan(config, p, DIMENSIONS) for p in config.pipelines.values() if p.database == name]
    about: list[Finding] = []
    checked: dict[str, list[Finding]] = {}
    found: dict[str, dict[KeyPath, Relation]] = {}
    role = ""
    try:
        tables = list(dict.fromkeys(table for plan in plans for table in tables_of(plan.pipeline)))
        async with open_transaction(config.databases[name], tables) as session:
            server, names = await read_server(session), await read_names(session)
            role = server.role
            about += await _check_search_path(session, f"{path}.search_path", names)
            about += judge_connection(path, server, is_encrypted=not is_exposed(session.connection))
            about += judge_connection_limits(path, *await _connection_limits(session), server, len(plans))
            for plan in plans:
                found[plan.pipeline.name] = {}
                checked[plan.pipeline.name] = await _check(session, plan, server, names, found[plan.pipeline.name])
    except CollectionError as error:
        about.append(Finding("error", path, error.fault.message))
    groups = [Group(f"database {name}", tuple(about))]
    for plan in plans:
        pipeline = plan.pipeline.name
        findings = checked.get(pipeline)
        if findings is None:
            findings = [Finding("note", f"pipelines.{pipeline}", "not looked at: see its database above")]
        else:
            findings += await _try(plan, findings, found[pipeline])
            findings = [_for_role(finding, role) for finding in findings]
        groups.append(Group(f"pipeline {pipeline}", tuple(findings)))
    return groups


# --- The connection


def judge_connection(path: str, server: Server, *, is_encrypted: bool) -> Iterator[Finding]:
    """What can be said of a connection that stands."""
    yield Finding("ok", path, f"connected (PostgreSQL {server.version})")
    if not is_encrypted:
        yield Finding(
            "note",
            path,
            "the connection is not encrypted: turn on the server's ssl setting, and write sslmode=verify-full and "
            "sslrootcert into the url",
        )
    if server.is_superuser:
        yield Finding("note", path, "the role is a superuser: one that may only read the tables is enough")


async def _check_search_path(session: Session, path: str, names: Names) -> list[Finding]:
    """Whether the schemas are there in which the SQL of the config finds names, and who may put something there."""
    findings: list[Finding] = []
    for schema in session.database.search_path:
        if schema not in names.schemas:
            message = f"the schema {quote(schema)} does not exist{_meant(schema, names.schemas)}"
            findings.append(Finding("error", path, message))
            continue
        everybody, roles = await read_creators(session, schema)
        who = "everybody" if everybody else ", ".join(map(quote, roles))
        if who:
            revoked = "PUBLIC" if everybody else who
            findings.append(
                Finding(
                    "note",
                    path,
                    f"{who} may CREATE in it, and so replace what the SQL of the config calls, with the rights of this "
                    f"role: {schema}",
                    f"REVOKE CREATE ON SCHEMA {quote(schema)} FROM {revoked};",
                )
            )
    return findings


async def _connection_limits(session: Session) -> tuple[int, int]:
    """How many connections the role and the database may have; -1 for any number."""
    sql = """select r.rolconnlimit, d.datconnlimit
from pg_catalog.pg_roles r, pg_catalog.pg_database d
where r.rolname = session_user and d.datname = current_database()"""
    [(of_role, of_database)] = await session.run(Statement("limits", sql), "catalog")
    return of_role, of_database


def judge_connection_limits(
    path: str, of_role: int, of_database: int, server: Server, pipelines: int
) -> Iterator[Finding]:
    """Whether all pipelines of a database can be measured at the same time, each on a connection of its own."""
    for whose, limit, remedy in (
        ("the role", of_role, f"ALTER ROLE {quote(server.role)} CONNECTION LIMIT {pipelines};"),
        ("the database", of_database, None),
    ):
        # A superuser is bound by neither.
        if 0 <= limit < pipelines and not server.is_superuser:
            yield Finding(
                "note",
                path,
                f"{pipelines} pipelines are measured at once, on a connection each, and {whose} may have {limit}: "
                "some rounds will find none left, unless a pooler shares them; raise its CONNECTION LIMIT",
                remedy,
            )


# --- Tables


@dataclass(frozen=True, slots=True)
class Place:
    """A section of a pipeline that names a table: the columns that it names, and where; which of them say when."""

    path: KeyPath
    table: TableName
    columns: tuple[tuple[KeyPath, str], ...]
    times: tuple[tuple[KeyPath, str], ...]
    timezone: str | None


def places(pipeline: Pipeline) -> Iterator[Place]:
    """The sections of a pipeline that name a table, the sessions first."""
    top: KeyPath = ("pipelines", pipeline.name)
    sessions, path = pipeline.sessions, (*top, "sessions")
    key = [((*path, "key"), column) for column in sessions.key]
    times = [((*path, name), getattr(sessions, name)) for name in ("started_at", "completed_at")]
    columns = [*key, ((*path, "status"), sessions.status), *times]
    columns += [((*path, *keys), column) for keys, column in _own(sessions, "columns")]
    yield Place(path, sessions.table, tuple(columns), tuple(times), sessions.timezone)
    for name, record in pipeline.records.items():
        yield _record_place((*top, "records", name), record)


def _record_place(path: KeyPath, record: Record) -> Place:
    columns: list[tuple[KeyPath, str]] = [((*path, "session_key"), part.column) for part in record.session_key]
    times = [((*path, "created_at"), record.created_at)] if record.created_at else []
    if record.version:
        columns.append(((*path, "version", "column"), record.version.column))
    columns += [((*path, "accepted_values", column), column) for column in record.accepted_values]
    columns += [((*path, *keys), column) for keys, column in _own(record, "columns")]
    return Place(path, record.table, (*columns, *times), tuple(times), record.timezone)


def _own(section: Sessions | Record, holds: Literal["sql", "columns"]) -> Iterator[tuple[KeyPath, str]]:
    """What a section says under the keys that the dimensions brought."""
    where = "record" if isinstance(section, Record) else "sessions"
    for key in (key for dimension in DIMENSIONS for key in dimension.keys):
        if key.section == where and key.holds == holds:
            yield from key.texts(section)


def judge_absence(path: KeyPath, table: TableName, names: Names, role: str) -> Finding:
    """A table that is not there: which one was meant?"""
    place = dotted((*path, "table"))
    same = [named for named in names.tables if named.table.name == table.name]
    if same:
        found = " or ".join(named.table.written for named in same)
        hidden = [named for named in same if table.schema is None and not named.may_use_schema]
        return Finding(
            "error",
            place,
            f"{table.sql} does not exist{' in the search path' if table.schema is None else ''}: write {found}",
            "\n".join(line for named in hidden for line in named.grants(role)) or None,
        )
    if table.schema is not None and table.schema not in names.schemas:
        return Finding(
            "error", place, f"the schema {quote(table.schema)} does not exist{_meant(table.schema, names.schemas)}"
        )
    near = [
        TableName(None, t.name).written
        for t in (named.table for named in names.tables)
        if table.schema in (None, t.schema)
    ]
    wrong = TableName(None, table.name).written
    return Finding("error", place, f"{table.sql} does not exist{_meant(wrong, near)}")


def _meant(wrong: str, known: Sequence[str]) -> str:
    """The end of a message about a name that is not there."""
    folded = next((name for name in known if name.casefold() == wrong.casefold()), None)
    near = folded or nearest(wrong, known)
    listed = f" (known: {', '.join(known)})" if 0 < len(known) <= SHOWN_NAMES else ""
    return (f"; did you mean {near}?" if near else ": create it, or correct the config") + listed


def judge_relation(path: KeyPath, found: Relation, role: str, *, is_strict: bool) -> Iterator[Finding]:
    """Whether a table, and all that is read with it, can be read, and if `is_strict` whole."""
    place = dotted((*path, "table"))
    itself, *beneath = found.sources or (None,)
    if itself is None:
        yield Finding("error", place, f"{found.table.sql} is no table: it is of the kind {found.kind}")
        return
    if not found.is_populated:
        yield Finding(
            "error",
            place,
            f"{found.table.sql} is a materialized view that was never filled",
            f"REFRESH MATERIALIZED VIEW {found.table.sql};",
        )
    wanted = Named(found.table, found.kind, found.may_use_schema, itself.may_select).grants(role)
    if wanted:
        yield Finding("error", place, f"the role may not read {found.table.sql}", "\n".join(wanted))
    for source in (itself, *beneath):
        if source is not itself and not source.may_select and not source.is_partition:
            yield _unreadable_beneath(place, source)
        if source.row_security is not None:
            hidden = _hidden_rows(place, source, source.row_security, role)
            yield hidden if is_strict else replace(hidden, severity="note", message=f"{hidden.message} (allowed)")
        if source.kind == "foreign table":
            yield _elsewhere(place, source, itself)


def _unreadable_beneath(place: str, source: Source) -> Finding:
    through = source.through.sql if source.through else ""
    return Finding(
        "error",
        place,
        f"the view {through} reads {source.table.sql} with the rights of a role that may not read it",
        f"GRANT SELECT ON {source.table.sql} TO {quote(source.reader)};",
    )


def _hidden_rows(place: str, source: Source, policies: RowSecurity, role: str) -> Finding:
    """Policies apply: which, why to this reader, and what ends it."""
    is_ours = source.reader == role
    table = source.table.sql
    whom = "this role" if is_ours else "the owner of the view, with whose rights it is read"
    if policies.is_forced:
        whom += ", who owns it, for FORCE ROW LEVEL SECURITY is on"
    if source.through is not None:
        whom += (
            f" (it is read through {'the security_invoker' if source.is_invoker else 'the'} view {source.through.sql})"
        )
    if not policies.policies:
        effect = "no policy lets it see a row"
    elif policies.shows_all:
        effect = "its USING (true) hides nothing, but PostgreSQL does not tell such a policy from others"
    else:
        effect = "rows may be hidden"
    lines = [f"ALTER ROLE {quote(source.reader)} BYPASSRLS;"]
    if not is_ours and policies.spares_owner and source.through is not None:
        lines += [
            "-- or let the view read it as the table's owner does:",
            f"ALTER VIEW {source.through.sql} OWNER TO {quote(source.owner)};",
        ]
    elif is_ours and policies.spares_owner and source.owner != role:
        whole = TableName(source.table.schema, f"{source.table.name}_for_health").sql
        lines += [
            f"-- or, as {quote(source.owner)}, and then name this view in the config:",
            f"CREATE VIEW {whole} AS SELECT * FROM {table};",
            f"GRANT SELECT ON {whole} TO {quote(role)};",
        ]
    return Finding("error", place, f"row-level security of {table} applies to {whom}: {effect}", "\n".join(lines))


def _elsewhere(place: str, source: Source, itself: Source) -> Finding:
    """A foreign table, which a collection refuses behind a view, too."""
    what = "it is a foreign table" if source is itself else f"it reads the foreign table {source.table.sql}"
    unseen = "what its server hides from us cannot be seen from here, nor is it part of the snapshot"
    return Finding("error", place, f"{what}: {unseen}: measure it on its own server")


def judge_columns(place: Place, found: Relation) -> Iterator[Finding]:
    """Whether the columns of a section are there, and those that say when have a time in them."""
    for path, name in place.columns:
        column = found.column(name)
        if column is None:
            known = [column.name for column in found.columns]
            yield Finding("error", dotted(path), f"{found.table.sql} has no column {quote(name)}{_meant(name, known)}")
        elif (path, name) in place.times:
            yield from _judge_time(dotted(path), column, place.timezone)


def _judge_time(path: str, column: Column, timezone: str | None) -> Iterator[Finding]:
    if not column.is_time:
        yield Finding(
            "error",
            path,
            f"{quote(column.name)} is {column.type}, which does not say when: name a column of type timestamptz, "
            "timestamp or date, or read a view that converts it",
        )
    elif timezone is not None:
        if column.base == "timestamp with time zone":
            yield Finding("note", path, f"{quote(column.name)} has a time zone: timezone says nothing about it")
    elif column.base == "timestamp without time zone":
        yield Finding(
            "note",
            path,
            f"{quote(column.name)} has no time zone and is read as UTC: if it holds another zone's time, write "
            "timezone: <IANA name> in this section, such as Europe/Berlin",
        )
    elif column.base == "date":
        yield Finding("note", path, f"{quote(column.name)} is a date and is read as its midnight in UTC")


def judge_session_key(pipeline: Pipeline, found: Relation) -> Iterator[Finding]:
    """Whether an index proves that sessions.key tells sessions apart; else each collection looks it up."""
    key = pipeline.sessions.key
    if found.is_unique(key):
        return
    names = ", ".join(map(quote, key))
    yield Finding(
        "note",
        f"pipelines.{pipeline.name}.sessions.key",
        f"no unique index proves that ({names}) tells sessions apart: every collection looks it up in one more pass",
        f"CREATE UNIQUE INDEX CONCURRENTLY ON {found.table.sql} ({names});"
        if found.kind in ("table", "materialized view") and not found.has_heirs
        else None,
    )


def judge_window(pipeline: Pipeline, found: Relation) -> Iterator[Finding]:
    """Whether an index finds the sessions of the window, where the table is so large that it matters."""
    started = pipeline.sessions.started_at
    is_served = any(
        index.columns[0] == started and index.method in ("btree", "brin") and not index.is_partial
        for index in found.indexes
    )
    if is_served or found.rows is None or found.rows <= LARGE_TABLE:
        return
    partitioned = found.kind == "partitioned table"
    yield Finding(
        "note",
        f"pipelines.{pipeline.name}.sessions.started_at",
        f"no index begins with {quote(started)}: every collection reads all of about {found.rows} rows to find those "
        "of the window" + ("; on a partitioned table this locks writers out while it is built" if partitioned else ""),
        f"CREATE INDEX {'' if partitioned else 'CONCURRENTLY '}ON {found.table.sql} ({quote(started)});",
    )


def judge_locks(pipeline: Pipeline, needed: int, room: int) -> Iterator[Finding]:
    """How much of the server's room for locks a collection takes, where that is worth a word."""
    if needed > MANY_LOCKS:
        yield Finding(
            "note",
            f"pipelines.{pipeline.name}",
            f"a collection takes about {needed} locks, one for each partition and each index, of {room} that the "
            f"server has room for: it is not begun above {LOCKS_SHARE:.0%}; raise max_locks_per_transaction before",
        )


# --- What only the server can tell


async def _check(
    session: Session, plan: Plan, server: Server, names: Names, found: dict[KeyPath, Relation]
) -> list[Finding]:
    """Everything about one pipeline that can be found out without counting; `found` gets the table of each section."""
    plan = plan.about(resolved(plan.pipeline, session.found))
    pipeline, role = plan.pipeline, server.role
    findings: list[Finding] = []
    for place in places(pipeline):
        relation = await read_relation(session, place.table)
        if relation is None:
            findings.append(judge_absence(place.path, place.table, names, role))
            continue
        found[place.path] = relation
        is_strict = plan.database.row_security == "strict"
        of_table = list(judge_relation(place.path, relation, role, is_strict=is_strict))
        if not any(finding.severity == "error" for finding in of_table):
            rows = "" if relation.rows is None else f", about {relation.rows} rows"
            readable = Finding("ok", dotted((*place.path, "table")), f"{relation.kind} {relation.table.sql}{rows}")
            findings.append(readable)
        findings += of_table
        if relation.sources:
            findings += judge_columns(place, relation)
        if place.timezone is not None:
            findings += await _check_zone(session, (*place.path, "timezone"), place.timezone)
    sessions = found.get(("pipelines", pipeline.name, "sessions"))
    if sessions is not None and sessions.sources:
        if all(sessions.column(column) for column in pipeline.sessions.key):
            findings += await _check_key(session, plan, sessions, findings)
        findings += judge_window(pipeline, sessions)
        findings += judge_locks(pipeline, *(await session.run(plan.lock_count, "catalog"))[0])
        _, unlike = await links_of(session, plan)
        findings += [_fault(f"pipelines.{pipeline.name}.records.{n}.session_key", fault) for n, fault in unlike.items()]
    return [*findings, *await _check_expressions(session, plan, found, findings)]


async def _check_expressions(
    session: Session, plan: Plan, found: Mapping[KeyPath, Relation], so_far: Sequence[Finding]
) -> list[Finding]:
    """What the server says of the SQL of the config, each expression by itself: it is planned, and no row is read."""
    findings: list[Finding] = []
    taken: list[Expression] = []
    top: KeyPath = ("pipelines", plan.pipeline.name)
    if plan.search:
        await session.run(plan.search, dotted(top))
    for one in expressions(plan.pipeline, plan.dimensions):
        section, path = (*top, *one.section), dotted((*top, *one.path))
        if section not in found or not found[section].sources:
            continue
        whole, lines = await qualify(session, replace(one, table=found[section].table), path)
        if isinstance(lines, list):
            taken.append(one)
            findings += _judge_plan(path, whole, lines)
            if whole.sql != one.sql.strip():
                findings.append(Finding("note", path, f"{_BARE}: {' '.join(whole.sql.split())}"))
            continue
        known = _failed(so_far, dotted((*section, "table")))
        if not (known and lines.reason in ("permission", "row_security")):
            findings.append(_fault(path, lines))
    misread_ones = await misread(session, plan, taken)
    findings += [_fault(dotted((*top, *one.path)), fault) for one, fault in misread_ones]
    if plan.search:
        await session.run(search(()), dotted(top))
    return findings


_BARE: Final = "names tables or functions without their schema, which the search_path of the role decides: write"


def _judge_plan(path: str, one: Expression, lines: Sequence[str]) -> Iterator[Finding]:
    if is_detached(lines):
        column = "session.id" if one.row == "session" else "record.id"
        yield Finding(
            "note",
            path,
            f"a sub-query uses no column of the {one.row}, so it says the same of every {one.row}: in a sub-query a "
            f"bare name is a column of the sub-query's own tables first; write {column} for the {one.row}'s",
        )


async def _check_zone(session: Session, path: KeyPath, zone: str) -> list[Finding]:
    """Whether the server knows a time zone of that name."""
    known = Statement("time zones", "select name from pg_catalog.pg_timezone_names")
    names = [row[0] for row in await session.run(known, dotted(path))]
    if zone.lower() in {name.lower() for name in names}:
        return []
    near = nearest(zone, names)
    return [
        Finding(
            "error",
            dotted(path),
            "the server knows no time zone of this name" + (f"; did you mean {near}?" if near else ""),
        )
    ]


async def _check_key(session: Session, plan: Plan, sessions: Relation, so_far: Sequence[Finding]) -> list[Finding]:
    """Duplicates of the sessions' key, by the very questions that a collection asks."""
    pipeline = plan.pipeline
    path = f"pipelines.{pipeline.name}.sessions"
    findings = list(judge_session_key(pipeline, sessions))
    if _failed(so_far, f"{path}.table"):
        return findings
    if plan.search:
        await session.run(plan.search, f"{path}.key")
    rows = await session.attempt(plan.unique, f"{path}.key", is_refused_lock)
    if plan.search:
        await session.run(search(()), f"{path}.key")
    if isinstance(rows, Fault):
        findings.append(_fault(f"{path}.key", rows))
    elif not rows[0][0]:
        names = ", ".join(map(quote, pipeline.sessions.key))
        findings = [
            Finding(
                "error",
                f"{path}.key",
                f"several rows share a value of ({names}): name columns that tell sessions apart; to see them:",
                f"SELECT {names}, count(*) FROM {sessions.table.sql} GROUP BY {names} HAVING count(*) > 1;",
            )
        ]
    return findings


def _fault(path: str, fault: Fault) -> Finding:
    return Finding("error", path, fault.message.removeprefix(f"{path}: "))


_SQL: Final = re.compile(rf"ALTER ROLE {ROLE} \w+|CREATE VIEW .+?(?=; GRANT)|GRANT \w+ ON (?!the table).+? TO {ROLE}")
"""What a fault says to type; it names no role, for logs have it, too."""


def _for_role(finding: Finding, role: str) -> Finding:
    """The same with what a fault says to type as SQL for our role."""
    statements = [found.replace(ROLE, quote(role)) + ";" for found in _SQL.findall(finding.message)]
    if not statements:
        return finding
    said = finding.message[: _SQL.search(finding.message).start()].rstrip(": ")  # type: ignore[union-attr]
    if "BYPASSRLS" in statements[0]:
        also = "-- or, as an owner of the table whom no policy binds, and then name this view in the config:"
        statements.insert(1, also)
    elif finding.message.partition("where a view reads it")[1]:
        said += "; where a view reads it, its owner needs the right"
    return replace(finding, message=said, remedy="\n".join(statements))


def _failed(findings: Iterable[Finding], path: str) -> bool:
    return any(finding.severity == "error" and f"{finding.path}.".startswith(f"{path}.") for finding in findings)


# --- A collection


async def _try(plan: Plan, so_far: Sequence[Finding], found: Mapping[KeyPath, Relation]) -> list[Finding]:
    """Collect once, unless it is known that nothing would come of it."""
    path = f"pipelines.{plan.pipeline.name}"
    # What fails by itself, a check say, is no reason not to look at the rest.
    parts = [f"{path}.{part.path}" for part in plan.parts]
    if _failed((finding for finding in so_far if finding.path not in parts), f"{path}.sessions"):
        return [Finding("note", path, "nothing was collected: mend the errors of its sessions first")]
    try:
        snapshot = await collect(plan)
    except CollectionError as error:
        return [_fault(path, error.fault)]
    return list(judge_snapshot(plan.pipeline, snapshot, so_far, found))


def judge_snapshot(
    pipeline: Pipeline, snapshot: Snapshot, so_far: Sequence[Finding], found: Mapping[KeyPath, Relation]
) -> Iterator[Finding]:
    """The numbers of a first collection, and what it could not measure; `so_far` is not said again.

    `found` has the table of each section.
    """
    path = f"pipelines.{pipeline.name}"
    values = {(sample.metric.name, *sample.labels): sample.value for sample in snapshot.samples}
    states = _family(values, ELIGIBLE.name)
    total = sum(states.values())
    if not states:
        lost = ", ".join(snapshot.record_faults)
        yield Finding("note", path, f"how many sessions are complete needs every record, and {lost} is not measured")
    elif total:
        yield Finding("ok", path, f"{total:.0f} sessions analysed: {_counts(states, zeros=True)}")
    else:
        statuses = _counts(_family(values, SESSIONS.name)) or "none"
        yield Finding(
            "note",
            path,
            f"no session in the window is eligible: check window and eligible (sessions there, by status: {statuses})",
        )
    for part, refused in snapshot.part_faults.items():
        if not _failed(so_far, f"{path}.{part}"):
            yield _fault(f"{path}.{part}", refused)
    for name, record in pipeline.records.items():
        place = f"{path}.records.{name}"
        fault = snapshot.record_faults.get(name)
        if fault is None:
            states = _family(values, RECORD_SESSIONS.name, name)
            yield Finding("ok", place, f"sessions by state: {_counts(states) or 'none'}")
            rows = _family(values, RECORDS.name, name)
            yield from _judge_version(place, record, rows)
            keyed = sum(rows.values()) - values[UNLINKED.name, name]
            if sum(_family(values, SESSIONS.name).values()) and 0 < keyed == values[ORPHANED.name, name]:
                yield _strangers(pipeline, name, keyed, found)
        elif not _failed(so_far, place):
            yield _fault(place, fault)
        else:
            yield Finding("note", place, "not measured: mend its errors above")
    yield from _judge_limits(path, snapshot)


def _strangers(pipeline: Pipeline, name: str, rows: float, found: Mapping[KeyPath, Relation]) -> Finding:
    """No row of a record finds a session: its key is most likely in another column, or written differently."""
    top: KeyPath = ("pipelines", pipeline.name)
    of_record, of_sessions = found[*top, "records", name], found[*top, "sessions"]
    types, others, casts = [], set[str](), []
    for part, key in zip(pipeline.records[name].session_key, pipeline.sessions.key, strict=True):
        theirs, own = of_record.column(part.column), of_sessions.column(key)
        if theirs is None or own is None:
            continue
        types.append(f"{quote(theirs.name)} is {theirs.type}, {quote(own.name)} of the sessions is {own.type}")
        others |= {column.name for column in of_record.columns if column.base == own.base} - {theirs.name}
        if part.cast in STRINGS and own.base not in STRINGS:
            casts.append(f", or write {{column: {part.column}, cast: {own.base}}}")
    listed = f" (of its type: {', '.join(sorted(others))})" if 0 < len(others) <= SHOWN_NAMES else ""
    return Finding(
        "note",
        f"pipelines.{pipeline.name}.records.{name}.session_key",
        f"not one of {rows:.0f} rows finds a session, for {' and '.join(types)}: name the column that holds the "
        f"session's key{listed}{''.join(casts)}, or read a view that writes both alike",
    )


def _judge_limits(path: str, snapshot: Snapshot) -> Iterator[Finding]:
    """What the verdict would be, and what decides it; no error: to find what is wrong is what it is for."""
    judgement = snapshot.judgement
    is_complete = not snapshot.record_faults and not snapshot.part_faults
    yield Finding("ok", path, f"the verdict is {judgement.verdict(is_complete=is_complete)}")
    for finding in judgement.findings:
        if finding.outcome in ("warning", "critical"):
            subject = f" of {finding.subject}" if finding.subject else ""
            place = f"{path}.limits.{finding.limit.name}"
            yield Finding("note", place, f"{finding.outcome}{subject}: {finding.text}")
    yield from (Finding("note", path, caveat.message) for caveat in judgement.caveats if caveat.verdict == "unknown")


def _judge_version(path: str, record: Record, rows: Mapping[tuple[str, ...], float]) -> Iterator[Finding]:
    if record.version and sum(rows.values()) and not any(rows[labels] for labels in rows if labels[1] == "current"):
        found = _counts({labels[:1]: count for labels, count in rows.items()})
        yield Finding("note", f"{path}.version.current", f"no row has this version (rows by version: {found})")


def _family(values: Mapping[tuple[str, ...], float], *start: str) -> dict[tuple[str, ...], float]:
    return {key[len(start) :]: value for key, value in values.items() if key[: len(start)] == start}


def _counts(values: Mapping[tuple[str, ...], float], *, zeros: bool = False) -> str:
    """What there is of each, the most first; what is closed to zeros is left out."""
    ordered = values.items() if zeros else sorted(values.items(), key=lambda item: -item[1])
    return ", ".join(f"{count:.0f} {labels[0]}" for labels, count in list(ordered)[:10] if count or zeros)
