"""Catalog -> findings about tables, columns and indexes.  Pure."""

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
"""Rows: a larger table without an index for the window gets a note."""

MANY_LOCKS: Final = 100
"""Locks: a collection with more locks gets a note."""


# --- The connection


def judge_connection(
    path: str, server: Server, *, is_encrypted: bool, powers: Sequence[str] = ()
) -> Iterator[ConfigFinding]:
    """Findings about an open connection; `powers` of the role beyond reading that the config does not allow."""
    yield ConfigFinding("ok", path, f"connected (PostgreSQL {server.version})")
    if not is_encrypted:
        yield ConfigFinding(
            "note",
            path,
            "the connection is not encrypted: turn on the server's ssl setting, and write sslmode=verify-full and "
            "sslrootcert into the url",
        )
    if powers:
        yield ConfigFinding(
            "note",
            path,
            f"serve refuses the role, because the role may do more than read ({', '.join(powers)}): use a role that "
            "may only SELECT, or write allow_superuser: true",
        )


def judge_connection_limits(
    path: str, of_role: int, of_database: int, server: Server, pipelines: int
) -> Iterator[ConfigFinding]:
    """Notes on limits too low for one connection for each pipeline at the same time."""
    for whose, limit, remedy in (
        ("the role", of_role, f"ALTER ROLE {quote(server.role)} CONNECTION LIMIT {pipelines};"),
        ("the database", of_database, None),
    ):
        # The limits do not apply to a superuser.
        if 0 <= limit < pipelines and not server.is_superuser:
            yield ConfigFinding(
                "note",
                path,
                f"{pipelines} pipelines need {pipelines} connections at the same time, and {whose} may have {limit}: "
                "without a pooler some collections will fail: raise the CONNECTION LIMIT",
                remedy,
            )


# --- Tables


@dataclass(frozen=True, slots=True)
class Place:
    """A section of a pipeline with a table: the named columns with their keys, and the columns with times.

    `computed`: the names of computed columns.
    """

    path: KeyPath
    table: TableName
    columns: tuple[tuple[KeyPath, str], ...]
    times: tuple[tuple[KeyPath, str], ...]
    timezone: str | None
    computed: frozenset[str]


def places(pipeline: Pipeline) -> Iterator[Place]:
    """The sections of a pipeline with a table, the sessions first."""
    top: KeyPath = ("pipelines", pipeline.name)
    sessions, path = pipeline.sessions, (*top, "sessions")
    key = [((*path, "key"), column) for column in sessions.key]
    named = {"started_at": sessions.started_at, "completed_at": sessions.completed_at, "due_at": sessions.due_at}
    times = [((*path, name), column) for name, column in named.items() if column is not None]
    status = [((*path, "status"), sessions.status)] if sessions.status else []
    columns = [*key, *status, *times]
    columns += [((*path, *keys), column) for keys, column in _own(sessions)]
    for name, record in pipeline.records.items():
        numbers = record.rows.columns if record.rows else ()
        columns += [((*top, "records", name, "rows"), column) for column in numbers]
    yield Place(path, sessions.table, tuple(columns), tuple(times), sessions.timezone, frozenset(sessions.computed))
    for name, record in pipeline.here.items():
        yield _record_place((*top, "records", name), record)


def _record_place(path: KeyPath, record: Record) -> Place:
    columns: list[tuple[KeyPath, str]] = [((*path, "session_key"), part.column) for part in record.session_key]
    times = [((*path, "created_at"), record.created_at)] if record.created_at else []
    if record.version:
        columns.append(((*path, "version", "column"), record.version.column))
    columns += [((*path, "accepted_values", column), column) for column in record.accepted_values]
    columns += [((*path, *keys), column) for keys, column in _own(record)]
    return Place(path, record.table, (*columns, *times), tuple(times), record.timezone, frozenset(record.computed))


