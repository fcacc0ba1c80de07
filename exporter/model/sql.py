"""Names and values -> safe SQL text.  Every name passes through `quote`, every value through `Bindings`."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import Enum
from typing import Final, Literal


class Moment(Enum):
    """A value known only during a collection."""

    CLOCK = "the snapshot's clock"


@dataclass(frozen=True, slots=True)
class Ago:
    """A moment before the snapshot's clock, or after for a negative length; known only during a collection.

    The exporter subtracts: the server would subtract again for each row.
    """

    length: timedelta

    def before(self, clock: datetime) -> datetime:
        """The moment, by `clock`; at most as far as a datetime reaches."""
        try:
            return clock - self.length
        except OverflowError:
            return _FIRST if self.length > timedelta(0) else _LAST


_FIRST: Final = datetime.min.replace(tzinfo=UTC)
_LAST: Final = datetime.max.replace(tzinfo=UTC)

Bound = str | int | tuple[str, ...] | datetime | timedelta | Moment | Ago

# https://www.postgresql.org/docs/current/sql-syntax-lexical.html#SQL-SYNTAX-IDENTIFIERS
_PART = re.compile(r'"(?P<quoted>(?:[^"\0]|"")+)"|(?P<plain>[^\W\d][\w$]*)', re.UNICODE)
_BARE = re.compile(r"[a-z_][a-z0-9_$]*")
_TYPE_NAME = re.compile(r'[\w."]+( [\w]+)*( ?\(\d+(, ?\d+)?\))?', re.ASCII)


def quote(name: str) -> str:
    """`name` as an SQL identifier."""
    return '"' + name.replace('"', '""') + '"'


def unquoted(identifier: str) -> str:
    """The name in a quoted SQL identifier; the inverse of `quote`."""
    return identifier[1:-1].replace('""', '"')


@dataclass(frozen=True, slots=True)
class TableName:
    """A table or view, split and folded like PostgreSQL; schema None means search_path."""

    schema: str | None
    name: str

    @property
    def sql(self) -> str:
        """The name as SQL, every part quoted."""
        return quote(self.name) if self.schema is None else f"{quote(self.schema)}.{quote(self.name)}"

    @property
    def written(self) -> str:
        """The name with quotes only where `parse_table_name` needs quotes."""
        return ".".join(part if _BARE.fullmatch(part) else quote(part) for part in (self.schema, self.name) if part)

    def __str__(self) -> str:
        return self.sql


def parse_table_name(text: str) -> TableName:
    """Read a table name written as in SQL: `public.orders`, `"My Schema"."Or ders"`.

    Raises ValueError with the remedy for a name that PostgreSQL would refuse.
    """
    parts: list[str] = []
    position = 0
    while match := _PART.match(text, position):
        quoted = match["quoted"]
        # PostgreSQL folds unquoted names; only ASCII letters, in every locale.
        parts.append(quoted.replace('""', '"') if quoted else _ascii_lower(match["plain"]))
        position = match.end()
        if position == len(text):
            break
        if text[position] != ".":
            break
        position += 1
    if position != len(text) or not parts or text.endswith("."):
        raise ValueError(
            "is not a table name: write it as in SQL, with double quotes around a part that "
            'has spaces, capitals or signs, as in \'"My Schema"."Or ders"\''
        )
    match parts:
        case [name]:
            return TableName(None, name)
        case [schema, name]:
            return TableName(schema, name)
    raise ValueError(f"has {len(parts)} parts: write schema.table; the database is chosen by its url")


def _ascii_lower(text: str) -> str:
    return "".join(letter.lower() if letter.isascii() else letter for letter in text)


_LEXEME: Final = re.compile(
    r"""(?P<comment>--[^\n]*)
    |(?P<block>/\*)
    |(?P<escaped>\b[eE]'(?:[^'\\]|\\.|'')*')
    |(?P<literal>'(?:[^']|'')*')
    |(?P<dollar>(?P<tag>\$(?:[^\W\d]\w*)?\$).*?(?P=tag))
    |(?P<quoted>"(?:[^"]|"")*")
    |(?P<word>[^\W\d][\w$]*)
    |(?P<unended>['"]|\$(?:[^\W\d]\w*)?\$)
    |(?P<other>.)""",
    re.VERBOSE | re.DOTALL,
)
_BLOCK: Final = re.compile(r"/\*|\*/")


def lexemes(sql: str) -> Iterator[tuple[str, str]]:
    """An expression piece by piece, each with its kind: comment, literal, quoted, word or other.

    Raises ValueError for a comment, a literal or a quoted name without an end, which would swallow the next SQL.
    https://www.postgresql.org/docs/current/sql-syntax-lexical.html
    """
    position = 0
    while match := _LEXEME.match(sql, position):
        kind, position = match.lastgroup or "other", match.end()
        if kind == "block":
            kind, position = "comment", _end_of_block(sql, match.start())
        if kind == "unended":
            what = "double quote" if match[0] == '"' else "literal"
            raise ValueError(f"has a {what} that does not end: close it with {match[0]}")
        yield ("literal" if kind in ("escaped", "dollar") else kind), sql[match.start() : position]


def _end_of_block(sql: str, start: int) -> int:
    depth = 0
    for bound in _BLOCK.finditer(sql, start):
        depth += 1 if bound[0] == "/*" else -1
        if not depth:
            return bound.end()
    raise ValueError("has a comment that does not end: close it with */")


STRINGS: Final = frozenset({"text", "varchar", "bpchar", "char", "name", "character", "character varying"})
"""The built-in string types, by every SQL name."""


def parse_type_name(text: str) -> str:
    """Read the name of the SQL type of a cast, such as `uuid` or `bigint`; raises ValueError.

    Only strings may have a length: a cast compares whole strings; a length of another type would change values.
    """
    if not _TYPE_NAME.fullmatch(text):
        raise ValueError("is not the name of a type: write it as in SQL, such as uuid or bigint")
    name, length, _ = text.partition("(")
    plain = " ".join(name.split()).lower()
    if plain == "bit" or plain.startswith("interval ") or (length and plain not in STRINGS):
        better = {"bit": "bit varying"}.get(plain, "interval" if plain.startswith("interval ") else plain)
        raise ValueError(f"has a length, which cuts or rounds values: write {better}")
    return text


def same_text(expression: str) -> str:
    """`expression` as text, compared byte by byte, for every type and collation.

    https://www.postgresql.org/docs/current/collation.html#COLLATION-CONCEPTS
    """
    return f'{expression}::text collate "C"'


def text_literal(text: str) -> str:
    """A text as an SQL literal."""
    return "'" + text.replace("'", "''") + "'"


def condition(expression: str) -> str:
    """A condition of the config as one operand: true, or else false (also for NULL).

    The line breaks keep a trailing `--` comment inside.  Only one complete expression fits between the words: the
    server refuses `a) or (b`.
    """
    return f"case when\n{expression.strip()}\nthen true else false end"


RowName = Literal["session", "record"]
"""The name of the current row in SQL of the config, besides the name of the table."""

OURS: Final = quote("our values")
"""The alias of the values computed by `with_values`: no table and no column has the name."""


@dataclass(frozen=True, slots=True)
class RowSource:
    """The rows of a table with computed columns (name and SQL over one row of the table)."""

    table: TableName
    row: RowName
    computed: tuple[tuple[str, str], ...] = ()

    @property
    def sql(self) -> str:
        """A FROM item with the name of the table."""
        if not self.computed:
            return self.table.sql
        name = quote(self.table.name)
        columns = ", ".join(f"{OURS}.{quote(column)}" for column, _ in self.computed)
        values = [(column, computed_value(sql)) for column, sql in self.computed]
        return f"(select {name}.*, {columns} from {with_values(RowSource(self.table, self.row), values)}) as {name}"


def computed_value(expression: str) -> str:
    """An expression of the config of any type as one operand, as in `condition`."""
    return f"case when true then\n{expression.strip()}\nend"


def with_values(source: RowSource, values: Sequence[tuple[str, str]]) -> str:
    """A FROM item: the rows of `source`, each with the `values` (name and SQL over one row) as columns of `OURS`.

    In the SQL of a value, the row is also named `source.row`.  The values stand in VALUES: there the server refuses
    aggregates, window functions and functions with several rows, whose meaning depends on the rest of a statement.
    """
    table, row = source.table, source.row
    if not values:
        return source.sql
    expressions = ",\n        ".join(sql for _, sql in values)
    names = ", ".join(quote(name) for name, _ in values)
    return f"""{source.sql}
    cross join lateral (
      select computed.*
      from (select {quote(table.name)}.*) as {row},
        lateral (values (
        {expressions}
        )) as computed ({names})
    ) as {OURS}"""


def conjunction(conditions: list[str]) -> str:
    """All conditions; true for an empty list."""
    return " and ".join(conditions) if conditions else "true"


@dataclass(slots=True)
class Bindings:
    """The values of a statement in construction; equal values share a placeholder."""

    values: list[Bound] = field(default_factory=list)
    _types: list[str] = field(default_factory=list)

    def __call__(self, value: Bound, sql_type: str) -> str:
        """A placeholder for `value` with an explicit type."""
        for index, known in enumerate(zip(self.values, self._types, strict=True), start=1):
            if known == (value, sql_type):
                return f"${index}::{sql_type}"
        self.values.append(value)
        self._types.append(sql_type)
        return f"${len(self.values)}::{sql_type}"


def moment(column: str, zone: str | None, bind: Bindings) -> str:
    """A column of times (SQL) as timestamptz; an infinite time becomes NULL.

    A time without a zone is in `zone`, or UTC if None.  The SQL checks the type of the column: `at time zone` does the
    opposite for a time with a zone.
    https://www.postgresql.org/docs/current/functions-datetime.html#FUNCTIONS-DATETIME-ZONECONVERT
    """
    # The server refuses a column of text, even if the texts look like times.
    finite = f"pg_catalog.isfinite({column})"
    if zone is None:
        return f"case when {finite} then {column}::timestamptz end"
    local = f"{column}::timestamp at time zone {bind(zone, 'text')}"
    # The type of an expression: a column can have a domain over the type.
    kind = f"pg_catalog.pg_typeof(coalesce({column}, null))"
    return (
        f"case when not {finite} then null"
        f" when {kind} operator(pg_catalog.=) 'timestamptz'::regtype then {column}::timestamptz else {local} end"
    )


def one_of(text: str, values: Sequence[str], bind: Bindings) -> str:
    """SQL: whether a text is one of the values; NULL for NULL.  One comparison is cheaper than an array of one."""
    if len(values) == 1:
        return f"{text} = {bind(values[0], 'text')}"
    return f"{text} = any({bind(tuple(values), 'text[]')})"


def cut(text: str, length: int) -> str:
    """SQL: the first `length` characters of a text; bytes are counted first, because characters take longer."""
    return f"case when pg_catalog.octet_length({text}) <= {length} then {text} else left({text}, {length}) end"


def relation(table: TableName, bind: Bindings) -> str:
    """SQL for the oid of a table; NULL, not the error of to_regclass, without USAGE on the schema."""
    if table.schema is None:
        return f"to_regclass({bind(table.sql, 'text')})"
    return f"""(
          select t.oid
          from pg_catalog.pg_class t
          join pg_catalog.pg_namespace n on n.oid = t.relnamespace
          where n.nspname = {bind(table.schema, "text")} and t.relname = {bind(table.name, "text")}
        )"""


def base_type(oid: str) -> str:
    """SQL for the oid of the type below all domains; `oid` is SQL for the oid of the type itself."""
    return f"""(
    with recursive below(id) as (
      select {oid}
      union all
      select t.typbasetype from below join pg_catalog.pg_type t on t.oid = below.id where t.typtype = 'd'
    )
    select t.oid from below join pg_catalog.pg_type t on t.oid = below.id where t.typtype <> 'd'
  )"""
