"""Statements for `gaps` and `verify`: the sessions with a gap, and the state of listed sessions."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from exporter.model.counting import Scope
from exporter.model.keys import Link
from exporter.model.metric import label_value
from exporter.model.sections import Pipeline
from exporter.model.sql import Bindings, moment, text_literal
from exporter.model.states import GAP_REASONS, GapReason, gap_reasons, state
from exporter.plan.fragments import SessionKey, column_of, comma_list, session_keys
from exporter.plan.joined import NUMBERED, SEGMENT, in_window
from exporter.plan.listed import listed_sessions
from exporter.plan.statement import FETCHED, Cursor, Statement, marker


@dataclass(frozen=True, slots=True)
class GapFilter:
    """The gaps of a list: for one of `reasons`; and of one segment, by its label, or of all (None)."""

    reasons: Collection[GapReason] = GAP_REASONS
    segment: str | None = None


EVERY_GAP: Final = GapFilter()


def gap_cursor(scope: Scope, links: Mapping[str, Link], wanted: GapFilter, segment: str | None) -> Cursor:
    """The cursor over the gap list, ordered by time and key; sorting takes less time than finding the gaps.

    `segment`: SQL over the sessions table; None for a list without segments.
    """
    bind = Bindings()
    pipeline, width = scope.pipeline, len(scope.pipeline.sessions.key)
    keys = [f"key_{n}" for n in range(1, width + 1)]
    selected = [
        NUMBERED,
        *(f"{key}::text as session_{n}" for n, key in enumerate(keys, start=1)),
        f"{'completed' if pipeline.sessions.completed_at else 'null'}::text as completed_at",
        *([] if segment is None else [SEGMENT]),
        *(f"reason_{n}" for n in range(1, len(scope.records) + 1)),
    ]
    ordered = ", ".join(["since", *keys, NUMBERED])
    gaps = _gaps(scope, links, wanted, bind, segment)
    sql = f"with {gaps}\nselect\n  {comma_list(selected)}\nfrom gaps\norder by {ordered}"
    return declared("gaps", pipeline.name, sql, bind)


def declared(title: str, pipeline: str, sql: str, bind: Bindings) -> Cursor:
    """The cursor over the rows of a query."""
    said = marker(pipeline, title)
    return Cursor(
        # For a plan that is fast for all rows, not for the first rows.
        prepare=Statement("plan for all", "set local cursor_tuple_fraction = 1", returns_rows=False),
        open=Statement(title, f"declare {said} found no scroll cursor for\n{sql}", tuple(bind.values), is_ours=False),
        fetch=Statement(f"fetch {title}", f"fetch {said} {FETCHED} from found", is_ours=False),
        close=Statement(f"close {title}", "close found", returns_rows=False),
    )


def gap_count(scope: Scope, links: Mapping[str, Link], wanted: GapFilter, segment: str | None) -> Statement:
    """The statement that counts the rows and the sessions of the gap list; `segment` as in `gap_cursor`."""
    bind = Bindings()
    sql = (
        f"with {marker(scope.pipeline.name, 'gaps')}\n{_gaps(scope, links, wanted, bind, segment)}\n"
        f"select count(*), pg_catalog.count(distinct {NUMBERED}) from gaps"
    )
    return Statement("count of gaps", sql, tuple(bind.values), is_ours=False)


def gap_tally(scope: Scope, links: Mapping[str, Link], wanted: GapFilter, segment: str | None) -> Statement:
    """The statement that counts the gap list by record and reason; `segment` as in `gap_cursor`."""
    bind = Bindings()
    keys = range(1, len(scope.pipeline.sessions.key) + 1)
    named = " and ".join(f"key_{n} is not null" for n in keys)
    selected = [
        "count(*)",
        f"pg_catalog.count(distinct {NUMBERED})",
        "count(*) filter (where named)",
        "count(*) filter (where not named)",
    ]
    selected += [
        f"count(*) filter (where named and reason_{n} = {text_literal(reason)})"
        for n in range(1, len(scope.records) + 1)
        for reason in GAP_REASONS
    ]
    sql = (
        f"with {marker(scope.pipeline.name, 'gaps')}\n{_gaps(scope, links, wanted, bind, segment)}\n"
        f"select\n  {comma_list(selected)}\nfrom (select *, {named} as named from gaps) tallied"
    )
    return Statement("tally of gaps", sql, tuple(bind.values), is_ours=False)


def segment_size(scope: Scope, links: Mapping[str, Link], wanted: GapFilter, segment: str | None) -> Statement:
    """The statement that counts the analysed sessions of the wanted segment; `segment` as in `gap_cursor`."""
    bind = Bindings()
    sql = (
        f"with {marker(scope.pipeline.name, 'size of a segment')}\n{_stated(scope, links, bind, segment)}\n"
        f"select count(*) from stated where analysed and {_in_segment(wanted, bind)}"
    )
    return Statement("size of a segment", sql, tuple(bind.values), is_ours=False)


def states_cursor(
    scope: Scope, links: Mapping[str, Link], keys: Sequence[SessionKey], wanted: GapFilter, segment: str | None
) -> Cursor:
    """The cursor over the states of the sessions with these keys; `segment` as in `gap_cursor`."""
    bind = Bindings()
    states = [f"state_{n}" for n in range(1, len(scope.records) + 1)]
    told = ["place - 1", "in_window", "eligible", _in_segment(wanted, bind), *states]
    sql = (
        f"with {_stated(scope, links, bind, segment)}\nselect\n  {comma_list(told)}\n"
        f"from stated\njoin {_listed(scope.pipeline, keys, bind)}"
    )
    return declared("states of sessions", scope.pipeline.name, sql, bind)


def places_statement(pipeline: Pipeline, keys: Sequence[SessionKey]) -> Statement:
    """The statement that finds the keys that exist in the table of sessions, and whether each row is in the window."""
    bind, sessions = Bindings(), pipeline.sessions
    started = moment(column_of(sessions, sessions.started_at), sessions.timezone, bind)
    sql = (
        f"with {marker(pipeline.name, 'sessions')}\npresent as (\n"
        f"  select {', '.join([*session_keys(pipeline), f'{started} as started'])} from {sessions.source.sql}\n)\n"
        f"select place - 1, ({in_window(pipeline, bind)}) is true\nfrom present\njoin {_listed(pipeline, keys, bind)}"
    )
    return Statement("places of sessions", sql, tuple(bind.values))


def _listed(pipeline: Pipeline, keys: Sequence[SessionKey], bind: Bindings) -> str:
    """The right side of a join: `listed`, the place of each key from 1, and the condition on key_1 and so on.

    Keys are compared as listed text, byte by byte, without another type or collation.
    """
    width = range(1, len(pipeline.sessions.key) + 1)
    arrays = [bind(tuple(column), "text[]") for column in zip(*keys, strict=True)] or ["array[]::text[]" for _ in width]
    named = ", ".join([*(f"session_{n}" for n in width), "place"])
    on = " and ".join(f'key_{n}::text collate "C" = session_{n} collate "C"' for n in width)
    # unnest of one array is a function; unnest of several arrays is SQL syntax, and takes no schema.
    unnest = "pg_catalog.unnest" if len(arrays) == 1 else "unnest"
    return f"{unnest}({', '.join(arrays)}) with ordinality as listed ({named}) on {on}"


def _stated(scope: Scope, links: Mapping[str, Link], bind: Bindings, segment: str | None = None) -> str:
    """Defines `stated`: the sessions of `judged` with the due time `since` and `state_n` of the n-th record."""
    keys = [f"key_{n}" for n in range(1, len(scope.pipeline.sessions.key) + 1)]
    states = [
        f"{state(record, f'rank_{n}', f'required_{n}')} as state_{n}" for n, record in enumerate(scope.records, start=1)
    ]
    known = ["in_window", "eligible", "analysed", "completed", "coalesce(completed, started) as since", NUMBERED]
    known += [] if segment is None else [SEGMENT]
    return f"""{listed_sessions(scope, links, (), bind, segment=segment)}, stated as (
  select
    {comma_list([*keys, *known, *states], 4)}
  from judged
)"""


def _gaps(
    scope: Scope,
    links: Mapping[str, Link],
    wanted: GapFilter,
    bind: Bindings,
    segment: str | None,
) -> str:
    """Defines `gaps`: sessions with a gap, the due time `since`, and `reason_n` of the n-th record."""
    keys = [f"key_{n}" for n in range(1, len(scope.pipeline.sessions.key) + 1)]
    stated = _stated(scope, links, bind, segment)
    lacks = [
        f"state_{n} = any({bind(tuple(r for r in gap_reasons(record) if r in wanted.reasons), 'text[]')})"
        for n, record in enumerate(scope.records, start=1)
    ]
    reason = [f"case when {is_gap} then state_{n} end as reason_{n}" for n, is_gap in enumerate(lacks, start=1)]
    return f"""{stated}, gaps as (
  select
    {comma_list([*keys, "completed", "since", NUMBERED, *([] if segment is None else [SEGMENT]), *reason], 4)}
  from stated
  where analysed and ({" or ".join(lacks)}) and {_in_segment(wanted, bind)}
)"""


def _in_segment(wanted: GapFilter, bind: Bindings) -> str:
    """SQL: whether a session is of the wanted segment."""
    if wanted.segment is None:
        return "true"
    named = label_value(wanted.segment)
    return f"{SEGMENT} is null" if named is None else f"coalesce({SEGMENT} = {bind(named, 'text')}, false)"
