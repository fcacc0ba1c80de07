"""A record in another database: what is read there, and the same rows in the statements here.  No I/O.

The rows travel as texts of arrays: the other server writes the texts, this server reads them, and the exporter only
hands them on.  Here the texts are settings of the transaction: no temporary table is allowed in a read-only
transaction, and no statement repeats the rows.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any, Final

from exporter.model.keys import KeyType, presumed_link
from exporter.model.sections import KeyPart, Pipeline, Record
from exporter.model.sql import OURS, TableName, condition, quote, with_values
from exporter.model.values import COLUMN
from exporter.plan.expressions import Expression, expressions, written
from exporter.plan.fragments import column_of, comma_list
from exporter.plan.plan import Plan
from exporter.plan.statement import Statement, marker
from exporter.plan.transaction import silent_types

PART: Final = 10_000
"""Rows in one setting."""

MOST: Final = 2_000_000
"""Rows of a record in another database, at most: the exporter holds the texts for a moment."""

_SETTING: Final = "session_health.rows"


@dataclass(frozen=True, slots=True)
class CarriedColumn:
    """A column of carried rows: the name, and the SQL type here."""

    name: str
    type: str


@dataclass(frozen=True, slots=True)
class CarriedTable(TableName):
    """Rows in settings of the transaction, as a FROM item.

    `place` tells the records apart; each column has as many settings as `parts`.
    """

    place: int
    parts: int
    columns: tuple[CarriedColumn, ...]

    @property
    def sql(self) -> str:
        """The rows, under the name of the table."""
        arrays = [
            f"current_setting('{_setting(self.place, n)}' || part.n)::{column.type}[]"
            for n, column in enumerate(self.columns)
        ]
        names = ", ".join(quote(column.name) for column in self.columns)
        return f"""(
      select carried.*
      from generate_series(1, {self.parts}) part(n)
      cross join lateral unnest(
        {comma_list(arrays, 8)}
      ) as carried({names})
    ) as {quote(self.name)}"""


def _setting(place: int, column: int) -> str:
    return f"{_SETTING}_{place}_{column}_"


@dataclass(frozen=True, slots=True)
class Carried:
    """The rows of a record, as read in the other database.

    `parts`: for each part of the rows, a text of an array for each column.  `types` of the columns that keys of the
    config name.  `conditions`: the SQL of the config over a row, which the other server has computed.  `row_key`: the
    columns of the primary key, if they were asked for.
    """

    types: Mapping[str, KeyType]
    conditions: tuple[Expression, ...]
    parts: tuple[tuple[str, ...], ...]
    row_key: tuple[str, ...] = ()


def plan_there(plan: Plan, name: str) -> Plan:
    """The plan of reading a record in the other database: as if the table of the record were also that of sessions."""
    record = plan.pipeline.records[name]
    database = str(record.database)
    there = record.model_copy(update={"database": None, "required_when": None, "rows": None})
    key = tuple(part.column for part in record.session_key)
    sessions = type(plan.pipeline.sessions).model_construct(
        table=record.table, key=key, started_at=key[0], eligible="true"
    )
    pipeline = plan.pipeline.model_copy(
        update={"database": database, "sessions": sessions, "records": {name: there}, "cohort": None}
    )
    return replace(
        plan.about(pipeline), database=plan.others[database], place=f"records.{name}", control=None, others={}
    )


def with_types_of_all(plan: Plan, name: str, more: Sequence[str] = ()) -> Plan:
    """The plan of the other database, whose keys are all columns that the config names: `keys` reads their types.

    `more`: further columns, as those of the primary key.
    """
    columns = tuple(dict.fromkeys([*named_columns(plan, name), *more]))
    sessions = plan.pipeline.sessions.model_copy(update={"key": columns})
    parts = tuple(KeyPart(column=column) for column in columns)
    record = plan.pipeline.records[name].model_copy(update={"session_key": parts})
    pipeline = plan.pipeline.model_copy(update={"sessions": sessions, "records": {name: record}})
    return replace(plan.about(pipeline), links={name: presumed_link(record)})


def named_columns(plan: Plan, name: str) -> Iterator[str]:
    """The columns that the keys of a record name, each once, those of the session key first."""
    record = plan.pipeline.records[name]
    keys = (key for dimension in plan.dimensions for key in dimension.keys if key.section == "record")
    own = (column for key in keys for _, column in key.texts(record, COLUMN))
    given = [part.column for part in record.session_key]
    given += [record.created_at] if record.created_at else []
    given += [record.version.column] if record.version else []
    yield from dict.fromkeys([*given, *record.accepted_values, *own])


def conditions_there(plan: Plan, name: str) -> tuple[Expression, ...]:
    """The conditions of the config over one row that counts; `plan` is that of the other database."""
    return tuple(
        one
        for one in expressions(plan.pipeline, plan.dimensions)
        if one.record == name
        and one.source.row == "record"
        and not one.is_column
        and one.path != ("records", name, _WHERE)
    )


_WHERE: Final = "where"


def _computed_name(nth: int) -> str:
    return f"condition {nth} for us"


def rows_there(plan: Plan, name: str) -> Statement:
    """Reads every row that counts: for each part the number of rows, then a text of an array for each column."""
    record = plan.pipeline.records[name]
    values = [(_computed_name(n), condition(one.sql)) for n, one in enumerate(conditions_there(plan, name))]
    columns = [column_of(record, column) for column in named_columns(plan, name)]
    columns += [f"{OURS}.{quote(column)}" for column, _ in values]
    selected = [f"{sql}::text as c_{n}" for n, sql in enumerate(columns)]
    arrays = [f"array_agg(c_{n})::text" for n in range(len(columns))]
    if record.where:
        values.append((_WHERE, condition(record.where)))
    sql = f"""select {marker(plan.pipeline.name, f"rows of {name}")}
  count(*),
  {comma_list(arrays)}
