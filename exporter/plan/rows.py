"""The statement that counts the rows of record tables."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from exporter.model.counting import Facet, Fact, GroupColumn, Scope, Total
from exporter.model.dimension import Dimension
from exporter.model.keys import Link
from exporter.model.sections import Pipeline, Record
from exporter.model.sql import (
    OURS,
    Bindings,
    condition,
    conjunction,
    moment,
    quote,
    text_literal,
    with_values,
)
from exporter.plan.cells import combined_total, counting_statement
from exporter.plan.fragments import (
    column_of,
    comma_list,
    named_keys,
    on_keys,
    record_keys,
    rows_from,
    session_keys,
    window_start,
)
from exporter.plan.sessions import NUMBERED
from exporter.plan.statement import Statement, marker

JOINED: Final = "joined"
"""The number of rows after a join."""


def rows_statement(scope: Scope, links: Mapping[str, Link], dimensions: tuple[Dimension, ...]) -> Statement:
    """One pass over the tables of the records of `scope`, and over the keys of all sessions."""
    bind = Bindings()
    pipeline, records = scope.pipeline, scope.records
    declared = {record.name: [t for d in dimensions for t in d.row_totals(record, bind)] for record in records}
    totals = {t.name: t for of_record in declared.values() for t in of_record}
    flags = _flags(scope, dimensions)
    # Records with the same comparison of keys share one pass over the sessions.
    alike: dict[tuple[tuple[str, str], ...], list[Record]] = {}
    for record in records:
        alike.setdefault(tuple((one.of_session, one.operator) for one in links[record.name]), []).append(record)
    linked = "\n  union all\n".join(
        _linked(
            links[together[0].name],
            [
                one
                for record in together
                for one in _rows_of(
                    record,
                    links[record.name],
                    facets_of(dimensions, record, bind),
                    declared[record.name],
                    tuple(totals.values()),
                    bind,
                )
            ],
            tuple(totals),
            flags,
            _owners(pipeline, flags, bind),
        )
        for together in alike.values()
    )
    groups = [
        GroupColumn("record", "record"),
        GroupColumn("facet", "facet"),
        GroupColumn("value", "value", open=True),
        *(GroupColumn(name, name) for name in ("category", "keyed", "linked", "analysed")),
        *(GroupColumn(flag.name, quote(flag.name)) for flag in flags),
    ]
    of_cells = [
        Total("rows", "sum(rows)::bigint"),
        Total("sessions", "count(*)"),
        *(Total(t.name, combined_total(t), t.combined_by) for t in totals.values()),
        Total(JOINED, f"count(*) filter (where {NUMBERED} is not null)"),
        Total(NUMBERED, f"max({NUMBERED})", "max"),
    ]
    return counting_statement(
        "rows", pipeline, bind, (f"linked_rows as (\n{linked}\n)", "linked_rows"), groups, of_cells
    )


def _flags(scope: Scope, dimensions: tuple[Dimension, ...]) -> list[Fact]:
    """The facts about the session of a row."""
    return [fact for dimension in dimensions for fact in dimension.session_facts(scope) if fact.of_rows]


def _owners(pipeline: Pipeline, flags: Sequence[Fact], bind: Bindings) -> str:
    """SQL for the keys of all sessions, with the flags that rows need of their session."""
    sessions = pipeline.sessions
    started = moment(column_of(sessions, sessions.started_at), sessions.timezone, bind)
    values = [("eligible", condition(sessions.eligible)), *((flag.name, flag.sql(bind)) for flag in flags)]
    owner = [
        *session_keys(pipeline),
        f"({started} >= {window_start(pipeline, bind)} and {OURS}.eligible) is true as analysed",
        *(f"({OURS}.{quote(flag.name)}) is true as {quote(flag.name)}" for flag in flags),
    ]
    # `offset 0` keeps the expressions inside: each is computed once for a session, not once for each row.
    return f"""    select
      {comma_list(owner, 6)}
    from {with_values(sessions.table, "session", values)}
    offset 0"""


def owners_statement(scope: Scope, dimensions: tuple[Dimension, ...]) -> Statement:
    """The statement that counts the sessions with each flag, over all sessions."""
    bind = Bindings()
    flags = _flags(scope, dimensions)
    counted = [f"count(*) filter (where {quote(flag.name)})" for flag in flags] or ["count(*) filter (where analysed)"]
    said = marker(scope.pipeline.name, "owners")
    sql = f"select {said}\n  {comma_list(counted)}\nfrom (\n{_owners(scope.pipeline, flags, bind)}\n) s"
    return Statement("owners", sql, tuple(bind.values), is_ours=False)


def _linked(link: Link, branches: Sequence[str], totals: Sequence[str], flags: Sequence[Fact], owners: str) -> str:
    """SQL for the rows of some records, by facet, joined with the flags of the session."""
    keyed = " and ".join(f"r.key_{n} is not null" for n in range(1, len(link) + 1))
    known = [
        *(f"r.{name}" for name in ("record", "facet", "value", "category", "rows", NUMBERED)),
        *(f"r.{quote(name)}" for name in totals),
        "coalesce(s.analysed, false) as analysed",
        "s.key_1 is not null as linked",
        f"{keyed} as keyed",
        *(f"coalesce(s.{quote(flag.name)}, false) as {quote(flag.name)}" for flag in flags),
    ]
    rows = "\n    union all\n".join(branches)
    return f"""  select
    {comma_list(known, 4)}
  from (
{rows}
  ) r
  left join (
{owners}
  ) s on {on_keys(link, "s", "r")}"""


def facets_of(dimensions: tuple[Dimension, ...], record: Record, bind: Bindings) -> tuple[Facet, ...]:
    """The facets of a record: the ways to group the rows; at least one facet has every row."""
    asked = tuple(facet for dimension in dimensions for facet in dimension.facets(record, bind))
    return asked if any(facet.per_session for facet in asked) else (Facet(UNGROUPED), *asked)


def _rows_of(
    record: Record,
    link: Link,
    facets: Sequence[Facet],
    own_totals: Sequence[Total],
    all_totals: Sequence[Total],
    bind: Bindings,
) -> Iterator[str]:
    """SQL for the rows of one record, grouped by each facet.

    Facets about sessions share one pass over the table: each row is repeated for each facet, and one hash groups all.
    GROUPING SETS would give the same result, but the planner sorts the table for each set larger than work_mem.  A
    facet not about sessions has its own pass: cheaper than carrying the keys along.  Groups are numbered to detect a
    join that repeats a group.
    """
    totals = {total.name: total.sql for total in own_totals}
    counted = [
        "count(*) as rows",
        *(f"{totals.get(t.name, _NOTHING[t.combined_by])} as {quote(t.name)}" for t in all_totals),
    ]
    of_sessions = [facet for facet in facets if facet.per_session]
    repeated = [f"({text_literal(facet.name)}, {facet.value}, {facet.category})" for facet in of_sessions]
    selected = [
        f"{bind(record.name, 'text')} as record",
        f"{_FACET} as facet",
        *named_keys(record, link),
        f'{_VALUE} collate "C" as value',
        f"{_CATEGORY} as category",
        *counted,
        f"row_number() over () as {NUMBERED}",
    ]
    source, wanted = rows_from(record)
    yield (
        f"    select\n      {comma_list(selected, 6)}\n    from {source}\n"
        f"    cross join lateral (values\n      {comma_list(repeated, 6)}\n"
        f"    ) as {_FACETS} ({_FACET}, {_VALUE}, {_CATEGORY})\n    where {wanted}\n"
        f"    group by {', '.join([_FACET, _VALUE, _CATEGORY, *record_keys(record, link)])}"
    )
    for facet in facets:
        if not facet.per_session:
            selected = [
                bind(record.name, "text"),
                f"{text_literal(facet.name)}::text",
                *("null" for _ in link),
                f'{facet.value} collate "C"',
                facet.category,
                *counted,
                "null::bigint",
            ]
            yield (
                f"    select\n      {comma_list(selected, 6)}\n    from {source}\n"
                f"    where {conjunction([wanted, *([facet.where] if facet.where else [])])}\n"
                f"    group by {', '.join(facet.by)}\n    having {facet.having or 'true'}"
            )


# Names beside the columns of the platform, so unusual that no column has the same name.
_FACETS, _FACET, _VALUE, _CATEGORY = (quote(f"our {name}") for name in ("facets", "facet", "value", "category"))

UNGROUPED: Final = "rows"
"""The facet of a record without a facet of a dimension."""

_NOTHING: Final = {"sum": "0::bigint", "min": "null::float8", "max": "null::float8"}
"""The value of a total that a record lacks."""
