"""Statements on the catalog: clock, locks, foreign tables, and the uniqueness of `sessions.key`."""

from collections.abc import Sequence
from dataclasses import dataclass

from exporter.model.counting import CatalogMeasure
from exporter.model.sections import Pipeline
from exporter.model.sql import (
    Bindings,
    quote,
    relation,
)
from exporter.plan.statement import Statement, marker
from exporter.plan.transaction import (
    tables_of,
)


@dataclass(frozen=True, slots=True)
class CatalogReading:
    """One scalar of the catalog statement, for a measure and a record."""

    measure: CatalogMeasure
    record: str


def catalog_statement(pipeline: Pipeline, look: Sequence[str], readings: Sequence[CatalogReading]) -> Statement:
    """The statement that takes the snapshot, reads its clock, and asks the catalog."""
    bind = Bindings()
    # The clock is read after the start of the snapshot: no row of the snapshot is ahead of the clock.
    columns = [
        *look,
        _foreign_tables(pipeline, bind),
        _abbreviated_zones(pipeline, bind),
        *lock_numbers(pipeline, bind),
        *(reading.measure.sql(pipeline, pipeline.records[reading.record], bind) for reading in readings),
    ]
    sql = f"select {marker(pipeline.name, 'clock and catalog')}\n  " + ",\n  ".join(columns)
    return Statement("clock and catalog", sql, tuple(bind.values))


def unique_key(pipeline: Pipeline) -> Statement:
    """Whether `sessions.key` is unique: by an index, else (as for a view) by counting."""
    bind, sessions = Bindings(), pipeline.sessions
    keys = ", ".join(map(quote, sessions.key))
    present = " and ".join(f"{quote(column)} is not null" for column in sessions.key)
    sql = f"""select {marker(pipeline.name, "unique key")} case
    when exists (
      select 1
      from pg_catalog.pg_index i
      where i.indrelid = {relation(sessions.table, bind)}
        and i.indisunique and i.indisvalid and i.indimmediate and i.indpred is null and i.indexprs is null
        -- The index compares like the column: the type's own operators, and no other nondeterministic collation.
        and not exists (
          select 1
          from unnest((i.indkey::int2[])[0:i.indnkeyatts - 1], i.indclass::oid[], i.indcollation::oid[])
            indexed(number, class, collated)
          join pg_catalog.pg_attribute a on a.attrelid = i.indrelid and a.attnum = indexed.number
          join pg_catalog.pg_opclass c on c.oid = indexed.class
          left join pg_catalog.pg_collation k on k.oid = a.attcollation
          where not c.opcdefault or (indexed.collated <> a.attcollation and not k.collisdeterministic)
        )
        -- A query also reads tables that inherit (not partitions), and the index does not cover them.
        and not exists (
          select 1
          from pg_catalog.pg_inherits h
          join pg_catalog.pg_class p on p.oid = h.inhparent
          where h.inhparent = i.indrelid and p.relkind = 'r'
        )
        and (
          select pg_catalog.array_agg(a.attname::text)
          from pg_catalog.pg_attribute a
          where a.attrelid = i.indrelid and a.attnum = any((i.indkey::int2[])[0:i.indnkeyatts - 1])
        ) operator(pg_catalog.<@) {bind(sessions.key, "text[]")}
    ) then true
    else not exists (
      select 1 from {sessions.table.sql} where {present} group by {keys} having count(*) > 1
    )
  end"""
    return Statement("unique key", sql, tuple(bind.values))


def _foreign_tables(pipeline: Pipeline, bind: Bindings) -> str:
    """The names of foreign tables and of tables with foreign partitions; NULL for the sessions.

    row_security = off does not reach the other server: rows may be hidden there.
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


def _abbreviated_zones(pipeline: Pipeline, bind: Bindings) -> str:
    """The names of sections whose time zone the server reads as an abbreviation; NULL for the sessions.

    https://www.postgresql.org/docs/current/datetime-config-files.html
    """
    zones = [(None, pipeline.sessions.timezone), *((name, r.timezone) for name, r in pipeline.records.items())]
    named = [f"({bind(name, 'text') if name else 'null'}, {bind(zone, 'text')})" for name, zone in zones if zone]
    if not named:
        return "array[]::text[]"
    return f"""array(
    select named.section
    from (values {", ".join(named)}) named(section, zone)
    where upper(named.zone) in (select upper(a.abbrev) from pg_catalog.pg_timezone_abbrevs a)
      and upper(named.zone) not in ('UTC', 'UCT', 'GMT', 'ZULU')
  )"""


def lock_numbers(pipeline: Pipeline, bind: Bindings) -> tuple[str, str]:
    """SQL for the largest number of locks of a collection, and for the size of the server's lock table.

    https://www.postgresql.org/docs/current/runtime-config-locks.html#GUC-MAX-LOCKS-PER-TRANSACTION
    """
    named = [f"({relation(table, bind)})" for table in tables_of(pipeline)]
    needed = f"""(
    with recursive tree(id) as (
      select named.id from (values {", ".join(named)}) named(id)
      union
      select h.inhrelid from tree join pg_catalog.pg_inherits h on h.inhparent = tree.id
    )
    select count(distinct tree.id) + count(i.indexrelid)
    from tree
    left join pg_catalog.pg_index i on i.indrelid = tree.id
  )"""
    settings = ("max_locks_per_transaction", "max_connections", "max_prepared_transactions")
    each, connections, prepared = (f"current_setting('{name}')::bigint" for name in settings)
    return needed, f"{each} * ({connections} + {prepared})"
