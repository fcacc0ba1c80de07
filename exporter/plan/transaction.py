"""The statements around the counting: checks before, the guarded transaction, locks, and the tables read.  No I/O.

https://www.postgresql.org/docs/current/mvcc-caveats.html
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Final, Literal

from exporter import APPLICATION_NAME
from exporter.model.sections import Database, Pipeline
from exporter.model.sql import Bindings, TableName, base_type, condition, quote, relation
from exporter.plan.replica import STATUS_SQL
from exporter.plan.statement import Statement, marker

# Runs under the settings of the role, so every name has a schema: a schema before pg_catalog in the role's search_path
# may have objects of the same name.
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
    """The replication status, facts about the server, and facts about the role.

    Of the server deadlock_timeout in milliseconds, and whether the server can look for its client; of the role the
    rights beyond reading, and the search path.  Before the transaction: inside, the first query would take the
    snapshot.
    """
    asked = (*look, _DEADLOCK_TIMEOUT, _CAN_WATCH, _POWERS, "pg_catalog.current_schemas(false)::pg_catalog.text[]")
    return Statement("before", f"select /* {APPLICATION_NAME} */\n  " + ",\n  ".join(asked))


IDENTITY: Final = Statement(
    "identity",
    f"select /* {APPLICATION_NAME} */ md5(system_identifier::text || ' ' || current_database())\n"
    "from pg_catalog.pg_control_system()",
)
"""A hash that identifies this database, and reveals nothing else.  A restored dump has another hash; a replica has the
hash of its primary.  https://www.postgresql.org/docs/current/functions-info.html#FUNCTIONS-INFO-CONTROLDATA"""

END: Final = Statement("end", "rollback", returns_rows=False)

FIRST_OF_USERS: Final = 16384
"""Smaller oids belong to system objects: FirstNormalObjectId in access/transam.h."""

NO_TRANSACTION_TIMEOUT: Final = Statement(
    "no transaction time-out, from PostgreSQL 17 on", "set local transaction_timeout = 0", returns_rows=False
)
"""PostgreSQL 17 and newer may end the connection by a setting of the role; each statement has a time-out already.
https://www.postgresql.org/docs/current/runtime-config-client.html#GUC-TRANSACTION-TIMEOUT"""

_TRANSACTION_TIMEOUT_SINCE: Final = 17

WATCH_CLIENT: Final = Statement(
    "look for the client", "set local client_connection_check_interval = 1000", returns_rows=False
)
"""During a statement, the server looks each second whether the exporter still lives, and else ends statement and locks.
https://www.postgresql.org/docs/current/runtime-config-connection.html#GUC-CLIENT-CONNECTION-CHECK-INTERVAL"""

_CAN_WATCH: Final = """(
    pg_catalog.current_setting('client_connection_check_interval', true) is not null
    and pg_catalog.version() operator(pg_catalog.!~*) 'mingw|visual c|windows'
  )"""
"""Whether the server knows the setting, and its system can look: Windows cannot."""


@dataclass(frozen=True, slots=True)
class Abilities:
    """The abilities of a server: its major version, and whether a server process can look for its client."""

    major: int
    watches_client: bool

    def extend(self, statement: Statement) -> Statement:
        """The statement that begins a transaction, with the settings that this server knows."""
        more = [NO_TRANSACTION_TIMEOUT] * (self.major >= _TRANSACTION_TIMEOUT_SINCE)
        more += [WATCH_CLIENT] * self.watches_client
        return replace(statement, sql=";\n".join(one.sql for one in (statement, *more)))


UNKNOWN_SERVER: Final = Abilities(major=0, watches_client=False)
"""A server before the first question."""


PATH: Final = "pg_catalog, pg_temp"
"""The search_path of the exporter's own SQL: only superusers can create objects there.  pg_temp is named last, or
PostgreSQL would search pg_temp first.
https://www.postgresql.org/docs/current/ddl-schemas.html#DDL-SCHEMAS-PATH"""


@dataclass(frozen=True, slots=True)
class Found:
    """The relation with a table's name: schema, and kind in the catalog (v: view, r: table); both None if missing.

    https://www.postgresql.org/docs/current/catalog-pg-class.html
    """

    schema: str | None
    kind: str | None


def found_tables(tables: Sequence[TableName], searched: Sequence[str]) -> Statement:
    """A row for each table, for `Found`; a table without a schema is looked up in the schemas `searched`, in order."""
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
    """The schema of a bare name: the first schema of `searched` with the name; no row without a match."""
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