def _own(section: Sessions | Record) -> Iterator[tuple[KeyPath, str]]:
    """The columns that a section names under the keys of the dimensions."""
    where = "record" if isinstance(section, Record) else "sessions"
    for key in (key for dimension in DIMENSIONS for key in dimension.keys):
        if key.section == where:
            yield from key.texts(section, COLUMN)


def judge_absence(path: KeyPath, table: TableName, names: Names, role: str) -> ConfigFinding:
    """The finding about a missing table, with the nearest existing table."""
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
    """The end of a message about a missing name: the nearest known name, or another remedy."""
    folded = next((name for name in known if name.casefold() == wrong.casefold()), None)
    near = folded or nearest(wrong, known)
    listed = f" (known: {', '.join(known)})" if 0 < len(known) <= SHOWN_NAMES else ""
    return (f"; did you mean {near}?" if near else ": create it, or correct the config") + listed


def judge_relation(path: KeyPath, found: Relation, role: str, *, is_strict: bool) -> Iterator[ConfigFinding]:
    """Findings about the rights on a table and on the tables beneath; `is_strict`: policies are errors."""
    place = dotted((*path, "table"))
    itself, *beneath = found.sources or (None,)
    if itself is None:
        yield ConfigFinding(
            "error", place, f"{found.table.sql} is not a table but of kind {found.kind}: name a table or a view"
        )
        return
    if not found.is_populated:
        yield ConfigFinding(
            "error",
            place,
            f"{found.table.sql} is a materialized view without data",
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
    """The finding about policies on a table: the reader, the effect and the SQL against hidden rows."""
    is_ours = source.reader == role
    table = source.table.sql
    whom = "this role" if is_ours else "the owner of the view, the reader behind the view"
    if policies.is_forced:
        whom += ", although the owner of the table, because FORCE ROW LEVEL SECURITY is on"
    if source.through is not None:
        whom += f" (read through {'the security_invoker' if source.is_invoker else 'the'} view {source.through.sql})"
    if not policies.policies:
        effect = "no policy allows a row"
    elif policies.shows_all:
        effect = "USING (true) hides nothing, but PostgreSQL does not distinguish such a policy from others"
    else:
        effect = "rows may be hidden"
    lines = [f"ALTER ROLE {quote(source.reader)} BYPASSRLS;"]
    if not is_ours and policies.spares_owner and source.through is not None:
        lines += [
            "-- or let the view read as the owner of the table:",
            f"ALTER VIEW {source.through.sql} OWNER TO {quote(source.owner)};",
        ]
    elif is_ours and policies.spares_owner and source.owner != role:
        whole = TableName(source.table.schema, f"{source.table.name}_for_health").sql
        lines += [
            f"-- or, as {quote(source.owner)} (then name this view in the config):",
            f"CREATE VIEW {whole} AS SELECT * FROM {table};",
            f"GRANT SELECT ON {whole} TO {quote(role)};",
        ]
    return ConfigFinding("error", place, f"row-level security of {table} applies to {whom}: {effect}", "\n".join(lines))


def _elsewhere(place: str, source: Source, itself: Source) -> ConfigFinding:
    """The finding about a foreign table, also behind a view."""
    what = "a foreign table" if source is itself else f"reads the foreign table {source.table.sql}"
    unseen = "the exporter cannot see hidden rows on the other server, and the snapshot does not include that server"
    return ConfigFinding(
        "error", place, f"{what}: {unseen}: read the table on its own server; a record may name its database"
    )


def judge_columns(place: Place, found: Relation) -> Iterator[ConfigFinding]:
    """Findings about missing columns, and about time columns of a wrong type."""
    for name in sorted(place.computed):
        if found.column(name) is not None:
            there = dotted((*place.path, "computed", name))
            yield ConfigFinding("error", there, f"{found.table.sql} has a column {quote(name)}: choose another name")
    for path, name in place.columns:
        if name in place.computed:
            continue
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
            f"{quote(column.name)} is {column.type}, not a time: name a column of type timestamptz, timestamp or date, "
            "or read a view that converts the column",
        )
    elif timezone is not None:
        if column.base == "timestamp with time zone":
            yield ConfigFinding(
                "note", path, f"{quote(column.name)} has a time zone: remove timezone, it has no effect here"
            )
    elif column.base == "timestamp without time zone":
        yield ConfigFinding(
            "note",
            path,
            f"{quote(column.name)} has no time zone and is read as UTC: for local times write timezone: <IANA name> in "
            "this section, such as Europe/Berlin",
        )
    elif column.base == "date":
        yield ConfigFinding("note", path, f"{quote(column.name)} is a date and is read as midnight in UTC")


