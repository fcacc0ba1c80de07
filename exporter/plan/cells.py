"""The last part of a counting statement: fold the rarest values."""

from collections.abc import Sequence
from typing import Final

from exporter.model.counting import GroupColumn, Total
from exporter.model.sections import Pipeline
from exporter.model.sql import Bindings, quote
from exporter.plan.fragments import comma_list
from exporter.plan.statement import Statement, marker

VALUE_LIMIT: Final = 10_000
"""Values of an open column in the result, at most: rarer values are added up, so that totals stay right."""


def combined_total(total: Total) -> str:
    """SQL that combines the totals of several groups."""
    if total.combined_by == "lines":
        return f"pg_catalog.string_agg({quote(total.name)}, e'\\n')"
    combined = f"{total.combined_by}({quote(total.name)})"
    return f"{combined}::bigint" if total.combined_by == "sum" else combined


def counting_statement(
    title: str,
    pipeline: Pipeline,
    bind: Bindings,
    definitions: Sequence[str],
    counted: tuple[Sequence[GroupColumn], Sequence[Total]],
    within: str,
    known_first: str = "",
) -> Statement:
    """Read the cells of the last of the definitions, named `cells`; add up the rarest values beyond the limit.

    Only the first definition names tables of the platform: no name of the exporter can hide a table of the same name.
    The size of a value is the first total.  A value is folded or kept for each value of the column `within`, and
    values for which the condition `known_first` is true come first.
    """
    groups, totals = counted
    size = quote(totals[0].name)
    # A value is kept or folded in all its groups.
    value = ", ".join([quote(within), *(quote(c.name) for c in groups if c.open)])
    weighed = ", ".join(quote(name) for name in (*(c.name for c in groups), *(t.name for t in totals)))
    order = ", ".join([*([f"({known_first}) desc"] if known_first else []), "weight desc", value])
    places = ", ".join(str(n) for n in range(1, len(groups) + 1))
    kept = [
        f"case when place <= {VALUE_LIMIT} then {quote(c.name)} end as {quote(c.name)}" if c.open else quote(c.name)
        for c in groups
    ]
    summed = [f"{combined_total(total)} as {quote(total.name)}" for total in totals]
    folded = f"place > {VALUE_LIMIT}"
    parts = [
        *definitions,
        f"weighed as (\n  select {weighed}, sum({size}) over (partition by {value}) as weight from cells\n)",
        f"placed as (\n  select *, dense_rank() over (order by {order}) as place from weighed\n)",
    ]
    sql = (
        f"with {marker(pipeline.name, title)}\n"
        + ", ".join(parts)
        + f"\nselect\n  {comma_list([*kept, *summed, f'{folded} as folded'])}\nfrom placed\n"
        + f"group by {places}, {folded}"
    )
    names = (*(c.name for c in groups), *(t.name for t in totals))
    folding = frozenset(column.name for column in groups if column.open)
    return Statement(title, sql, tuple(bind.values), names, folding, tuple(totals), is_ours=False)
