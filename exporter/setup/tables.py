"""What the catalog says -> what keeps a table from being measured.  Pure."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final

from exporter.config.read import dotted
from exporter.dimensions import DIMENSIONS
from exporter.measure.locks import LOCKS_SHARE
from exporter.measure.query_faults import ROLE
from exporter.model.sections import Pipeline, Record, Sessions
from exporter.model.sql import TableName, quote
from exporter.model.values import COLUMN, KeyPath
from exporter.setup.catalog import (
    Names,
    Relation,
    RowSecurity,
    Server,
    Source,
    TableColumn,
    VisibleTable,
)
from exporter.setup.findings import SHOWN_NAMES, ConfigFinding
from exporter.text.names import nearest

LARGE_TABLE: Final = 10_000
"""Rows from which on an index for the window is worth a note."""

MANY_LOCKS: Final = 100
"""Locks of one collection from which on they are worth a note."""


# --- The connection


def judge_connection(path: str, server: Server, *, is_encrypted: bool) -> Iterator[ConfigFinding]:
    """What can be said of a connection that stands."""
    yield ConfigFinding("ok", path, f"connected (PostgreSQL {server.version})")
    if not is_encrypted:
        yield ConfigFinding(
            "note",
            path,
            "the connection is not encrypted: turn on the server's ssl setting, and write sslmode=verify-full and "
            "sslrootcert into the url",
        )
    if server.is_superuser:
        yield ConfigFinding("note", path, "the role is a superuser: one that may only read the tables is enough")


def judge_connection_limits(
    path: str, of_role: int, of_database: int, server: Server, pipelines: int
) -> Iterator[ConfigFinding]:
    """Whether all pipelines of a database can be measured at the same time, each on a connection of its own."""
    for whose, limit, remedy in (
        ("the role", of_role, f"ALTER ROLE {quote(server.role)} CONNECTION LIMIT {pipelines};"),
        ("the database", of_database, None),
    ):
        # A superuser is bound by neither.
        if 0 <= limit < pipelines and not server.is_superuser:
            yield ConfigFinding(
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
    columns += [((*path, *keys), column) for keys, column in _own(sessions)]
    yield Place(path, sessions.table, tuple(columns), tuple(times), sessions.timezone)
    for name, record in pipeline.records.items():
        yield _record_place((*top, "records", name), record)


def _record_place(path: KeyPath, record: Record) -> Place:
    columns: list[tuple[KeyPath, str]] = [((*path, "session_key"), part.column) for part in record.session_key]
    times = [((*path, "created_at"), record.created_at)] if record.created_at else []
    if record.version:
        columns.append(((*path, "version", "column"), record.version.column))
    columns += [((*path, "accepted_values", column), column) for column in record.accepted_values]
    columns += [((*path, *keys), column) for keys, column in _own(record)]
    return Place(path, record.table, (*columns, *times), tuple(times), record.timezone)


def _own(section: Sessions | Record) -> Iterator[tuple[KeyPath, str]]:
    """The columns that a section names under the keys of the dimensions."""
    where = "record" if isinstance(section, Record) else "sessions"
    for key in (key for dimension in DIMENSIONS for key in dimension.keys):
        if key.section == where:
            yield from key.texts(section, COLUMN)


def judge_absence(path: KeyPath, table: TableName, names: Names, role: str) -> ConfigFinding:
    """A table that is not there: which one was meant?"""
    place = dotted((*path, "table"))
    same = [named for named in names.tables if named.table.name == table.name]
    if same:
        found = " or ".join(named.table.written for named in same)
        hidden = [named for named in same if table.schema is None and not named.may_use_schema]
        return ConfigFinding(
            "error",
            place,
            f"{table.sql} does not exist{' in the search path' if table.schema is None else ''}: write {found}",
            "\n".join(line for named in hidden for line in named.grants(role)) or None,
        )
    if table.schema is not None and table.schema not in names.schemas:
        return ConfigFinding(
            "error",
            place,
            f"the schema {quote(table.schema)} does not exist{did_you_mean(table.schema, names.schemas)}",
        )
    near = [
        TableName(None, t.name).written
        for t in (named.table for named in names.tables)
        if table.schema in (None, t.schema)
    ]
    wrong = TableName(None, table.name).written
    return ConfigFinding("error", place, f"{table.sql} does not exist{did_you_mean(wrong, near)}")


def did_you_mean(wrong: str, known: Sequence[str]) -> str:
    """The end of a message about a name that is not there."""
    folded = next((name for name in known if name.casefold() == wrong.casefold()), None)
    near = folded or nearest(wrong, known)
    listed = f" (known: {', '.join(known)})" if 0 < len(known) <= SHOWN_NAMES else ""
    return (f"; did you mean {near}?" if near else ": create it, or correct the config") + listed


def judge_relation(path: KeyPath, found: Relation, role: str, *, is_strict: bool) -> Iterator[ConfigFinding]:
    """Whether a table, and all that is read with it, can be read, and if `is_strict` whole."""
    place = dotted((*path, "table"))
    itself, *beneath = found.sources or (None,)
    if itself is None:
        yield ConfigFinding("error", place, f"{found.table.sql} is no table: it is of the kind {found.kind}")
        return
    if not found.is_populated:
        yield ConfigFinding(
            "error",
            place,
            f"{found.table.sql} is a materialized view that was never filled",
            f"REFRESH MATERIALIZED VIEW {found.table.sql};",
        )
    wanted = VisibleTable(found.table, found.kind, found.may_use_schema, itself.may_select).grants(role)
    if wanted:
        yield ConfigFinding("error", place, f"the role may not read {found.table.sql}", "\n".join(wanted))
    for source in (itself, *beneath):
        if source is not itself and not source.may_select and not source.is_partition:
            yield _unreadable_beneath(place, source)
        if source.row_security is not None:
            hidden = _hidden_rows(place, source, source.row_security, role)
            yield hidden if is_strict else replace(hidden, severity="note", message=f"{hidden.message} (allowed)")
        if source.kind == "foreign table":
            yield _elsewhere(place, source, itself)


def _unreadable_beneath(place: str, source: Source) -> ConfigFinding:
    through = source.through.sql if source.through else ""
    return ConfigFinding(
        "error",
        place,
        f"the view {through} reads {source.table.sql} with the rights of a role that may not read it",
        f"GRANT SELECT ON {source.table.sql} TO {quote(source.reader)};",
    )


def _hidden_rows(place: str, source: Source, policies: RowSecurity, role: str) -> ConfigFinding:
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
    return ConfigFinding("error", place, f"row-level security of {table} applies to {whom}: {effect}", "\n".join(lines))


def _elsewhere(place: str, source: Source, itself: Source) -> ConfigFinding:
    """A foreign table, which a collection refuses behind a view, too."""
    what = "it is a foreign table" if source is itself else f"it reads the foreign table {source.table.sql}"
    unseen = "what its server hides from us cannot be seen from here, nor is it part of the snapshot"
    return ConfigFinding("error", place, f"{what}: {unseen}: measure it on its own server")


def judge_columns(place: Place, found: Relation) -> Iterator[ConfigFinding]:
    """Whether the columns of a section are there, and those that say when have a time in them."""
    for path, name in place.columns:
        column = found.column(name)
        if column is None:
            known = [column.name for column in found.columns]
            yield ConfigFinding(
                "error", dotted(path), f"{found.table.sql} has no column {quote(name)}{did_you_mean(name, known)}"
            )
        elif (path, name) in place.times:
            yield from _judge_time(dotted(path), column, place.timezone)


def _judge_time(path: str, column: TableColumn, timezone: str | None) -> Iterator[ConfigFinding]:
    if not column.is_time:
        yield ConfigFinding(
            "error",
            path,
            f"{quote(column.name)} is {column.type}, which does not say when: name a column of type timestamptz, "
            "timestamp or date, or read a view that converts it",
        )
    elif timezone is not None:
        if column.base == "timestamp with time zone":
            yield ConfigFinding("note", path, f"{quote(column.name)} has a time zone: timezone says nothing about it")
    elif column.base == "timestamp without time zone":
        yield ConfigFinding(
            "note",
            path,
            f"{quote(column.name)} has no time zone and is read as UTC: if it holds another zone's time, write "
            "timezone: <IANA name> in this section, such as Europe/Berlin",
        )
    elif column.base == "date":
        yield ConfigFinding("note", path, f"{quote(column.name)} is a date and is read as its midnight in UTC")


def judge_session_key(pipeline: Pipeline, found: Relation) -> Iterator[ConfigFinding]:
    """Whether an index proves that sessions.key tells sessions apart; else each collection looks it up."""
    key = pipeline.sessions.key
    if found.is_unique(key):
        return
    names = ", ".join(map(quote, key))
    yield ConfigFinding(
        "note",
        f"pipelines.{pipeline.name}.sessions.key",
        f"no unique index proves that ({names}) tells sessions apart: every collection looks it up in one more pass",
        f"CREATE UNIQUE INDEX CONCURRENTLY ON {found.table.sql} ({names});"
        if found.kind in ("table", "materialized view") and not found.has_child_tables
        else None,
    )


def judge_window(pipeline: Pipeline, found: Relation) -> Iterator[ConfigFinding]:
    """Whether an index finds the sessions of the window, where the table is so large that it matters."""
    started = pipeline.sessions.started_at
    is_served = any(
        index.columns[0] == started and index.method in ("btree", "brin") and not index.is_partial
        for index in found.indexes
    )
    if is_served or found.rows is None or found.rows <= LARGE_TABLE:
        return
    partitioned = found.kind == "partitioned table"
    yield ConfigFinding(
        "note",
        f"pipelines.{pipeline.name}.sessions.started_at",
        f"no index begins with {quote(started)}: every collection reads all of about {found.rows} rows to find those "
        "of the window" + ("; on a partitioned table this locks writers out while it is built" if partitioned else ""),
        f"CREATE INDEX {'' if partitioned else 'CONCURRENTLY '}ON {found.table.sql} ({quote(started)});",
    )


def judge_locks(pipeline: Pipeline, needed: int, room: int) -> Iterator[ConfigFinding]:
    """How much of the server's room for locks a collection takes, where that is worth a word."""
    if needed > MANY_LOCKS:
        yield ConfigFinding(
            "note",
            f"pipelines.{pipeline.name}",
            f"a collection takes about {needed} locks, one for each partition and each index, of {room} that the "
            f"server has room for: it is not begun above {LOCKS_SHARE:.0%}; raise max_locks_per_transaction before",
        )


_SQL: Final = re.compile(rf"ALTER ROLE {ROLE} \w+|CREATE VIEW .+?(?=; GRANT)|GRANT \w+ ON (?!the table).+? TO {ROLE}")
"""What a fault says to type; it names no role, for logs have it, too."""


def for_role(finding: ConfigFinding, role: str) -> ConfigFinding:
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