def judge_session_key(pipeline: Pipeline, found: Relation) -> Iterator[ConfigFinding]:
    """A note if no unique index proves `sessions.key`: each collection then checks the rows."""
    key = pipeline.sessions.key
    if found.is_unique(key):
        return
    names = ", ".join(map(quote, key))
    yield ConfigFinding(
        "note",
        f"pipelines.{pipeline.name}.sessions.key",
        f"no unique index proves that ({names}) is unique: every collection checks the rows in one more pass",
        f"CREATE UNIQUE INDEX CONCURRENTLY ON {found.table.sql} ({names});"
        if found.kind in ("table", "materialized view")
        and not found.has_child_tables
        and pipeline.sessions.computed.keys().isdisjoint(key)
        else None,
    )


def judge_window(pipeline: Pipeline, found: Relation) -> Iterator[ConfigFinding]:
    """A note if a large table has no index for the window."""
    started = pipeline.sessions.started_at
    is_served = any(
        index.columns[0] == started and index.method in ("btree", "brin") and not index.is_partial
        for index in found.indexes
    )
    if is_served or started in pipeline.sessions.computed or found.rows is None or found.rows <= LARGE_TABLE:
        return
    partitioned = found.kind == "partitioned table"
    yield ConfigFinding(
        "note",
        f"pipelines.{pipeline.name}.sessions.started_at",
        f"no index begins with {quote(started)}: every collection reads about {found.rows} rows to find the window"
        + ("; on a partitioned table, building the index blocks writers" if partitioned else ""),
        f"CREATE INDEX {'' if partitioned else 'CONCURRENTLY '}ON {found.table.sql} ({quote(started)});",
    )


def judge_locks(pipeline: Pipeline, needed: int, room: int) -> Iterator[ConfigFinding]:
    """A note if a collection needs many locks."""
    if needed > MANY_LOCKS:
        yield ConfigFinding(
            "note",
            f"pipelines.{pipeline.name}",
            f"a collection needs about {needed} locks, one for each partition and each index, and the server has room "
            f"for {room}: above {LOCKS_SHARE:.0%} the exporter does not collect: raise max_locks_per_transaction",
        )


_SQL: Final = re.compile(rf"ALTER ROLE {ROLE} \w+|CREATE VIEW .+?(?=; GRANT)|GRANT \w+ ON (?!the table).+? TO {ROLE}")
"""SQL in the message of a fault; with a placeholder for the role, because logs have the message too."""


def for_role(finding: ConfigFinding, role: str) -> ConfigFinding:
    """The finding with the SQL of the message as remedy, for `role`."""
    statements = [found.replace(ROLE, quote(role)) + ";" for found in _SQL.findall(finding.message)]
    if not statements:
        return finding
    said = finding.message[: _SQL.search(finding.message).start()].rstrip(": ")  # type: ignore[union-attr]
    if "BYPASSRLS" in statements[0]:
        also = "-- or, as the owner of a table without FORCE ROW LEVEL SECURITY (then name this view in the config):"
        statements.insert(1, also)
    elif finding.message.partition("if a view reads the table")[1]:
        said += "; if a view reads the table, the view's owner needs the right"
    return replace(finding, message=said, remedy="\n".join(statements))
