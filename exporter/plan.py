"""Config -> Plan: writes every statement of a collection, and knows how to read its rows.  No I/O."""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from exporter import APPLICATION_NAME
from exporter.dimension import (
    LABEL_LENGTH,
    PERCENTILES,
    CatalogMeasure,
    Cells,
    CellValue,
    Column,
    Dimension,
    Facet,
    Folded,
    Part,
    Rows,
    Scope,
    Spread,
    Total,
)
from exporter.replica import LOOK
from exporter.schema import Config, Database, KeyPart, Pipeline, Record
from exporter.sql import Bindings, Bound, Moment, TableName, condition, conjunction, moment, quote, relation
from exporter.states import (
    GAP_REASONS,
    RANK,
    GapReason,
    gap_reasons,
    is_valid,
    satisfies,
    state,
    version_class,
)

SessionKey = tuple[str, ...]
"""The key of a session: a text for each column of `sessions.key`."""

VALUE_LIMIT: Final = 10_000
"""Values of an open column that cross the wire; the rarest are added up beyond it, so totals stay right."""


@dataclass(frozen=True, slots=True)
class Statement:
    """SQL with numbered placeholders, the values that fill them, and the names of its result's columns.

    `folding` names the columns whose values come from the data, and are folded beyond the limit.
    """

    title: str
    sql: str
    bound: tuple[Bound, ...] = ()
    columns: tuple[str, ...] = ()
    folding: frozenset[str] = frozenset()
    returns_rows: bool = True

    def arguments(self, clock: datetime) -> list[object]:
        """The values in the order of the placeholders; `clock` is the snapshot's."""
        return [clock if value is Moment.CLOCK else value for value in self.bound]

    def read(self, rows: Sequence[Sequence[Any]]) -> Cells:
        """The cells of a result of this statement; its last column says whether a cell was folded."""
        open_places = [index for index, name in enumerate(self.columns) if name in self.folding]

        def cell(row: Sequence[Any]) -> tuple[CellValue, ...]:
            values = [tuple(map(float, value)) if isinstance(value, list) else value for value in row[:-1]]
            if row[-1]:
                for index in open_places:
                    values[index] = Folded.OTHER
            return tuple(values)

        return Cells(self.columns, tuple(cell(row) for row in rows))


@dataclass(frozen=True, slots=True)
class Cursor:
    """A result that is read piece by piece: `prepare` and `open`, then `fetch` until it returns no row, then `close`.

    It is held by the server under a name in SQL, not by the driver as a prepared statement: of those a pooler in
    transaction mode keeps the names.
    https://www.postgresql.org/docs/current/sql-declare.html
    """

    prepare: Statement
    open: Statement
    fetch: Statement
    close: Statement


FETCHED: Final = 2_000
"""Rows of a cursor that cross the wire at a time."""


@dataclass(frozen=True, slots=True)
class CatalogReading:
    """One scalar of the catalog statement: of which measure and record."""

    measure: CatalogMeasure
    record: str


