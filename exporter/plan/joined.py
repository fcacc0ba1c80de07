"""The rows that statements about sessions read: sessions and, by key, the rows of each record.

Every expression of the config stands once, in a sub-select with `offset 0`: the planner copies no expression, and the
server computes each once for a row.  Only these fragments name tables of the platform.

Sessions and records are joined with FULL JOIN: PostgreSQL joins by hash or merge, never by a nested loop, and rows
without a session stay.  For some of the sessions the rows are looked up instead, by an index on the session key.
https://www.postgresql.org/docs/current/queries-table-expressions.html#QUERIES-JOIN
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, Literal

from exporter.model.counting import Fact, Scope
from exporter.model.dimension import Dimension
from exporter.model.keys import Link
from exporter.model.metric import LABEL_LENGTH, NO_STATUS
from exporter.model.sections import Pipeline, Record
from exporter.model.sql import (
    OURS,
    Bindings,
    Moment,
    condition,
    conjunction,
    cut,
    moment,
    quote,
    same_text,
    text_literal,
    with_values,
)
from exporter.model.states import graces_in_sql, least, most
from exporter.plan.fragments import (
    cohort_end,
    cohort_start,
    column_of,
    comma_list,
    named_keys,
    record_keys,
    rows_from,
    session_keys,
    window_start,
)

SEGMENT: Final = quote("segment")
"""The segment of a session; NULL outside the window and the cohort."""

_SEGMENT_TEXT: Final = "segment of session"
"""The segment of a session: a computed column of the sessions."""

IS_SESSION: Final = "is session"
"""Whether a row passes `sessions.where`: a computed column of the sessions."""

NUMBERED: Final = "numbered"
"""The number of a session in a list."""


def facts_of(scope: Scope, dimensions: Iterable[Dimension]) -> list[Fact]:
    """The facts about a session."""
    return [fact for dimension in dimensions for fact in dimension.session_facts(scope)]


def graces_of(scope: Scope, dimensions: Iterable[Dimension]) -> list[timedelta]:
    """Every grace period once, those of the records first."""
    of_dimensions = (grace for dimension in dimensions for grace in dimension.graces(scope.pipeline))
    return list(dict.fromkeys([*(record.grace for record in scope.records), *of_dimensions]))


@dataclass(frozen=True, slots=True)
class Indexed:
    """What indexes spare, by the names of records.

    `single`: a unique index allows one row per session key.  `ordered`: an index has every column that the exporter
    reads, in the order of the session key.
    """

    single: frozenset[str] = frozenset()
    ordered: frozenset[str] = frozenset()


NO_INDEX: Final = Indexed()

NEAR: Final = quote("our sessions")
"""The sessions of a region: so unusual a name that no table of the platform has it."""


Times = Literal["all", "window", "cohort"]
"""Which sessions count: those of the window and of the cohort, or only one of the two."""


@dataclass(frozen=True, slots=True)
class Region:
    """Some of the sessions: a condition over their table (SQL), and the starts of slices, ascending.

    A session belongs to the slice with the number of bounds that are not after its start; NULL without a start.
    `times`: which of the sessions count.
    """

    wanted: str
    bounds: tuple[datetime, ...] = ()
    times: Times = "window"


@dataclass(frozen=True, slots=True)
class SessionRows:
    """The sessions as a FROM item, `source`, and the parts of its select list as SQL.

    `is_session` is the condition for rows that are sessions, None if every row is.  `told` has the conditions that
    matter only for sessions in the window, in the cohort or without a start (`wanted_sessions`), and `always` those
    that matter for every row; both by column.  `due`: None if no column tells when records are due.  `segment`: None
    where segments are not told apart.  `bounds` has the numbers of rows that columns tell, as `least` and `most`.
    """

    source: str
    key: Sequence[str]
    status: str
    started: str
    completed: str
    due: str | None
    is_session: str | None
    told: Mapping[str, str]
    always: Mapping[str, str]
    bounds: Mapping[str, str]
    segment: str | None = None


def segment_of(scope: Scope, dimensions: Iterable[Dimension]) -> str | None:
    """SQL over the sessions table for the segment of a session; None where segments are not told apart."""
    return next(filter(None, (dimension.segment(scope) for dimension in dimensions)), None)


def session_rows(scope: Scope, bind: Bindings, facts: Sequence[Fact], segment: str | None = None) -> SessionRows:
    """The sessions, with every expression of the config about sessions.

    `told` has `required_n` of a record with `required_when`, and as `rank_n` whether the session has a record without
    a table (`exists`).
    """
    pipeline, sessions = scope.pipeline, scope.pipeline.sessions
    values = {
        **({IS_SESSION: condition(sessions.where)} if sessions.where else {}),
        "eligible": condition(sessions.eligible),
        **{
            f"required_{n}": _required(pipeline, record)
            for n, record in enumerate(scope.records, start=1)
            if record.is_optional
        },
        **{f"rank_{n}": condition(record.exists) for n, record in enumerate(scope.records, start=1) if record.exists},
        **{fact.name: fact.sql(bind) for fact in facts},
        # Beside the columns of the platform: a column may have the name of a computed one.
        **({} if segment is None else {_SEGMENT_TEXT: cut(segment, LABEL_LENGTH)}),
    }
    always = {quote(fact.name) for fact in facts if fact.of_rows}
    columns = {quote(name): f"{OURS}.{quote(name)}" for name in values}
    return SessionRows(
        source=with_values(sessions.source, list(values.items())),
        key=session_keys(pipeline),
        status=same_text(column_of(sessions, sessions.status) if sessions.status else text_literal(NO_STATUS)),
        started=moment(column_of(sessions, sessions.started_at), sessions.timezone, bind),
        completed=moment(column_of(sessions, sessions.ended_at), sessions.timezone, bind),
        due=moment(column_of(sessions, sessions.due_at), sessions.timezone, bind) if sessions.due_at else None,
        is_session=columns.pop(quote(IS_SESSION), None),
        segment=columns.pop(quote(_SEGMENT_TEXT), None),
        told={name: sql for name, sql in columns.items() if name not in always},
        always={name: sql for name, sql in columns.items() if name in always},
        bounds={
            name(n): column_of(sessions, bound)
            for n, record in enumerate(scope.records, start=1)
            for name, bound in ((least, record.rows and record.rows.least), (most, record.rows and record.rows.most))
            if isinstance(bound, str)
        },
    )


@dataclass(frozen=True, slots=True)
class Owners:
    """The rows of the sessions table that rows of a record may point at, sessions or not.

    `sql`: one row each, with the key and the `flags`, the conditions that tell rows of records apart.
    """

    sql: str
    flags: tuple[str, ...]


def owners_of_rows(
    scope: Scope, dimensions: Iterable[Dimension], bind: Bindings, within: Sequence[str] = (), known: Sequence[str] = ()
) -> Owners:
    """The owners; `within`: conditions on the table; `known`: further columns (SQL)."""
    sessions = scope.pipeline.sessions
    values = [(fact.name, fact.sql(bind)) for fact in facts_of(scope, dimensions) if fact.of_rows]
    flags = tuple(quote(name) for name, _ in values)
    selected = [*session_keys(scope.pipeline), *known, *(f"{OURS}.{flag} as {flag}" for flag in flags)]
    sql = f"""
    select
      {comma_list(selected, 6)}
    from {with_values(sessions.source, values)}
    {f"where {' and '.join(within)}" if within else ""}
    offset 0"""
    return Owners(sql, flags)


def _required(pipeline: Pipeline, record: Record) -> str:
    """SQL over a session: whether the session needs the record, which a number of rows of 0 or less also tells."""
    numbers = record.rows.columns if record.rows else ()
    none = [f"{column_of(pipeline.sessions, column)} operator(pg_catalog.<=) 0" for column in numbers]
    needed = condition(record.required_when) if record.required_when else "true"
    return f"case when {' or '.join(none)} then false else {needed} end" if none else needed


def times_in_sql(scope: Scope, dimensions: Iterable[Dimension], bind: Bindings, times: Times = "all") -> dict[str, str]:
    """Conditions on the times of a session, by column: SQL over `started`, `completed` and `due`; NULL is false."""
    pipeline, clock = scope.pipeline, bind(Moment.CLOCK, "timestamptz")
    in_cohort = "false"
    if pipeline.cohort and times != "window":
        in_cohort = f"started >= {cohort_start(pipeline, bind)} and started < {cohort_end(pipeline, bind)}"
    has_due = pipeline.sessions.due_at is not None
    graces = [graces_in_sql(grace, bind, has_due=has_due) for grace in graces_of(scope, dimensions)]
    return {
        quote("in_window"): "false" if times == "cohort" else in_window(pipeline, bind),
        quote("undated"): "started is null",
        quote("future"): f"started > {clock} or completed > {clock}",
        quote("in_cohort"): in_cohort,
        **{name: sql for of_grace in graces for name, sql in of_grace.items()},
    }


OF_SESSIONS: Final = frozenset(map(quote, ("in_window", "undated", "future", "in_cohort")))
"""The conditions on times that are false for a row that is no session."""


def in_window(pipeline: Pipeline, bind: Bindings) -> str:
    """SQL over `started`: whether a session is in the window; NULL without a start."""
    return f"started >= {window_start(pipeline, bind)}"


def wanted_sessions(pipeline: Pipeline, rows: SessionRows, bind: Bindings) -> str:
    """SQL for the sessions in the window or in the cohort, or without a start.

    The bare column is compared, so that an index helps.  For a column with a time zone of the config, the start is one
    day earlier: no zone is further from UTC.
    """
    started = column_of(pipeline.sessions, pipeline.sessions.started_at)
    first = window_start(pipeline, bind)
    if pipeline.cohort:
        first = f"least({first}, {cohort_start(pipeline, bind)})"
    if pipeline.sessions.timezone:
        first = f"{first} - interval '1 day'"
    wanted = (
        f"({started} operator(pg_catalog.>=) {first} or {started} is null"
        f" or {started} operator(pg_catalog.=) '-infinity')"
    )
    return conjunction([wanted, *filter(None, [rows.is_session])])


def rows_by_key(
    record: Record,
    link: Link,
    columns: Mapping[str, tuple[str, str]],
    indexed: Indexed,
    near: str | None = None,
) -> str:
    """SQL for one row per session key of a record, without NULL in the key.

    `columns`: for each column the SQL over one row, and the aggregate over the rows of a key, with `{}` for the column.
    `near` names a FROM item with the only keys that matter.
    """
    source, wanted = rows_from(record)
    keys = [f"key_{k}" for k in range(1, len(link) + 1)]
    present = [f"{key} is not null" for key in record_keys(record, link)]
    named = {key: key for key in keys}
    if near:
        same = " and ".join(
            one.holds(f"near.{key}", sql) for one, key, sql in zip(link, keys, record_keys(record, link), strict=True)
        )
        present.append(f"exists (select 1 from {near} near where {same})")
    selected = [*named_keys(record, link), *(f"{sql} as {name}" for name, (sql, _) in columns.items())]
    is_ordered = record.name in indexed.ordered and not near
    in_order = f"order by {', '.join(keys)}\n    " if is_ordered else ""
    rows = f"""
    select
      {comma_list(selected, 6)}
    from {source}
    where {" and ".join([wanted, *present])}
    {in_order}offset 0"""
    if record.name in indexed.single:
        return rows
    grouped = [*named, *(f"{aggregate.format(name)} as {name}" for name, (_, aggregate) in columns.items())]
    return f"""
    select {", ".join(grouped)}
    from ({rows}
    ) rows
    group by {", ".join(keys)}"""


def rows_of_session(record: Record, link: Link, columns: Mapping[str, tuple[str, str]], indexed: Indexed) -> str:
    """SQL for one row about the rows of the session `s`, found by an index; `columns` as in `rows_by_key`."""
    source, wanted = rows_from(record)
    keys = record_keys(record, link)
    own = [one.holds(f"s.key_{n}", sql) for n, (one, sql) in enumerate(zip(link, keys, strict=True), start=1)]
    rows = f"""
    select
      {comma_list([f"{sql} as {name}" for name, (sql, _) in columns.items()], 6)}
    from {source}
    where {" and ".join([wanted, *own])}
    offset 0"""
    if record.name in indexed.single:
        return rows
    grouped = [f"{aggregate.format(name)} as {name}" for name, (_, aggregate) in columns.items()]
    return f"""
    select {", ".join(grouped)}
    from ({rows}
    ) rows"""


def looked_up(sessions: str, records: Mapping[int, str]) -> str:
    """A FROM item: the sessions (SQL) as `s`, and for each the row of the n-th record (SQL over `s`) as `r_n`."""
    joins = [f"\n  left join lateral ({sql}\n  ) r_{n} on true" for n, sql in records.items()]
    return f"({sessions}\n  ) s{''.join(joins)}"


def joined_with(sessions: str, records: Mapping[int, tuple[str, Link]]) -> str:
    """A FROM item: the sessions (SQL) as `s`, and the rows by key of the n-th record (SQL) as `r_n`.

    Records whose keys compare alike are joined with each other first: the sessions are the widest rows, and each join
    may write its rows to disk.
    """
    alike: dict[tuple[tuple[str, str], ...], list[tuple[int, str, Link]]] = {}
    for n, (sql, link) in records.items():
        alike.setdefault(tuple((one.of_session, one.operator) for one in link), []).append((n, sql, link))
    joins = [_joined_alike(numbered) for numbered in alike.values()]
    return f"({sessions}\n  ) s{''.join(joins)}"


def _joined_alike(records: Sequence[tuple[int, str, Link]]) -> str:
    """SQL that joins records whose keys compare alike to the sessions `s`."""
    (n, sql, link), *others = records
    rows = f"({sql}\n  ) r_{n}"
    keys = [f"r_{n}.key_{k}" for k in range(1, len(link) + 1)]
    for n, sql, _ in others:
        own = [f"r_{n}.key_{k}" for k in range(1, len(link) + 1)]
        same = " and ".join(f"{key} {one.operator} {mine}" for one, key, mine in zip(link, keys, own, strict=True))
        rows += f"\n  full join ({sql}\n  ) r_{n} on {same}"
        keys = [f"coalesce({key}, {mine})" for key, mine in zip(keys, own, strict=True)]
    same = " and ".join(
        one.holds(f"s.key_{k}", key) for k, (one, key) in enumerate(zip(link, keys, strict=True), start=1)
    )
    return f"\n  full join {f'({rows})' if others else rows} on {same}"