from (
  select
    {comma_list([*selected, f"(row_number() over () - 1) / {PART} as part"], 4)}
  from {with_values(record.source, values)}
  where {f"{OURS}.{quote(_WHERE)}" if record.where else "true"}
  limit {MOST + 1}
) rows
group by part"""
    return Statement(f"rows of {name}", sql, is_ours=False)


def carried_table(record: Record, place: int, carried: Carried) -> CarriedTable:
    """The rows as a table of the statements here; raises UncarriedError."""
    named = [CarriedColumn(column, type_here(column, kind)) for column, kind in carried.types.items()]
    computed = [CarriedColumn(_computed_name(n), "boolean") for n in range(len(carried.conditions))]
    return CarriedTable(None, record.table.name, place, len(carried.parts), (*named, *computed))


def placed(pipeline: Pipeline, name: str, table: CarriedTable, carried: Carried, waited: timedelta) -> Pipeline:
    """The pipeline with the carried rows as the table of a record.

    The other database was read `waited` before the sessions: the grace period is longer by as much, so that no row is
    missing whose session completed in between.
    """
    for n, one in enumerate(carried.conditions):
        pipeline = written(pipeline, replace(one, sql=quote(_computed_name(n))))
    record = pipeline.records[name]
    here = record.model_copy(
        update={"table": table, "computed": {}, "where": None, "grace": record.grace + waited},
    )
    return pipeline.model_copy(update={"records": {**pipeline.records, name: here}})


def key_types(name: str, record: Record, carried: Carried) -> list[tuple[Any, ...]]:
    """The types of the key of carried rows, as `Plan.keys` reads those of tables."""
    kinds = [carried.types[part.column] for part in record.session_key]
    return [(name, place, *_kind_here(kind)) for place, kind in enumerate(kinds)]


def _kind_here(kind: KeyType) -> tuple[Any, ...]:
    """The fields of the `KeyType` of a carried column: a text has the default collation of this database."""
    if kind.name not in _CARRIED:
        return ("text", "text", _EQUALITY, _DEFAULT, True)
    collation = None if kind.collation is None else _DEFAULT
    return (kind.shown, kind.name, _EQUALITY, collation, kind.is_deterministic)


_DEFAULT: Final = '"default"'
_EQUALITY: Final = "operator(pg_catalog.=)"

TEXT: Final = KeyType("text", "text", _EQUALITY)
"""The presumed type of a column of another database, and that of a column that is only shown."""

_CARRIED: Final = frozenset(
    (
        *("uuid", "text", "character varying", "character", "name", "boolean", "bytea", "oid"),
        *("smallint", "integer", "bigint", "numeric", "real", "double precision"),
        *("date", "time without time zone", "timestamp without time zone", "timestamp with time zone"),
        *("inet", "cidr", "macaddr"),
    )
)
"""Types that every server has, and reads as it writes them."""

_SAME: Final[Mapping[str, str]] = {"character": "bpchar"}
"""Names that SQL reads as a type with a length."""


class UncarriedError(Exception):
    """A type that this server may not have; the message has the remedy."""


def type_here(column: str, kind: KeyType) -> str:
    """The SQL type of a carried column; raises UncarriedError for a type that compares by its own rules."""
    if kind.name in _CARRIED:
        return _SAME.get(kind.name, kind.name)
    if kind.equality in (None, _EQUALITY):
        return "text"
    raise UncarriedError(
        f"{column} is {kind.shown}, which compares by rules of the other database: to compare as text, write computed: "
        f"{{{column}_text: {column}::text}}, and {column}_text in place of {column}"
    )


def settings(place: int, number: int, texts: Sequence[str]) -> Statement:
    """Hands one part of the rows on, as settings of the transaction."""
    calls, bound = [], list[str]()
    for n, text in enumerate(texts):
        bound += [f"{_setting(place, n)}{number}", text]
        calls.append(f"set_config(${len(bound) - 1}::text, ${len(bound)}::text, true) is null")
    return Statement("carried rows", f"select\n  {comma_list(calls)}", tuple(bound))


# --- Every statement, as text for people


def statements(plan: Plan) -> Iterator[Statement]:
    """The statements of a collection without faults, in order; of the rows of other databases one part each."""
    told = plan.pipeline
    handed, pipeline = list[Statement](), told
    for place, name in enumerate(told.elsewhere):
        yield from _statements_there(plan, name)
        there = plan_there(plan, name)
        conditions = conditions_there(there, name)
        columns = [*named_columns(plan, name), *map(_computed_name, range(len(conditions)))]
        rows = Carried(dict.fromkeys(named_columns(plan, name), TEXT), conditions, (tuple(columns),))
        handed.append(settings(place, 1, [f"the values of {column}" for column in columns]))
        table = carried_table(told.records[name], place, rows)
        pipeline = placed(pipeline, name, table, rows, timedelta(0))
    for statement in plan.over(pipeline, told.elsewhere).statements():
        yield statement
        if statement.title == plan.catalog.title:
            yield from handed


def _statements_there(plan: Plan, name: str) -> Iterator[Statement]:
    """The statements in the other database: those of a collection, with one statement in place of the counting."""
    there = with_types_of_all(plan_there(plan, name), name)
    where = f" (database {there.pipeline.database})"
    is_counting = False
    for statement in there.statements():
        title = statement.title
        if title == there.touched.title:
            rows = rows_there(there, name)
            yield replace(rows, title=rows.title + where)
            is_counting = False
        if not is_counting:
            yield replace(there.key_proof if title == there.unique_key.title else statement, title=title + where)
        is_counting = is_counting or title == silent_types((), ()).title