@dataclass(frozen=True, slots=True)
class Plan:
    """All that collecting one pipeline takes; built once, from the config alone.

    The order of a collection: `REPLICA`, `begin`, then the locks (no snapshot is taken by them), then `catalog`,
    which takes the snapshot and reads its clock, `IDENTITY`, then `sessions(...)` and `rows(...)`, then `touched`.
    """

    pipeline: Pipeline
    database: Database
    dimensions: tuple[Dimension, ...]
    max_label_values: int
    begin: Statement
    lock_sessions: Statement
    lock_records: dict[str, Statement]
    catalog: Statement
    catalog_readings: tuple[CatalogReading, ...]
    touched: Statement

    @property
    def parts(self) -> tuple[Part, ...]:
        """What may fail by itself beside the records."""
        return tuple(part for dimension in self.dimensions for part in dimension.parts(self.pipeline))

    def sessions(self, records: Sequence[str], parts: Sequence[Part] = ()) -> Statement:
        """One pass over the sessions in the window and the cohort, and over the tables of `records`."""
        scope = Scope(self.pipeline, _pick(self.pipeline, records), tuple(parts))
        return _sessions_statement(scope, self.dimensions)

    def rows(self, records: Sequence[str], parts: Sequence[Part] = ()) -> Statement:
        """One pass over the tables of `records` and over the keys of all sessions."""
        scope = Scope(self.pipeline, _pick(self.pipeline, records), tuple(parts))
        return _rows_statement(scope, self.dimensions)

    def gaps(self, records: Sequence[str], reasons: Collection[GapReason] = GAP_REASONS) -> Cursor:
        """Every session that is a gap because of one of `records` for one of `reasons`: the longest due first.

        Its columns: each part of the key as text, the completion as text (NULL where there is none), and for each of
        `records` the reason, NULL where it is none.
        """
        return _gap_cursor(Scope(self.pipeline, _pick(self.pipeline, records), ()), reasons)

    def gap_count(self, records: Sequence[str], reasons: Collection[GapReason] = GAP_REASONS) -> Statement:
        """How many sessions `gaps` has."""
        return _gap_count(Scope(self.pipeline, _pick(self.pipeline, records), ()), reasons)

    def gap_tally(self, records: Sequence[str], reasons: Collection[GapReason] = GAP_REASONS) -> Statement:
        """The same by record and reason, for those sessions of `gaps` that have a key without NULL.

        Its one row: how many they are, how many have a NULL in their key, and for each of `records` and each of
        GAP_REASONS how many sessions.
        """
        return _gap_tally(Scope(self.pipeline, _pick(self.pipeline, records), ()), reasons)

    def states_of(self, records: Sequence[str], keys: Sequence[SessionKey]) -> Cursor:
        """What the sessions of these keys are now, as far as they are in the window or the cohort, in no order.

        Its columns: the place of the key in `keys`, from 0 on; whether the session is in the window, and eligible; and
        for each of `records` its state.
        """
        return _states_cursor(Scope(self.pipeline, _pick(self.pipeline, records), ()), keys)

    def places_of(self, keys: Sequence[SessionKey]) -> Statement:
        """The places in `keys`, from 0 on, of those sessions that the table has, wherever in time."""
        return _places_statement(self.pipeline, keys)

    def rows_of(self, record: str, cells: Cells) -> Rows:
        """The rows of one record, from the cells of `rows(...)`."""
        facets = _facets(self.dimensions, self.pipeline.records[record], Bindings())
        return Rows(cells.only("record", [record]), next(facet.name for facet in facets if facet.per_session))

    def statements(self) -> Iterator[Statement]:
        """What a collection runs when nothing is broken, in order."""
        names = tuple(self.pipeline.records)
        yield REPLICA
        yield self.begin
        yield self.lock_sessions
        yield from self.lock_records.values()
        yield self.catalog
        yield IDENTITY
        yield self.sessions(names, self.parts)
        yield self.rows(names, self.parts)
        yield self.touched
        yield END


REPLICA: Final = Statement("replica", f"select /* {APPLICATION_NAME} */\n  " + ",\n  ".join(LOOK))
"""A `Look` before the transaction: once in it, there is none without a snapshot."""

IDENTITY: Final = Statement(
    "identity",
    f"select /* {APPLICATION_NAME} */ md5(system_identifier::text || ' ' || current_database())\n"
    "from pg_catalog.pg_control_system()",
)
"""Tells this database from every other, a copy made by dump and restore too, and nothing about it; a replica has its
primary's.  https://www.postgresql.org/docs/current/functions-info.html#FUNCTIONS-INFO-CONTROLDATA"""

END: Final = Statement("end", "rollback", returns_rows=False)


def compile_plan(config: Config, pipeline: Pipeline, dimensions: tuple[Dimension, ...]) -> Plan:
    """The plan of one pipeline."""
    database = config.databases[pipeline.database]
    catalog, readings = _catalog_statement(pipeline, dimensions)
    return Plan(
        pipeline=pipeline,
        database=database,
        dimensions=dimensions,
        max_label_values=config.collection.max_label_values,
        begin=begin(database),
        lock_sessions=_lock(pipeline, "sessions", pipeline.sessions.table.sql),
        lock_records={name: _lock(pipeline, name, record.table.sql) for name, record in pipeline.records.items()},
        catalog=catalog,
        catalog_readings=readings,
        touched=_touched_statement(pipeline),
    )


def _pick(pipeline: Pipeline, names: Sequence[str]) -> tuple[Record, ...]:
    return tuple(pipeline.records[name] for name in names)


def _milliseconds(duration: timedelta) -> int:
    return max(1, round(duration.total_seconds() * 1000))


def begin(database: Database) -> Statement:
    """The transaction, guarded.

    Settings are made here, not at connect: a pooler in transaction mode would lose or refuse them there.
    A policy that applies to our role makes the server refuse (row_security = off) instead of hiding rows.
    https://www.postgresql.org/docs/current/runtime-config-client.html
    """
    settings = {
        "application_name": f"'{APPLICATION_NAME}'",
        "timezone": "'UTC'",
        # A version or a status is compared as text: the same, whatever the role's or the database's defaults are.
        "datestyle": "'ISO, YMD'",
        "intervalstyle": "'postgres'",
        "bytea_output": "'hex'",
        "extra_float_digits": 1,
        "standard_conforming_strings": "on",
        "transform_null_equals": "off",
        "row_security": "off" if database.row_security == "strict" else "on",
        "statement_timeout": _milliseconds(database.statement_timeout),
        "lock_timeout": _milliseconds(database.lock_timeout),
        "idle_in_transaction_session_timeout": _milliseconds(database.statement_timeout),
        # A health check never competes with the platform: one process, and no compiling for it.
        "max_parallel_workers_per_gather": 0,
        "jit": "off",
        # Every row of a table is counted: one sequential pass and a hash.  The planner would rather walk an
        # index to spare itself a sort, which reads the table in random order, page by page, row by row.
        # Bitmap scans stay allowed, for the window and for sub-queries of the config.
        "enable_indexscan": "off",
        "enable_indexonlyscan": "off",
        "enable_sort": "off",
    }
    lines = ["begin isolation level repeatable read read only"]
    lines += [f"set local {name} = {value}" for name, value in settings.items()]
    return Statement("begin", ";\n".join(lines), returns_rows=False)


