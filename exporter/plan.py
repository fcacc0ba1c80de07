"""Config -> Plan: writes every statement of a collection, and knows how to read its rows.  No I/O."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from exporter import APPLICATION_NAME
from exporter.dimension import LABEL_LENGTH, CatalogMeasure, Cells, CellValue, Column, Dimension, Folded, Total
from exporter.schema import Config, Database, Pipeline, Record
from exporter.sql import Bindings, Bound, Moment, condition, quote, relation
from exporter.states import RANK, is_valid, version_class

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
            values = list(row[:-1])
            if row[-1]:
                for index in open_places:
                    values[index] = Folded.OTHER
            return tuple(values)

        return Cells(self.columns, tuple(cell(row) for row in rows))


@dataclass(frozen=True, slots=True)
class CatalogReading:
    """One scalar of the catalog statement: of which measure and record."""

    measure: CatalogMeasure
    record: str


@dataclass(frozen=True, slots=True)
class Plan:
    """All that collecting one pipeline takes; built once, from the config alone.

    The order of a collection: `begin`, then the locks (no snapshot is taken by them), then `catalog`, which
    takes the snapshot and reads its clock, then `sessions(...)` and `rows(...)`.
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

    def sessions(self, records: Sequence[str]) -> Statement:
        """One pass over the sessions in the window and over the tables of `records`."""
        return _sessions_statement(self.pipeline, self.dimensions, _pick(self.pipeline, records))

    def rows(self, records: Sequence[str]) -> Statement:
        """One pass over the tables of `records` and over the keys of all sessions."""
        return _rows_statement(self.pipeline, self.dimensions, _pick(self.pipeline, records))

    def facet(self, dimension: Dimension, record: str) -> str:
        """How the rows are grouped that a dimension gets: as it asks, else as whoever asks first."""
        facets = _facets(self.dimensions, self.pipeline.records[record], Bindings())
        return dimension.name if dimension.name in facets else next(iter(facets))

    def statements(self) -> Iterator[Statement]:
        """What a collection runs when nothing is broken, in order."""
        names = tuple(self.pipeline.records)
        yield self.begin
        yield self.lock_sessions
        yield from self.lock_records.values()
        yield self.catalog
        yield self.sessions(names)
        yield self.rows(names)
        yield END


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
        begin=_begin(database),
        lock_sessions=_lock(pipeline, "sessions", pipeline.sessions.table.sql),
        lock_records={name: _lock(pipeline, name, record.table.sql) for name, record in pipeline.records.items()},
        catalog=catalog,
        catalog_readings=readings,
    )


def _pick(pipeline: Pipeline, names: Sequence[str]) -> tuple[Record, ...]:
    return tuple(pipeline.records[name] for name in names)


def _milliseconds(duration: timedelta) -> int:
    return max(1, round(duration.total_seconds() * 1000))


def _begin(database: Database) -> Statement:
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
        "row_security": "off",
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
    columns = ["clock_timestamp()", _unique_key(pipeline, bind), _foreign_tables(pipeline, bind), *expressions]
    sql = f"select {_marker(pipeline, 'clock and catalog')}\n  " + ",\n  ".join(columns)
    return Statement("clock and catalog", sql, tuple(bind.values)), tuple(readings)


def _unique_key(pipeline: Pipeline, bind: Bindings) -> str:
    """Whether the key tells sessions apart: proved by an index, else (a view, say) looked up."""
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


def _times(column: str) -> str:
    """An infinite time says as little as none."""
    return f"nullif(nullif({quote(column)}, 'infinity'), '-infinity')::timestamptz"


def _window_start(pipeline: Pipeline, bind: Bindings) -> str:
    if pipeline.window.since is not None:
        return bind(pipeline.window.since, "timestamptz")
    return f"{bind(Moment.CLOCK, 'timestamptz')} - {bind(pipeline.window.last or timedelta(0), 'interval')}"


def _session_keys(pipeline: Pipeline) -> list[str]:
    return [f"{quote(column)} as key_{n}" for n, column in enumerate(pipeline.sessions.key, start=1)]


def _record_keys(record: Record) -> list[str]:
    return [
        quote(part.column) + (f"::{part.cast}" if part.cast else "") + f" as key_{n}"
        for n, part in enumerate(record.session_key, start=1)
    ]


def _on_keys(pipeline: Pipeline, left: str, right: str) -> str:
    return " and ".join(f"{right}.key_{n} = {left}.key_{n}" for n in range(1, len(pipeline.sessions.key) + 1))


