"""Coverage: does every eligible session have the records that it needs?"""

from exporter.dimension import (
    Cells,
    Column,
    Dimension,
    Metric,
    RecordMeasure,
    SessionMeasure,
    Total,
    Values,
)
from exporter.schema import Pipeline, Record
from exporter.sql import Bindings
from exporter.states import (
    GAP_REASONS,
    SESSION_STATES,
    STATES,
    SessionState,
    gap_reasons,
    state,
    state_column,
)

ELIGIBLE = Metric(
    "eligible_sessions",
    "Eligible sessions in the window: complete, pending (within the grace) or a gap; the sum is the number analysed.",
    labels=("state",),
)
RECORD_SESSIONS = Metric(
    "record_sessions",
    "Eligible sessions in the window by the state of one record; the sum is the number analysed.",
    labels=("record", "state"),
)
GAP_SESSIONS = Metric(
    "gap_sessions",
    "Eligible sessions in the window that are a gap because of this record.",
    labels=("record", "reason"),
)
GAP_OLDEST = Metric(
    "gap_oldest_timestamp_seconds",
    "Completion (else start) time of the oldest gap; absent when there is none.",
    labels=("record",),
)


def _session_columns(_pipeline: Pipeline, records: tuple[Record, ...], bind: Bindings) -> tuple[Column, ...]:
    states = (
        Column(
            state_column(record.name),
            f"case when analysed then {state(record, f'best_{n}', f'required_{n}', bind)} end",
        )
        for n, record in enumerate(records, start=1)
    )
    return (Column("analysed", "analysed"), *states)


def _eligible(pipeline: Pipeline, sessions: Cells) -> Values:
    """A session is a gap if any record is, else pending if any is, else complete."""
    gaps = {record.name: gap_reasons(record) for record in pipeline.records.values()}
    counts: dict[SessionState, int] = dict.fromkeys(SESSION_STATES, 0)
    by_states = sessions.where(analysed=True).totals("sessions", *map(state_column, gaps))
    for states, count in by_states.items():
        if any(state in reasons for state, reasons in zip(states, gaps.values(), strict=True)):
            counts["gap"] += count
        elif "pending" in states:
            counts["pending"] += count
        else:
            counts["complete"] += count
    return {(name,): count for name, count in counts.items()}


def _states(record: Record, sessions: Cells, _rows: Cells) -> Values:
    counts = sessions.where(analysed=True).totals("sessions", state_column(record.name))
    return {(name,): counts.get((name,), 0) for name in STATES}


def _gaps(record: Record, sessions: Cells, rows: Cells) -> Values:
    states = _states(record, sessions, rows)
    reasons = gap_reasons(record)
    return {(reason,): states[(reason,)] if reason in reasons else 0 for reason in GAP_REASONS}


def _oldest_gap(record: Record, sessions: Cells, _rows: Cells) -> Values:
    oldest = sessions.only(state_column(record.name), gap_reasons(record)).oldest("oldest")
    return {} if oldest is None else {(): oldest}


COVERAGE = Dimension(
    name="coverage",
    question="Does every eligible session have the records that it needs?",
    measures=(
        SessionMeasure(ELIGIBLE, _eligible, needs_every_record=True),
        RecordMeasure(RECORD_SESSIONS, _states),
        RecordMeasure(GAP_SESSIONS, _gaps),
        RecordMeasure(GAP_OLDEST, _oldest_gap),
    ),
    session_columns=_session_columns,
    session_totals=(Total("oldest", "extract(epoch from min(coalesce(completed, started)))::float8", "min"),),
)