def _lock(pipeline: Pipeline, title: str, table: str) -> Statement:
    """Taken before the snapshot: a rewrite (TRUNCATE, ALTER TABLE) after it would show an empty table.

    https://www.postgresql.org/docs/current/mvcc-caveats.html
    """
    sql = f"lock table {table} in access share mode {_marker(pipeline, f'lock {title}')}"
    return Statement(f"lock {title}", sql, returns_rows=False)


def _marker(pipeline: Pipeline, what: str) -> str:
    """Says whose a statement is, in pg_stat_activity; never before its first word: pg_stat_statements drops that."""
    return f"/* {APPLICATION_NAME}: {pipeline.name}: {what} */"


def _catalog_statement(
    pipeline: Pipeline, dimensions: tuple[Dimension, ...]
) -> tuple[Statement, tuple[CatalogReading, ...]]:
    bind = Bindings()
    readings, expressions = [], []
    for dimension in dimensions:
        for measure in dimension.measures:
            if isinstance(measure, CatalogMeasure):
                for record in pipeline.records.values():
                    readings.append(CatalogReading(measure, record.name))
                    expressions.append(measure.sql(pipeline, record, bind))
    # The clock is read after the snapshot was taken, so nothing that it shows is ahead of the clock.
    columns = [
        *LOOK,
        unique_key(pipeline, bind),
        _foreign_tables(pipeline, bind),
        _unlike_keys(pipeline, bind),
        *expressions,
    ]
    sql = f"select {_marker(pipeline, 'clock and catalog')}\n  " + ",\n  ".join(columns)
    return Statement("clock and catalog", sql, tuple(bind.values)), tuple(readings)


def _touched_statement(pipeline: Pipeline) -> Statement:
    """Every table that the transaction has read, behind views, sub-queries and functions too, for it holds their locks.

    A table that is rewritten (TRUNCATE, ALTER TABLE, REFRESH) looks empty to a snapshot from before, and one that was
    made anew is none of its.  The catalog's own functions see the present, its tables the snapshot: where they differ,
    that is what happened.  Foreign partitions of the pipeline's own tables are the catalog statement's to find.
    https://www.postgresql.org/docs/current/mvcc-caveats.html
    """
    bind = Bindings()
    named = [f"({relation(table, bind)})" for table in _tables(pipeline)]
    sql = f"""with {_marker(pipeline, "what was read")}
locked as (
  select distinct relation
  from pg_catalog.pg_locks
  where pid = pg_backend_pid() and locktype = 'relation' and relation >= {_FIRST_OF_USERS}
    and database = (select oid from pg_catalog.pg_database where datname = current_database())
)
select
  coalesce(quote_ident(n.nspname) || '.' || quote_ident(c.relname), 'a table that is new') as name,
  c.oid is null or (c.relkind in ('r', 'm') and c.relfilenode <> pg_relation_filenode(l.relation)) as rewritten,
  c.relkind = 'f' and not exists (
    select 1 from (values {", ".join(named)}) named(id), pg_partition_tree(named.id) part where part.relid = c.oid
  ) as is_foreign,
  coalesce(row_security_active(c.oid), false) or c.relrowsecurity and exists (
    -- Views and functions read for whoever owns them; which functions ran, nobody can tell.
    select 1
    from (
      select v.relowner from locked join pg_catalog.pg_class v on v.oid = relation where v.relkind = 'v'
      union all
      select p.proowner from pg_catalog.pg_proc p where p.prosecdef
    ) reader(id)
    join pg_catalog.pg_roles o on o.oid = reader.id
    where not o.rolsuper and not o.rolbypassrls
      and (c.relforcerowsecurity or not pg_has_role(o.oid, c.relowner, 'usage'))
  ) as restricted
from locked l
left join pg_catalog.pg_class c on c.oid = l.relation
left join pg_catalog.pg_namespace n on n.oid = c.relnamespace
-- An index may be made while we read, and changes nothing for us.
where (c.oid is null and pg_get_indexdef(l.relation) is null) or c.relkind in ('r', 'p', 'm', 'f')
order by 1"""
    return Statement("what was read", sql, tuple(bind.values))


_FIRST_OF_USERS: Final = 16384
"""Oids below are those of the system's own tables: FirstNormalObjectId in access/transam.h."""


