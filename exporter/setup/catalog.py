"""PostgreSQL's catalog -> tables, columns, indexes and the role, as frozen values.

Read from pg_catalog, visible to every role.  information_schema hides tables without privileges: missing rights would
look like missing tables.
https://www.postgresql.org/docs/current/information-schema.html
"""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, Final

from exporter.measure.query_faults import is_refused_lock
from exporter.measure.session import Session
from exporter.model.fault import Fault
from exporter.model.sql import Bindings, TableName, base_type, quote, relation
from exporter.plan.statement import Statement

NAME_LIMIT: Final = 10_000
"""Tables whose names are read, at most, to find the nearest name."""

_KINDS: Final = {
    "r": "table",
    "p": "partitioned table",
    "v": "view",
    "m": "materialized view",
    "f": "foreign table",
    "S": "sequence",
    "i": "index",
    "I": "index",
    "c": "type",
}
"""By pg_class.relkind: https://www.postgresql.org/docs/current/catalog-pg-class.html"""

_OURS: Final = "n.nspname not like 'pg\\_%' and n.nspname <> 'information_schema'"
"""SQL over a schema `n`: not a schema of the server."""

_TABLES: Final = "('r', 'p', 'v', 'm', 'f')"

TIMES: Final = frozenset({"date", "timestamp without time zone", "timestamp with time zone"})
"""Types with a time."""


@dataclass(frozen=True, slots=True)
class Server:
    """The server: the version, and the name and the rights of the exporter's role.

    Policies hide no rows from a superuser or a role with BYPASSRLS.
    """

    version: str
    role: str
    is_superuser: bool
    bypasses_row_security: bool


@dataclass(frozen=True, slots=True)
class VisibleTable:
    """An existing table, view or foreign table, and the rights of the role on schema and table.

    `is_heir`: the table inherits from another table, and is no partition.  `rows`: the planner's estimate, None before
    the first ANALYZE, and for a view.
    """

    table: TableName
    kind: str
    may_use_schema: bool
    may_select: bool
    is_heir: bool = False
    rows: int | None = None

    @property
    def may_read(self) -> bool:
        """Whether no grant is needed."""
        return self.may_use_schema and self.may_select

    def grants(self, role: str) -> list[str]:
        """The SQL that lets the role read the table; empty if no grant is needed."""
        wanted = []
        if not self.may_use_schema:
            wanted.append(f"GRANT USAGE ON SCHEMA {quote(self.table.schema or '')} TO {quote(role)};")
        if not self.may_select:
            wanted.append(f"GRANT SELECT ON {self.table.sql} TO {quote(role)};")
        return wanted


@dataclass(frozen=True, slots=True)
class Names:
    """The schemas of a database, without the server's own, and their tables."""

    schemas: tuple[str, ...]
    tables: tuple[VisibleTable, ...]


@dataclass(frozen=True, slots=True)
class TableColumn:
    """A column: `sql` is the quoted name, `type` the SQL type, `base` the type without length and domain.

    `labels`: the values of an enum, in order; empty for other types.  `is_computed`: the table has no such column, and
    `sql` computes the values from other columns.  `is_numbered`: the table itself makes the values, from a sequence or
    as a new UUID.
    """

    name: str
    sql: str
    type: str
    base: str
    labels: tuple[str, ...]
    is_computed: bool = False
    is_numbered: bool = False

    @property
    def is_time(self) -> bool:
        """Whether the type has a time."""
        return self.base in TIMES


@dataclass(frozen=True, slots=True)
class Index:
    """A valid index: the key columns in order, None for an expression; `proves_unique` for a unique index of all rows.

    A partial index, or a DEFERRABLE index, proves nothing.
    """

    columns: tuple[str | None, ...]
    method: str
    is_primary: bool
    is_partial: bool
    proves_unique: bool


@dataclass(frozen=True, slots=True)
class ForeignKey:
    """A foreign key: columns, and the referenced columns in the same order."""

    table: TableName
    columns: tuple[str, ...]
    target: TableName
    target_columns: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class RowSecurity:
    """Policies that apply to the reader of a table, so that the server refuses the exporter (row_security = off).

    `policies`: the number of policies for the reader; with 0 the reader sees no row.  `shows_all`: every policy is
    USING (true).  `is_forced`: the reader is the owner, and FORCE ROW LEVEL SECURITY is on.  `spares_owner`: the
    policies do not apply to the owner.
    https://www.postgresql.org/docs/current/ddl-rowsecurity.html
    """

    policies: int
    shows_all: bool
    is_forced: bool
    spares_owner: bool