def begin(database: Database, *, has_sub_queries: bool = False) -> Statement:
    """Begin the guarded transaction.

    The settings are local to the transaction: a pooler in transaction mode would lose or refuse settings at connect.
    With row_security = off the server refuses a query instead of hiding rows by a policy.  The list of `in (select …)`
    in the config is hashed only if the list fits into memory, else searched for every session: with such SQL the memory
    of a hash is larger.
    https://www.postgresql.org/docs/current/runtime-config-client.html
    """
    settings = {
        "application_name": f"'{APPLICATION_NAME}'",
        "search_path": PATH,
        "timezone": "'UTC'",
        # Versions and statuses are compared as text: independent of the defaults of role and database.
        "datestyle": "'ISO, YMD'",
        "intervalstyle": "'postgres'",
        "bytea_output": "'hex'",
        "extra_float_digits": 1,
        "standard_conforming_strings": "on",
        "transform_null_equals": "off",
        # Names of types, and the NULL of an array in a text.
        "quote_all_identifiers": "off",
        "array_nulls": "on",
        "row_security": "off" if database.row_security == "strict" else "on",
        "statement_timeout": _milliseconds(database.statement_timeout),
        "lock_timeout": _milliseconds(database.lock_timeout),
        "idle_in_transaction_session_timeout": _milliseconds(min(database.statement_timeout, LONGEST_SILENCE)),
        # A health check never competes with the platform: one process, no JIT compilation.
        "max_parallel_workers_per_gather": 0,
        "jit": "off",
    }
    if has_sub_queries:
        settings["hash_mem_multiplier"] = HASHED_LISTS
    lines = ["begin isolation level repeatable read read only"]
    lines += [f"set local {name} = {value}" for name, value in settings.items()]
    return Statement("begin", ";\n".join(lines), returns_rows=False)


LONGEST_SILENCE: Final = timedelta(seconds=15)
"""The server ends the transaction of an exporter that sends no statement for longer, and its locks."""

HASHED_LISTS: Final = 16
"""Times work_mem for a hash, 64 MB by default: about a million values of 16 bytes.
https://www.postgresql.org/docs/current/runtime-config-resource.html#GUC-HASH-MEM-MULTIPLIER"""


def busy(sql: str) -> Statement:
    """Whether the database is busy, by SQL of the config; read outside the snapshot, in a guarded transaction."""
    return Statement("busy_when", f"select /* {APPLICATION_NAME}: busy_when */ {condition(sql)}", is_ours=False)


def _milliseconds(duration: timedelta) -> int:
    return max(1, round(duration.total_seconds() * 1000))


def search(schemas: Sequence[str]) -> Statement:
    """From now on names are also found in `schemas`, after pg_catalog."""
    path = ", ".join(["pg_catalog", *map(quote, schemas), "pg_temp"])
    return Statement("search path", f"set local search_path = {path}", returns_rows=False)


USUAL_DEADLOCK_TIMEOUT: Final = timedelta(seconds=1)
"""The server's default."""


def patience(database: Database, deadlock_timeout: timedelta) -> Statement:
    """From now on, with locks held, the exporter waits less than deadlock_timeout for another lock.

    The server's deadlock check could end a migration that waits for a lock of the exporter.
    https://www.postgresql.org/docs/current/runtime-config-locks.html#GUC-DEADLOCK-TIMEOUT
    """
    wait = min(database.lock_timeout, deadlock_timeout / 4)
    return Statement("patience", f"set local lock_timeout = {_milliseconds(wait)}", returns_rows=False)


_CLOCK: Final = "session_health.clock"
"""A setting of the transaction that holds the time of the snapshot."""

TAKEN: Final = f"pg_catalog.current_setting('{_CLOCK}')::pg_catalog.timestamptz"
"""SQL for the time of the snapshot, after `take_snapshot`."""


def take_snapshot(pipeline: str) -> Statement:
    """Take the snapshot, and note its time.

    In one message of the simple protocol, without rows: the server takes the snapshot and reads the clock at once.  A
    prepared statement takes the snapshot when the server parses it, and reads the clock a round trip later.
    https://www.postgresql.org/docs/current/protocol-flow.html#PROTOCOL-FLOW-SIMPLE-QUERY
    """
    sql = (
        f"select {marker(pipeline, 'clock')} "
        f"pg_catalog.set_config('{_CLOCK}', pg_catalog.clock_timestamp()::pg_catalog.text, true)"
    )
    return Statement("clock", sql, returns_rows=False)


LOCKS: Final = Statement("locks", "savepoint locks", returns_rows=False)
"""The savepoint before the locks: a rollback to the savepoint releases every lock."""


def lock(pipeline: Pipeline, title: str, table: TableName) -> Statement:
    """Lock a table before the snapshot: after a rewrite (TRUNCATE, ALTER TABLE) the snapshot would show no rows.

    Only the partitioned table is locked, not its partitions: `what_was_read` detects rewritten partitions.
    """
    sql = f"lock table only {table.sql} in access share mode {marker(pipeline.name, f'lock {title}')}"
    return Statement(f"lock {title}", sql, returns_rows=False)