def _tables(pipeline: Pipeline) -> list[TableName]:
    return list(dict.fromkeys([pipeline.sessions.table, *(record.table for record in pipeline.records.values())]))


def unique_key(pipeline: Pipeline, bind: Bindings) -> str:
    """SQL that says whether the key tells sessions apart: proved by an index, else (a view, say) looked up."""
    sessions = pipeline.sessions
    keys = ", ".join(map(quote, sessions.key))
    present = " and ".join(f"{quote(column)} is not null" for column in sessions.key)
    return f"""case
    when exists (
      select 1
      from pg_catalog.pg_index i
      where i.indrelid = {relation(sessions.table, bind)}
        and i.indisunique and i.indisvalid and i.indimmediate and i.indpred is null and i.indexprs is null
        -- Tables that inherit (partitions do not) are read with their parent, and are outside its index.
        and not exists (
          select 1
          from pg_catalog.pg_inherits h
          join pg_catalog.pg_class p on p.oid = h.inhparent
          where h.inhparent = i.indrelid and p.relkind = 'r'
        )
        and (
          select array_agg(a.attname::text)
          from pg_catalog.pg_attribute a
          where a.attrelid = i.indrelid and a.attnum = any((i.indkey::int2[])[0:i.indnkeyatts - 1])
        ) <@ {bind(sessions.key, "text[]")}
    ) then true
    else not exists (
      select 1 from {sessions.table.sql} where {present} group by {keys} having count(*) > 1
    )
  end"""


def _foreign_tables(pipeline: Pipeline, bind: Bindings) -> str:
    """The names of those tables (NULL for the sessions) that are foreign ones, or have foreign partitions.

    Row security is switched off for us alone: what another server hides from the role that asks it cannot be seen.
    """
    tables = [f"(null, {relation(pipeline.sessions.table, bind)})"]
    tables += [f"({bind(name, 'text')}, {relation(r.table, bind)})" for name, r in pipeline.records.items()]
    return f"""array(
    select named.table_name
    from (values {", ".join(tables)}) named(table_name, id)
    where exists (
      select 1
      from pg_catalog.pg_class c
      where c.relkind = 'f' and (c.oid = id or c.oid in (select relid from pg_catalog.pg_partition_tree(id)))
    )
  )"""


def _unlike_keys(pipeline: Pipeline, bind: Bindings) -> str:
    """The names of those records whose key is of a type for which other values are equal than for that of the sessions.

    PostgreSQL compares citext (or another type from an extension) with text, and a float with an integer: grouped by
    one equality and joined by another, rows of two sessions would become one, or of one two.
    """

    def cast_to(part: KeyPart) -> str:
        return f"to_regtype({bind(part.cast, 'text')})" if part.cast else "null::regtype"

    pairs = [
        f"({bind(name, 'text')}, {relation(record.table, bind)}, {bind(part.column, 'text')}, "
        f"{cast_to(part)}, {bind(key, 'text')})"
        for name, record in pipeline.records.items()
        for part, key in zip(record.session_key, pipeline.sessions.key, strict=True)
    ]
    return f"""array(
    select distinct named.record_name
    from (values {", ".join(pairs)}) named(record_name, id, record_column, cast_to, session_column)
    join pg_catalog.pg_attribute r on r.attrelid = named.id and r.attname = named.record_column
    join pg_catalog.pg_attribute s
      on s.attrelid = {relation(pipeline.sessions.table, bind)} and s.attname = named.session_column
    join pg_catalog.pg_type theirs on theirs.oid = coalesce(named.cast_to::oid, r.atttypid)
    join pg_catalog.pg_type ours on ours.oid = s.atttypid
    where coalesce(nullif(theirs.typbasetype, 0), theirs.oid) <> coalesce(nullif(ours.typbasetype, 0), ours.oid)
      and exists (
        select 1
        from pg_catalog.pg_type t
        where t.oid in (
          coalesce(nullif(theirs.typbasetype, 0), theirs.oid), coalesce(nullif(ours.typbasetype, 0), ours.oid)
        ) and (t.oid >= {_FIRST_OF_USERS} or t.oid in ('float4'::regtype, 'float8'::regtype))
      )
  )"""


def _window_start(pipeline: Pipeline, bind: Bindings) -> str:
    if pipeline.window.since is not None:
        return bind(pipeline.window.since, "timestamptz")
    return f"{bind(Moment.CLOCK, 'timestamptz')} - {bind(pipeline.window.last or timedelta(0), 'interval')}"


def _session_keys(pipeline: Pipeline) -> list[str]:
    return [f"{quote(column)} as key_{n}" for n, column in enumerate(pipeline.sessions.key, start=1)]


def _record_keys(record: Record) -> list[str]:
    return [quote(part.column) + (f"::{part.cast}" if part.cast else "") for part in record.session_key]


def _named_keys(record: Record) -> list[str]:
    return [f"{key} as key_{n}" for n, key in enumerate(_record_keys(record), start=1)]


