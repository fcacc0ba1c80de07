"""Freshness: does anything new arrive?"""

from exporter.dimension import (
    Cells,
    Dimension,
    Limit,
    Metric,
    Readings,
    RecordMeasure,
    Rows,
    Scope,
    SessionMeasure,
    Total,
    Values,
)
from exporter.schema import Pipeline, Record
from exporter.sql import Bindings, Moment, moment

NEWEST_SESSION = Metric(
    "newest_session_timestamp_seconds",
    "When the newest session in the window started, and when the newest completed, the future excluded; absent where "
    "there is none.",
    labels=("step",),
)
NEWEST_RECORD = Metric(
    "newest_record_timestamp_seconds",
    "When the newest row of the record table was written, the future excluded; absent where there is none, and "
    "without created_at.",
    labels=("record",),
)
NEWEST_DUE = Metric(
    "newest_due_timestamp_seconds",
    "When the newest session completed that needs this record and whose grace is over: a newest record that is older "
    "is late; absent where there is none, and without created_at.",
    labels=("record",),
)


def _epoch(sql: str) -> str:
    return f"extract(epoch from {sql})::float8"


def _due(record: Record) -> str:
    return f"due:{record.name}"


def _session_totals(scope: Scope, bind: Bindings) -> tuple[Total, ...]:
    clock = bind(Moment.CLOCK, "timestamptz")
    due = (
        Total(
            _due(record),
            _epoch(
                f"max(completed) filter (where analysed and required_{n}"
                f" and completed <= {clock} - {bind(record.grace, 'interval')})"
            ),
            "max",
        )
        for n, record in enumerate(scope.records, start=1)
        if record.created_at
    )
    return (
        Total("newest_started", _epoch(f"max(started) filter (where in_window and started <= {clock})"), "max"),
        Total("newest_completed", _epoch(f"max(completed) filter (where in_window and completed <= {clock})"), "max"),
        *due,
    )


def _row_totals(record: Record, bind: Bindings) -> tuple[Total, ...]:
    if record.created_at is None:
        return ()
    written = moment(record.created_at, record.timezone, bind)
    clock = bind(Moment.CLOCK, "timestamptz")
    return (Total("newest_row", _epoch(f"max({written}) filter (where {written} <= {clock})"), "max"),)


def _newest_session(_pipeline: Pipeline, sessions: Cells) -> Values:
    found = {step: sessions.newest(f"newest_{step}") for step in ("started", "completed")}
    return {(step,): value for step, value in found.items() if value is not None}


def _newest_record(record: Record, _sessions: Cells, rows: Rows) -> Values:
    newest = rows.all.newest("newest_row") if record.created_at else None
    return {} if newest is None else {(): newest}


def _newest_due(record: Record, sessions: Cells, _rows: Rows) -> Values:
    newest = sessions.newest(_due(record)) if record.created_at else None
    return {} if newest is None else {(): newest}


def _session_age(readings: Readings, _subject: str) -> float:
    newest = readings.get(NEWEST_SESSION, "started")
    if newest is None:
        # None since the window began: the age is unknown, but no less than that.
        newest = readings.pipeline.window.start(readings.clock)
    return max(0.0, readings.clock - newest)


def _record_age(readings: Readings, record: str) -> float | None:
    """None while no session waits for a newer record."""
    due = readings.get(NEWEST_DUE, record)
    newest = readings.get(NEWEST_RECORD, record)
    if due is None or (newest is not None and newest >= due):
        return None
    # Where there is no record at all, it has been missing since a session was due at the latest.
    return readings.clock - (due if newest is None else newest)


FRESHNESS = Dimension(
    name="freshness",
    question="Does anything new arrive?",
    measures=(
        SessionMeasure(NEWEST_SESSION, _newest_session),
        RecordMeasure(NEWEST_RECORD, _newest_record),
        RecordMeasure(NEWEST_DUE, _newest_due),
    ),
    limits=(
        Limit("newest_session_age", "seconds", "Age of the newest session", _session_age),
        Limit(
            "newest_record_age",
            "seconds",
            "Age of the newest record while sessions wait for a newer one",
            _record_age,
            per="record",
            needs=(("records", "*", "created_at"),),
        ),
    ),
    session_totals=_session_totals,
    row_totals=_row_totals,
)
