"""The last part of a counting statement: group, count, and fold the rarest values."""

from collections.abc import Sequence
from typing import Final

from exporter.model.counting import PERCENTILES, GroupColumn, Spread, Total
from exporter.model.sections import Pipeline
from exporter.model.sql import (
    Bindings,
    quote,
)
from exporter.plan.fragments import comma_list
from exporter.plan.statement import Statement, marker

VALUE_LIMIT: Final = 10_000
"""Values of an open column in the result, at most: rarer values are added up, so that totals stay right."""


def combined_total(total: Total) -> str:
    """SQL that combines the totals of several groups."""
    combined = f"{total.combined_by}({quote(total.name)})"
    return f"{combined}::bigint" if total.combined_by == "sum" else combined


def counting_statement(
    title: str,
    pipeline: Pipeline,
    bind: Bindings,
    source: tuple[str, str],
    groups: Sequence[GroupColumn],
    totals: Sequence[Total],
    spreads: Sequence[Spread] = (),
) -> Statement:
    """Count a source by the groups in one pass, then add up the rarest values of the open columns beyond the limit.

    `source` is a definition and its name.  Only the definition names tables of the platform, and comes first: no name
    of the exporter can hide a table of the same name.
    """
    definition, name = source
    size = quote(totals[0].name)
    # A value is kept or folded in all its groups; values in the config come first.
    value = ", ".join(quote(c.name) for c in groups if c.open or c.name in ("record", "facet")) or "true"
    known_first = "\"category\" in ('other', 'invalid'), " if any(c.name == "category" for c in groups) else ""
    order = f"{known_first}weight desc, {value}"
    counted = [f"{column.sql} as {quote(column.name)}" for column in groups]
    counted += [f"{total.sql} as {quote(total.name)}" for total in totals]
    counted += [
        f"pg_catalog.array_agg({s.sql}) filter (where ({s.sql}) is not null) as {quote(s.name)}" for s in spreads
    ]
    weighed = ", ".join(quote(name) for name in (*(c.name for c in groups), *(t.name for t in totals)))
    places = ", ".join(str(n) for n in range(1, len(groups) + 1))
    kept = [
        f"case when place <= {VALUE_LIMIT} then {quote(c.name)} end as {quote(c.name)}" if c.open else quote(c.name)
        for c in groups
    ]
    summed = [f"{combined_total(total)} as {quote(total.name)}" for total in totals]
    spread = [f"{_spread(one)} as {quote(one.name)}" for one in spreads]
    parts = [
        definition,
        f"cells as materialized (\n  select\n    {comma_list(counted, 4)}\n  from {name}\n  group by {places}\n)",
        f"weighed as (\n  select {weighed}, sum({size}) over (partition by {value}) as weight from cells\n)",
        f"placed as (\n  select *, dense_rank() over (order by {order}) as place from weighed\n)",
    ]
    folded = f"place > {VALUE_LIMIT}"
    sql = (
        f"with {marker(pipeline.name, title)}\n"
        + ", ".join(parts)
        + f"\nselect\n  {comma_list([*kept, *summed, *spread, f'{folded} as folded'])}\nfrom placed\n"
        + f"group by {places}, {folded}"
    )
    names = (*(c.name for c in groups), *(t.name for t in totals), *(s.name for s in spreads))
    folding = frozenset(column.name for column in groups if column.open)
    return Statement(title, sql, tuple(bind.values), names, folding, is_ours=False)


def _spread(spread: Spread) -> str:
    """SQL for the count and the percentiles of all values, repeated beside every cell.

    As text: for an array of floats the driver would query the catalog.
    """
    shares = ", ".join(str(percentile / 100) for percentile in PERCENTILES)
    return (
        f"(select (array[count(*)::float8] operator(pg_catalog.||)"
        f" pg_catalog.percentile_disc(array[{shares}]::float8[]) within group (order by v))::text[]"
        f" from cells, pg_catalog.unnest(cells.{quote(spread.name)}) v)"
    )