def _on_keys(pipeline: Pipeline, left: str, right: str) -> str:
    return " and ".join(f"{right}.key_{n} = {left}.key_{n}" for n in range(1, len(pipeline.sessions.key) + 1))


def _where(record: Record, indent: int) -> str:
    return "\n" + " " * indent + f"where {condition(record.where)}" if record.where else ""


def _list(items: Sequence[str], indent: int = 2) -> str:
    return (",\n" + " " * indent).join(items)


def _cohort_end(pipeline: Pipeline, bind: Bindings) -> str:
    maturity = pipeline.cohort.maturity if pipeline.cohort else timedelta(0)
    return f"{bind(Moment.CLOCK, 'timestamptz')} - {bind(maturity, 'interval')}"


def _cohort_start(pipeline: Pipeline, bind: Bindings) -> str:
    cohort = pipeline.cohort
    length = cohort.maturity + cohort.window if cohort else timedelta(0)
    return f"{bind(Moment.CLOCK, 'timestamptz')} - {bind(length, 'interval')}"


def _sessions_statement(scope: Scope, dimensions: tuple[Dimension, ...]) -> Statement:
    bind = Bindings()
    groups = [column for dimension in dimensions for column in dimension.session_columns(scope, bind)]
    totals = [Total("sessions", "count(*)"), *(t for d in dimensions for t in d.session_totals(scope, bind))]
    spreads = [spread for dimension in dimensions for spread in dimension.session_spreads(scope, bind)]
    facts = [fact for dimension in dimensions for fact in dimension.session_facts(scope, bind)]
    return _cells(
        "sessions", scope.pipeline, bind, (_judged_sessions(scope, bind, facts), "judged"), groups, totals, spreads
    )


def _judged_sessions(scope: Scope, bind: Bindings, facts: Sequence[Column] = ()) -> str:
    """Defines `judged`: the sessions in the window and the cohort, each with the best rank of its rows of every record.

    It alone names tables of the platform, and comes first, so that no name of ours can hide one of theirs.
    """
    pipeline, records, sessions = scope.pipeline, scope.records, scope.pipeline.sessions
    started = moment(sessions.started_at, sessions.timezone, bind)
    in_window = f"{started} >= {_window_start(pipeline, bind)}"
    in_cohort = "false"
    if pipeline.cohort:
        in_cohort = f"({started} >= {_cohort_start(pipeline, bind)} and {started} < {_cohort_end(pipeline, bind)})"
    selected = [
        *_session_keys(pipeline),
        f"left({quote(sessions.status)}::text, {LABEL_LENGTH}) as status",
        f"{started} as started",
        f"{moment(sessions.completed_at, sessions.timezone, bind)} as completed",
        f"({in_window}) is true as in_window",
        f"({in_cohort}) is true as in_cohort",
        f"{condition(sessions.eligible)} as eligible",
        *(
            f"{condition(record.required_when) if record.required_when else 'true'} as required_{n}"
            for n, record in enumerate(records, start=1)
        ),
        *(f"{fact.sql} as {quote(fact.name)}" for fact in facts),
    ]
    joins = []
    for n, record in enumerate(records, start=1):
        keys = [f"key_{k}" for k in range(1, len(record.session_key) + 1)]
        row = [
            *_named_keys(record),
            f"{version_class(record, bind)} as class",
            f"{is_valid(record, bind)} as valid",
        ]
        first = "null::timestamptz"
        if pipeline.cohort and record.created_at:
            row.append(f"{moment(record.created_at, record.timezone, bind)} as created")
            first = f"min(created) filter (where {satisfies(record, f'({RANK})')})"
        joins.append(f"""
  left join (
    select {", ".join(keys)}, min({RANK}) as best_{n}, {first} as first_{n}
    from (
      select
        {_list(row, 8)}
      from {record.table.sql}{_where(record, 6)}
    ) rows
    group by {", ".join(keys)}
  ) best_{n}_rows on {_on_keys(pipeline, "s", f"best_{n}_rows")}""")
    found = [f"best_{n}, first_{n}" for n in range(1, len(records) + 1)]
    return f"""judged as (
  select {", ".join(["s.*", *found])},
    eligible and in_window as analysed
  from (
    select
      {_list(selected, 6)}
    from {sessions.table.sql}
    where {_wanted_sessions(pipeline, bind)}
  ) s{"".join(joins)}
)"""


def _wanted_sessions(pipeline: Pipeline, bind: Bindings) -> str:
    """Sessions in the window, in the cohort, or in none for want of a start.

    The column itself is compared, so that an index is of use; where its zone is the config's it is compared with a day
    to spare, for no zone is further from UTC.
    """
    started = quote(pipeline.sessions.started_at)
    first = _window_start(pipeline, bind)
    if pipeline.cohort:
        first = f"least({first}, {_cohort_start(pipeline, bind)})"
    if pipeline.sessions.timezone:
        first = f"{first} - interval '1 day'"
    return f"{started} >= {first} or {started} is null or {started} = '-infinity'"


