"""Statements on the catalog: clock, locks, foreign tables, and the uniqueness of `sessions.key`."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from exporter.model.counting import CatalogMeasure
from exporter.model.ranges import Keyed
from exporter.model.sections import Pipeline, Record, Sessions
from exporter.model.sql import (
    Bindings,
    TableName,
    lexemes,
    relation,
    unquoted,
)
from exporter.plan.fragments import column_of, in_keys
from exporter.plan.statement import Statement, marker
from exporter.plan.transaction import (
    TAKEN,
    tables_of,
)


@dataclass(frozen=True, slots=True)
class CatalogReading:
    """One scalar of the catalog statement, for a measure and a record."""

    measure: CatalogMeasure
    record: str


def catalog_statement(pipeline: Pipeline, look: Sequence[str], readings: Sequence[CatalogReading]) -> Statement:
    """The statement that reads the time of the snapshot, the replication status, and the catalog."""
    bind = Bindings()
    columns = [
        TAKEN,
        *look,
        _foreign_tables(pipeline, bind),
        _abbreviated_zones(pipeline, bind),
        *lock_numbers(pipeline, bind),
        *(reading.measure.sql(pipeline, pipeline.records[reading.record], bind) for reading in readings),
    ]
    sql = f"select {marker(pipeline.name, 'catalog')}\n  " + ",\n  ".join(columns)
    return Statement("catalog", sql, tuple(bind.values))


def unique_key(pipeline: Pipeline) -> Statement:
    """Whether `sessions.key` is unique: by an index, else (as for a view) by counting."""
    bind, sessions = Bindings(), pipeline.sessions
    sql = f"""select {marker(pipeline.name, "unique key")} case
    when {_has_unique_index(sessions.table, sessions.key, bind)} then true
    else not exists ({_repeated(sessions)})
  end"""
    return Statement("unique key", sql, tuple(bind.values))


def key_proof(pipeline: Pipeline) -> Statement:
    """Whether an index makes `sessions.key` unique."""
    bind, sessions = Bindings(), pipeline.sessions
    proof = _has_unique_index(sessions.table, sessions.key, bind)
    return Statement("key proof", f"select {marker(pipeline.name, 'key proof')} {proof}", tuple(bind.values))


def unique_in(pipeline: Pipeline, part: Keyed, kind: str) -> Statement:
    """Whether `sessions.key` is unique in a range of keys, by counting; `kind` is the type of the first column."""
    bind, sessions = Bindings(), pipeline.sessions
    within = in_keys(column_of(sessions, sessions.key[0]), part, kind, bind)
    sql = f"select {marker(pipeline.name, 'unique in')} not exists ({_repeated(sessions, within)})"
    return Statement("unique in", sql, tuple(bind.values))


def _repeated(sessions: Sessions, within: Sequence[str] = ()) -> str:
    """SQL for keys that several sessions have."""
    keys = [column_of(sessions, column) for column in sessions.key]
    present = " and ".join([*(f"{key} is not null" for key in keys), *within])
    return f"""
      select 1 from {sessions.source.sql} where {present} group by {", ".join(keys)} having count(*) > 1
    """


def helpful_indexes(
    pipeline: Pipeline, unique: Sequence[tuple[Record, tuple[str, ...]]], ordered: Sequence[Record]
) -> Statement:
    """Which indexes spare work: one row, a column for each question.

    First whether a unique index makes some columns of a record unique, then whether an index has all columns that a
    count by session reads of a record, in the order of the session key.
    """
    bind = Bindings()
    proofs = [_has_unique_index(record.table, columns, bind) for record, columns in unique]
    proofs += [_has_covering_index(record, bind) for record in ordered]
    sql = f"select {marker(pipeline.name, 'indexes')}\n  " + ",\n  ".join(proofs or ["null"])
    return Statement("indexes", sql, tuple(bind.values))


_VISIBLE_SHARE: Final = 0.9
"""The least share (0 to 1) of pages that are all-visible: for others the server reads the table beside the index."""


def covering_index(pipeline: Pipeline, record: Record) -> Statement:
    """The index with which a collection reads no row of a record: one row.

    Whether there is one, the columns that a collection reads beside the key, the bytes that the index would take, and
    those of the table; NULL for a table without statistics.  https://www.postgresql.org/docs/current/view-pg-stats.html
    """
    bind = Bindings()
    keys, named = tuple(part.column for part in record.session_key), _named(record)
    own = relation(record.table, bind)
    created = (record.created_at,) if record.created_at else ()
    wanted = bind(tuple(dict.fromkeys([*named, *created])), "text[]")
    sql = f"""select {marker(pipeline.name, f"covering index of {record.name}")}
  {_has_covering_index(record, bind, seen_by_all=False)},
  array(
    select a.attname::text
    from pg_catalog.pg_attribute a
    where a.attrelid = {own} and a.attnum > 0 and a.attname::text = any({wanted})
      and a.attname::text <> all({bind(keys, "text[]")})
    order by a.attnum
  ),
  (
    select max(c.reltuples) * ({_INDEX_ROW} + sum(s.avg_width)) / {_FILL}
    from pg_catalog.pg_class c
    join pg_catalog.pg_namespace n on n.oid = c.relnamespace
    join pg_catalog.pg_stats s on s.schemaname = n.nspname and s.tablename = c.relname
    where c.oid = {own} and c.relkind = 'r'
      and s.attname::text = any({wanted} operator(pg_catalog.||) {bind(keys, "text[]")})
  )::float8,
  pg_catalog.pg_relation_size({own})::float8"""
    return Statement("covering index", sql, tuple(bind.values))


_INDEX_ROW: Final = 16
"""Bytes of a row of an index beside its values, with its pointer, rounded up."""

_FILL: Final = 0.9
"""The share of a page that a new index fills."""


def _named(record: Record) -> list[str]:
    """What a count by session may read of a record: its columns, and each word of an expression."""
    read = [*([record.version.column] if record.version else []), *record.accepted_values]
    return [part.column for part in record.session_key] + read + _words(record)


def _words(record: Record) -> list[str]:
    # A word of an expression may be a column; as `record` is the whole row.
    return [
        text.lower() if kind == "word" else unquoted(text)
        for sql in (record.where, record.valid, *record.computed.values())
        for kind, text in lexemes(sql or "")
        if kind in ("word", "quoted")
    ]


def _has_covering_index(record: Record, bind: Bindings, *, seen_by_all: bool = True) -> str:
    """SQL: whether a scan of an index alone gives the rows of a record in the order of the session key.

    Unless `seen_by_all`, also while VACUUM has not yet marked the rows as visible to all.
    https://www.postgresql.org/docs/current/indexes-index-only.html
    """
    keys = tuple(part.column for part in record.session_key)
    return f"""exists (
      select 1
      from pg_catalog.pg_index i
      join pg_catalog.pg_class t on t.oid = i.indrelid
      join pg_catalog.pg_class c on c.oid = i.indexrelid
      join pg_catalog.pg_am m on m.oid = c.relam and m.amname = 'btree'
      where i.indrelid = {relation(record.table, bind)}
        and i.indisvalid and i.indpred is null and i.indexprs is null
        and t.relkind = 'r' and t.relallvisible >= t.relpages * {_VISIBLE_SHARE if seen_by_all else 0}
        and {"false" if "record" in _words(record) else "true"}
        and (
          select array_agg(a.attname::text order by indexed.place)
          from unnest((i.indkey::int2[])[0:{len(keys) - 1}]) with ordinality indexed(number, place)
          join pg_catalog.pg_attribute a on a.attrelid = i.indrelid and a.attnum = indexed.number
        ) = {bind(keys, "text[]")}
        and not exists (
          select 1
          from pg_catalog.pg_attribute a
          where a.attrelid = i.indrelid and a.attnum <> all(i.indkey::int2[])
            and a.attname::text = any({bind(tuple(dict.fromkeys(_named(record))), "text[]")})
        )
    )"""


def _has_unique_index(table: TableName, columns: Sequence[str], bind: Bindings) -> str:
    """SQL: whether a valid unique index covers some of the columns, and so makes all together unique."""
    return f"""exists (
      select 1
      from pg_catalog.pg_index i
      where i.indrelid = {relation(table, bind)}
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
        ) operator(pg_catalog.<@) {bind(tuple(columns), "text[]")}
    )"""


def _foreign_tables(pipeline: Pipeline, bind: Bindings) -> str:
    """The names of foreign tables and of tables with foreign partitions; NULL for the sessions.

    row_security = off does not reach the other server: rows may be hidden there.
    """
    tables = [f"(null, {relation(pipeline.sessions.table, bind)})"]
    tables += [f"({bind(name, 'text')}, {relation(r.table, bind)})" for name, r in pipeline.here.items()]
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
