"""What surrounds measuring: the look before, the guarded transaction, its locks, and what it has read.  No I/O.

https://www.postgresql.org/docs/current/mvcc-caveats.html
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Final, Literal

from exporter import APPLICATION_NAME
from exporter.model.sections import Database, Pipeline
from exporter.model.sql import Bindings, TableName, base_type, quote, relation
from exporter.plan.replica import STATUS_SQL
from exporter.plan.statement import Statement, marker

# It runs under the settings of the role, so whatever has a name in it says where that is: a schema that comes before
# pg_catalog in the role's search_path may have another of the same name.
_DEADLOCK_TIMEOUT: Final = """(
    select s.setting::integer from pg_catalog.pg_settings s where s.name operator(pg_catalog.=) 'deadlock_timeout'
  )"""
_POWERS: Final = """array(
    select case when r.rolsuper then 'superuser' else r.rolname::pg_catalog.text end
    from pg_catalog.pg_roles r
    where r.rolsuper and r.rolname operator(pg_catalog.=) current_user
      or r.rolname operator(pg_catalog.=) any(array[
        'pg_execute_server_program', 'pg_read_server_files', 'pg_write_server_files'
      ]::pg_catalog.name[]) and pg_catalog.pg_has_role(r.oid, 'member')
  )"""


def before(look: Sequence[str] = STATUS_SQL) -> Statement:
    """A `Look`, the deadlock time-out in milliseconds, the rights of the role beyond reading, and where it finds names.

    All of it before the transaction: once in it, there is no look without a snapshot.
    """
    asked = (*look, _DEADLOCK_TIMEOUT, _POWERS, "pg_catalog.current_schemas(false)::pg_catalog.text[]")
    return Statement("before", f"select /* {APPLICATION_NAME} */\n  " + ",\n  ".join(asked))


IDENTITY: Final = Statement(
    "identity",
    f"select /* {APPLICATION_NAME} */ md5(system_identifier::text || ' ' || current_database())\n"
    "from pg_catalog.pg_control_system()",
)
"""Tells this database from every other, a copy made by dump and restore too, and nothing about it; a replica has its
primary's.  https://www.postgresql.org/docs/current/functions-info.html#FUNCTIONS-INFO-CONTROLDATA"""

END: Final = Statement("end", "rollback", returns_rows=False)

FIRST_OF_USERS: Final = 16384
"""Oids below are those of the system's own objects: FirstNormalObjectId in access/transam.h."""

NO_TRANSACTION_TIMEOUT: Final = Statement(
    "no transaction time-out, from PostgreSQL 17 on", "set local transaction_timeout = 0", returns_rows=False
)
"""PostgreSQL 17 and newer would end our connection by a setting of the role; each statement has its own time-out.
https://www.postgresql.org/docs/current/runtime-config-client.html#GUC-TRANSACTION-TIMEOUT"""

PATH: Final = "pg_catalog, pg_temp"
"""Where our own SQL finds names: nobody can put anything there.  Named last, pg_temp is not searched first.
https://www.postgresql.org/docs/current/ddl-schemas.html#DDL-SCHEMAS-PATH"""


@dataclass(frozen=True, slots=True)
class Found:
    """What has a table's name: its schema, and its kind in the catalog (v: view, r: table); both None if nothing has.

    https://www.postgresql.org/docs/current/catalog-pg-class.html
    """

    schema: str | None
    kind: str | None


def found_tables(tables: Sequence[TableName], searched: Sequence[str]) -> Statement:
    """A row for each table, for `Found`; one without a schema is that of the first of those `searched` that has it."""
    bind = Bindings()
    wanted = ", ".join(
        bind(tuple(names), "pg_catalog.text[]")
        for names in zip(*((t.schema or "", t.name) for t in tables), strict=True)
    )
    path = bind(tuple(searched), "pg_catalog.text[]")
    sql = f"""select /* {APPLICATION_NAME} */ found.schema, found.kind
from unnest({wanted}) with ordinality wanted(schema, name, place)
left join lateral (
  select n.nspname::pg_catalog.text as schema, c.relkind::pg_catalog.text as kind
  from pg_catalog.pg_class c
  join pg_catalog.pg_namespace n on n.oid operator(pg_catalog.=) c.relnamespace
  where c.relname::pg_catalog.text operator(pg_catalog.=) wanted.name and case
    when wanted.schema operator(pg_catalog.=) '' then n.nspname::pg_catalog.text operator(pg_catalog.=) any({path})
    else n.nspname::pg_catalog.text operator(pg_catalog.=) wanted.schema
  end
  order by pg_catalog.array_position({path}, n.nspname::pg_catalog.text)
  limit 1
) found on true
order by wanted.place"""
    return Statement("tables", sql, tuple(bind.values))


Kind = Literal["table", "function", "type"]