def _where(record: Record, indent: int) -> str:
    return "\n" + " " * indent + f"where {condition(record.where)}" if record.where else ""


def _list(items: Sequence[str], indent: int = 2) -> str:
    return (",\n" + " " * indent).join(items)


def _sessions_statement(
    pipeline: Pipeline, dimensions: tuple[Dimension, ...], records: tuple[Record, ...]
) -> Statement:
    bind = Bindings()
    sessions = pipeline.sessions
    groups = [c for dimension in dimensions for c in dimension.session_columns(pipeline, records, bind)]
    totals = [Total("sessions", "count(*)"), *(t for dimension in dimensions for t in dimension.session_totals)]
    started = quote(sessions.started_at)
    selected = [
        *_session_keys(pipeline),
        f"left({quote(sessions.status)}::text, {LABEL_LENGTH}) as status",
        f"{_times(sessions.started_at)} as started",
        f"{_times(sessions.completed_at)} as completed",
        f"{condition(sessions.eligible)} as eligible",
        *(
            f"{condition(record.required_when) if record.required_when else 'true'} as required_{n}"
            for n, record in enumerate(records, start=1)
        ),
    ]
    since = _window_start(pipeline, bind)
    joins = []
    for n, record in enumerate(records, start=1):
        keys = [f"key_{k}" for k in range(1, len(record.session_key) + 1)]
        row = [
            *_record_keys(record),
            f"{version_class(record, bind)} as class",
            f"{is_valid(record, bind)} as valid",
        ]
        joins.append(f"""
  left join (
    select {", ".join(keys)}, min({RANK}) as best_{n}
    from (
      select
        {_list(row, 8)}
      from {record.table.sql}{_where(record, 6)}
    ) rows
    group by {", ".join(keys)}
  ) best_{n}_rows on {_on_keys(pipeline, "s", f"best_{n}_rows")}""")
    judged = f"""judged as (
  select {", ".join(["s.*", *(f"best_{n}" for n in range(1, len(records) + 1))])},
    eligible and started is not null as analysed
  from (
    select
      {_list(selected, 6)}
    from {sessions.table.sql}
    where {started} >= {since} or {started} is null or {started} = '-infinity'
  ) s{"".join(joins)}
)"""
    return _cells("sessions", pipeline, bind, judged, "judged", groups, totals)


def _rows_statement(pipeline: Pipeline, dimensions: tuple[Dimension, ...], records: tuple[Record, ...]) -> Statement:
    bind = Bindings()
    sessions = pipeline.sessions
    keys = [f"key_{k}" for k in range(1, len(sessions.key) + 1)]
    facets = {record.name: _facets(dimensions, record, bind) for record in records}
    declared = {record.name: [t for d in dimensions for t in d.row_totals(record, bind)] for record in records}
    columns = {c.name: c for of_record in facets.values() for facet in of_record.values() for c in facet}
    totals = {t.name: t for of_record in declared.values() for t in of_record}
    branch = "\n    union all\n".join(
        _rows_of(record, facets[record.name], declared[record.name], tuple(columns), tuple(totals.values()), bind)
        for record in records
    )
    started = quote(sessions.started_at)
    linked = f"""linked_rows as (
  select r.*, coalesce(s.analysed, false) as analysed, s.key_1 is not null as linked,
    {" and ".join(f"r.{key} is not null" for key in keys)} as keyed
  from (
{branch}
  ) r
  left join (
    select
      {_list(_session_keys(pipeline), 6)},
      ({started} >= {_window_start(pipeline, bind)} and {started} < 'infinity'
        and {condition(sessions.eligible)}) is true as analysed
    from {sessions.table.sql}
  ) s on {_on_keys(pipeline, "r", "s")}
)"""
    groups = [
        Column("record", "record"),
        Column("facet", "facet"),
        *(Column(c.name, quote(c.name), open=c.open) for c in columns.values()),
        Column("keyed", "keyed"),
        Column("linked", "linked"),
        Column("analysed", "analysed"),
    ]
    of_cells = [
        Total("rows", "sum(rows)::bigint"),
        Total("sessions", "count(*)"),
        *(Total(t.name, _combined(t), t.combined_by) for t in totals.values()),
    ]
    return _cells("rows", pipeline, bind, linked, "linked_rows", groups, of_cells)


def _facets(dimensions: tuple[Dimension, ...], record: Record, bind: Bindings) -> dict[str, tuple[Column, ...]]:
    """The ways in which the rows of a record are grouped, by the dimension that asks; never empty."""
    asked = {dimension.name: dimension.row_columns(record, bind) for dimension in dimensions}
    return {name: columns for name, columns in asked.items() if columns} or {UNGROUPED: ()}