@dataclass(frozen=True, slots=True)
class Source:
    """A table or view that a relation reads: the relation itself first, then the tables and views beneath.

    `through`: the view that reads the source (None for the relation itself).  `reader`: the role whose rights count,
    the exporter's role or the owner of a view without security_invoker (`is_invoker`).  `is_partition`: read through
    the parent, with the rights and policies of the parent.  `row_security`: None if no policy applies.
    """

    table: TableName
    kind: str
    owner: str
    through: TableName | None
    reader: str
    is_invoker: bool
    may_select: bool
    is_partition: bool
    row_security: RowSecurity | None


@dataclass(frozen=True, slots=True)
class Relation:
    """A relation with the name of a table.  `rows`: the planner's estimate, None before the first ANALYZE.

    `has_child_tables`: tables inherit from the relation (not partitions), outside the indexes of the relation.
    """

    table: TableName
    kind: str
    rows: int | None
    is_populated: bool
    has_child_tables: bool
    may_use_schema: bool
    columns: tuple[TableColumn, ...]
    indexes: tuple[Index, ...]
    sources: tuple[Source, ...]

    def column(self, name: str) -> TableColumn | None:
        """The column with the name; None if the relation has no such column."""
        return next((column for column in self.columns if column.name == name), None)

    def is_unique(self, columns: Collection[str]) -> bool:
        """Whether an index proves the columns unique."""
        return not self.has_child_tables and any(
            index.proves_unique and {*index.columns} <= {*columns} for index in self.indexes
        )


async def read_server(session: Session) -> Server:
    """The server and the role of the session; raises CollectionError."""
    sql = """select current_setting('server_version'), r.rolname::text, r.rolsuper, r.rolbypassrls
from pg_catalog.pg_roles r
where r.rolname = current_user"""
    [row] = await session.run(Statement("server", sql), "catalog")
    return Server(*row)


async def read_names(session: Session) -> Names:
    """Every schema and table, without the server's own; raises CollectionError."""
    schemas = f"select n.nspname::text from pg_catalog.pg_namespace n where {_OURS} order by 1"
    tables = f"""select n.nspname::text, c.relname::text, c.relkind::text,
  has_schema_privilege(n.oid, 'USAGE'), has_table_privilege(c.oid, 'SELECT'),
  exists (select from pg_catalog.pg_inherits h where h.inhrelid = c.oid),
  case when c.reltuples > 0 then c.reltuples::bigint end
from pg_catalog.pg_class c
join pg_catalog.pg_namespace n on n.oid = c.relnamespace
where {_OURS} and c.relkind in {_TABLES} and not c.relispartition
order by 1, 2
limit {NAME_LIMIT}"""
    return Names(
        tuple(name for (name,) in await session.run(Statement("schemas", schemas), "catalog")),
        tuple(
            VisibleTable(TableName(schema, name), _KINDS[kind], usable, readable, is_heir, rows)
            for schema, name, kind, usable, readable, is_heir, rows in await session.run(
                Statement("tables", tables), "catalog"
            )
        ),
    )


async def read_creators(session: Session, schema: str) -> tuple[bool, tuple[str, ...]]:
    """Whether PUBLIC may CREATE in a schema, and the roles that may, without superusers and the owner.

    Raises CollectionError.
    """
    sql = """select exists (
    select 1 from pg_catalog.aclexplode(n.nspacl) a where a.grantee = 0 and a.privilege_type = 'CREATE'
  ), array(
    select r.rolname::text
    from pg_catalog.pg_roles r
    where not r.rolsuper and has_schema_privilege(r.oid, n.oid, 'CREATE')
      and not pg_has_role(r.oid, n.nspowner, 'USAGE')
    order by 1
    limit 10
  )
from pg_catalog.pg_namespace n
where n.nspname = $1"""
    [(is_public, roles)] = await session.run(Statement("creators", sql, (schema,)), "catalog")
    return is_public, tuple(roles)


async def read_columns(session: Session) -> dict[TableName, list[TableColumn]]:
    """The columns of every table, without the server's own; raises CollectionError."""
    sql = f"""select n.nspname::text, c.relname::text, {_COLUMN}
from pg_catalog.pg_class c
join pg_catalog.pg_namespace n on n.oid = c.relnamespace
join pg_catalog.pg_attribute a on a.attrelid = c.oid
where {_OURS} and c.relkind in {_TABLES} and not c.relispartition and a.attnum > 0 and not a.attisdropped
order by 1, 2, a.attnum
limit {NAME_LIMIT * 20}"""
    found: dict[TableName, list[TableColumn]] = {}
    for schema, name, *column in await session.run(Statement("columns", sql), "catalog"):
        found.setdefault(TableName(schema, name), []).append(_column(column))
    return found


