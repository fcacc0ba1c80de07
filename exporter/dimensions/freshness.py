"""Freshness: do new sessions and records arrive?"""

from collections.abc import Iterator

from exporter.model.advice import Advice
from exporter.model.counting import Cells, RecordMeasure, Rows, Scope, SessionMeasure, Total
from exporter.model.dimension import Dimension
from exporter.model.judging import Judged, Limit, Readings
from exporter.model.metric import Metric, Numbers
from exporter.model.reporting import ReportLine
from exporter.model.sections import Pipeline, Record
from exporter.model.states import due
from exporter.text.figures import format_value

NEWEST_SESSION = Metric(
    "newest_session_timestamp_seconds",
    "Latest start and, with `completed_at`, latest completion of the sessions in the window, times in the future "
    "excluded.  Absent without a session.",
    labels=("step",),
)
NEWEST_RECORD = Metric(
    "newest_record_timestamp_seconds",
    "Latest `created_at` of the record table, times in the future excluded.  Absent without a row, or if `created_at` "
    "is not set.",
    labels=("record",),
)
NEWEST_DUE = Metric(
    "newest_due_timestamp_seconds",
    "Latest completion of a session that needs this record, after the grace period.  If the newest record is older, "
    "the record is late.  Absent without a session, or if `created_at` is not set.",
    labels=("record",),
)


def _epoch(sql: str) -> str:
    return f"extract(epoch from {sql})::float8"


def _session_totals(_scope: Scope) -> tuple[Total, ...]:
    return (
        Total("newest_started", _epoch("max(newest_started) filter (where in_window)"), "max"),
        Total("newest_completed", _epoch("max(newest_completed) filter (where in_window)"), "max"),
    )


def _record_totals(record: Record) -> tuple[Total, ...]:
    if record.created_at is None:
        return ()
    is_due = f"analysed and required and {due(record.grace)}"
    return (Total("newest_due", _epoch(f"max(newest_completed) filter (where {is_due})"), "max"),)


def _row_totals(record: Record) -> tuple[Total, ...]:
    return (Total("newest_row", _epoch("max(newest)"), "max"),) if record.created_at else ()


def _newest_session(pipeline: Pipeline, sessions: Cells) -> Numbers:
    steps = ("started", "completed") if pipeline.sessions.completed_at else ("started",)
    found = {step: sessions.newest(f"newest_{step}") for step in steps}
    return {(step,): value for step, value in found.items() if value is not None}


def _newest_record(record: Record, _sessions: Cells, rows: Rows) -> Numbers:
    newest = rows.all.newest("newest_row") if record.created_at else None
    return {} if newest is None else {(): newest}


def _newest_due(record: Record, sessions: Cells, _rows: Rows) -> Numbers:
    newest = sessions.newest("newest_due") if record.created_at else None
    return {} if newest is None else {(): newest}


def _session_age(readings: Readings, _subject: str) -> float:
    """Without a session in the window, the length of the window: the least possible age."""
    newest = readings.get(NEWEST_SESSION, "started")
    return _window_length(readings) if newest is None else max(0.0, readings.clock - newest)


def _window_length(readings: Readings) -> float:
    return max(0.0, readings.clock - readings.pipeline.window.start(readings.clock))


def _no_session(readings: Readings, _subject: str) -> str:
    """The words in place of an age if the window has no session, else empty."""
    if readings.get(NEWEST_SESSION, "started") is not None:
        return ""
    return f"none in the window ({format_value(_window_length(readings), 'seconds')})"


def _record_age(readings: Readings, record: str) -> float | None:
    """The age of the newest record; None while no session waits for a newer record."""
    due = readings.get(NEWEST_DUE, record)
    newest = readings.get(NEWEST_RECORD, record)
    if due is None or (newest is not None and newest >= due):
        return None
    # Without any record: at least the time since the latest session was due.
    return readings.clock - (due if newest is None else newest)


