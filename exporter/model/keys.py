"""Types of key columns -> the comparison of a record's key with the session's key.  No I/O.

Groups and joins by a key use the same equality: `Equality` has the SQL, column by column.  Two types without a common
equality are refused: PostgreSQL would group by one equality and join by another.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

from exporter.model.sections import KeyPart, Pipeline, Record, Sessions
from exporter.model.sql import STRINGS, Bindings, base_type, parse_type_name, quote, relation, same_text


@dataclass(frozen=True, slots=True)
class Equality:
    """The comparison of a column of `sessions.key` with the column of `session_key`.

    `of_session` and `of_record` are SQL with `{}` for the column; `operator` compares the two.  Rows with equal
    `of_record` are equal by `operator`, too: `group by` uses the equality of the type.
    """

    of_session: str
    of_record: str
    operator: str = "operator(pg_catalog.=)"

    @property
    def is_plain(self) -> bool:
        """Whether the columns are compared as they are, so that an index on them helps."""
        return self.of_session == self.of_record == "{}"

    def holds(self, session: str, record: str) -> str:
        """SQL: whether a session's column and a record's column (as `of_record`) are equal."""
        return f"{self.of_session.format(session)} {self.operator} {record}"


Link = tuple[Equality, ...]
"""The link from a record to the session: an equality for each column of the key."""


def presumed_link(record: Record) -> Link:
    """The link before the types are known: as if both columns had the same built-in type."""
    return tuple(Equality("{}", f"{{}}::{part.cast}" if part.cast else "{}") for part in record.session_key)


@dataclass(frozen=True, slots=True)
class KeyType:
    """The type of a column of a key.

    `shown` is the type as SQL writes it, with its length; `name` is the type below its domains, without.  `equality` is
    the operator of the type's default hash, None where the type has none.  `collation` is the column's as SQL writes
    it, None where the type has none.
    """

    shown: str
    name: str
    equality: str | None
    collation: str | None = None
    is_deterministic: bool = True

    @property
    def is_string(self) -> bool:
        """Whether the type is a built-in string type."""
        return self.name in _STRINGS

    def beside(self, other: "KeyType") -> str:
        """The type, with the collation if both types are strings."""
        return f"{self.shown} collate {self.collation}" if self.is_string and other.is_string else self.shown


_STRINGS: Final = STRINGS | {'"char"'}
_WHOLE: Final = ("smallint", "integer", "bigint")
_TEXT: Final = same_text("{}")
_EXACT: Final = (*_WHOLE, "numeric")


class UnlikeError(Exception):
    """Two columns of a key have no common equality; the message names the types and a remedy."""


@dataclass(frozen=True, slots=True)
class Cast:
    """The `cast` of a key: the type, the name in SQL, and whether different values stay different."""

    type: KeyType
    sql: str
    is_lossless: bool


def equality_of(session: KeyType, record: KeyType, part: KeyPart, cast: Cast | None) -> Equality:
    """The comparison of two columns; raises UnlikeError."""
    if cast is None:
        return _compared(session, record, "{}", _advice(session, record, part))
    if cast.type.is_string:
        return Equality(_TEXT, _TEXT)
    if not (record.is_string or cast.is_lossless):
        raise UnlikeError(
            f"is {record.shown}, whose values a cast to {cast.type.shown} changes; sessions.key is {session.shown}: "
            f"{_advice(session, record, part)}"
        )
    return _compared(session, cast.type, f"{{}}::{cast.sql}", _advice(session, record, part))


def _compared(session: KeyType, record: KeyType, sql: str, advice: str) -> Equality:
    kinds = (session.name, record.name)
    if session.is_string and record.is_string:
        if session.name == record.name and session.collation == record.collation:
            return Equality("{}", sql)
        if session.is_deterministic and record.is_deterministic:
            return Equality(_TEXT, same_text(sql))
    elif session.name == record.name:
        # A type without a hash is compared as text: a text can be joined in linear time.
        return Equality("{}", sql, session.equality) if session.equality else Equality(_TEXT, same_text(sql))
    elif all(kind in _WHOLE for kind in kinds):
        return Equality("{}", sql)
    elif all(kind in _EXACT for kind in kinds):
        return Equality("{}::numeric", f"{sql}::numeric")
    types = f"is {record.beside(session)}, sessions.key is {session.beside(record)}"
    raise UnlikeError(f"{types}: they have no equality in common: {advice}")


def _advice(session: KeyType, record: KeyType, part: KeyPart) -> str:
    """The cast with which the two columns compare."""
    kinds = {session.name, record.name}
    if part.cast and kinds <= {*_EXACT}:
        return f"write session_key: {part.column}, without a cast"
    if record.is_string and not session.is_string and _can_be_cast_to(session.name):
        return f"write {{column: {part.column}, cast: {session.name}}}"
    if session.is_string or record.is_string or session.name == record.name:
        return f"write {{column: {part.column}, cast: text}}, which compares the texts"
    return f"name a column of type {session.shown}, or read a view that converts it"


def _can_be_cast_to(name: str) -> bool:
    """Whether a config accepts the printed name of a type."""
    try:
        return parse_type_name(name) == name and '"' not in name
    except ValueError:
        return False


# --- What the catalog says


@dataclass(frozen=True, slots=True)
class KeyColumn:
    """An existing column of a key: of a record, or of the sessions (None), with the place in the key."""

    record: str | None
    place: int
    type: KeyType


def key_columns(pipeline: Pipeline, bind: Bindings) -> str:
    """SQL for the types of all key columns: a row per existing column, for `read_key_columns`."""
    named = [
        f"({_name(name, bind)}, {place}, {relation(section.table, bind)}, {bind(column, 'text')})"
        for name, section, place, column in _key_places(pipeline)
        if column not in section.computed
    ]
    named = named or ["(null::text, null::integer, null::oid, null::text)"]
    return f"""select named.record_name, named.place,
  {_type_columns("a.atttypid", "a.atttypmod")},
  case when k.oid is not null then
    case when n.nspname <> 'pg_catalog' then pg_catalog.quote_ident(n.nspname) || '.' else '' end
    || pg_catalog.quote_ident(k.collname)
  end,
  coalesce(k.collisdeterministic, true)
