"""Plan + database -> every session with a gap, and the formats of the list.

All or nothing: the list comes from one snapshot, with the conditions of the gauges.  A truncated table, a lost
connection or a time-out would leave a shorter list, and a backfill would miss sessions.  `list_gaps` returns only after
the last row and the checks at the end of a collection.  If `list_gaps` raises, the gaps taken so far are not a list.
"""

import csv
import json
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import IO, Any, Final

from exporter.measure.counts import repeated
from exporter.measure.ending import end
from exporter.measure.guard import open_snapshot
from exporter.measure.query_faults import is_rejection
from exporter.measure.session import Session, subject_of
from exporter.mend.spool import SpoolError
from exporter.model.fault import Fault
from exporter.model.sections import Config
from exporter.model.states import GAP_REASONS, GapReason
from exporter.model.terms import terms_of
from exporter.plan.plan import Plan
from exporter.plan.statement import Cursor, Statement
from exporter.text.terminal import printable

# --- Gaps


@dataclass(frozen=True, slots=True)
class Gap:
    """A session with a gap.

    `session`: the key, a text for each column of `sessions.key` (None for NULL).  `reasons`: the reason for each record
    with a gap.  `completed_at`: ISO 8601 in UTC, None without a completion.  `segment`: None for NULL, or if the config
    tells no segments apart.
    """

    session: tuple[str | None, ...]
    reasons: Mapping[str, GapReason]
    completed_at: str | None
    segment: str | None = None


@dataclass(frozen=True, slots=True)
class Listing:
    """The facts about a complete list.

    `sessions`: the number of sessions.  `restricted`: tables with rows that policies may hide.  `taken_at`: the time of
    the snapshot by the database's clock, in Unix seconds.  `identity`: a hash that identifies the database, None if
    unknown.  `terms`: digests of the config keys that decide about gaps, with the schemas found in the search path.
    The last three do not count for equality.
    """

    sessions: int
    restricted: tuple[str, ...]
    taken_at: float = field(compare=False)
    identity: str | None = field(compare=False)
    terms: Mapping[str, str] = field(default_factory=dict, compare=False)


class GapsNotMeasuredError(Exception):
    """The gaps are unknown: `faults` prevent the measurement of records."""

    def __init__(self, faults: Sequence[Fault]) -> None:
        super().__init__("\n".join(fault.message for fault in faults))
        self.faults = tuple(faults)


def narrowed(config: Config, pipeline: str, records: Collection[str] = ()) -> Config:
    """The config with only one pipeline and, if named, only some records: no other table is locked or read."""
    chosen = config.pipelines[pipeline]
    if records:
        kept = {name: record for name, record in chosen.records.items() if name in records}
        chosen = chosen.model_copy(update={"records": kept})
    return config.model_copy(update={"pipelines": {pipeline: chosen}})


OnProgress = Callable[[int], None]
"""Takes the number of sessions so far."""


def ignore_progress(_sessions: int) -> None:
    """Show no progress."""


async def list_gaps(
    plan: Plan,
    take: Callable[[Gap], None],
    reasons: Collection[GapReason] = GAP_REASONS,
    on_progress: OnProgress = ignore_progress,
) -> Listing:
    """Give every gap to `take`: by completion (else start), the oldest first, then by key; in constant memory.

    Raises CollectionError if there is no snapshot, GapsNotMeasuredError if a record cannot be measured.  An error may
    come after the first gaps: the gaps are then not a list.
    """
    records, width, sessions = tuple(plan.pipeline.records), len(plan.pipeline.sessions.key), 0
    last = None
    async with whole_snapshot(plan) as session:
        plan = session.plan
        async for rows in fetch_in_chunks(session, plan, plan.gaps(records, reasons)):
            for number, *row in rows:
                if number == last:
                    raise GapsNotMeasuredError((repeated(_all(plan)),))
                last = number
                take(_gap(row, records, width, has_segment=plan.has_segments))
            sessions += len(rows)
            on_progress(sessions)
        return await _ended(session, sessions)


async def count_gaps(plan: Plan, reasons: Collection[GapReason] = GAP_REASONS) -> Listing:
    """Count the gaps; raises CollectionError and GapsNotMeasuredError."""
    async with whole_snapshot(plan) as session:
        plan = session.plan
        [[rows, sessions]] = await fetch_or_blame_records(
            session, plan, plan.gap_count(tuple(plan.pipeline.records), reasons)
        )
        check_unrepeated(plan, rows, sessions)
        return await _ended(session, sessions)


def check_unrepeated(plan: Plan, rows: int, sessions: int) -> None:
    """Raises GapsNotMeasuredError if the list would have a session twice."""
    if rows != sessions:
        raise GapsNotMeasuredError((repeated(_all(plan)),))


async def _ended(session: Session, sessions: int) -> Listing:
    restricted = await end(session)
    terms = terms_of(session.plan.pipeline, session.plan.database)
    return Listing(sessions, restricted, session.clock.timestamp(), session.identity, terms)


@asynccontextmanager
async def whole_snapshot(plan: Plan) -> AsyncIterator[Session]:
    """A snapshot with every record table locked; raises CollectionError and GapsNotMeasuredError."""
    async with open_snapshot(plan) as session:
        if session.faults:
            raise GapsNotMeasuredError(tuple(session.faults.values()))
        yield session


async def fetch_or_blame_records(session: Session, plan: Plan, statement: Statement) -> list[Any]:
    """The rows of a statement about all records; raises GapsNotMeasuredError with the refused records."""
    rows = await session.attempt(statement, _all(plan), is_rejection)
    if isinstance(rows, Fault):
        raise GapsNotMeasuredError(await _culprits(session, plan) or (rows,))
    return rows


