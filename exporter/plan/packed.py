"""The sessions joined with the rows of each record, as few distinct numbers: the hot part of a collection.

Each session becomes one number, with its conditions, the rank of the rows of each record, and the values of its rows.
The server groups by status and number; everything else is read from the few numbers that occur.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from exporter.model.counting import Fact, Scope, Values
from exporter.model.dimension import Dimension
from exporter.model.keys import Link
from exporter.model.metric import LABEL_LENGTH
from exporter.model.sections import Record
from exporter.model.sql import Bindings, Moment, quote
from exporter.model.states import GOOD, counted, decides, good_rows, row_rank, satisfies
from exporter.plan.fragments import comma_list, newest_in_sql
from exporter.plan.joined import (
    IS_SESSION,
    OF_SESSIONS,
    SEGMENT,
    Indexed,
    Region,
    Times,
    facts_of,
    joined_with,
    looked_up,
    rows_by_key,
    rows_of_session,
    segment_of,
    session_rows,
    times_in_sql,
    wanted_sessions,
)
from exporter.plan.packing import Place, places, words
from exporter.plan.rows import facets_of, has_value

LINKED: Final = quote("linked")
_RANK_BITS: Final = 3


def rank_of(n: int) -> str:
    """The column with the rank of the rows of the n-th record; NULL without a row."""
    return quote(f"rank_{n}")


def required(n: int) -> str:
    """The column that tells whether a session needs the n-th record."""
    return quote(f"required_{n}")


def rows_of(n: int) -> str:
    """The column with the number of rows of the n-th record."""
    return quote(f"rows_{n}")


def newest_of(n: int) -> str:
    """The column with the time of the newest row of the n-th record, in a region."""
    return quote(f"newest_{n}")


@dataclass(frozen=True, slots=True)
class Packed:
    """What is packed of the sessions of a scope, and where.

    `values`: the values of each facet to tell apart.  `times`: the conditions on times, by column.  `laid`: the place
    of each field.
    """

    scope: Scope
    dimensions: tuple[Dimension, ...]
    values: Values
    indexed: Indexed
    facts: tuple[Fact, ...]
    times: Mapping[str, str]
    laid: Mapping[str, Place]

    @property
    def segment(self) -> str | None:
        """SQL over the sessions table for the segment of a session; None where segments are not told apart."""
        return segment_of(self.scope, self.dimensions)

    @property
    def records(self) -> tuple[tuple[int, Record], ...]:
        """The records, numbered from 1."""
        return tuple(enumerate(self.scope.records, start=1))

    @property
    def joined(self) -> tuple[tuple[int, Record], ...]:
        """The records with a table."""
        return tuple((n, record) for n, record in self.records if not record.exists)

    @property
    def flags(self) -> tuple[Fact, ...]:
        """The facts that also tell the rows of a record apart."""
        return tuple(fact for fact in self.facts if fact.of_rows)

    @property
    def counted(self) -> list[int]:
        """The numbers of the records that may have several rows per key."""
        return [n for n, record in self.joined if record.name not in self.indexed.single]

    def valued(self, n: int, record: Record) -> Iterator[tuple[str, Place, int]]:
        """The facets of a record to tell apart by value: name, place, and number of bits."""
        for facet, found in self.values.get(record.name, {}).items():
            yield facet, self.laid[_values(n, facet)], len(found) + 1


def _values(n: int, facet: str) -> str:
    return f"values of {n}: {facet}"


def packing(
    scope: Scope,
    dimensions: tuple[Dimension, ...],
    values: Values,
    indexed: Indexed,
    bind: Bindings,
    which: Times = "all",
) -> Packed:
    """Finds a place for everything that is packed of a session."""
    facts = tuple(facts_of(scope, dimensions))
    times = times_in_sql(scope, dimensions, bind, which)
    # The conditions of `_sessions` come first: in one word, `sessions.where` is computed once.
    fields = [(LINKED, 1), (quote(IS_SESSION), 1), (quote("eligible"), 1), *((quote(fact.name), 1) for fact in facts)]
    fields += [(required(n), 1) for n, record in enumerate(scope.records, start=1) if record.is_optional]
    fields += [(rank_of(n), _RANK_BITS) for n, record in enumerate(scope.records, start=1) if record.exists]
    fields += [(name, 1) for name in times]
    for n, record in enumerate(scope.records, start=1):
        if not record.exists:
            fields.append((rank_of(n), _RANK_BITS))
        # One more bit: a value that was not known when the statement was made.
        fields += [(_values(n, facet), len(found) + 1) for facet, found in values.get(record.name, {}).items()]
    return Packed(scope, dimensions, values, indexed, facts, times, places(fields))


def packed_sessions(packed: Packed, links: Mapping[str, Link], bind: Bindings, region: Region | None) -> str:
    """Defines `packed`: for each status and number the sessions, rows and times.

    A row of a record without a session has the number of a session that is not linked, and no status.  In a region only
    its sessions and their rows are read; then `slice` is the number of the slice, and `keys` has the keys of the
    sessions that are not settled, each as a JSON array of texts.
    """
    sessions = _sessions(packed, bind, region)
    of_records = {
        n: (
            record,
            links[record.name],
            _columns_of(packed, n, record, bind) | (_newest_of(record, bind) if region else {}),
        )
        for n, record in packed.joined
    }
    sums = {column: [f"coalesce(s.{column}, 0)"] for column in sessions.words}
    for n, (_, _, columns) in of_records.items():
        for column in columns:
            if column not in _OWN:
                sums.setdefault(column, []).append(f"coalesce(r_{n}.{column}, 0)")
    for n, record in packed.records:
        if record.rows is not None:
            place = packed.laid[rank_of(n)]
            sums.setdefault(place.column, []).append(place.shifted(f"coalesce({counted(record, n, 's', f'r_{n}')}, 0)"))
    timed = words((packed.laid[name], packed.laid[name].flag(sql)) for name, sql in packed.times.items())
    for column, sql in timed.items():
        sums.setdefault(column, []).append(sql)
    clock = bind(Moment.CLOCK, "timestamptz")
    known = ["status", "started", "completed", *(f"r_{n}.n as {rows_of(n)}" for n in packed.counted)]
    known += [f"{' + '.join(parts)} as {column}" for column, parts in sums.items()]
    segment = [] if packed.segment is None else [SEGMENT]
    known += segment
    totals = [
        "count(*) as sessions",
        "min(coalesce(completed, started)) as oldest",
        f"max(case when started <= {clock} then started end) as newest_started",
        f"max(case when completed <= {clock} then completed end) as newest_completed",
        *(f"coalesce(sum({rows_of(n)}), 0)::bigint as {rows_of(n)}" for n in packed.counted),
    ]
    by = ", ".join([*(["slice", "named"] if region else []), "status", *segment, *sums])
    if region:
        # As text: for an array of times the driver would query the catalog.  A sub-select is read once, not per row.
        bounds = f"(select {bind(tuple(bound.isoformat() for bound in region.bounds), 'text[]')}::timestamptz[])"
        width = range(1, len(packed.scope.pipeline.sessions.key) + 1)
        keys = [f"key_{n}" for n in width]
        as_texts = ", ".join(f"{key}::text" for key in keys)
        known += [
            f"pg_catalog.width_bucket(started, {bounds}) as slice",
            *(f"s.{key}" for key in keys),
            # A session without a key cannot be read again by key.
            " and ".join(f"s.{key} is not null" for key in keys) + " as named",
        ]
        known += [f"r_{n}.newest as {newest_of(n)}" for n, _ in packed.joined]
        totals += [f"max({newest_of(n)}) as {newest_of(n)}" for n, _ in packed.joined]
        listed = f"pg_catalog.jsonb_build_array({as_texts})::text"
        totals.append(f"array_agg({listed}) filter (where named and {unsettled(packed)}) as keys")
        found = {
            n: rows_of_session(record, link, columns, packed.indexed)
            for n, (record, link, columns) in of_records.items()
        }
        source = looked_up(sessions.sql, found)
    else:
        by_key = {
            n: (rows_by_key(record, link, columns, packed.indexed), link)
            for n, (record, link, columns) in of_records.items()
        }
        source = joined_with(sessions.sql, by_key)
    return f"""packed as (
  select
    {comma_list([by, *totals], 4)}
  from (
    select
      {comma_list(known, 6)}
    from {source}
    offset 0
  ) joined
  group by {by}
)"""


@dataclass(frozen=True, slots=True)
class _Words:
    sql: str
    words: tuple[str, ...]


def _sessions(packed: Packed, bind: Bindings, region: Region | None) -> _Words:
    """SQL for every session, or for those of a region: key, status, times, and the words of its conditions.

    In a region by key, so that neighbours in an index are looked up one after the other.
    """
    rows, laid = session_rows(packed.scope, bind, packed.facts, packed.segment), packed.laid
    told = words(
        [
            (laid[quote(IS_SESSION)], laid[quote(IS_SESSION)].value(1)),
            *((laid[name], laid[name].flag(sql)) for name, sql in rows.told.items()),
        ]
    )
    always = words((laid[name], laid[name].flag(sql)) for name, sql in rows.always.items())
    found = {laid[LINKED].column: [laid[LINKED].value(1)]}
    is_wanted = wanted_sessions(packed.scope.pipeline, rows, bind)
    for column, sql in told.items():
        # No expression is computed for a session that no number counts.
        found.setdefault(column, []).append(f"case when {is_wanted} then {sql} else 0 end")
    for column, sql in always.items():
        found.setdefault(column, []).append(sql)
    selected = [
        *rows.key,
        f"{rows.status} as status",
        f"{rows.started} as started",
        f"{rows.completed} as completed",
        *([] if rows.due is None else [f"{rows.due} as due"]),
        *(f"{sql} as {name}" for name, sql in rows.bounds.items()),
        *(f"{' + '.join(parts)} as {column}" for column, parts in found.items()),
    ]
    if rows.segment is not None:
        selected.append(f"case when {is_wanted} then {rows.segment} end as {SEGMENT}")
    sql = f"""
    select
      {comma_list(selected, 6)}
    from {rows.source}
    {f"where {region.wanted} order by key_1" if region else ""}
    offset 0"""
    return _Words(sql, tuple(found))


def _newest_of(record: Record, bind: Bindings) -> dict[str, tuple[str, str]]:
    """The column with the time of the newest row, times in the future excluded; NULL without times."""
    return {"newest": (newest_in_sql(record, bind), "max({})")}


_OWN: Final = frozenset({"rank", GOOD, "n", "newest"})
"""Columns of the rows of a record beside the words."""


def _columns_of(packed: Packed, n: int, record: Record, bind: Bindings) -> dict[str, tuple[str, str]]:
    """The columns of the rows by key of a record: words, and the number of rows as `n`."""
    place = packed.laid[rank_of(n)]
    facets = {facet.name: facet for facet in facets_of(packed.dimensions, record)}
    found = packed.values.get(record.name, {})
    masks = words(
        (of_values, _mask(of_values, has_value(facets[name], found[name], bind)))
        for name, of_values, _ in packed.valued(n, record)
    )
    of_rows = {"rank": (row_rank(record, bind), decides(record)), **good_rows(record)}
    if record.name in packed.indexed.single:
        if record.rows is not None:
            return {**of_rows, **{column: (sql, "{}") for column, sql in masks.items()}}
        ranked = place.shifted(row_rank(record, bind))
        masks[place.column] = f"{ranked} + {masks[place.column]}" if place.column in masks else ranked
        return {column: (sql, "{}") for column, sql in masks.items()}
    columns = {column: (sql, "bit_or({})") for column, sql in masks.items()}
    if record.rows is None:
        # With `rows` the rank is that of the session: see `counted`.
        mask, _ = columns.get(place.column, ("0::bigint", ""))
        columns[place.column] = (mask, "bit_or({}) + " + place.shifted(decides(record).format("rank")))
    return {**of_rows, **columns, "n": ("1", "count(*)::integer")}


def _mask(place: Place, conditions: Sequence[str]) -> str:
    """SQL for the word with the bit of the first condition that is true, or else the last bit."""
    cases = " ".join(f"when {condition} then {place.value(1 << bit)}" for bit, condition in enumerate(conditions))
    other = place.value(1 << len(conditions))
    return f"case {cases} else {other} end" if cases else other


def unsettled(packed: Packed) -> str:
    """SQL over a packed number: whether an analysed session lacks something, or is in a state that must not last."""
    laid = packed.laid
    lacking = []
    for n, record in packed.records:
        is_needed = f"{laid[required(n)].has()} and " if record.is_optional else ""
        lacking.append(f"{is_needed}not {satisfies(record, f'nullif({laid[rank_of(n)].number()}, 0)')}")
    for fact in packed.facts:
        if fact.once_settled is not None:
            has = laid[quote(fact.name)].has()
            lacking.append(f"not ({has})" if fact.once_settled else has)
    eligible, within = laid[quote("eligible")].has(), laid[quote("in_window")].has()
    return f"{eligible} and {within} and ({' or '.join(f'({one})' for one in lacking) or 'false'})"


def judged_cells(packed: Packed, region: Region | None) -> str:
    """Defines `judged`: the packed numbers, with the conditions read back as columns."""
    laid = packed.laid
    flags = [LINKED, quote("eligible"), *(quote(fact.name) for fact in packed.facts), *packed.times]
    columns = [f"left(status, {LABEL_LENGTH}) as status", "sessions", "oldest", "newest_started", "newest_completed"]
    is_session = laid[quote(IS_SESSION)].has()
    columns += [f"{f'{is_session} and ' if name in OF_SESSIONS else ''}{laid[name].has()} as {name}" for name in flags]
    for n, record in packed.records:
        columns.append(f"nullif({laid[rank_of(n)].number()}, 0) as {rank_of(n)}")
        columns.append(f"{laid[required(n)].has() if record.is_optional else 'true'} as {required(n)}")
        single = f"case when {laid[rank_of(n)].number()} <> 0 then sessions else 0 end as {rows_of(n)}"
        columns.append(rows_of(n) if n in packed.counted else single)
    if packed.segment is not None:
        columns.append(SEGMENT)
    if region:
        columns += [
            "slice",
            f"named and {unsettled(packed)} as unsettled",
            "keys",
            *(newest_of(n) for n, _ in packed.joined),
        ]
    columns += dict.fromkeys(place.column for n, record in packed.records for _, place, _ in packed.valued(n, record))
    return f"""judged as (
  select *, eligible and in_window as analysed
  from (
    select
      {comma_list(columns, 6)}
    from packed
  ) read
)"""