def _gap_cursor(scope: Scope, reasons: Collection[GapReason]) -> Cursor:
    """In order of time, then of the key: the server sorts gaps in less time than it takes to find them."""
    bind = Bindings()
    pipeline, width = scope.pipeline, len(scope.pipeline.sessions.key)
    keys = [f"key_{n}" for n in range(1, width + 1)]
    selected = [
        *(f"{key}::text as session_{n}" for n, key in enumerate(keys, start=1)),
        "completed::text as completed_at",
        *(f"reason_{n}" for n in range(1, len(scope.records) + 1)),
    ]
    ordered = ", ".join(["since", *keys])
    sql = f"with {_gaps(scope, reasons, bind)}\nselect\n  {_list(selected)}\nfrom gaps\norder by {ordered}"
    return _cursor("gaps", pipeline, sql, bind)


def _cursor(title: str, pipeline: Pipeline, sql: str, bind: Bindings) -> Cursor:
    marker = _marker(pipeline, title)
    return Cursor(
        # Every row is wanted, so the plan must not be the one that has the first of them soonest.
        prepare=Statement("plan for all", "set local cursor_tuple_fraction = 1", returns_rows=False),
        open=Statement(title, f"declare {marker} found no scroll cursor for\n{sql}", tuple(bind.values)),
        fetch=Statement(f"fetch {title}", f"fetch {marker} {FETCHED} from found"),
        close=Statement(f"close {title}", "close found", returns_rows=False),
    )


def _gap_count(scope: Scope, reasons: Collection[GapReason]) -> Statement:
    bind = Bindings()
    sql = f"with {_marker(scope.pipeline, 'gaps')}\n{_gaps(scope, reasons, bind)}\nselect count(*) from gaps"
    return Statement("count of gaps", sql, tuple(bind.values), ("sessions",))


def _gap_tally(scope: Scope, reasons: Collection[GapReason]) -> Statement:
    bind = Bindings()
    keys = range(1, len(scope.pipeline.sessions.key) + 1)
    named = " and ".join(f"key_{n} is not null" for n in keys)
    selected = ["count(*) filter (where named)", "count(*) filter (where not named)"]
    selected += [
        f"count(*) filter (where named and reason_{n} = {_text(reason)})"
        for n in range(1, len(scope.records) + 1)
        for reason in GAP_REASONS
    ]
    sql = (
        f"with {_marker(scope.pipeline, 'gaps')}\n{_gaps(scope, reasons, bind)}\nselect\n  {_list(selected)}\n"
        f"from (select *, {named} as named from gaps) tallied"
    )
    return Statement("tally of gaps", sql, tuple(bind.values))


def _states_cursor(scope: Scope, keys: Sequence[SessionKey]) -> Cursor:
    bind = Bindings()
    states = [f"state_{n}" for n in range(1, len(scope.records) + 1)]
    sql = (
        f"with {_stated(scope, bind)}\nselect\n  {_list(['place - 1', 'in_window', 'eligible', *states])}\n"
        f"from stated\njoin {_listed(scope.pipeline, keys, bind)}"
    )
    return _cursor("states of sessions", scope.pipeline, sql, bind)


def _places_statement(pipeline: Pipeline, keys: Sequence[SessionKey]) -> Statement:
    bind = Bindings()
    sql = (
        f"with {_marker(pipeline, 'sessions')}\npresent as (\n"
        f"  select {', '.join(_session_keys(pipeline))} from {pipeline.sessions.table.sql}\n)\n"
        f"select place - 1\nfrom present\njoin {_listed(pipeline, keys, bind)}"
    )
    return Statement("places of sessions", sql, tuple(bind.values))


def _listed(pipeline: Pipeline, keys: Sequence[SessionKey], bind: Bindings) -> str:
    """The right side of a join: `listed`, the place of each key from 1 on, and the condition on key_1 and so on.

    Compared as the text that was listed, byte by byte: a key says what it is by no other type or collation.
    """
    width = range(1, len(pipeline.sessions.key) + 1)
    arrays = [bind(tuple(column), "text[]") for column in zip(*keys, strict=True)] or ["array[]::text[]" for _ in width]
    named = ", ".join([*(f"session_{n}" for n in width), "place"])
    on = " and ".join(f'key_{n}::text collate "C" = session_{n} collate "C"' for n in width)
    return f"unnest({', '.join(arrays)}) with ordinality as listed ({named}) on {on}"


def _stated(scope: Scope, bind: Bindings) -> str:
    """Defines `stated`: the sessions of `judged`, `since` when they are due, and the n-th record's `state_n`."""
    keys = [f"key_{n}" for n in range(1, len(scope.pipeline.sessions.key) + 1)]
    states = [
        f"{state(record, f'best_{n}', f'required_{n}', bind)} as state_{n}"
        for n, record in enumerate(scope.records, start=1)
    ]
    known = ["in_window", "eligible", "analysed", "completed", "coalesce(completed, started) as since"]
    return f"""{_judged_sessions(scope, bind)}, stated as (
  select
    {_list([*keys, *known, *states], 4)}
  from judged
)"""