async def read_foreign_keys(session: Session) -> list[ForeignKey]:
    """Every foreign key, without the copies of partitions; raises CollectionError."""
    sql = f"""select n.nspname::text, c.relname::text, {_names_of("k.conrelid", "k.conkey")},
  fn.nspname::text, f.relname::text, {_names_of("k.confrelid", "k.confkey")}
from pg_catalog.pg_constraint k
join pg_catalog.pg_class c on c.oid = k.conrelid
join pg_catalog.pg_namespace n on n.oid = c.relnamespace
join pg_catalog.pg_class f on f.oid = k.confrelid
join pg_catalog.pg_namespace fn on fn.oid = f.relnamespace
where k.contype = 'f' and not c.relispartition
order by 1, 2, k.conname
limit {NAME_LIMIT}"""
    return [
        ForeignKey(TableName(schema, name), tuple(own), TableName(over, target), tuple(theirs))
        for schema, name, own, over, target, theirs in await session.run(Statement("foreign keys", sql), "catalog")
    ]


def _names_of(table: str, numbers: str) -> str:
    return f"""(
    select array_agg(a.attname::text order by x.place)
    from unnest({numbers}) with ordinality x(number, place)
    join pg_catalog.pg_attribute a on a.attrelid = {table} and a.attnum = x.number
  )"""


async def are_comparable(session: Session, left: str, right: str) -> bool:
    """Whether PostgreSQL compares values of two types; `left` may be followed by a cast.  Raises CollectionError."""
    question = Statement("types", f"select null::{left} = null::{right}")
    return not isinstance(await session.attempt(question, "catalog", is_refused_lock), Fault)


async def read_relation(session: Session, table: TableName) -> Relation | None:
    """The relation with the name of a table, or None; raises CollectionError."""
    bind = Bindings()
    sql = f"""select c.oid::bigint, n.nspname::text, c.relname::text, c.relkind::text, c.relispopulated,
  has_schema_privilege(n.oid, 'USAGE'),
  c.relkind <> 'p' and exists (select from pg_catalog.pg_inherits h where h.inhparent = c.oid),
  (
    select sum(leaf.reltuples)::bigint
    from pg_catalog.pg_class leaf
    where leaf.reltuples >= 0 and (leaf.oid = c.oid and c.relkind <> 'p'
      or leaf.oid in (select t.relid from pg_catalog.pg_partition_tree(c.oid) t where t.isleaf))
  )
from pg_catalog.pg_class c
join pg_catalog.pg_namespace n on n.oid = c.relnamespace
where c.oid = {relation(table, bind)}"""
    found = await session.run(Statement("relation", sql, tuple(bind.values)), "catalog")
    if not found:
        return None
    oid, schema, name, kind, is_populated, may_use_schema, has_child_tables, rows = found[0]
    return Relation(
        table=TableName(schema, name),
        kind=_KINDS.get(kind, "relation of another kind"),
        rows=None if kind == "v" else rows,
        is_populated=is_populated,
        has_child_tables=has_child_tables,
        may_use_schema=may_use_schema,
        columns=tuple(_column(row) for row in await _rows(session, "columns", _COLUMNS, oid)),
        indexes=tuple(
            Index(tuple(columns), *rest) for columns, *rest in await _rows(session, "indexes", _INDEXES, oid)
        ),
        sources=tuple(_source(row) for row in await _rows(session, "sources", _SOURCES, oid)),
    )


async def _rows(session: Session, title: str, sql: str, oid: int) -> list[Any]:
    return await session.run(Statement(title, sql, (oid,)), "catalog")


def _column(row: Any) -> TableColumn:  # noqa: ANN401 - the driver's row
    name, sql, kind, base, labels, is_numbered = row
    return TableColumn(name, sql, kind, base, tuple(labels or ()), is_numbered=is_numbered)


def _source(row: Any) -> Source:  # noqa: ANN401 - the driver's row
    schema, name, kind, owner, over_schema, over_name, reader, is_invoker, may_select, is_partition, *policies = row
    applies, count, shows_all, is_forced, spares_owner = policies
    return Source(
        table=TableName(schema, name),
        kind=_KINDS[kind],
        owner=owner,
        through=TableName(over_schema, over_name) if over_name else None,
        reader=reader,
        is_invoker=is_invoker,
        may_select=may_select,
        is_partition=is_partition,
        row_security=RowSecurity(count, shows_all, is_forced, spares_owner) if applies else None,
    )


_BASE: Final = base_type("a.atttypid")

_COLUMN: Final = f"""a.attname::text, quote_ident(a.attname), pg_catalog.format_type(a.atttypid, a.atttypmod),
  pg_catalog.format_type({_BASE}, null),
  (
    select array_agg(e.enumlabel::text order by e.enumsortorder)
    from pg_catalog.pg_enum e
    where e.enumtypid = {_BASE}
  ),
  a.attidentity <> '' or exists (
    select from pg_catalog.pg_attrdef d
    where d.adrelid = a.attrelid and d.adnum = a.attnum and a.attgenerated = ''
      and pg_catalog.pg_get_expr(d.adbin, d.adrelid) ~* '(nextval|gen_random_uuid|uuid_generate_v\\w+|uuidv[47])\\('
  )"""