def schema_of(kind: Kind, name: str, searched: Sequence[str]) -> Statement:
    """The schema of a name that has none: the first of those `searched` that has one of it; no row where none has."""
    bind = Bindings()
    catalog, space, named = {
        "table": ("pg_class", "relnamespace", "relname"),
        "function": ("pg_proc", "pronamespace", "proname"),
        "type": ("pg_type", "typnamespace", "typname"),
    }[kind]
    path = bind(tuple(searched), "text[]")
    sql = f"""select /* {APPLICATION_NAME} */ n.nspname::text
from pg_catalog.pg_namespace n
join pg_catalog.{catalog} c on c.{space} operator(pg_catalog.=) n.oid
where c.{named}::text operator(pg_catalog.=) {bind(name, "text")}
  and n.nspname::text operator(pg_catalog.=) any({path})
order by pg_catalog.array_position({path}, n.nspname::text)
limit 1"""
    return Statement(f"schema of a {kind}", sql, tuple(bind.values))


def begin(database: Database) -> Statement:
    """The transaction, guarded.

    Settings are made here, not at connect: a pooler in transaction mode would lose or refuse them there.
    A policy that applies to our role makes the server refuse (row_security = off) instead of hiding rows.
    https://www.postgresql.org/docs/current/runtime-config-client.html
    """
    settings = {
        "application_name": f"'{APPLICATION_NAME}'",
        "search_path": PATH,
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


def _milliseconds(duration: timedelta) -> int:
    return max(1, round(duration.total_seconds() * 1000))


def search(schemas: Sequence[str]) -> Statement:
    """From now on names are found in `schemas`, too, where pg_catalog has none that fits as well."""
    path = ", ".join(["pg_catalog", *map(quote, schemas), "pg_temp"])
    return Statement("search path", f"set local search_path = {path}", returns_rows=False)


USUAL_DEADLOCK_TIMEOUT: Final = timedelta(seconds=1)
"""The server's, unless it is set."""


def patience(database: Database, deadlock_timeout: timedelta) -> Statement:
    """From now on, while we hold locks, no other is waited for so long that a deadlock is looked for.

    The server's detector ends whoever has waited longest for nothing: a migration that waits for one of our locks.
    https://www.postgresql.org/docs/current/runtime-config-locks.html#GUC-DEADLOCK-TIMEOUT
    """
    wait = min(database.lock_timeout, deadlock_timeout / 4)
    return Statement("patience", f"set local lock_timeout = {_milliseconds(wait)}", returns_rows=False)


LOCKS: Final = Statement("locks", "savepoint locks", returns_rows=False)
"""Where the locks begin: to roll back to it lets all of them go."""


def lock(pipeline: Pipeline, title: str, table: TableName) -> Statement:
    """Taken before the snapshot: a rewrite (TRUNCATE, ALTER TABLE) after it would show an empty table.

    Of a table with partitions it is the table alone: what befalls a partition is seen by `what_was_read`.
    """
    sql = f"lock table only {table.sql} in access share mode {marker(pipeline.name, f'lock {title}')}"
    return Statement(f"lock {title}", sql, returns_rows=False)


def tables_of(pipeline: Pipeline) -> list[TableName]:
    """Every table that a pipeline names, once."""
    return list(dict.fromkeys([pipeline.sessions.table, *(record.table for record in pipeline.records.values())]))


def what_was_read(pipeline: Pipeline, *, is_strict: bool) -> Statement:
    """Every table that the transaction has read, behind views, sub-queries and functions too, for it holds their locks.

    A table that is rewritten (TRUNCATE, ALTER TABLE, REFRESH) looks empty to a snapshot from before, and one that was
    made anew is none of its.  The catalog's own functions see the present, its tables the snapshot: where they differ,
    that is what happened.  Foreign partitions of the pipeline's own tables are the catalog statement's to find.

    If `is_strict` the server itself refuses what a policy would hide, unless a function turns row_security on again:
    where there is such a function, a table counts as restricted by the same rule as if policies were allowed.
    """
    bind = Bindings()
    named = [f"({relation(table, bind)})" for table in tables_of(pipeline)]
    hiding = "exists (select 1 from switches)" if is_strict else "true"
    sql = f"""with {marker(pipeline.name, "what was read")}
locked as (
  select distinct relation
  from pg_catalog.pg_locks
  where pid = pg_backend_pid() and locktype = 'relation' and relation >= {FIRST_OF_USERS}
    and database = (select oid from pg_catalog.pg_database where datname = current_database())
), switches as (
  select quote_ident(n.nspname) || '.' || quote_ident(p.proname) as name
  from pg_catalog.pg_proc p
  join pg_catalog.pg_namespace n on n.oid = p.pronamespace
  where p.oid >= {FIRST_OF_USERS}
    and (
      p.prosrc ~* 'row_security' or array_to_string(p.proconfig, ' ') like '%row_security=%'
      or pg_get_function_sqlbody(p.oid) ~* 'row_security'
    )
)
select
  l.relation::bigint as id,
  coalesce(quote_ident(n.nspname) || '.' || quote_ident(c.relname), 'a table that is new') as name,
  c.oid is null or (c.relkind in ('r', 'm') and c.relfilenode <> pg_relation_filenode(l.relation)) as rewritten,
  c.relkind = 'f' and not exists (
    select 1 from (values {", ".join(named)}) named(id), pg_partition_tree(named.id) part where part.relid = c.oid
  ) as is_foreign,
  {hiding} and (coalesce(row_security_active(c.oid), false) or c.relrowsecurity and exists (
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
  )) as restricted,
  (select string_agg(s.name, ', ' order by s.name) from switches s) as switches,
  current_setting('row_security') as row_security
from locked l
left join pg_catalog.pg_class c on c.oid = l.relation
left join pg_catalog.pg_namespace n on n.oid = c.relnamespace
-- An index may be made while we read, and changes nothing for us.
where (c.oid is null and pg_get_indexdef(l.relation) is null) or c.relkind in ('r', 'p', 'm', 'f')
order by 2"""
    return Statement("what was read", sql, tuple(bind.values))


def silent_types(columns: Sequence[str], searched: Sequence[str]) -> Statement:
    """Columns of these names, of any table that is locked, whose type falls back on another's operators in silence.

    A row for each: its name, its type and the schema of that type, which is not among those `searched`.
    https://www.postgresql.org/docs/current/typeconv-oper.html
    """
    sql = f"""select distinct a.attname::text, pg_catalog.format_type(t.oid, null), n.nspname::text
from pg_catalog.pg_locks l
join pg_catalog.pg_attribute a on a.attrelid = l.relation
join pg_catalog.pg_type t on t.oid = {base_type("a.atttypid")}
join pg_catalog.pg_namespace n on n.oid = t.typnamespace
where l.pid = pg_catalog.pg_backend_pid() and l.locktype = 'relation'
  and a.attname::text operator(pg_catalog.=) any($1::text[])
  and t.oid >= {FIRST_OF_USERS} and t.typtype = 'b'
  and n.nspname::text operator(pg_catalog.<>) all($2::text[])
  and exists (
    select 1 from pg_catalog.pg_cast c
    where c.castsource = t.oid and c.casttarget < {FIRST_OF_USERS} and c.castcontext = 'i'
  )
order by 1"""
    return Statement("types with operators elsewhere", sql, (tuple(columns), tuple(searched)))


def look_again(database: Database) -> Statement:
    """After the end: what the catalog says by now."""
    lines = [
        "begin isolation level read committed read only",
        f"set local search_path = {PATH}",
        f"set local statement_timeout = {_milliseconds(database.statement_timeout)}",
    ]
    return Statement("look again", ";\n".join(lines), returns_rows=False)


def shape(relations: Sequence[int]) -> Statement:
    """A number for what may change without waiting for a reader: parts of these relations, names, functions, enums.

    The same statement in our snapshot and after it: where they differ, statements of the snapshot may have read by
    different catalogs, for of those each statement sees the present.  ATTACH PARTITION, DETACH CONCURRENTLY, INHERIT,
    CREATE OR REPLACE FUNCTION, ALTER SCHEMA … RENAME and ALTER TYPE … RENAME VALUE are of the kind.
    """
    sql = f"""select /* {APPLICATION_NAME} */ coalesce(sum(hashtextextended(entry, 0)), 0)::text
from (
  select to_jsonb(h)::text
  from pg_catalog.pg_inherits h
  where h.inhparent = any($1::text[]::oid[])
  union all
  select n.oid::text || n.nspname
  from pg_catalog.pg_namespace n
  -- Others' temporary schemas come and go.
  where n.nspname !~ '^pg_(toast_)?temp_'
  union all
  select e.enumtypid::text || e.enumlabel from pg_catalog.pg_enum e
  union all
  -- Without its privileges: a GRANT changes nothing for us.
  select row(p.oid, p.proname, p.pronamespace, p.proargtypes, p.provolatile, p.prosecdef, p.proconfig, p.prosrc,
    p.prosqlbody)::text
  from pg_catalog.pg_proc p
  join pg_catalog.pg_namespace n on n.oid = p.pronamespace
  where p.oid >= {FIRST_OF_USERS} and n.nspname !~ '^pg_temp_'
) entries(entry)"""
    return Statement("shape", sql, (tuple(str(one) for one in relations),))


def resolved(pipeline: Pipeline, found: Mapping[TableName, Found]) -> Pipeline:
    """The pipeline with the schema of each table that was found; the others stay as they are."""

    def whole(table: TableName) -> TableName:
        return TableName(table.schema or found[table].schema, table.name)

    sessions = pipeline.sessions.model_copy(update={"table": whole(pipeline.sessions.table)})
    records = {n: r.model_copy(update={"table": whole(r.table)}) for n, r in pipeline.records.items()}
    return pipeline.model_copy(update={"sessions": sessions, "records": records})