from (values {", ".join(named)}) named(record_name, place, id, column_name)
join pg_catalog.pg_attribute a on a.attrelid = named.id and a.attname = named.column_name and a.attnum <> 0
left join pg_catalog.pg_collation k on k.oid = a.attcollation
left join pg_catalog.pg_namespace n on n.oid = k.collnamespace"""


def computed_key_columns(pipeline: Pipeline, bind: Bindings) -> str:
    """SQL for the types of the computed key columns, in the form of `key_columns`; reads no row."""
    looks = [
        f"""select {_name(name, bind)} as record_name, {place} as place,
    pg_catalog.pg_typeof(read.it)::oid as type,
    case when (select t.typcollation <> 0 from pg_catalog.pg_type t where t.oid = pg_catalog.pg_typeof(read.it))
      then pg_catalog.pg_collation_for(read.it) end as collated
  from (select 1) as one
  left join (select {quote(section.table.name)}.{quote(column)} as it from {section.source.sql} where false) as read
    on true"""
        for name, section, place, column in _key_places(pipeline)
        if column in section.computed
    ]
    looks = looks or ["select null::text as record_name, 0 as place, null::oid as type, null::text as collated limit 0"]
    typed = "\n  union all\n  ".join(looks)
    return f"""select typed.record_name, typed.place,
  {_type_columns("typed.type", "null")},
  typed.collated,
  coalesce((
    select k.collisdeterministic from pg_catalog.pg_collation k
    where k.oid = pg_catalog.to_regcollation(typed.collated)
  ), true)
from (
  {typed}
) typed"""


def _key_places(pipeline: Pipeline) -> Iterator[tuple[str | None, Sessions | Record, int, str]]:
    """The columns of the keys, of the sessions (None) first: name of the record, section, place in the key, column."""
    for place, column in enumerate(pipeline.sessions.key):
        yield None, pipeline.sessions, place, column
    for name, record in pipeline.here.items():
        for place, part in enumerate(record.session_key):
            yield name, record, place, part.column


def _name(record: str | None, bind: Bindings) -> str:
    return "null::text" if record is None else bind(record, "text")


def read_key_columns(rows: Sequence[Sequence[Any]]) -> tuple[KeyColumn, ...]:
    """The columns of a result of `key_columns`."""
    return tuple(KeyColumn(record, place, KeyType(*kind)) for record, place, *kind in rows)


def cast_type(column: KeyType, name: str, bind: Bindings) -> str:
    """SQL for the type `name` of a cast, and whether different values stay different; no row for an unknown type.

    The server refuses a malformed name.
    """
    target, source = base_type("named.id"), base_type("named.of_column")
    whole = "('smallint'::regtype, 'integer'::regtype, 'bigint'::regtype)"
    return f"""select {_type_columns("named.id", "null")}, null::text, true,
  not exists ({_modified("named.id")}) and (t.id = s.id or (t.id in {whole} and s.id in {whole}) or exists (
    select 1 from pg_catalog.pg_cast c
    -- By PostgreSQL's rules an implicit cast loses nothing, except a cast of a whole number to a float.
    where c.castsource = s.id and c.casttarget = t.id and c.castcontext = 'i'
      and t.id not in ('real'::regtype, 'double precision'::regtype)
  ))
from (
  select to_regtype({bind(name, "text")})::oid as id, to_regtype({bind(column.shown, "text")})::oid as of_column
) named
cross join lateral (select {target} as id) t
cross join lateral (select {source} as id) s
where named.id is not null"""


def _modified(oid: str) -> str:
    """SQL for the domains over a type with a length: a length cuts or rounds values."""
    return f"""
    with recursive below(id) as (
      select {oid}
      union all
      select t.typbasetype from below join pg_catalog.pg_type t on t.oid = below.id where t.typtype = 'd'
    )
    select 1 from below join pg_catalog.pg_type t on t.oid = below.id where t.typtype = 'd' and t.typtypmod <> -1
  """


def _type_columns(oid: str, modifier: str) -> str:
    """SQL for the first fields of a `KeyType`; https://www.postgresql.org/docs/current/catalog-pg-opclass.html."""
    base = base_type(oid)
    return f"""pg_catalog.format_type({oid}, {modifier}),
  pg_catalog.format_type({base}, null),
  (
    select 'operator(' || pg_catalog.quote_ident(n.nspname) || '.' || o.oprname || ')'
    from pg_catalog.pg_type t
    join pg_catalog.pg_opclass c on c.opcdefault and c.opcintype = case
      when t.typtype = 'e' then 'anyenum'::regtype
      when t.typtype = 'r' then 'anyrange'::regtype
      when t.typtype = 'c' then 'record'::regtype
      when t.typcategory = 'A' then 'anyarray'::regtype
      else t.oid
    end
    join pg_catalog.pg_am m on m.oid = c.opcmethod and m.amname = 'hash'
    join pg_catalog.pg_amop p on p.amopfamily = c.opcfamily and p.amopstrategy = 1
      and p.amoplefttype = c.opcintype and p.amoprighttype = c.opcintype
    join pg_catalog.pg_operator o on o.oid = p.amopopr
    join pg_catalog.pg_namespace n on n.oid = o.oprnamespace
    where t.oid = {base}
  )"""
