-- The role of the exporter, with the rights to read some tables and no other right.
--
--   psql -v role=session_health -v schema=public -v tables=orders,invoices -f least-privilege.sql DATABASE
--   psql … -v row_security=bypass      for tables with row-level security: BYPASSRLS
--   psql … -v public=revoke            takes from PUBLIC what every role has: TEMPORARY, CREATE in the schema and in public
--
-- Run as a superuser, or as the owner of the tables with CREATEROLE.  Names are written bare and with their capitals:
-- -v tables='Orders,in voices'.  Run the script again for each schema, and after a change of the list: the role keeps no
-- other right in the schema.  Set the password afterwards: \password session_health
--
-- The last lines list what the role may do beyond reading the tables.  An empty list is the aim.
\set ON_ERROR_STOP on
\set QUIET on
\if :{?row_security} \else \set row_security none \endif
\if :{?public} \else \set public keep \endif

begin;

select format('create role %I login nosuperuser nocreatedb nocreaterole noreplication', :'role')
where not exists (select from pg_catalog.pg_roles where rolname = :'role') \gexec

-- A second wall: the exporter reads in READ ONLY transactions in any case.
select format('alter role %I set default_transaction_read_only = on', :'role') \gexec
select format('alter role %I bypassrls', :'role') where :'row_security' = 'bypass' \gexec

select format('revoke all on all tables in schema %I from %I', :'schema', :'role') \gexec
select format('revoke all on schema %I from %I', :'schema', :'role') \gexec
select format('grant connect on database %I to %I', current_database(), :'role') \gexec
select format('grant usage on schema %I to %I', :'schema', :'role') \gexec
select format('grant select on table %I.%I to %I', :'schema', trim(name), :'role')
from unnest(string_to_array(:'tables', ',')) name \gexec

select format('revoke temporary on database %I from public', current_database()) where :'public' = 'revoke' \gexec
select format('revoke create on schema %I from public', nspname)
from pg_catalog.pg_namespace where nspname in (:'schema', 'public') and :'public' = 'revoke' \gexec

commit;

\set QUIET off
\pset footer off
with wanted as (
  select format('%I.%I', :'schema', trim(name)) as name from unnest(string_to_array(:'tables', ',')) name
), tables as (
  select c.oid, format('%I.%I', n.nspname, c.relname) as name
  from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace
  where c.relkind in ('r', 'p', 'v', 'm', 'f') and n.nspname !~ '^pg_' and n.nspname <> 'information_schema'
    and has_schema_privilege(:'role', n.oid, 'USAGE')
)
select 'reads another table' as "beyond reading", name as "of"
from tables where has_table_privilege(:'role', oid, 'SELECT') and name not in (select name from wanted)
union all
select 'writes a table', name
from tables where has_table_privilege(:'role', oid, 'INSERT, UPDATE, DELETE, TRUNCATE, REFERENCES, TRIGGER')
union all
select 'creates in a schema', quote_ident(nspname)
from pg_catalog.pg_namespace where has_schema_privilege(:'role', oid, 'CREATE')
union all
select 'creates temporary tables: see -v public=revoke', quote_ident(current_database())
where has_database_privilege(:'role', current_database(), 'TEMPORARY')
union all
select 'creates schemas', quote_ident(current_database())
where has_database_privilege(:'role', current_database(), 'CREATE')
union all
select 'runs a function with the rights of its owner', p.oid::regprocedure::text
from pg_catalog.pg_proc p join pg_catalog.pg_namespace n on n.oid = p.pronamespace
where p.prosecdef and n.nspname !~ '^pg_' and has_schema_privilege(:'role', n.oid, 'USAGE')
  and has_function_privilege(:'role', p.oid, 'EXECUTE')
union all
select 'is a member', quote_ident(rolname)
from pg_catalog.pg_roles where rolname <> :'role' and pg_has_role(:'role', oid, 'MEMBER')
union all
select 'has an attribute', attribute
from pg_catalog.pg_roles, lateral (values ('superuser', rolsuper), ('createdb', rolcreatedb),
  ('createrole', rolcreaterole), ('replication', rolreplication),
  ('bypassrls', rolbypassrls and :'row_security' <> 'bypass')) a(attribute, has_it)
where rolname = :'role' and has_it
order by 1, 2;