_COLUMNS: Final = f"""select {_COLUMN}
from pg_catalog.pg_attribute a
where a.attrelid = $1::oid and a.attnum > 0 and not a.attisdropped
order by a.attnum"""

_INDEXES: Final = """select
  (
    select array_agg(a.attname::text order by k.place)
    from unnest(i.indkey::int2[]) with ordinality k(number, place)
    left join pg_catalog.pg_attribute a on a.attrelid = i.indrelid and a.attnum = k.number and k.number <> 0
    where k.place <= i.indnkeyatts
  ),
  m.amname::text, i.indisprimary, i.indpred is not null,
  i.indisunique and i.indimmediate and i.indpred is null and i.indexprs is null
from pg_catalog.pg_index i
join pg_catalog.pg_class c on c.oid = i.indexrelid
join pg_catalog.pg_am m on m.oid = c.relam
where i.indrelid = $1::oid and i.indisvalid
order by not i.indisprimary, c.relname"""

# A view reads with the rights of its owner, or of its reader if the view is security_invoker, at every depth:
# https://www.postgresql.org/docs/current/sql-createview.html (Notes).
# The rule for policies is check_enable_rls() in src/backend/utils/misc/rls.c, here for any role.
_SOURCES: Final = f"""with recursive reached(id, reader, is_invoker, through, is_partition, depth) as (
  select $1::oid, r.oid, false, null::oid, false, 0 from pg_catalog.pg_roles r where r.rolname = current_user
  union
  select below.id, below.reader, below.is_invoker, below.through, below.is_partition, above.depth + 1
  from reached above
  join pg_catalog.pg_class c on c.oid = above.id
  cross join lateral (
    select d.refobjid,
      case when invoker.counts then (select r.oid from pg_catalog.pg_roles r where r.rolname = current_user)
        else c.relowner
      end,
      invoker.counts, c.oid, false
    from pg_catalog.pg_rewrite w
    join pg_catalog.pg_depend d on d.classid = 'pg_catalog.pg_rewrite'::regclass and d.objid = w.oid
      and d.refclassid = 'pg_catalog.pg_class'::regclass and d.refobjid <> c.oid
    cross join (
      select exists (
        select from pg_catalog.pg_options_to_table(c.reloptions)
        where option_name = 'security_invoker' and option_value::boolean
      ) as counts
    ) invoker
    where c.relkind = 'v' and w.ev_class = c.oid and w.ev_type = '1'
    union all
    select h.inhrelid, above.reader, above.is_invoker, above.through, true
    from pg_catalog.pg_inherits h
    where h.inhparent = c.oid
  ) below(id, reader, is_invoker, through, is_partition)
  where above.depth < 100
)
select n.nspname::text, c.relname::text, c.relkind::text, pg_catalog.pg_get_userbyid(c.relowner)::text,
  vn.nspname::text, v.relname::text, r.rolname::text, reached.is_invoker,
  has_table_privilege(r.oid, c.oid, 'SELECT'), reached.is_partition,
  c.relkind in ('r', 'p') and c.relrowsecurity and not reached.is_partition
    and not (r.rolsuper or r.rolbypassrls) and (c.relforcerowsecurity or not owns.it),
  policies.count, policies.shows_all, owns.it,
  coalesce(o.rolsuper or o.rolbypassrls, false) or not c.relforcerowsecurity
from (
  select id, reader, is_invoker, through, is_partition, min(depth) as depth from reached group by 1, 2, 3, 4, 5
) reached
join pg_catalog.pg_class c on c.oid = reached.id
join pg_catalog.pg_namespace n on n.oid = c.relnamespace
join pg_catalog.pg_roles r on r.oid = reached.reader
left join pg_catalog.pg_roles o on o.oid = c.relowner
left join pg_catalog.pg_class v on v.oid = reached.through
left join pg_catalog.pg_namespace vn on vn.oid = v.relnamespace
cross join lateral (select pg_has_role(r.oid, c.relowner, 'USAGE') as it) owns
cross join lateral (
  select count(*) as count,
    coalesce(bool_and(pg_catalog.pg_get_expr(p.polqual, p.polrelid) = 'true'), false) as shows_all
  from pg_catalog.pg_policy p
  where p.polrelid = c.oid and p.polcmd in ('r', '*')
    -- 0 stands for PUBLIC
    and exists (select from unnest(p.polroles) x where x = 0 or pg_has_role(r.oid, x, 'USAGE'))
) policies
where c.relkind in {_TABLES}
order by reached.depth, reached.is_partition, 1, 2, 5, 6, 7"""
