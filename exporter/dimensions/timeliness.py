"""Timeliness: how long after the completion of a session do the records arrive?"""

from collections.abc import Iterator

from exporter.model.advice import Advice
from exporter.model.counting import COHORT_PART, Cells, RecordMeasure, Rows, Scope, Spread
from exporter.model.dimension import Dimension
from exporter.model.judging import Judged, Limit, Readings
from exporter.model.metric import Metric, Numbers
from exporter.model.reporting import ReportLine
from exporter.model.sections import Record

DELAY = Metric(
    "processing_delay_seconds",
    "Time from the completion of a session to the first good row of the record (with `satisfied_by: every_row` or "
    "`rows`: to the last good row, once satisfied), as a percentile (nearest rank) over the cohort's sessions that "
    "need the record.  Absent without a measured session.",
    labels=("record", "percentile"),
)
DELAYED = Metric(
    "processing_delay_sessions",
    "Sessions of the cohort behind the processing delay: sessions that need the record, with both times, and the "
    "record not before the completion.  Absent if `cohort` or `created_at` is not set.",
    labels=("record",),
)

JUDGED_PERCENTILE = "95"


def _delay(record: Record) -> str:
    return f"delay:{record.name}"


def _spreads(scope: Scope) -> tuple[Spread, ...]:
    # A record from before the completion has no delay: a clock is wrong, or the row was copied.
    return tuple(
        Spread(
            _delay(record),
            f"extract(epoch from case when required_{n} and arrived_{n} >= completed"
            f" then arrived_{n} - completed end)::float8",
        )
        for n, record in enumerate(scope.records, start=1)
        if COHORT_PART in scope.parts and record.created_at
    )


def _percentiles(record: Record, _sessions: Cells, rows: Rows) -> Numbers:
    _count, percentiles = rows.spreads.get(_delay(record), (0, {}))
    return {(str(percentile),): value for percentile, value in percentiles.items()}


def _sessions(record: Record, _sessions: Cells, rows: Rows) -> Numbers:
    spread = rows.spreads.get(_delay(record))
    return {} if spread is None else {(): spread[0]}


def _judged(readings: Readings, record: str) -> float | None:
    readings.need(DELAYED, record)
    return readings.get(DELAY, record, JUDGED_PERCENTILE)


def _lines_of(record: Record, readings: Readings) -> Iterator[ReportLine]:
    name = record.name
    wanted = (("cohort", readings.pipeline.cohort), (f"records.{name}.created_at", record.created_at))
    remedy = " and ".join(key for key, given in wanted if not given)
    delays = readings.series(DELAY, name)
    if not delays:
        words = "" if readings.get(DELAYED, name) is None else "none"
        reason = "no session of the cohort has the record yet" if words else ""
        yield ReportLine("arrival", f"Delay of {name}", None, record=name, words=words, reason=reason, remedy=remedy)
    for (percentile,), delay in delays.items():
        yield ReportLine(
            "arrival",
            f"{percentile} of 100 sessions with {name} had the record within",
            delay,
            record=name,
            unit="seconds",
            limit="processing_delay_p95" if percentile == JUDGED_PERCENTILE else None,
        )


def _lines(readings: Readings) -> tuple[ReportLine, ...]:
    return tuple(line for record in readings.pipeline.stored.values() for line in _lines_of(record, readings))


TIMELINESS = Dimension(
    name="timeliness",
    question="How long after the completion of a session do the records arrive?",
    measures=(RecordMeasure(DELAY, _percentiles), RecordMeasure(DELAYED, _sessions)),
    limits=(
        Limit(
            "processing_delay_p95",
            "seconds",
            "Delay that 95 of 100 sessions of the cohort with the record do not exceed",
            Judged(_judged, nothing="no session of the cohort has the record yet"),
            Advice(
                "Records arrive too late after the completion of a session.",
                "5 of 100 sessions of the cohort with the record waited longer than the value, from completion to the "
                "first good row (with `satisfied_by: every_row` or `rows`: to the last good row).  "
                "Sessions that do not need the record, and gaps, do not count.",
                (
                    "More sessions complete than the workers can process.",
                    "A backfill fills old gaps: the delay of an old session counts from the backfill on.",
                    "A service that the worker calls has become slow.",
                ),
                (
                    (
                        "Look on the dashboard whether the median has moved as well (every session is slower) or the "
                        "tail alone (some sessions are slower)."
                    ),
                    "Add workers, or mend the service that keeps workers waiting.",
                    "After a backfill the alert ends once the cohort has moved on.",
                ),
                dashboard="timeliness",
            ),
            per="record",
            needs=(("cohort",), ("records", "*", "created_at")),
        ),
    ),
    lines=_lines,
    spreads=_spreads,
)
