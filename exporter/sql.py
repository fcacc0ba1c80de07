"""Names and values -> safe SQL text.  Every name passes through `quote`, every value through `Bindings`."""

import re
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import Enum


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


def parse_type_name(text: str) -> str:
    """Read the name of an SQL type, such as `uuid` or `numeric(10, 2)`; raises ValueError."""
    if not _TYPE_NAME.fullmatch(text):
        raise ValueError("is not the name of a type: write it as in SQL, such as uuid or bigint")
    return text


def condition(expression: str) -> str:
    """An operator's condition as one operand: true, or false where it is not (NULL, too).

    The line breaks keep a trailing `--` comment inside.  Between these words nothing but one whole expression
    fits: `a) or (b`, and a call that yields several rows, which would count a row twice, are refused by the server.
    """
    return f"case when\n{expression.strip()}\nthen true else false end"


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
    """A column of times as timestamptz; an infinite time says as little as none, and is NULL.

    A time without a zone is of `zone`, UTC where that is None.  The type of the column is looked at, since
    `at time zone` means the contrary for a time that has a zone.
    https://www.postgresql.org/docs/current/functions-datetime.html#FUNCTIONS-DATETIME-ZONECONVERT
    """
    # Typed, so that a column of text is refused rather than read as a time wherever its rows happen to look like one.
    finite = f"nullif(nullif({quote(column)}, timestamptz 'infinity'), timestamptz '-infinity')"
    if zone is None:
        return f"{finite}::timestamptz"
    local = f"{finite}::timestamp at time zone {bind(zone, 'text')}"
    # Of `finite`, for a column may be of a domain over the type.
    return f"case when pg_typeof({finite}) = 'timestamptz'::regtype then {finite}::timestamptz else {local} end"


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