def _lines_of(record: Record, readings: Readings) -> Iterator[ReportLine]:
    name, newest = record.name, readings.get(NEWEST_RECORD, record.name)
    if record.created_at is None:
        remedy = f"records.{name}.created_at"
        yield ReportLine(
            "arrival", f"Age of the newest row of {name}", None, record=name, unit="seconds", remedy=remedy
        )
        return
    age = None if newest is None else readings.clock - newest
    none = "none" if name in readings.measured else ""
    reason = "the table has no row with a time" if none and age is None else ""
    yield ReportLine(
        "arrival",
        f"Age of the newest row of {name}",
        age,
        record=name,
        unit="seconds",
        words=none,
        reason=reason,
        since=newest,
    )
    late = _record_age(readings, name)
    yield ReportLine(
        "arrival",
        f"Age of the newest row of {name} while sessions wait for a newer row",
        late,
        record=name,
        unit="seconds",
        good="none",
        limit="newest_record_age",
        words=none,
        reason="no session waits for a newer row" if none and late is None else "",
        since=None if late is None else readings.clock - late,
    )


def _lines(readings: Readings) -> tuple[ReportLine, ...]:
    newest = readings.get(NEWEST_SESSION, "started")
    of_records = (line for record in readings.pipeline.stored.values() for line in _lines_of(record, readings))
    return (
        ReportLine(
            "arrival",
            "Age of the newest session",
            None if newest is None else max(0.0, readings.clock - newest),
            unit="seconds",
            limit="newest_session_age",
            words=_no_session(readings, "") if readings.families else "",
            since=newest,
            brief="age of the newest session",
        ),
        *of_records,
    )


FRESHNESS = Dimension(
    name="freshness",
    question="Do new sessions and records arrive?",
    measures=(
        SessionMeasure(NEWEST_SESSION, _newest_session),
        RecordMeasure(NEWEST_RECORD, _newest_record, of_rows=True),
        RecordMeasure(NEWEST_DUE, _newest_due),
    ),
    limits=(
        Limit(
            "newest_session_age",
            "seconds",
            "Age of the newest session",
            Judged(_session_age, in_words=_no_session),
            Advice(
                "No new sessions arrive.",
                "The value is the time since the latest start of a session, or the length of the window without a "
                "session.  Other numbers can look healthy: absent sessions have no gaps.",
                (
                    "The platform is down, or the job that writes sessions to this database.",
                    "Traffic is low, as at night or on a holiday: the threshold is too low.",
                    (
                        "The exporter measures a database without writers: a disconnected replica, or the old primary "
                        "after a move."
                    ),
                ),
                (
                    "Check that the platform is up, and that the configured table has new sessions.",
                    "Check that `databases.*.url` names the database of the platform.",
                ),
                dashboard="timeliness",
            ),
            rounds=8,
        ),
        Limit(
            "newest_record_age",
            "seconds",
            "Age of the newest record while sessions wait for a newer record",
            Judged(_record_age, nothing="no session waits for a newer record"),
            Advice(
                "No new records arrive although sessions complete.",
                "A session that needs this record completed, the grace period is over, and no row was written since.  "
                "The value is the age of the newest row.  The pipeline stands still.",
                (
                    "The worker of this record is down, or gets no message about completed sessions.",
                    "Since a migration, the worker writes to another schema or database.",
                    "The worker runs, and fails for every session.",
                ),
                (
                    "Read the worker's log from the time of the newest record on (shown in the dashboard).",
                    "Start the worker, then run a backfill for the gaps since: SessionHealthSessionsWithGap.",
                ),
                dashboard="timeliness",
                gaps="",
            ),
            rounds=8,
            per="record",
            needs=(("records", "*", "created_at"),),
        ),
    ),
    lines=_lines,
    session_totals=_session_totals,
    record_totals=_record_totals,
    row_totals=_row_totals,
)
