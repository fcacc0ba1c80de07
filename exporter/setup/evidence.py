"""A possible table of sessions -> facts from its rows, and from the rows of the tables that refer to it.

Reads a sample, each statement with a time-out of its own: a fact that takes too long is None.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from typing import Any, Final, Literal

from exporter.measure.query_faults import is_refused_lock
from exporter.measure.session import Session
from exporter.model.fault import Fault
from exporter.model.sql import TableName, parse_type_name, quote, text_literal
from exporter.plan.statement import Statement
from exporter.setup.catalog import Relation, TableColumn, are_comparable
from exporter.setup.naming import (
    INTEGERS,
    created_of,
    epoch_time,
    is_outcome,
    is_text,
    may_be_epoch,
    refers,
    status_of,
    stems,
    usable,
    version_of,
)
from exporter.setup.references import Link, Outline, Pointer, names_table

SAMPLE: Final = 2_000
"""Sessions read of each part of the window, at most."""

ROW_LIMIT: Final = 100_000
"""Rows of a record read, at most."""

VALUE_LIMIT: Final = 200
"""Distinct values read, at most."""

WINDOW_DAYS: Final = 90
"""Sessions of so many days before the newest session are read."""

LONG_DAYS: Final = 730
"""The same where no relation holds in the shorter time: an outage may be longer."""

_CREATED: Final = quote("our created")

_PART: Final = quote("our part")
"""The part of a session: so unusual a name that no column has it."""

PARTS: Final = 12
"""Parts of the window: a relation that held in one part, and does not hold in another, is a fault of the platform."""


@dataclass(frozen=True, slots=True)
class Value:
    """A value of a column as text (None for NULL), and the number of rows."""

    text: str | None
    count: int


@dataclass(frozen=True, slots=True)
class Columns:
    """The columns of a table of sessions; None where no column has the role.  `flag` is true for done sessions."""

    status: TableColumn | None
    flag: TableColumn | None
    started: TableColumn
    completed: TableColumn | None


@dataclass(frozen=True, slots=True)
class Group:
    """Sessions of the sample with equal values: in one `part` of the sample, from 1 for the earliest starts.

    `mature`: started at least an hour ago.  `with_row`: mature sessions with a row of each source, None if unreadable.
    """

    status: str | None
    is_flagged: bool | None
    is_completed: bool
    part: int
    sessions: int
    mature: int
    with_row: tuple[int | None, ...]


@dataclass(frozen=True, slots=True)
class SessionFacts:
    """Facts from the rows of the sessions.

    `newest`: the start of the newest session, None without one.  `is_recent`: `newest` is within the last 90 days.
    `groups`: the sample, None if unreadable.
    """

    newest: date | None
    is_recent: bool
    groups: tuple[Group, ...] | None

    def statuses(self) -> tuple[Value, ...] | None:
        """The statuses of the sample, the most frequent first; None if unreadable."""
        if self.groups is None:
            return None
        counts: dict[str | None, int] = {}
        for group in self.groups:
            counts[group.status] = counts.get(group.status, 0) + group.sessions
        return tuple(Value(*found) for found in sorted(counts.items(), key=lambda item: (-item[1], str(item[0]))))


@dataclass(frozen=True, slots=True)
class RecordFacts:
    """Facts from the rows of a record; None if unreadable.

    `versions` and `statuses`: of the rows of the 90 days before the newest row; the most frequent version of the
    last 30 of these days comes first.  `per_session`: for each number of rows the number of sessions with as many,
    the most frequent first; of a table with more than `ROW_LIMIT` rows, of some rows alone.  `delays`: seconds from
    completion to the first row, for 50 and 95 of 100 sessions.
    """

    versions: tuple[Value, ...] | None = None
    per_session: tuple[tuple[int, int], ...] | None = None
    delays: tuple[float, float] | None = None
    statuses: tuple[Value, ...] | None = None


@dataclass(frozen=True, slots=True)
class Source:
    """A possible record: a link or a pointer, and a type for each column of the link that must be cast, else None."""

    way: Link | Pointer
    casts: tuple[str | None, ...] = (None,)

    @property
    def table(self) -> TableName:
        """The table of the record."""
        return self.way.outline.table

    def same_key(self, row: str, sessions: Sequence[str]) -> str:
        """SQL: whether a row belongs to a session; `sessions` are the columns of the key (of a pointer: its own)."""
        if isinstance(self.way, Pointer):
            return f"{row}.{self.way.target.sql} = {sessions[0]}"
        casts = [f"::{cast}" if cast else "" for cast in self.casts]
        pairs = zip(self.way.columns, casts, sessions, strict=True)
        same = [f"{row}.{column.sql}{cast} = {key}" for column, cast, key in pairs]
        if self.way.kind is not None and self.way.kind_value is not None:
            same.append(f"{row}.{self.way.kind.sql} = {text_literal(self.way.kind_value)}")
        return " and ".join(same)


@dataclass(frozen=True, slots=True)
class Split:
    """A condition on sessions (SQL) that tells those with a row of a record from those without.

    `with_row` of the `sessions` that meet the condition have a row, and nearly no other has one.
    """

    sql: str
    with_row: int
    sessions: int


SPLIT: Final = 0.95
"""The share of sessions with a row from which on a condition tells the sessions that need a record."""

SPLIT_LEAST: Final = 10
"""Sessions on either side of a condition in each half of the sample, at least."""

SPLIT_VALUES: Final = 8
"""Values of a column that may tell the sessions, at most."""

SPLIT_COLUMNS: Final = 40
"""Columns that may tell the sessions, at most."""


_TOLD: Final = frozenset({"statement_timeout", "lock_timeout", "permission", "row_security"})
"""The reasons of refusals that are said: the operator can do something."""


class Evidence:
    """Questions about the rows of one database; `said` has the refusals of the server."""

    def __init__(self, session: Session, said: list[str], days: int = WINDOW_DAYS) -> None:
        """For one guarded transaction; sessions of so many days before the newest session are read."""
        self._session, self._said, self._days = session, said, days

    async def session_facts(
        self, relation: Relation, columns: Columns, key: Sequence[TableColumn], sources: Sequence[Source]
    ) -> SessionFacts:
        """Facts from a sample of the sessions of the 90 days before the newest session."""
        table, start = relation.table, columns.started.sql
        newest = _newest(start)
        [(day, is_recent)] = await self.ask(
            f"select ({newest})::date, "
            f"coalesce({newest} >= clock_timestamp() - interval '{WINDOW_DAYS} days', false) from {table.sql}",
            table,
        ) or [(None, False)]
        found = await self._groups(table, columns, day, key, sources)
        if found is None and sources:
            # One by one: a table that is too large for the time-out hides no other.
            found = await self._groups(table, columns, day, key, ())
            alone = [await self._groups(table, columns, day, key, (source,)) for source in sources]
            found = None if found is None else _merged(found, alone)
        return SessionFacts(day, is_recent, found)

    async def filled(
        self, relation: Relation, started: TableColumn, columns: Sequence[TableColumn]
    ) -> dict[str, float]:
        """The share of recent sessions with a value, by name of the column; empty without a session."""
        table, start = relation.table, started.sql
        newest = await self.ask(f"select ({_newest(start)})::date from {table.sql}", table)
        day = newest[0][0] if newest else None
        named = [f"column_{n}" for n, _ in enumerate(columns)]
        counts = [f"count({name})" for name in named]
        parts = [
            f"(select {', '.join(f'{c.sql} as {name}' for c, name in zip(columns, named, strict=True))} "
            f"from {table.sql} t where {within} limit {SAMPLE})"
            for within in [*_parts(started, day, self._days), f"{start} is null"]
        ]
        rows = await self.ask(f"select count(*), {', '.join(counts)} from ({' union all '.join(parts)}) s", table)
        if not rows or not rows[0][0]:
            return {}
        total, *found = rows[0]
        return {column.name: count / total for column, count in zip(columns, found, strict=True)}

    async def split(
        self, sessions: Relation, columns: Columns, key: Sequence[TableColumn], eligible: str, source: Source
    ) -> Split | None:
        """The condition that best tells the eligible sessions with a row from those without; None without one."""
        named = frozenset(stems(source.table.name)).difference(stems(sessions.table.name))
        tests = _tests(usable(sessions.columns), {column.name for column in key}, named)
        if not tests or isinstance(source.way, Pointer):
            return None
        keys = [f"s.key_{n}" for n in range(1, len(key) + 1)]
        selected = [f"{column.sql} as key_{n}" for n, column in enumerate(key, start=1)]
        selected += [f"({test.sql})::text as test_{n}" for n, test in enumerate(tests)]
        selected += [f"ntile({len(HALVES)}) over (order by {columns.started.sql}) as half"]
        listed = ", ".join(f"({n}, test_{n})" for n, _ in enumerate(tests))
        rows = await self.ask(
            f"with sample as materialized (select {', '.join(selected)} from (select * from {sessions.table.sql} t "
            f"where ({eligible}) and {columns.started.sql} <= clock_timestamp() - interval '1 day' "
            f"order by {columns.started.sql} desc limit {2 * SAMPLE}) t), "
            f"judged as materialized (select s.*, exists (select 1 from {source.table.sql} r where "
            f"{source.same_key('r', keys)}) as has_row from sample s) "
            "select half, n, value, sessions, with_row from (select half, n, value, count(*) as sessions, "
            "count(*) filter (where has_row) as with_row, count(*) over (partition by half, n) as values_ "
            f"from judged cross join lateral (values {listed}) v (n, value) group by 1, 2, 3) counted "
            f"where values_ <= {SPLIT_VALUES}",
            source.table,
        )
        found: dict[int, dict[int, dict[str | None, tuple[int, int]]]] = {}
        for half, n, value, sessions_, with_row in rows or ():
            found.setdefault(n, {}).setdefault(half, {})[value] = (sessions_, with_row)
        splits = [_split_by(test, [*found.get(n, {}).values()]) for n, test in enumerate(tests)]
        known = [split for split in splits if split is not None]
        return max(known, key=lambda split: (split.with_row / split.sessions, split.sessions), default=None)

    async def with_rows(self, tables: Sequence[TableName]) -> set[TableName] | None:
        """The tables that have a row; None if the server refuses or times out."""
        asked = ", ".join(f"exists (select 1 from {table.sql})" for table in tables)
        rows = await self.ask(f"select {asked}", tables[0]) if tables else None
        return {table for table, found in zip(tables, rows[0], strict=True) if found} if rows else None

    async def _groups(
        self,
        table: TableName,
        columns: Columns,
        newest: date | None,
        key: Sequence[TableColumn],
        sources: Sequence[Source],
    ) -> tuple[Group, ...] | None:
        keys = [f"s.key_{n}" for n in range(1, len(key) + 1)]
        pointers = {n: one.way for n, one in enumerate(sources) if isinstance(one.way, Pointer)}
        selected = [
            *(f"{column.sql} as key_{n}" for n, column in enumerate(key, start=1)),
            *(f"{pointer.column.sql} as pointer_{n}" for n, pointer in pointers.items()),
            f"{f'{columns.status.sql}::text' if columns.status else 'null::text'} as status",
            f"{columns.flag.sql if columns.flag else 'null::boolean'} as flag",
            f"{_is_past(columns.completed) if columns.completed else 'false'} as is_completed",
            f"{_PART} as part",
            f"coalesce({columns.started.sql} <= clock_timestamp() - interval '1 hour', false) as is_mature",
        ]
        counts = [
            f"count(*) filter (where is_mature and exists (select 1 from {source.table.sql} r where "
            f"{source.same_key('r', [f's.pointer_{n}'] if n in pointers else keys)}))"
            for n, source in enumerate(sources)
        ]
        parts = [
            f"(select {', '.join(selected)} from (select {part} as {_PART}, t.* from {table.sql} t where {within} "
            f"limit {SAMPLE}) t)"
            for part, within in enumerate(_parts(columns.started, newest, self._days), start=1)
        ]
        wanted = ["status, flag, is_completed, part", "count(*), count(*) filter (where is_mature)", *counts]
        rows = await self.ask(
            f"with sample as materialized ({' union all '.join(parts)}) select {', '.join(wanted)} from sample s "
            f"group by 1, 2, 3, 4 order by 5 desc, 1 limit {VALUE_LIMIT * PARTS}",
            table,
        )
        return None if rows is None else tuple(_group(row) for row in rows)

    async def record_facts(
        self, sessions: Relation, columns: Columns, key: Sequence[TableColumn], eligible: str, source: Source
    ) -> RecordFacts:
        """Facts from the rows of one record; `eligible` is SQL over the sessions."""
        if isinstance(source.way, Pointer):
            return RecordFacts()
        link, table = source.way, source.table
        created = created_of(table.name, link.outline.columns)
        version = version_of(link.outline.columns)
        recent, newest = "true", "true"
        if created is not None:
            known = f"isfinite({created.sql}) and {created.sql} <= clock_timestamp()"
            last = f"{created.sql} >= (select max({created.sql}) filter (where {known}) from {table.sql})"
            recent, newest = (f"({last} - interval '{days} days') is not false" for days in (WINDOW_DAYS, 30))
        keys = ", ".join(column.sql for column in link.columns)
        present = " and ".join(f"{column.sql} is not null" for column in link.columns)
        if link.kind is not None and link.kind_value is not None:
            present += f" and {link.kind.sql} = {text_literal(link.kind_value)}"
        per_session = await self.ask(
            f"select n, count(*) from (select count(*) as n from (select {keys} from {table.sql} where {present} "
            f"limit {ROW_LIMIT}) s group by {keys}) counted group by 1 order by 2 desc, 1 limit {VALUE_LIMIT}",
            table,
        )
        versions = await self._versions(table, version, recent, newest) if version else None
        delays = await self._delays(sessions, columns, key, eligible, source, created) if created else None
        status = status_of(link.outline.columns)
        statuses = await self.values(table, status, recent) if status else None
        counts = None if per_session is None else tuple((rows, sessions_) for rows, sessions_ in per_session)
        return RecordFacts(versions, counts, delays, statuses)

    async def _versions(
        self, table: TableName, version: TableColumn, recent: str, newest: str
    ) -> tuple[Value, ...] | None:
        """The versions of recent rows, the most frequent first, but before all the most frequent of the newest rows."""
        found = await self.values(table, version, recent)
        latest = await self.values(table, version, newest) if found and recent != newest else found
        current = next((value for value in latest or () if value.text), None)
        if found is None or current is None:
            return found
        # The sample of all rows may be cut, and lack the newest version.
        known = next((value for value in found if value.text == current.text), current)
        return (known, *(value for value in found if value.text != current.text))

    async def _delays(
        self,
        sessions: Relation,
        columns: Columns,
        key: Sequence[TableColumn],
        eligible: str,
        source: Source,
        created: TableColumn,
    ) -> tuple[float, float] | None:
        completed = columns.completed or columns.started
        keys = [f"s.key_{n}" for n in range(1, len(key) + 1)]
        selected = [f"{column.sql} as key_{n}" for n, column in enumerate(key, start=1)]
        grouped = ", ".join(keys)
        rows = await self.ask(
            f"with sample as materialized (select {', '.join(selected)}, {completed.sql} as completed "
            f"from {sessions.table.sql} t where ({eligible}) and isfinite({completed.sql}) "
            f"order by {columns.started.sql} desc limit {SAMPLE}) "
            "select percentile_disc(array[0.5, 0.95]) within group (order by delay) from ("
            f"select extract(epoch from min(r.{_CREATED})::timestamptz - s.completed::timestamptz)::float8 as delay "
            f"from sample s join (select t.*, {created.sql} as {_CREATED} from {source.table.sql} t) r "
            f"on {source.same_key('r', keys)} where isfinite(r.{_CREATED}) group by {grouped}, s.completed) d",
            source.table,
        )
        return tuple(rows[0][0]) if rows and rows[0][0] else None

    async def values(self, table: TableName, column: TableColumn, recent: str) -> tuple[Value, ...] | None:
        """The values of a column in recent rows, the most frequent first; None if the values cannot be read."""
        rows = await self.ask(
            f"select {column.sql}::text, count(*) from (select {column.sql} from {table.sql} where {recent} "
            f"limit {ROW_LIMIT}) s group by 1 order by 2 desc, 1 limit {VALUE_LIMIT}",
            table,
        )
        return None if rows is None else tuple(Value(text, count) for text, count in rows)

    async def kind_of(self, link: Link, sessions: TableName) -> Link | None:
        """The link with the value of its type column for the table of sessions; None if no value names the table."""
        if link.kind is None:
            return link
        values = await self.values(link.outline.table, link.kind, "true") or ()
        fitting = [value.text for value in values if value.text and names_table(value.text, sessions)]
        return replace(link, kind_value=fitting[0]) if fitting else None

    async def source(self, link: Link, key: Sequence[TableColumn]) -> Source | str:
        """The link with the casts that make the keys comparable; else the reason that no cast does."""
        casts = []
        for own, of_session in zip(link.columns, key, strict=True):
            cast = await self._cast(own, of_session)
            if cast is None:
                return f"{own.name} is {own.type}, {of_session.name} of the sessions {of_session.type}"
            casts.append(cast or None)
        return Source(link, tuple(casts))

    async def points(self, pointer: Pointer) -> bool:
        """Whether the column of a pointer compares with the key of the table."""
        return await are_comparable(self._session, pointer.column.base, pointer.target.base)

    async def is_unique(self, table: TableName, column: TableColumn) -> bool | None:
        """Whether no two rows of a sample share a value of a column; None if unreadable."""
        rows = await self.ask(
            f"select count(*) = count(distinct {quote(column.name)}) from (select {quote(column.name)} "
            f"from {table.sql} where {quote(column.name)} is not null limit {SAMPLE}) s",
            table,
        )
        return rows[0][0] if rows else None

    async def _cast(self, own: TableColumn, key: TableColumn) -> str | None:
        """The type for `cast`: empty if no cast is needed, None if no cast helps."""
        if await are_comparable(self._session, own.base, key.base):
            return ""
        try:
            parse_type_name(key.base)
        except ValueError:
            return None
        return key.base if await are_comparable(self._session, f"{own.base}::{key.base}", key.base) else None

    async def ask(self, sql: str, table: TableName) -> list[Any] | None:
        """The rows of a query about a table; None, with a remark, if the server refuses or times out."""
        answer = await self._session.attempt(Statement("look", sql), table.written, is_refused_lock)
        if not isinstance(answer, Fault):
            return answer
        # A table that cannot be read or compared is left out with the reason, and may be no candidate at all.
        if answer.reason in _TOLD and answer.message not in self._said:
            self._said.append(answer.message)
        return None


def _is_past(column: TableColumn) -> str:
    """SQL: whether a session is completed; a time in the future is a plan."""
    return f"coalesce({column.sql} <= clock_timestamp(), false)"


@dataclass(frozen=True, slots=True)
class _Test:
    """SQL over a session with few values, and how a value is written in SQL."""

    sql: str
    kind: Literal["condition", "number", "text"]

    def one_of(self, values: Sequence[str]) -> str:
        """SQL: whether the test has one of the values."""
        if self.kind == "condition":
            return self.sql if [*values] == ["true"] else f"not {self.sql}"
        literals = [value if self.kind == "number" else text_literal(value) for value in values]
        return f"{self.sql} = {literals[0]}" if len(literals) == 1 else f"{self.sql} in ({', '.join(literals)})"


def _tests(columns: Sequence[TableColumn], keys: Collection[str], named: frozenset[str]) -> list[_Test]:
    """What may tell whether a session needs a record: a kind, a setting or an amount, known from the beginning.

    A state, a reference and a column named after the record (stems in `named`) may follow from the record: with such a
    condition, a session without the record would need none.
    """
    found = []
    for column in columns:
        is_result = is_outcome(column) or not named.isdisjoint(stems(column.name)) or refers(column)
        if column.name in keys or is_result:
            continue
        if column.base == "boolean":
            found.append(_Test(column.sql, "condition"))
        elif is_text(column):
            found.append(_Test(column.sql, "text"))
        elif column.base in INTEGERS or column.base == "numeric":
            found += [_Test(f"{column.sql} > 0", "condition"), _Test(column.sql, "number")]
    return found[:SPLIT_COLUMNS]


Counts = Mapping[str | None, tuple[int, int]]
"""For each value of a test the sessions, and the sessions with a row."""


def _split_by(test: _Test, halves: Sequence[Counts]) -> Split | None:
    """The condition on the values of a test, if nearly all sessions of some values have a row, and few of the others.

    `halves`: the earlier and the later sessions.  The condition holds in both: an outage begins in one.
    """
    sides = [_sides(counts) for counts in halves]
    if len(sides) < len(HALVES) or None in sides or len({*sides}) > 1:
        return None
    [high] = {side for side in sides if side is not None}
    sessions = sum(counts[value][0] for counts in halves for value in high)
    with_row = sum(counts[value][1] for counts in halves for value in high)
    return Split(test.one_of(sorted(high)), with_row, sessions)


HALVES: Final = (1, 2)


def _sides(counts: Counts) -> frozenset[str] | None:
    """The values of nearly all sessions with a row; None if the values do not tell."""
    if not 1 < len(counts) <= SPLIT_VALUES:
        return None
    high = frozenset(value for value, (sessions, with_row) in counts.items() if 2 * with_row >= sessions)
    of_high, of_low = (
        [sum(counts[value][place] for value in side) for place in (0, 1)] for side in (high, counts.keys() - high)
    )
    is_apart = of_high[1] >= SPLIT * of_high[0] and of_low[1] <= (1 - SPLIT) * of_low[0]
    if None in high or min(of_high[0], of_low[0]) < SPLIT_LEAST or not is_apart:
        return None
    return frozenset(value for value in high if value is not None)


async def epoch_columns(session: Session, outlines: Sequence[Outline]) -> dict[TableName, tuple[TableColumn, ...]]:
    """Computed times for the numbers that count from 1970, by table; a number is judged by one row."""
    asked = [
        (outline, column)
        for outline in outlines
        if outline.named.may_read and outline.is_measurable
        for column in outline.columns
        if may_be_epoch(column)
    ]
    found: dict[TableName, tuple[TableColumn, ...]] = {}
    for outline, column in asked[:EPOCH_COLUMNS]:
        sql = f"select {column.sql}::float8 from {outline.table.sql} where {column.sql} is not null limit 1"
        rows = await session.attempt(Statement("look", sql), outline.table.written, is_refused_lock)
        if isinstance(rows, Fault) or not rows:
            continue
        time = epoch_time(column, rows[0][0], [one.name for one in outline.columns])
        if time is not None:
            found[outline.table] = (*found.get(outline.table, ()), time)
    return found


EPOCH_COLUMNS: Final = 200
"""Numbers that are looked at as times, at most."""


def _group(row: Sequence[Any]) -> Group:
    status, is_flagged, is_completed, part, sessions, mature, *with_row = row
    return Group(status, is_flagged, is_completed, part, sessions, mature, tuple(with_row))


def _newest(start: str) -> str:
    """SQL for the newest start that is not in the future; Python's dates begin in year 1."""
    return f"max({start}) filter (where isfinite({start}) and {start} >= '0001-01-01' and {start} <= clock_timestamp())"


def _parts(started: TableColumn, newest: date | None, days: int) -> list[str]:
    """SQL for the sessions of each part of the days before the newest session."""
    if newest is None:
        return ["true"]
    bounds = [f"date '{newest.isoformat()}' - {days * left // PARTS}" for left in range(PARTS, 0, -1)]
    ends = [f" and {started.sql} < {bound}" for bound in bounds[1:]]
    return [f"{started.sql} >= {bound}{end}" for bound, end in zip(bounds, [*ends, ""], strict=True)]


def _merged(groups: Sequence[Group], alone: Sequence[Sequence[Group] | None]) -> tuple[Group, ...]:
    """The groups, with the numbers of each source that was read alone; None for an unreadable source."""

    def of(group: Group) -> tuple[object, ...]:
        return group.status, group.is_flagged, group.is_completed, group.part

    found = [None if one is None else {of(group): group.with_row[0] for group in one} for one in alone]
    return tuple(
        replace(group, with_row=tuple(None if one is None else one.get(of(group), 0) for one in found))
        for group in groups
    )
