"""Sessions one by one, with the rank of the rows of every record: for lists, single sessions and delays."""

from collections.abc import Mapping

from exporter.model.counting import Scope
from exporter.model.dimension import Dimension
from exporter.model.keys import Link
from exporter.model.sections import Record
from exporter.model.sql import Bindings, conjunction, moment, quote
from exporter.model.states import Rank, counted, decides, good_rows, row_rank, satisfies
from exporter.plan.fragments import column_of, comma_list
from exporter.plan.joined import (
    NEAR,
    NO_INDEX,
    NUMBERED,
    SEGMENT,
    Indexed,
    facts_of,
    joined_with,
    rows_by_key,
    session_rows,
    times_in_sql,
    wanted_sessions,
)


def listed_sessions(
    scope: Scope,
    links: Mapping[str, Link],
    dimensions: tuple[Dimension, ...],
    bind: Bindings,
    *,
    indexed: Indexed = NO_INDEX,
    cohort: tuple[str, str] | None = None,
    segment: str | None = None,
) -> str:
    """Defines `judged`: the sessions in the window and the cohort, with the rank of the rows of every record.

    With `cohort` (SQL: start, end) only its sessions, eligible or not, and only the rows of these sessions, with the
    time at which its rows satisfied the session as `arrived_n`.  `segment`: SQL for a text of the session, the column
    `segment`.  Without `cohort`, the session facts of `dimensions` are columns.

    Only this definition names tables of the platform, and comes first: no name of the exporter can hide a table.
    Sessions are numbered, because a key may be NULL.
    """
    facts = [] if cohort else [fact for fact in facts_of(scope, dimensions) if not fact.of_rows]
    rows = session_rows(scope, bind, facts, segment)
    records = list(enumerate(scope.records, start=1))
    told = {quote(f"required_{n}"): "true" for n, _ in records} | dict(rows.told)
    conditions = [quote(f"rank_{n}") for n, record in records if record.exists]
    with_rows = [(n, record) for n, record in records if not record.exists]
    if cohort:
        # No session of the cohort must be eligible: the expression may be expensive.
        del told[quote("eligible")]
    selected = [
        *rows.key,
        f"{rows.status} as status",
        f"{rows.started} as started",
        f"{rows.completed} as completed",
        *([] if rows.due is None else [f"{rows.due} as due"]),
        *(f"{sql} as {name}" for name, sql in told.items() if name not in conditions),
        *(f"case when {told[name]} then {Rank.CURRENT:d} end as {name}" for name in conditions),
        *(f"{sql} as {name}" for name, sql in rows.bounds.items()),
        f"row_number() over () as {NUMBERED}",
        *([] if rows.segment is None else [f"{rows.segment} as {SEGMENT}"]),
    ]
    if not cohort:
        wanted = wanted_sessions(scope.pipeline, rows, bind)
    else:
        column = column_of(scope.pipeline.sessions, scope.pipeline.sessions.started_at)
        first, last = cohort
        wanted = f"{rows.started} >= {first} and {rows.started} < {last}"
        if not scope.pipeline.sessions.timezone:
            wanted = f"{column} operator(pg_catalog.>=) {first} and {column} operator(pg_catalog.<) {last}"
        wanted = conjunction([wanted, *filter(None, [rows.is_session])])
    sessions = f"""
    select
      {comma_list(selected, 6)}
    from {rows.source}
    where {wanted}
    offset 0"""
    near = NEAR if cohort else None
    joined = {
        n: (
            rows_by_key(
                record,
                links[record.name],
                _columns(record, bind, with_arrival=cohort is not None),
                indexed,
                near,
            ),
            links[record.name],
        )
        for n, record in with_rows
    }
    ranks = {n: counted(record, n, "s", f"r_{n}") for n, record in with_rows}
    found = [f"{rank} as rank_{n}" for n, rank in ranks.items()]
    if cohort:
        found += [f"case when {satisfies(r, ranks[n])} then r_{n}.arrived end as arrived_{n}" for n, r in with_rows]
    times = [f"({sql}) is true as {name}" for name, sql in times_in_sql(scope, dimensions, bind).items()]
    before = f"{NEAR} as materialized ({sessions}\n), " if near else ""
    source = joined_with(f"select * from {NEAR}" if near else sessions, joined)
    return f"""{before}judged as (
  select *{"" if cohort else ", eligible and in_window as analysed"}
  from (
    select
      {comma_list(["s.*", *times, *found], 6)}
    from {source}
    offset 0
  ) joined
  where {NUMBERED} is not null
)"""


def _columns(record: Record, bind: Bindings, *, with_arrival: bool) -> dict[str, tuple[str, str]]:
    columns = {"rank": (row_rank(record, bind), decides(record)), **good_rows(record)}
    if with_arrival:
        columns["arrived"] = _arrived(record, bind)
    return columns


def _arrived(record: Record, bind: Bindings) -> tuple[str, str]:
    """The time of the first good row or, if one good row is not enough, of the last."""
    if record.created_at is None:
        return "null::timestamptz", "min({})"
    written = moment(column_of(record, record.created_at), record.timezone, bind)
    is_first = record.satisfied_by != "every_row" and record.rows is None
    return (
        f"case when {satisfies(record, row_rank(record, bind))} then {written} end",
        f"{'min' if is_first else 'max'}({{}})",
    )
