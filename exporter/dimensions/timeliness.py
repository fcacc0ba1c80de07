"""Timeliness: how long after a session's completion do its records come?"""

from exporter.dimension import (
    Cells,
    Dimension,
    Limit,
    Metric,
    Readings,
    RecordMeasure,
    Rows,
    Scope,
    Spread,
    Values,
)
from exporter.schema import Record
from exporter.sql import Bindings

DELAY = Metric(
    "processing_delay_seconds",
    "From a session's completion to its first row that satisfies, over the cohort: so many percent of the sessions "
    "took at most that long (nearest rank); absent where there is none.",
    labels=("record", "percentile"),
)
DELAYED = Metric(
    "processing_delay_sessions",
    "How many sessions of the cohort the processing delay rests on: those with both times, the record's not the "
    "earlier one; absent without a cohort or created_at.",
    labels=("record",),
)

JUDGED_PERCENTILE = "95"


def _delay(record: Record) -> str:
    return f"delay:{record.name}"


def _session_spreads(scope: Scope, _bind: Bindings) -> tuple[Spread, ...]:
    # A record from before the completion is no answer to it: a clock is wrong, or the row was taken over.
    return tuple(
        Spread(
            _delay(record),
            f"extract(epoch from case when in_cohort and first_{n} >= completed then first_{n} - completed end)"
            "::float8",
        )
        for n, record in enumerate(scope.records, start=1)
        if scope.pipeline.cohort and record.created_at
    )


def _percentiles(record: Record, sessions: Cells, _rows: Rows) -> Values:
    if _delay(record) not in sessions.columns:
        return {}
    _count, percentiles = sessions.spread(_delay(record))
    return {(str(percentile),): value for percentile, value in percentiles.items()}


def _sessions(record: Record, sessions: Cells, _rows: Rows) -> Values:
    if _delay(record) not in sessions.columns:
        return {}
    count, _percentiles = sessions.spread(_delay(record))
    return {(): count}


def _judged(readings: Readings, record: str) -> float | None:
    readings.need(DELAYED, record)
    return readings.get(DELAY, record, JUDGED_PERCENTILE)


TIMELINESS = Dimension(
    name="timeliness",
    question="How long after a session's completion do its records come?",
    measures=(RecordMeasure(DELAY, _percentiles), RecordMeasure(DELAYED, _sessions)),
    limits=(
        Limit(
            "processing_delay_p95",
            "seconds",
            "Delay that 95 of 100 sessions of the cohort do not exceed",
            _judged,
            per="record",
            needs=(("cohort",), ("records", "*", "created_at")),
        ),
    ),
    session_spreads=_session_spreads,
)
