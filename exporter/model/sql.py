"""Names and values -> safe SQL text.  Every name passes through `quote`, every value through `Bindings`."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import Enum
from typing import Final, Literal


class Moment(Enum):
    """A value that is known only when a collection runs."""

    CLOCK = "the snapshot's clock"


Bound = str | int | tuple[str, ...] | datetime | timedelta | Moment

# https://www.postgresql.org/docs/current/sql-syntax-lexical.html#SQL-SYNTAX-IDENTIFIERS
_PART = re.compile(r'"(?P<quoted>(?:[^"\0]|"")+)"|(?P<plain>[^\W\d][\w$]*)', re.UNICODE)
_BARE = re.compile(r"[a-z_][a-z0-9_$]*")
_TYPE_NAME = re.compile(r'[\w."]+( [\w]+)*( ?\(\d+(, ?\d+)?\))?', re.ASCII)


def quote(name: str) -> str:
    """`name` as an SQL identifier."""
    return '"' + name.replace('"', '""') + '"'


def unquoted(identifier: str) -> str:
    """The name that a quoted SQL identifier stands for; the inverse of `quote`."""
    return identifier[1:-1].replace('""', '"')


@dataclass(frozen=True, slots=True)
class TableName:
    """A table or view, already split and folded as PostgreSQL would; schema None means search_path."""

    schema: str | None
    name: str

    @property
    def sql(self) -> str:
        """The name as SQL, every part quoted."""
        return quote(self.name) if self.schema is None else f"{quote(self.schema)}.{quote(self.name)}"

    @property
    def written(self) -> str:
        """The name as people write it: quoted only where `parse_table_name` needs it."""
        return ".".join(part if _BARE.fullmatch(part) else quote(part) for part in (self.schema, self.name) if part)

    def __str__(self) -> str:
        return self.sql


def parse_table_name(text: str) -> TableName:
    """Read a table name written as in SQL: `public.orders`, `"My Schema"."Or ders"`.

    Raises ValueError with the remedy where PostgreSQL would refuse it.
    """
    parts: list[str] = []
    position = 0
    while match := _PART.match(text, position):
        quoted = match["quoted"]
        # PostgreSQL folds what is not quoted; only ASCII letters, whatever the locale.
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

    Raises ValueError where a comment, a literal or a quoted name has no end, so that it would swallow what follows.
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


def one_line(sql: str) -> str:
    """An expression as one line that means the same: without comments, and with line breaks in literals spelt."""
    parts: list[str] = []
    for kind, text in lexemes(sql):
        piece = _on_one_line(kind, text)
        if piece != " " or parts[-1:] != [" "]:
            parts.append(piece)
    return "".join(parts).strip()


def _on_one_line(kind: str, text: str) -> str:
    if kind == "comment" or text.isspace():
        return " "
    if kind == "literal" and "\n" in text and text[0] == "'":
        escaped = text[1:-1].replace("\\", "\\\\").replace("\n", "\\n")
        return f"E'{escaped}'"
    return text


STRINGS: Final = frozenset({"text", "varchar", "bpchar", "char", "name", "character", "character varying"})
"""The built-in types of strings, by every name that SQL has for them."""


def parse_type_name(text: str) -> str:
    """Read the name of the SQL type of a cast, such as `uuid` or `bigint`; raises ValueError.

    A length is for strings alone, which a cast compares whole: of another type it would change values.
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
    """`expression` as text that is compared byte by byte, whatever its type and collation.

    https://www.postgresql.org/docs/current/collation.html#COLLATION-CONCEPTS
    """
    return f'{expression}::text collate "C"'


def text_literal(text: str) -> str:
    """A text as an SQL literal."""
    return "'" + text.replace("'", "''") + "'"


def condition(expression: str) -> str:
    """An operator's condition as one operand: true, or false where it is not (NULL, too).

    The line breaks keep a trailing `--` comment inside.  Between these words nothing but one whole expression
    fits: `a) or (b` is refused by the server.
    """
    return f"case when\n{expression.strip()}\nthen true else false end"


RowName = Literal["session", "record"]
"""How the SQL of the config may call the row that it is about, beside the name of its table."""

OURS: Final = quote("our values")
"""What `with_values` computes for a row: a name that no table and no column has."""


