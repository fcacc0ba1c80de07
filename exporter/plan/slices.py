"""The statements of a slice: where it ends, its sessions, and the rows of a range of keys."""

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any

from exporter.model.counting import Scope
from exporter.model.dimension import Dimension
from exporter.model.keys import Link
from exporter.model.ranges import Keyed, Started
from exporter.model.sections import Pipeline, Record, Sessions
from exporter.model.sql import Bindings, quote, relation
from exporter.plan.fragments import SessionKey, column_of, comma_list, in_keys, named_keys, record_keys, rows_from
from exporter.plan.joined import Region, Times, joined_with, owners_of_rows
from exporter.plan.statement import Statement, marker


def started_in(
    pipeline: Pipeline, part: Started, bounds: Sequence[datetime], times: Times = "window"
) -> Callable[[Bindings], Region]:
    """The sessions of a range of starts."""
    return lambda bind: Region(_in_starts(pipeline, part, bind), tuple(bounds), times)


def _in_starts(pipeline: Pipeline, part: Started, bind: Bindings) -> str:
    """SQL: whether a session started in a range."""
    column = column_of(pipeline.sessions, pipeline.sessions.started_at)
    if part.undated:
        infinite = " or ".join(f"{column} operator(pg_catalog.=) '{end}'" for end in ("-infinity", "infinity"))
        return f"({column} is null or {infinite})"
    wanted = [f"{column} operator(pg_catalog.<) 'infinity'"]
    if part.low is not None:
        wanted.append(f"{column} operator(pg_catalog.>=) {bind(part.low, 'timestamptz')}")
    if part.high is not None:
        wanted.append(f"{column} operator(pg_catalog.<) {bind(part.high, 'timestamptz')}")
    return " and ".join(wanted)


def sessions_with(
    pipeline: Pipeline,
    types: Sequence[str],
    keys: Sequence[SessionKey],
    starts: Sequence[Started],
    bounds: Sequence[datetime],
) -> Callable[[Bindings], Region]:
    """The sessions with these keys; `types` are the SQL types of the columns of the key.

    They started in one of the ranges `starts`: of a partitioned table, only some partitions are asked.
    """
    dated = [part for part in starts if not part.undated]
    lows = [part.low for part in dated]
    highs = [part.high for part in dated]
    ranges = [part for part in starts if part.undated]
    if dated:
        low = None if None in lows else min(filter(None, lows))
        high = None if None in highs else max(filter(None, highs))
        ranges.append(Started(low, high))

    def region(bind: Bindings) -> Region:
        listed = ", ".join(bind(tuple(column), "text[]") for column in zip(*keys, strict=True))
        names = [f"k{n}" for n in range(1, len(types) + 1)]
        columns = ", ".join(f"{name}::{kind}" for name, kind in zip(names, types, strict=True))
        own = ", ".join(column_of(pipeline.sessions, column) for column in pipeline.sessions.key)
        unnest = "pg_catalog.unnest" if len(types) == 1 else "unnest"
        return Region(
            f"({own}) in (select {columns} from {unnest}({listed}) as listed ({', '.join(names)}))"
            f" and ({' or '.join(_in_starts(pipeline, part, bind) for part in ranges)})",
            tuple(bounds),
        )

    return region


def earlier_start(pipeline: Pipeline, high: datetime, sessions: int) -> Statement:
    """The start of the slice with `sessions` sessions before `high`: NULL if no session is earlier.

    By an index on the start: https://www.postgresql.org/docs/current/indexes-ordering.html
    """
    bind = Bindings()
    column = column_of(pipeline.sessions, pipeline.sessions.started_at)
    sql = f"""select {marker(pipeline.name, "next slice")} min(started)::timestamptz
from (
  select {column} as started
  from {pipeline.sessions.table.sql}
  where {column} operator(pg_catalog.<) {bind(high, "timestamptz")}
    and {column} operator(pg_catalog.>) '-infinity'
  order by {column} desc
  limit {bind(sessions, "bigint")}
) earlier"""
    return Statement("next slice", sql, tuple(bind.values), is_ours=False)


def later_key(pipeline: Pipeline, record: Record, kind: str, part: Keyed, rows: int) -> Statement:
    """The first key after `rows` rows of a range of keys: no row if fewer are left."""
    bind = Bindings()
    column = column_of(record, record.session_key[0].column)
    wanted = " and ".join(in_keys(column, part, kind, bind))
    # The sub-select writes one key as text, not every key before it.
    sql = f"""select {marker(pipeline.name, "next rows")} later.key::text
from (
  select {column} as key
  from {record.table.sql}
  where {wanted}
  order by {column}
  offset {bind(rows, "bigint")}
  limit 1
) later"""
    return Statement("next rows", sql, tuple(bind.values), is_ours=False)


def rows_in(record: Record, part: Keyed, kind: str) -> Callable[[Bindings], list[str]]:
    """Leaves the rows of a record out whose key is not in a range."""
    column = column_of(record, record.session_key[0].column)
    return lambda bind: in_keys(column, part, kind, bind)