def _gaps(scope: Scope, reasons: Collection[GapReason], bind: Bindings) -> str:
    """Defines `gaps`: the sessions analysed that are a gap, `since` when, and for the n-th record its `reason_n`."""
    keys = [f"key_{n}" for n in range(1, len(scope.pipeline.sessions.key) + 1)]
    stated = _stated(scope, bind)
    wanted = [
        f"state_{n} = any({bind(tuple(r for r in gap_reasons(record) if r in reasons), 'text[]')})"
        for n, record in enumerate(scope.records, start=1)
    ]
    reason = [f"case when {is_wanted} then state_{n} end as reason_{n}" for n, is_wanted in enumerate(wanted, start=1)]
    return f"""{stated}, gaps as (
  select
    {_list([*keys, "completed", "since", *reason], 4)}
  from stated
  where analysed and ({" or ".join(wanted)})
)"""


def _rows_statement(scope: Scope, dimensions: tuple[Dimension, ...]) -> Statement:
    bind = Bindings()
    pipeline, records, sessions = scope.pipeline, scope.records, scope.pipeline.sessions
    keys = [f"key_{k}" for k in range(1, len(sessions.key) + 1)]
    declared = {record.name: [t for d in dimensions for t in d.row_totals(record, bind)] for record in records}
    totals = {t.name: t for of_record in declared.values() for t in of_record}
    flags = [flag for dimension in dimensions for flag in dimension.owner_flags(scope, bind)]
    branch = "\n    union all\n".join(
        one
        for record in records
        for one in _rows_of(
            record, _facets(dimensions, record, bind), declared[record.name], tuple(totals.values()), bind
        )
    )
    started = moment(sessions.started_at, sessions.timezone, bind)
    owner = [
        *_session_keys(pipeline),
        f"({started} >= {_window_start(pipeline, bind)} and {condition(sessions.eligible)}) is true as analysed",
        *(f"({flag.sql}) is true as {quote(flag.name)}" for flag in flags),
    ]
    linked = f"""linked_rows as (
  select r.*, coalesce(s.analysed, false) as analysed, s.key_1 is not null as linked,
    {" and ".join(f"r.{key} is not null" for key in keys)} as keyed{
        "".join(f", coalesce(s.{quote(flag.name)}, false) as {quote(flag.name)}" for flag in flags)
    }
  from (
{branch}
  ) r
  left join (
    select
      {_list(owner, 6)}
    from {sessions.table.sql}
  ) s on {_on_keys(pipeline, "r", "s")}
)"""
    groups = [
        Column("record", "record"),
        Column("facet", "facet"),
        Column("value", "value", open=True),
        *(Column(name, name) for name in ("category", "keyed", "linked", "analysed")),
        *(Column(flag.name, quote(flag.name)) for flag in flags),
    ]
    of_cells = [
        Total("rows", "sum(rows)::bigint"),
        Total("sessions", "count(*)"),
        *(Total(t.name, _combined(t), t.combined_by) for t in totals.values()),
    ]
    return _cells("rows", pipeline, bind, (linked, "linked_rows"), groups, of_cells)


def _facets(dimensions: tuple[Dimension, ...], record: Record, bind: Bindings) -> tuple[Facet, ...]:
    """The ways in which the rows of a record are told apart; one of them has every row."""
    asked = tuple(facet for dimension in dimensions for facet in dimension.facets(record, bind))
    return asked if any(facet.per_session for facet in asked) else (Facet(UNGROUPED), *asked)


def _rows_of(
    record: Record, facets: Sequence[Facet], own_totals: Sequence[Total], all_totals: Sequence[Total], bind: Bindings
) -> Iterator[str]:
    """The rows of one record, told apart by each facet.

    Those that are about sessions share one pass over the table: each row is repeated for each of them, and all are
    grouped at once, by hash.  GROUPING SETS would say the same, but the planner sorts the table for each set that may
    not fit into work_mem.  A facet that is not about sessions has a pass of its own, which is cheaper than to carry
    its keys along.
    """
    totals = {total.name: total.sql for total in own_totals}
    counted = [
        "count(*) as rows",
        *(f"{totals.get(t.name, _NOTHING[t.combined_by])} as {quote(t.name)}" for t in all_totals),
    ]
    of_sessions = [facet for facet in facets if facet.per_session]
    repeated = [f"({_text(facet.name)}, {facet.value}, {facet.category})" for facet in of_sessions]
    selected = [
        f"{bind(record.name, 'text')} as record",
        f"{_FACET} as facet",
        *_named_keys(record),
        f"{_VALUE} as value",
        f"{_CATEGORY} as category",
        *counted,
    ]
    yield (
        f"    select\n      {_list(selected, 6)}\n    from {record.table.sql}\n"
        f"    cross join lateral (values\n      {_list(repeated, 6)}\n"
        f"    ) as {_FACETS} ({_FACET}, {_VALUE}, {_CATEGORY}){_where(record, 4)}\n"
        f"    group by {', '.join([_FACET, _VALUE, _CATEGORY, *_record_keys(record)])}"
    )
    for facet in facets:
        if not facet.per_session:
            chosen = [condition(record.where)] if record.where else []
            chosen += [facet.where] if facet.where else []
            selected = [
                bind(record.name, "text"),
                f"{_text(facet.name)}::text",
                *("null" for _ in record.session_key),
                facet.value,
                facet.category,
                *counted,
            ]
            yield (
                f"    select\n      {_list(selected, 6)}\n    from {record.table.sql}\n"
                f"    where {conjunction(chosen)}\n"
                f"    group by {', '.join(facet.by)}\n    having {facet.having or 'true'}"
            )