async def fetch_in_chunks(session: Session, plan: Plan, cursor: Cursor) -> AsyncIterator[list[Any]]:
    """The rows of a cursor about all records, in pieces; raises CollectionError and GapsNotMeasuredError.

    The first fetch computes and sorts every row, and so meets every value that does not fit.
    """
    await session.run(cursor.prepare, _all(plan))
    await fetch_or_blame_records(session, plan, cursor.open)
    rows = await fetch_or_blame_records(session, plan, cursor.fetch)
    while rows:
        yield rows
        rows = await session.run(cursor.fetch, _all(plan))
    await session.run(cursor.close, _all(plan))


async def _culprits(session: Session, plan: Plan) -> tuple[Fault, ...]:
    """The faults of refused records, after a refused joint statement; raises CollectionError for the sessions."""
    await session.run(plan.sessions(()), f"{_all(plan)}.sessions")
    alone = [
        await session.attempt(plan.gap_count((name,)), subject_of(plan, name), is_rejection)
        for name in plan.pipeline.records
    ]
    return tuple(fault for fault in alone if isinstance(fault, Fault))


def _all(plan: Plan) -> str:
    return f"pipelines.{plan.pipeline.name}"


def _gap(row: Sequence[Any], records: Sequence[str], width: int, *, has_segment: bool) -> Gap:
    completed_at: str | None = row[width]
    first = width + (2 if has_segment else 1)
    return Gap(
        session=tuple(row[:width]),
        reasons={name: reason for name, reason in zip(records, row[first:], strict=True) if reason is not None},
        completed_at=completed_at and _iso(completed_at),
        segment=row[width + 1] if has_segment else None,
    )


def _iso(text: str) -> str:
    """PostgreSQL's text of a UTC time as ISO 8601; as text, because the driver supports fewer years."""
    return text.replace(" ", "T", 1).replace("+00", "Z", 1)


# --- Formats

COLUMNS: Final = ("session", "record", "reason", "completed_at")
"""The keys of a row; a session with gaps for two records has two rows."""

SEGMENT: Final = "segment"
"""One more key, if the config tells segments apart."""

SessionValue = str | None | dict[str, str | None]
"""The key of a session: a text, or an object by column for a key with several columns; None is NULL."""

Row = Mapping[str, SessionValue]
"""The values by key."""


@dataclass(frozen=True, slots=True)
class Form:
    """A document format: `head` of the keys, `first` before the first row, `between` two rows, `foot`, and one row.

    `printable_row` is for a terminal, without control characters.
    """

    head: Callable[[Sequence[str]], str]
    first: str
    between: str
    foot: str
    row: Callable[[Row], str]
    printable_row: Callable[[Row], str]


def _csv_row(row: Row) -> str:
    return _csv_line(_cells(row))


def _printable_csv_row(row: Row) -> str:
    return _csv_line(tuple(map(printable, _cells(row))))


def _object(row: Row) -> str:
    return json.dumps(row, ensure_ascii=False)


def _printable_object(row: Row) -> str:
    return json.dumps(row)


FORMATS: Final[Mapping[str, Form]] = {
    "csv": Form(lambda keys: ",".join(keys) + "\n", "", "", "", _csv_row, _printable_csv_row),
    "ndjson": Form(
        lambda _: "", "", "", "", lambda row: _object(row) + "\n", lambda row: _printable_object(row) + "\n"
    ),
    "json": Form(lambda _: "[", "\n", ",\n", "\n]\n", _object, _printable_object),
}
"""The formats of `gaps`."""


class Writer:
    """Writes gaps into a file as one document; the document is complete only after `end`."""

    def __init__(self, file: IO[bytes], plan: Plan, form: Form, *, on_terminal: bool = False) -> None:
        self._file = file
        self._key = plan.pipeline.sessions.key
        self._form = form
        self._row = form.printable_row if on_terminal else form.row
        self._before = form.first
        self._has_segments = plan.has_segments
        self._write(form.head((*COLUMNS, SEGMENT) if self._has_segments else COLUMNS))

    def take(self, gap: Gap) -> None:
        """Write a gap: one row for each record; raises SpoolError."""
        key: SessionValue = gap.session[0] if len(self._key) == 1 else dict(zip(self._key, gap.session, strict=True))
        segment = {SEGMENT: gap.segment} if self._has_segments else {}
        rows = [
            self._row({"session": key, "record": record, "reason": reason, "completed_at": gap.completed_at, **segment})
            for record, reason in gap.reasons.items()
        ]
        self._write(self._before + self._form.between.join(rows))
        self._before = self._form.between

    def end(self) -> None:
        """Close the document; raises SpoolError."""
        self._write(self._form.foot)

    def _write(self, text: str) -> None:
        try:
            self._file.write(text.encode())
        except OSError as error:
            raise SpoolError(error.strerror) from None


def _cells(row: Row) -> tuple[str, ...]:
    """The cells of a CSV row: a key of several columns is a JSON object, None an empty cell."""
    return tuple(
        json.dumps(cell, ensure_ascii=False) if isinstance(cell, dict) else cell or "" for cell in row.values()
    )


class _Echo:
    """A file for the csv module: `write` returns the line."""

    def write(self, line: str) -> str:
        return line


_csv = csv.writer(_Echo())


def _csv_line(cells: Sequence[str]) -> str:
    """A line by RFC 4180, but with a Unix line end."""
    line: Any = _csv.writerow(cells)
    return str(line).removesuffix("\r\n") + "\n"