def tables_of(pipeline: Pipeline) -> list[TableName]:
    """Every table of a pipeline in its database, once."""
    here = (record.table for record in pipeline.records.values() if record.database is None)
    return list(dict.fromkeys([pipeline.sessions.table, *here]))


def what_was_read(pipeline: Pipeline, *, is_strict: bool) -> Statement:
    """Every table read by the transaction, from its locks: also behind views, sub-queries and functions.

    A table rewritten after the start of the snapshot (TRUNCATE, ALTER TABLE, REFRESH) looks empty; a recreated table is
    not in the snapshot.  The functions of the catalog see the present, the tables of the catalog see the snapshot: a
    difference reveals a rewrite.  The catalog statement finds foreign partitions of the pipeline's own tables.

    If `is_strict`, the server refuses to hide rows by a policy, unless a function turns row_security on again.  With
    such a function, tables count as restricted by the rule for allowed policies.
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
  coalesce(quote_ident(n.nspname) || '.' || quote_ident(c.relname), 'a new table') as name,
  c.oid is null or (c.relkind in ('r', 'm') and c.relfilenode <> pg_relation_filenode(l.relation)) as rewritten,
  c.relkind = 'f' and not exists (
    select 1 from (values {", ".join(named)}) named(id), pg_partition_tree(named.id) part where part.relid = c.oid
  ) as is_foreign,
  {hiding} and (coalesce(row_security_active(c.oid), false) or c.relrowsecurity and exists (
    -- Views and functions read with the rights of their owners.  The functions that ran are unknown.
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
-- A new index during the collection changes nothing.
where (c.oid is null and pg_get_indexdef(l.relation) is null) or c.relkind in ('r', 'p', 'm', 'f')
order by 2"""
    return Statement("what was read", sql, tuple(bind.values))


def silent_types(columns: Sequence[str], searched: Sequence[str]) -> Statement:
    """Columns of locked tables with one of the names, whose type silently falls back on operators of another type.

    A row for each column: name, type, and the schema of the type, outside `searched`.
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
    """A new transaction after the end, to read the current catalog."""
    lines = [
        "begin isolation level read committed read only",
        f"set local search_path = {PATH}",
        f"set local statement_timeout = {_milliseconds(database.statement_timeout)}",
    ]
    return Statement("look again", ";\n".join(lines), returns_rows=False)


def shape(relations: Sequence[int]) -> Statement:
    """A checksum of catalog entries that may change despite the locks: partitions, schema names, functions, enums.

    Read in the snapshot and after the end.  If the checksums differ, statements of the snapshot may have used different
    catalogs: each statement sees the current catalog.  Examples: ATTACH PARTITION, DETACH CONCURRENTLY, INHERIT, CREATE
    OR REPLACE FUNCTION, ALTER SCHEMA … RENAME, ALTER TYPE … RENAME VALUE.
    """
    sql = f"""select /* {APPLICATION_NAME} */ coalesce(sum(hashtextextended(entry, 0)), 0)::text
from (
  select to_jsonb(h)::text
  from pg_catalog.pg_inherits h
  where h.inhparent = any($1::text[]::oid[])
  union all
  select n.oid::text || n.nspname
  from pg_catalog.pg_namespace n
  -- Temporary schemas of other sessions come and go.
  where n.nspname !~ '^pg_(toast_)?temp_'
  union all
  select e.enumtypid::text || e.enumlabel from pg_catalog.pg_enum e
  union all
  -- Without privileges: a GRANT changes no number.
  select row(p.oid, p.proname, p.pronamespace, p.proargtypes, p.provolatile, p.prosecdef, p.proconfig, p.prosrc,
    p.prosqlbody)::text
  from pg_catalog.pg_proc p
  join pg_catalog.pg_namespace n on n.oid = p.pronamespace
  where p.oid >= {FIRST_OF_USERS} and n.nspname !~ '^pg_temp_'
) entries(entry)"""
    return Statement("shape", sql, (tuple(str(one) for one in relations),))


def resolved(pipeline: Pipeline, found: Mapping[TableName, Found]) -> Pipeline:
    """The pipeline with the schema of each found table; missing tables stay unchanged."""

    def whole(table: TableName) -> TableName:
        return TableName(table.schema or found[table].schema, table.name)

    sessions = pipeline.sessions.model_copy(update={"table": whole(pipeline.sessions.table)})
    records = {
        n: r if r.database else r.model_copy(update={"table": whole(r.table)}) for n, r in pipeline.records.items()
    }
    return pipeline.model_copy(update={"sessions": sessions, "records": records})
