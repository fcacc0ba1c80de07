"""Plan + database -> every session with a gap.

The list comes from one snapshot, with the conditions of the gauges.  `list_gaps` returns only after the last row and
the checks at the end of a collection.  If `list_gaps` raises, the gaps taken so far are not a list.
"""

from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from exporter.measure.session import Session
from exporter.mend.forms import Row, session_value
from exporter.mend.whole import (
    Listing,
    OnProgress,
    check_unrepeated,
    ended,
    fetch_in_chunks,
    fetch_or_blame,
    ignore_progress,
    iso,
    refused_records,
    whole_snapshot,
)
from exporter.model.states import GAP_REASONS, GapReason, states_of
from exporter.plan.control import Told
from exporter.plan.gaps import EVERY_GAP, GapFilter
from exporter.plan.plan import Plan


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


async def gaps_of_control(session: Session) -> Told:
    """The gaps of the control platform, by record and reason, as they are listed."""
    found: dict[tuple[str, ...], float] = {
        (name, reason): 0.0
        for name, record in session.plan.pipeline.records.items()
        for reason in GAP_REASONS
        if reason in states_of(record)
    }
    async for gaps in _fetched(session, EVERY_GAP):
        for gap in gaps:
            for pair in gap.reasons.items():
                found[pair] = found.get(pair, 0.0) + 1
    [metric] = [m for d in session.plan.dimensions for m in d.metrics if m.labels == ("record", "reason")]
    return {metric.full_name: found}


async def _fetched(session: Session, wanted: GapFilter) -> AsyncIterator[list[Gap]]:
    """Every wanted gap, in pieces; raises CollectionError and ListNotMeasuredError."""
    plan, last = session.plan, None
    records, width = tuple(plan.pipeline.records), len(plan.pipeline.sessions.key)
    async for rows in fetch_in_chunks(session, plan.gaps(records, wanted), refused_records):
        for number, *_ in rows:
            check_unrepeated(plan, 2 if number == last else 1, 1)
            last = number
        yield [_gap(row, records, width, has_segment=plan.has_segments) for _, *row in rows]


class NoSuchSegmentError(Exception):
    """No analysed session has the wanted segment: the name may be wrong."""


async def _ended(session: Session, wanted: GapFilter, count: int) -> Listing:
    """As `ended`; raises NoSuchSegmentError."""
    if wanted.segment is not None and not count:
        subject = f"pipelines.{session.plan.pipeline.name}.sessions"
        if not (await session.run(session.plan.segment_size(wanted), subject))[0][0]:
            raise NoSuchSegmentError
    return await ended(session, count)


async def list_gaps(
    plan: Plan,
    take: Callable[[Gap], None],
    wanted: GapFilter = EVERY_GAP,
    on_progress: OnProgress = ignore_progress,
) -> Listing:
    """Give every wanted gap to `take`: by completion (else start), the oldest first, then by key; in constant memory.

    Raises CollectionError if there is no snapshot, ListNotMeasuredError if a record cannot be measured, and
    NoSuchSegmentError.  An error may come after the first gaps: the gaps are then not a list.
    """
    sessions = 0
    async with whole_snapshot(plan, gaps_of_control) as session:
        async for gaps in _fetched(session, wanted):
            for gap in gaps:
                take(gap)
            sessions += len(gaps)
            on_progress(sessions)
        return await _ended(session, wanted, sessions)


async def count_gaps(plan: Plan, wanted: GapFilter = EVERY_GAP) -> Listing:
    """Count the wanted gaps; raises CollectionError, ListNotMeasuredError and NoSuchSegmentError."""
    async with whole_snapshot(plan, gaps_of_control) as session:
        plan = session.plan
        [[rows, sessions]] = await fetch_or_blame(
            session, plan.gap_count(tuple(plan.pipeline.records), wanted), refused_records
        )
        check_unrepeated(plan, rows, sessions)
        return await _ended(session, wanted, sessions)


def _gap(row: Sequence[Any], records: Sequence[str], width: int, *, has_segment: bool) -> Gap:
    completed_at: str | None = row[width]
    first = width + (2 if has_segment else 1)
    return Gap(
        session=tuple(row[:width]),
        reasons={name: reason for name, reason in zip(records, row[first:], strict=True) if reason is not None},
        completed_at=completed_at and iso(completed_at),
        segment=row[width + 1] if has_segment else None,
    )


COLUMNS: Final = ("session", "record", "reason", "completed_at")
"""The keys of a row; a session with gaps for two records has two rows."""

SEGMENT: Final = "segment"
"""One more key, if the config tells segments apart."""


def columns_of(plan: Plan) -> tuple[str, ...]:
    """The keys of the rows of a plan."""
    return (*COLUMNS, SEGMENT) if plan.has_segments else COLUMNS


def in_rows(plan: Plan) -> Callable[[Gap], Iterator[Row]]:
    """Gives the rows of a gap: one for each record."""
    columns, has_segment = plan.pipeline.sessions.key, plan.has_segments

    def rows(gap: Gap) -> Iterator[Row]:
        session = session_value(columns, gap.session)
        segment = {SEGMENT: gap.segment} if has_segment else {}
        for record, reason in gap.reasons.items():
            yield {"session": session, "record": record, "reason": reason, "completed_at": gap.completed_at, **segment}

    return rows