def _text(name: str) -> str:
    return "'" + name.replace("'", "''") + "'"


# Beside the operator's columns in their SQL: names that no column has.
_FACETS, _FACET, _VALUE, _CATEGORY = (quote(f"our {name}") for name in ("facets", "facet", "value", "category"))

UNGROUPED: Final = "rows"
"""The facet of a record whose rows no dimension tells apart."""

_NOTHING: Final = {"sum": "0::bigint", "min": "null::float8", "max": "null::float8"}
"""What a total is where a record does not have it."""


def _combined(total: Total) -> str:
    """SQL that makes one total of those of several groups."""
    combined = f"{total.combined_by}({quote(total.name)})"
    return f"{combined}::bigint" if total.combined_by == "sum" else combined


def _cells(
    title: str,
    pipeline: Pipeline,
    bind: Bindings,
    source: tuple[str, str],
    groups: Sequence[Column],
    totals: Sequence[Total],
    spreads: Sequence[Spread] = (),
) -> Statement:
    """Count a source by the groups in one pass, then add up the rarest values of the open columns beyond the limit.

    The first part of `source` defines what the second names, and alone names tables of the platform: no name of ours
    is known there yet, so none can hide a table of the same name.
    """
    definition, name = source
    size = quote(totals[0].name)
    # A value is kept or folded whole, whatever else its rows are grouped by; those that the config knows come first.
    value = ", ".join(quote(c.name) for c in groups if c.open or c.name in ("record", "facet")) or "true"
    known_first = "\"category\" in ('other', 'invalid'), " if any(c.name == "category" for c in groups) else ""
    order = f"{known_first}weight desc, {value}"
    counted = [f"{column.sql} as {quote(column.name)}" for column in groups]
    counted += [f"{total.sql} as {quote(total.name)}" for total in totals]
    counted += [f"array_agg({s.sql}) filter (where ({s.sql}) is not null) as {quote(s.name)}" for s in spreads]
    weighed = ", ".join(quote(name) for name in (*(c.name for c in groups), *(t.name for t in totals)))
    places = ", ".join(str(n) for n in range(1, len(groups) + 1))
    kept = [
        f"case when place <= {VALUE_LIMIT} then {quote(c.name)} end as {quote(c.name)}" if c.open else quote(c.name)
        for c in groups
    ]
    summed = [f"{_combined(total)} as {quote(total.name)}" for total in totals]
    spread = [f"{_spread(one)} as {quote(one.name)}" for one in spreads]
    parts = [
        definition,
        f"cells as materialized (\n  select\n    {_list(counted, 4)}\n  from {name}\n  group by {places}\n)",
        f"weighed as (\n  select {weighed}, sum({size}) over (partition by {value}) as weight from cells\n)",
        f"placed as (\n  select *, dense_rank() over (order by {order}) as place from weighed\n)",
    ]
    folded = f"place > {VALUE_LIMIT}"
    sql = (
        f"with {_marker(pipeline, title)}\n"
        + ", ".join(parts)
        + f"\nselect\n  {_list([*kept, *summed, *spread, f'{folded} as folded'])}\nfrom placed\n"
        + f"group by {places}, {folded}"
    )
    names = (*(c.name for c in groups), *(t.name for t in totals), *(s.name for s in spreads))
    folding = frozenset(column.name for column in groups if column.open)
    return Statement(title, sql, tuple(bind.values), names, folding)


def _spread(spread: Spread) -> str:
    """SQL for the count and the percentiles of all values, the same beside every cell.

    As text, since the driver would ask the catalog what an array of floats is.
    """
    shares = ", ".join(str(percentile / 100) for percentile in PERCENTILES)
    return (
        f"(select (array[count(*)::float8] || percentile_disc(array[{shares}]) within group (order by v))::text[]"
        f" from cells, unnest(cells.{quote(spread.name)}) v)"
    )
