"""The statement that counts sessions."""

from collections.abc import Mapping, Sequence
from typing import Final

from exporter.model.counting import Fact, Scope, Spread, Total
from exporter.model.dimension import Dimension
from exporter.model.keys import Link
from exporter.model.metric import LABEL_LENGTH
from exporter.model.sections import Pipeline
from exporter.model.sql import (
    OURS,
    Bindings,
    condition,
    moment,
    quote,
    same_text,
    with_values,
)
from exporter.model.states import (
    RANK,
    is_valid,
    satisfies,
    version_class,
)
from exporter.plan.cells import counting_statement
from exporter.plan.fragments import (
    cohort_end,
    cohort_start,
    column_of,
    comma_list,
    named_keys,
    on_keys,
    rows_from,
    session_keys,
    window_start,
)
from exporter.plan.statement import Statement


def sessions_statement(scope: Scope, links: Mapping[str, Link], dimensions: tuple[Dimension, ...]) -> Statement:
    """One pass over the sessions in the window and the cohort, and over the tables of the records of `scope`."""
    bind = Bindings()
    groups = [column for dimension in dimensions for column in dimension.session_columns(scope, bind)]
    facts = [fact for dimension in dimensions for fact in dimension.session_facts(scope)]
    asked = [total for dimension in dimensions for total in dimension.session_totals(scope, bind)]
    totals = [
        Total("sessions", "count(*)"),
        *(total for total in asked if isinstance(total, Total)),
        # A fact that only rows need is computed here too: the server refuses it apart from the records.
        *(Total(f"rows:{one.name}", f"count(*) filter (where {quote(one.name)})") for one in facts if one.of_rows),
        Total(NUMBERED, "max(numbered)", "max"),
    ]
    spreads = [spread for spread in asked if isinstance(spread, Spread)]
    judged = session_states(scope, links, bind, facts)
    return counting_statement("sessions", scope.pipeline, bind, (judged, "judged"), groups, totals, spreads)


NUMBERED: Final = "numbered"
"""The number of a row before a join; the largest is the number of rows."""


def session_states(scope: Scope, links: Mapping[str, Link], bind: Bindings, facts: Sequence[Fact] = ()) -> str:
    """Defines `judged`: the sessions in the window and the cohort, with the best rank of the rows of every record.

    Only `judged` names tables of the platform, and comes first: no name of the exporter can hide a table.  Sessions are
    numbered for two reasons: to detect a join that repeats a session, and to make the planner compute each expression
    of the config once for a session.
    """
    pipeline, records, sessions = scope.pipeline, scope.records, scope.pipeline.sessions
    started = moment(column_of(sessions, sessions.started_at), sessions.timezone, bind)
    in_window = f"{started} >= {window_start(pipeline, bind)}"
    in_cohort = "false"
    if pipeline.cohort:
        in_cohort = f"({started} >= {cohort_start(pipeline, bind)} and {started} < {cohort_end(pipeline, bind)})"
    values = [
        ("eligible", condition(sessions.eligible)),
        *(
            (f"required_{n}", condition(record.required_when) if record.required_when else "true")
            for n, record in enumerate(records, start=1)
        ),
        *((fact.name, fact.sql(bind)) for fact in facts),
    ]
    selected = [
        *session_keys(pipeline),
        f"left({same_text(column_of(sessions, sessions.status))}, {LABEL_LENGTH}) as status",
        f"{started} as started",
        f"{moment(column_of(sessions, sessions.completed_at), sessions.timezone, bind)} as completed",
        f"({in_window}) is true as in_window",
        f"({in_cohort}) is true as in_cohort",
        f"{OURS}.*",
        f"row_number() over () as {NUMBERED}",
    ]
    joins = []
    for n, record in enumerate(records, start=1):
        link = links[record.name]
        keys = [f"key_{k}" for k in range(1, len(record.session_key) + 1)]
        row = [
            *named_keys(record, link),
            f"{version_class(record, bind)} as class",
            f"{is_valid(record, bind)} as valid",
        ]
        first = "null::timestamptz"
        if pipeline.cohort and record.created_at:
            row.append(f"{moment(column_of(record, record.created_at), record.timezone, bind)} as created")
            first = f"min(created) filter (where {satisfies(record, f'({RANK})')})"
        rows, wanted = rows_from(record)
        joins.append(f"""
  left join (
    select {", ".join(keys)}, min({RANK}) as best_{n}, {first} as first_{n}
    from (
      select
        {comma_list(row, 8)}
      from {rows}
      where {wanted}
    ) rows
    group by {", ".join(keys)}
  ) best_{n}_rows on {on_keys(link, "s", f"best_{n}_rows")}""")
    found = [f"best_{n}, first_{n}" for n in range(1, len(records) + 1)]
    return f"""judged as (
  select {", ".join(["s.*", *found])},
    eligible and in_window as analysed
  from (
    select
      {comma_list(selected, 6)}
    from {with_values(sessions.table, "session", values)}
    where {_wanted_sessions(pipeline, bind)}
  ) s{"".join(joins)}
)"""


def _wanted_sessions(pipeline: Pipeline, bind: Bindings) -> str:
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
    return (
        f"{started} operator(pg_catalog.>=) {first} or {started} is null"
        f" or {started} operator(pg_catalog.=) '-infinity'"
    )
