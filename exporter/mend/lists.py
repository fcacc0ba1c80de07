"""Plan + database -> the sessions or rows that a number counts, whole or nothing."""

import json
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Final

from exporter.measure.controls import Count
from exporter.measure.query_faults import is_rejection
from exporter.measure.session import Session, subject_of
from exporter.mend.forms import Row, SessionValue, session_value
from exporter.mend.whole import (
    Blame,
    Listing,
    ListNotMeasuredError,
    OnProgress,
    check_sessions,
    check_unrepeated,
    ended,
    fetch_in_chunks,
    fetch_or_blame,
    ignore_progress,
    iso,
    whole_snapshot,
)
from exporter.model.fault import Fault
from exporter.model.judging import Readings
from exporter.model.listing import VALUES, Members, RowList
from exporter.plan.control import Told
from exporter.plan.lists import Selection
from exporter.plan.plan import Plan


async def list_members(
    plan: Plan,
    name: str,
    subjects: Sequence[str],
    take: Callable[[Row], None],
    on_progress: OnProgress = ignore_progress,
) -> Listing:
    """Give every session or row that a number counts to `take`, subject after subject; in constant memory.

    `subjects`: records, parts, or the empty name for the pipeline.  The plan has the records of `subjects` alone.
    Raises CollectionError if there is no snapshot, ListNotMeasuredError if a subject cannot be measured.  An error may
    come after the first rows: the rows are then not a list.
    """
    members, given, counted = plan.lists[name], 0, 0
    async with _snapshot(plan, name, subjects) as session:
        for subject in subjects:
            selection = await _selection(session, name, subject)
            last = None
            async for rows in fetch_in_chunks(session, selection.cursor, _blame(name, subject)):
                for number, is_counted, *row in rows:
                    check_unrepeated(session.plan, 2 if number == last else 1, 1)
                    last = number
                    counted += is_counted
                    take(_row(session.plan, members, subject, selection, row))
                given += len(rows)
                on_progress(given)
        return await ended(session, counted)


async def count_members(plan: Plan, name: str, subjects: Sequence[str]) -> Listing:
    """Count the sessions or rows that a number counts; raises CollectionError and ListNotMeasuredError."""
    counted = 0
    async with _snapshot(plan, name, subjects) as session:
        for subject in subjects:
            selection = await _selection(session, name, subject)
            [[rows, different, found]] = await fetch_or_blame(session, selection.count, _blame(name, subject))
            check_unrepeated(session.plan, rows, different)
            counted += found
        return await ended(session, counted)


def columns_of(plan: Plan, name: str, subject: str) -> tuple[str, ...]:
    """The keys of the rows of a list."""
    members = plan.lists[name]
    label = () if members.label is None else (members.label,)
    row = (ROW,) if isinstance(members, RowList) else ()
    return ("session", *label, *row, *plan.members(name, subject).columns)


ROW: Final = "row"
"""The key with the primary key of a row; None for a view, and for a table without a primary key."""

_TIMES: Final = frozenset({"started_at", "completed_at", "created_at"})


def _row(plan: Plan, members: Members, subject: str, selection: Selection, texts: Sequence[str | None]) -> Row:
    width, wide = len(selection.session), len(selection.session) + len(selection.row)
    row: dict[str, SessionValue] = {"session": session_value(plan.pipeline.sessions.key, texts[:width])}
    if members.label is not None:
        row[members.label] = subject
    if isinstance(members, RowList):
        row[ROW] = session_value(tuple(selection.row), texts[width:wide]) if selection.row else None
    for column, text in zip(selection.columns, texts[wide:], strict=True):
        if text is None:
            row[column] = None
        elif column == VALUES:
            row[column] = json.loads(text)
        else:
            row[column] = iso(text) if column in _TIMES else text
    return row


@asynccontextmanager
async def _snapshot(plan: Plan, name: str, subjects: Sequence[str]) -> AsyncIterator[Session]:
    """A snapshot in which the server accepts every expression of the list."""
    plan = replace(plan, keeps_row_keys=isinstance(plan.lists[name], RowList))
    async with whole_snapshot(plan, members_of_control(name), known_members(plan, name)) as session:
        parts = {part.path for subject in subjects for part in plan.read_by(name, subject)}
        if refused := [fault for path, fault in session.part_faults.items() if path in parts]:
            raise ListNotMeasuredError(refused)
        yield session


def members_of_control(name: str) -> Count:
    """Counts the members of the control platform, by subject, as the list counts them."""

    async def count(session: Session) -> Told:
        found: dict[tuple[str, ...], float] = {}
        for subject in session.plan.lists[name].subjects(session.plan.pipeline):
            rows = await session.run(session.plan.members(name, subject).count, subject_of(session.plan, subject))
            found[subject,] = float(rows[0][-1])
        return {name: found}

    return count


def known_members(plan: Plan, name: str) -> Told:
    """The numbers of the control platform that the list explains, by subject."""
    if plan.control is None:
        return {}
    of_control, expected = plan.control.plan, plan.control.expected
    families = {metric: expected.get(metric.full_name, {}) for d in of_control.dimensions for metric in d.metrics}
    readings = Readings(of_control.pipeline, plan.control.clock.timestamp(), families)
    subjects = of_control.lists[name].subjects(of_control.pipeline)
    return {name: {(subject,): of_control.explained(name, subject, readings) for subject in subjects}}


async def _selection(session: Session, name: str, subject: str) -> Selection:
    plan = session.plan
    row_key = list(session.row_keys.get(subject, ()))
    if isinstance(plan.lists[name], RowList) and subject in plan.pipeline.here:
        row_key = [column for (column,) in await session.run(plan.primary_key(subject), subject_of(plan, subject))]
    return plan.members(name, subject, row_key)


def _blame(name: str, subject: str) -> Blame:
    """The fault of the subject, after a refused statement."""

    async def blame(session: Session) -> Sequence[Fault]:
        await check_sessions(session)
        plan = session.plan
        paths = [f"pipelines.{plan.pipeline.name}.{part.path}" for part in plan.read_by(name, subject)]
        is_record = subject in plan.pipeline.records
        said = subject_of(plan, subject) if is_record else ", ".join(paths) or f"pipelines.{plan.pipeline.name}"
        refused = await session.attempt(plan.members(name, subject).count, said, is_rejection)
        return [refused] if isinstance(refused, Fault) else []

    return blame