def _rows_of(
    record: Record,
    facets: dict[str, tuple[Column, ...]],
    own_totals: Sequence[Total],
    column_names: tuple[str, ...],
    all_totals: tuple[Total, ...],
    bind: Bindings,
) -> str:
    """The rows of one record, grouped by session and by each facet apart, in one pass over its table."""
    own = {column.name: column.sql for facet in facets.values() for column in facet}
    totals = {total.name: total.sql for total in own_totals}
    keys = _record_keys(record)
    selected = [
        f"{bind(record.name, 'text')} as record",
        f"{_facet(facets)} as facet",
        *keys,
        *(f"{own.get(name, 'null::text')} as {quote(name)}" for name in column_names),
        "count(*) as rows",
        *(f"{totals.get(t.name, _NOTHING[t.combined_by])} as {quote(t.name)}" for t in all_totals),
    ]
    key_places = [str(n) for n in range(3, 3 + len(keys))]
    place = {name: str(n) for n, name in enumerate(column_names, start=3 + len(keys))}
    sets = [", ".join([*key_places, *(place[column.name] for column in columns)]) for columns in facets.values()]
    grouped = sets[0] if len(sets) == 1 else f"grouping sets ({', '.join(f'({one})' for one in sets)})"
    return (
        f"    select\n      {_list(selected, 6)}\n    from {record.table.sql}{_where(record, 4)}\n"
        f"    group by {grouped}"
    )


def _facet(facets: dict[str, tuple[Column, ...]]) -> str:
    """SQL for the name of the facet by which a row is grouped.

    grouping() has a bit for each argument, the last one lowest, set where the row is not grouped by it.
    https://www.postgresql.org/docs/current/functions-aggregate.html#FUNCTIONS-GROUPING-TABLE
    """
    if len(facets) == 1:
        return f"'{next(iter(facets))}'"
    expressions = list(dict.fromkeys(column.sql for columns in facets.values() for column in columns))
    cases = []
    for name, columns in facets.items():
        grouped = {column.sql for column in columns}
        bits = (1 << n for n, expression in enumerate(reversed(expressions)) if expression not in grouped)
        cases.append(f"when {sum(bits)} then '{name}'")
    return f"case grouping({', '.join(expressions)}) {' '.join(cases)} end"


UNGROUPED: Final = "rows"
"""The facet of a record whose rows no dimension groups."""

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
    first: str,
    source: str,
    groups: Sequence[Column],
    totals: Sequence[Total],
) -> Statement:
    """Count `source` by the groups in one pass, then add up the rarest values of the open columns beyond the limit.

    `first` defines `source` and is the only part that names tables of the platform: no name of ours is known
    there yet, so none can hide a table of the same name.
    """
    size = quote(totals[0].name)
    # A value is kept or folded whole, whatever else its rows are grouped by; those that the config knows come first.
    value = ", ".join(quote(c.name) for c in groups if c.open or c.name in ("record", "facet")) or "true"
    known_first = "\"class\" = 'other', " if any(c.name == "class" for c in groups) else ""
    order = f"{known_first}weight desc, {value}"
    counted = [f"{column.sql} as {quote(column.name)}" for column in groups]
    counted += [f"{total.sql} as {quote(total.name)}" for total in totals]
    places = ", ".join(str(n) for n in range(1, len(groups) + 1))
    kept = [
        f"case when place <= {VALUE_LIMIT} then {quote(c.name)} end as {quote(c.name)}" if c.open else quote(c.name)
        for c in groups
    ]
    summed = [f"{_combined(total)} as {quote(total.name)}" for total in totals]
    parts = [
        first,
        f"cells as (\n  select\n    {_list(counted, 4)}\n  from {source}\n  group by {places}\n)",
        f"weighed as (\n  select *, sum({size}) over (partition by {value}) as weight from cells\n)",
        f"placed as (\n  select *, dense_rank() over (order by {order}) as place from weighed\n)",
    ]
    folded = f"place > {VALUE_LIMIT}"
    sql = (
        f"with {_marker(pipeline, title)}\n"
        + ", ".join(parts)
        + f"\nselect\n  {_list([*kept, *summed, f'{folded} as folded'])}\nfrom placed\n"
        + f"group by {places}, {folded}"
    )
    names = (*(column.name for column in groups), *(total.name for total in totals))
    folding = frozenset(column.name for column in groups if column.open)
    return Statement(title, sql, tuple(bind.values), names, folding)
