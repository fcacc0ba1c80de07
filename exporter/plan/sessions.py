"""The statements about sessions: the count of all, and the spread of the cohort's delays."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from exporter.model.counting import PERCENTILES, SEGMENTED, GroupColumn, Scope, Total, Values
from exporter.model.dimension import Dimension
from exporter.model.keys import Link
from exporter.model.sql import Bindings, quote, text_literal
from exporter.plan.cells import counting_statement
from exporter.plan.fragments import cohort_end, cohort_start, comma_list
from exporter.plan.joined import SEGMENT, Indexed, Region
from exporter.plan.listed import listed_sessions
from exporter.plan.packed import (
    LINKED,
    Packed,
    judged_cells,
    newest_of,
    packed_sessions,
    packing,
    rank_of,
    required,
    rows_of,
)
from exporter.plan.statement import Statement, marker


def sessions_statement(
    scope: Scope,
    links: Mapping[str, Link],
    dimensions: tuple[Dimension, ...],
    values: Values,
    indexed: Indexed,
    region: Callable[[Bindings], Region] | None = None,
) -> Statement:
    """One pass over all sessions and over the tables of the records of `scope`, joined by key.

    With a `region` only over its sessions and their rows.

    The cells have a `subject`: NULL for the sessions by status, or a record, for its sessions by state and, with a
    `facet`, by the place of a value (`nth`) in `values`.  With SEGMENTED as subject they are the analysed sessions
    by segment.  A row of a record without a session is in a cell that is not
    `linked`.
    """
    bind = Bindings()
    part = region(bind) if region else None
    packed = packing(scope, dimensions, values, indexed, bind, part.times if part else "all")
    definition = packed_sessions(packed, links, bind, part)
    tables = list(_tables(packed, bind, has_newest=part is not None))
    if part:
        first, *others = map(_sliced, tables)
        tables = [replace(first, totals=(*first.totals, _KEYS)), *others]
    groups = {column.name: column for table in tables for column in table.groups}
    totals = {total.name: total for table in tables for total in table.totals}
    branches = [_branch(table, tuple(groups.values()), tuple(totals.values())) for table in tables]
    cells = "cells as (\n" + "\n  union all\n".join(branches) + "\n)"
    by = [GroupColumn(column.name, "", open=column.open) for column in groups.values()]
    return counting_statement(
        "sessions",
        scope.pipeline,
        bind,
        (definition, judged_cells(packed, part), cells),
        (by, tuple(totals.values())),
        "subject",
    )


KEYS: Final = "keys"
"""The total with the keys of the sessions that are not settled, one in a line."""


@dataclass(frozen=True, slots=True)
class _Table:
    """One way to count the packed sessions: a source, and the columns and totals that it has."""

    source: str
    groups: tuple[GroupColumn, ...]
    totals: tuple[Total, ...]


_SESSIONS: Final = Total("sessions", "coalesce(sum(sessions), 0)::bigint")
_ROWS: Final = Total("rows", "coalesce(sum(rows), 0)::bigint")


def _tables(packed: Packed, bind: Bindings, *, has_newest: bool) -> Iterator[_Table]:
    scope, dimensions = packed.scope, packed.dimensions
    yield _Table(
        "judged where linked",
        (
            GroupColumn("subject", "null::text"),
            GroupColumn("facet", "null::text"),
            GroupColumn("nth", "null::text"),
            GroupColumn("linked", LINKED),
            *(column for dimension in dimensions for column in dimension.session_columns(scope)),
        ),
        (_SESSIONS, _ROWS_OF_NONE, *(total for dimension in dimensions for total in dimension.session_totals(scope))),
    )
    flags = tuple(GroupColumn(fact.name, quote(fact.name)) for fact in packed.flags)
    for n, record in packed.records:
        subject = GroupColumn("subject", bind(record.name, "text"))
        named = {rank_of(n): "rank", required(n): "required", rows_of(n): "rows"}
        totals = [total for dimension in dimensions for total in dimension.record_totals(record)]
        if has_newest and not record.exists:
            # The maximum of the rows of some sessions is a maximum of all rows.
            named[newest_of(n)] = "newest"
            totals += [t for dimension in dimensions for t in dimension.row_totals(record) if t.combined_by == "max"]
        own = f"select *, {', '.join(f'{column} as {name}' for column, name in named.items())} from judged"
        yield _Table(
            f"({own}) judged",
            (
                subject,
                GroupColumn("linked", LINKED),
                *flags,
                *(column for dimension in dimensions for column in dimension.record_columns(record)),
            ),
            (_SESSIONS, _ROWS, *totals),
        )
        valued = [
            f"({text_literal(facet)}, '{at}', {place.has(at)})"
            for facet, place, length in packed.valued(n, record)
            for at in range(length)
        ]
        if valued:
            listed = f"(values\n    {comma_list(valued, 4)}\n  ) as valued (facet, nth, has_value)"
            yield _Table(
                f"judged cross join lateral {listed}\n  where analysed and has_value",
                (subject, GroupColumn("facet", "facet"), GroupColumn("nth", "nth")),
                (_SESSIONS,),
            )
    if packed.segment is not None:
        # Last: of columns that are NULL in the first two branches, UNION would make texts.
        state = [column for dimension in dimensions for column in dimension.session_columns(scope)]
        yield _Table(
            "judged where linked and analysed",
            (
                GroupColumn("subject", f"{text_literal(SEGMENTED)}::text"),
                GroupColumn("segment", SEGMENT, open=True),
                *(column for column in state if not column.open),
            ),
            (_SESSIONS, *(total for dimension in dimensions for total in dimension.segment_totals(scope))),
        )


def _sliced(table: _Table) -> _Table:
    """The table with its cells by slice, settled sessions apart from the others."""
    by_slice = (GroupColumn("slice", "slice"), GroupColumn("unsettled", "unsettled"))
    return replace(table, groups=(*table.groups, *by_slice))


_KEYS: Final = Total(
    KEYS, "pg_catalog.string_agg(pg_catalog.array_to_string(keys, e'\\n'), e'\\n')", combined_by="lines"
)

_ROWS_OF_NONE: Final = Total("rows", "0::bigint")


def _branch(table: _Table, groups: Sequence[GroupColumn], totals: Sequence[Total]) -> str:
    """SQL for one way to count, with NULL in the columns of others."""
    own = {column.name: column.sql for column in table.groups}
    counted = {total.name: total.sql for total in table.totals}
    selected = [f"{own.get(column.name, 'null')} as {quote(column.name)}" for column in groups]
    selected += [f"{counted.get(t.name, _NOTHING[t.combined_by])} as {quote(t.name)}" for t in totals]
    places = [str(place) for place, column in enumerate(groups, start=1) if column.name in own]
    return f"  select\n    {comma_list(selected, 4)}\n  from {table.source}\n  group by {', '.join(places)}"


_NOTHING: Final = {"sum": "0::bigint", "min": "null::float8", "max": "null::float8", "lines": "null::text"}


def delays_statement(
    scope: Scope, links: Mapping[str, Link], dimensions: tuple[Dimension, ...], indexed: Indexed
) -> Statement | None:
    """How the numbers of the cohort's sessions are spread: one row; None without a spread.

    Each column is a list of texts: the number of sessions, and the percentiles.  As text: for an array of floats the
    driver would query the catalog.
    """
    spreads = [spread for dimension in dimensions for spread in dimension.spreads(scope)]
    if not spreads or scope.pipeline.cohort is None:
        return None
    bind = Bindings()
    shares = ", ".join(str(percentile / 100) for percentile in PERCENTILES)
    read = [
        f"(array[count({quote(one.name)})::float8] operator(pg_catalog.||)"
        f" pg_catalog.percentile_disc(array[{shares}]::float8[]) within group (order by {quote(one.name)}))::text[]"
        for one in spreads
    ]
    within = (cohort_start(scope.pipeline, bind), cohort_end(scope.pipeline, bind))
    judged = listed_sessions(scope, links, dimensions, bind, indexed=indexed, cohort=within)
    numbers = [f"{one.sql} as {quote(one.name)}" for one in spreads]
    sql = (
        f"with {marker(scope.pipeline.name, 'delays')}\n{judged}\nselect\n  {comma_list(read)}\n"
        f"from (\n  select {comma_list(numbers)}\n  from judged\n  where in_cohort\n) delayed"
    )
    return Statement("delays", sql, tuple(bind.values), tuple(one.name for one in spreads), is_ours=False)