def rows_near(
    pipeline: Pipeline, record: Record, link: Link, region: Callable[[Bindings], Region]
) -> Callable[[Bindings], list[str]]:
    """Leaves the rows of a record out whose session is not in a region."""
    of_sessions = [column_of(pipeline.sessions, column) for column in pipeline.sessions.key]
    same = " and ".join(
        one.holds(session, row) for one, session, row in zip(link, of_sessions, record_keys(record, link), strict=True)
    )
    table = pipeline.sessions.table.sql
    return lambda bind: [f"exists (select 1 from {table} where {same} and {region(bind).wanted})"]


def owners_statement(scope: Scope, link: Link, dimensions: tuple[Dimension, ...], part: Keyed, kind: str) -> Statement:
    """Counts the rows of the only record of `scope` in a range of keys by their session.

    Columns of each row: whether the session exists, each fact that tells rows apart, and the number of rows.
    """
    bind = Bindings()
    [record] = scope.records
    own = in_keys(column_of(scope.pipeline.sessions, scope.pipeline.sessions.key[0]), part, kind, bind)
    owners = owners_of_rows(scope, dimensions, bind, own)
    source, wanted = rows_from(record)
    keys = [f"key_{n}" for n in range(1, len(link) + 1)]
    present = [f"{key} is not null" for key in record_keys(record, link)]
    rows = [wanted, *present, *in_keys(column_of(record, record.session_key[0].column), part, kind, bind)]
    counted = ["key_1 is not null", *(f"coalesce({flag}, false)" for flag in owners.flags)]
    places = ", ".join(str(n) for n in range(1, len(counted) + 1))
    rows_by_session = f"""
    select {", ".join(keys)}, count(*) as n
    from (
      select {", ".join(named_keys(record, link))}
      from {source}
      where {" and ".join(rows)}
      offset 0
    ) rows
    group by {", ".join(keys)}"""
    sql = f"""select {marker(scope.pipeline.name, f"sessions of {record.name}")}
  {comma_list([*counted, "sum(n)::bigint"])}
from (
  select s.*, r_1.n
  from {joined_with(owners.sql, {1: (rows_by_session, link)})}
  offset 0
) joined
where n is not null
group by {places}"""
    return Statement(f"sessions of {record.name}", sql, tuple(bind.values), is_ours=False)


def missing_indexes(pipeline: Pipeline, has_index: Sequence[bool]) -> list[str]:
    """The statements that create the indexes that slices lack; `has_index` is from `read_sliceable`."""
    return [
        f"create index concurrently on {section.table.written} ({quote(column)})"
        for (section, column), has_one in zip(cut_by_columns(pipeline), has_index, strict=True)
        if not has_one
    ]


def cut_by_columns(pipeline: Pipeline) -> list[tuple[Sessions | Record, str]]:
    """The columns that an index must begin with: of the sessions the start and the key, of each record its key."""
    sessions = pipeline.sessions
    of_records = [(record, record.session_key[0].column) for record in pipeline.stored.values()]
    return [(sessions, sessions.started_at), (sessions, sessions.key[0]), *of_records]


def read_sliceable(pipeline: Pipeline, row: Sequence[Any]) -> tuple[list[bool], dict[str, float], tuple[int, ...]]:
    """What `sliceable` found: which indexes exist, the estimated rows by record, and the identities of the tables."""
    indexes, records = len(cut_by_columns(pipeline)), len(pipeline.stored)
    expected = dict(zip(pipeline.stored, map(float, row[indexes : indexes + records]), strict=True))
    return list(map(bool, row[:indexes])), expected, tuple(map(int, row[indexes + records :]))


def sliceable(pipeline: Pipeline) -> Statement:
    """Whether slices are cheap, the estimated sizes of the tables, and their identities: one row.

    First, for the sessions by start and by key, and for each record by session key, whether an index begins with the
    column; then the estimated number of rows of each record; then the oid of each table.
    """
    bind = Bindings()
    columns = [
        f"""exists (
    select 1
    from pg_catalog.pg_index i
    join pg_catalog.pg_class c on c.oid = i.indexrelid
    join pg_catalog.pg_am m on m.oid = c.relam and m.amname = 'btree'
    join pg_catalog.pg_attribute a on a.attrelid = i.indrelid and a.attnum = (i.indkey::int2[])[0]
    where i.indrelid = {relation(section.table, bind)} and i.indisvalid and i.indpred is null
      and a.attname = {bind(column, "text")}
  )"""
        for section, column in cut_by_columns(pipeline)
    ]
    columns += [
        f"""(
    select coalesce(sum(greatest(c.reltuples, 0)), 0)::float8
    from pg_catalog.pg_class c
    where c.oid in (select relid from pg_catalog.pg_partition_tree({relation(table, bind)}))
      or c.oid = {relation(table, bind)}
  )"""
        for table in (record.table for record in pipeline.stored.values())
    ]
    named = [pipeline.sessions.table, *(record.table for record in pipeline.stored.values())]
    columns += [f"coalesce({relation(table, bind)}::bigint, 0)" for table in named]
    sql = f"select {marker(pipeline.name, 'indexes of slices')}\n  " + ",\n  ".join(columns)
    return Statement("indexes of slices", sql, tuple(bind.values))