def with_values(table: TableName, row: RowName, values: Sequence[tuple[str, str]]) -> str:
    """A FROM item: the rows of `table`, each with the `values` (name and SQL over one row), once, as columns of `OURS`.

    Inside them the row is called `row` as well.  They stand in VALUES, where the server refuses aggregates, window
    functions and calls that yield several rows: what these mean depends on the rest of a statement.
    """
    if not values:
        return table.sql
    expressions = ",\n        ".join(sql for _, sql in values)
    names = ", ".join(quote(name) for name, _ in values)
    return f"""{table.sql}
    cross join lateral (
      select computed.*
      from (select {quote(table.name)}.*) as {row},
        lateral (values (
        {expressions}
        )) as computed ({names})
    ) as {OURS}"""


def only_rows(table: TableName, row: RowName, conditions: Sequence[str]) -> str:
    """A FROM item of one line for people to type: the rows of `table` for which `conditions` over one row hold."""
    wanted = []
    for text in filter(None, map(one_line, conditions)):
        words = {piece.lower() for kind, piece in lexemes(text) if kind == "word"}
        # Only then, for it reads badly: elsewhere a column and the name of the table are enough.
        alias = f" from (select {quote(table.name)}.*) as {row}"
        wanted.append(f"(select {text}{alias})" if row in words else f"({text})")
    return f"(select * from {table.sql} where {conjunction(wanted)})" if wanted else table.sql


def conjunction(conditions: list[str]) -> str:
    """All of the conditions; true when there is none."""
    return " and ".join(conditions) if conditions else "true"


@dataclass(slots=True)
class Bindings:
    """The values of one statement while it is being written; equal values share a placeholder."""

    values: list[Bound] = field(default_factory=list)
    _types: list[str] = field(default_factory=list)

    def __call__(self, value: Bound, sql_type: str) -> str:
        """A placeholder for `value`, typed so that PostgreSQL never has to guess."""
        for index, known in enumerate(zip(self.values, self._types, strict=True), start=1):
            if known == (value, sql_type):
                return f"${index}::{sql_type}"
        self.values.append(value)
        self._types.append(sql_type)
        return f"${len(self.values)}::{sql_type}"


def moment(column: str, zone: str | None, bind: Bindings) -> str:
    """A column of times (SQL) as timestamptz; an infinite time says as little as none, and is NULL.

    A time without a zone is of `zone`, UTC where that is None.  The type of the column is looked at, since
    `at time zone` means the contrary for a time that has a zone.
    https://www.postgresql.org/docs/current/functions-datetime.html#FUNCTIONS-DATETIME-ZONECONVERT
    """
    # A column of text is refused, rather than read as a time wherever its rows happen to look like one.
    finite = f"pg_catalog.isfinite({column})"
    if zone is None:
        return f"case when {finite} then {column}::timestamptz end"
    local = f"{column}::timestamp at time zone {bind(zone, 'text')}"
    # Of an expression, for a column may be of a domain over the type.
    kind = f"pg_catalog.pg_typeof(coalesce({column}, null))"
    return (
        f"case when not {finite} then null"
        f" when {kind} operator(pg_catalog.=) 'timestamptz'::regtype then {column}::timestamptz else {local} end"
    )


def relation(table: TableName, bind: Bindings) -> str:
    """SQL for the oid of a table; NULL, and not the error of to_regclass, where its schema is closed to us."""
    if table.schema is None:
        return f"to_regclass({bind(table.sql, 'text')})"
    return f"""(
          select t.oid
          from pg_catalog.pg_class t
          join pg_catalog.pg_namespace n on n.oid = t.relnamespace
          where n.nspname = {bind(table.schema, "text")} and t.relname = {bind(table.name, "text")}
        )"""


def base_type(oid: str) -> str:
    """SQL for the oid of a type below all domains over it; `oid` is SQL for the type's own."""
    return f"""(
    with recursive below(id) as (
      select {oid}
      union all
      select t.typbasetype from below join pg_catalog.pg_type t on t.oid = below.id where t.typtype = 'd'
    )
    select t.oid from below join pg_catalog.pg_type t on t.oid = below.id where t.typtype <> 'd'
  )"""
