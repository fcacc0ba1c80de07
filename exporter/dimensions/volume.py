"""Volume: how many sessions exist, and are the times plausible?"""

from exporter.model.counting import Cells, GroupColumn, Scope, SessionMeasure, Total, sessions_where
from exporter.model.dimension import Dimension
from exporter.model.judging import Readings
from exporter.model.listing import SessionList
from exporter.model.metric import Metric, Numbers
from exporter.model.reporting import Caveat, ReportLine
from exporter.model.sections import Pipeline

SESSIONS = Metric(
    "sessions",
    "Sessions in the window, by status.",
    labels=("status",),
    open_label="status",
)
UNDATED = Metric("undated_sessions", "Sessions without a start time: outside every window.")
UNDATED_ELIGIBLE = Metric(
    "undated_eligible_sessions",
    "Eligible sessions without a start time: outside every window, records not checked.",
)
FUTURE = Metric("future_sessions", "Sessions in the window with a start or completion in the future.")


def _session_columns(_scope: Scope) -> tuple[GroupColumn, ...]:
    flags = (GroupColumn(name, name) for name in ("in_window", "undated", "future"))
    return (GroupColumn("status", "status", open=True), *flags)


def _by_status(_pipeline: Pipeline, sessions: Cells) -> Numbers:
    return sessions.where(in_window=True).totals("sessions", "status")


def _undated(_pipeline: Pipeline, sessions: Cells) -> Numbers:
    return {(): sessions.where(undated=True).total("sessions")}


def _undated_eligible(_pipeline: Pipeline, sessions: Cells) -> Numbers:
    return {(): sessions.total("undated_eligible")}


def _future(_pipeline: Pipeline, sessions: Cells) -> Numbers:
    return {(): sessions.where(in_window=True, future=True).total("sessions")}


def _session_totals(_scope: Scope) -> tuple[Total, ...]:
    return (Total("undated_eligible", sessions_where(_LOST)),)


_LOST = "eligible and undated"


def _caveats(readings: Readings) -> tuple[Caveat, ...]:
    lost = readings.need(UNDATED_ELIGIBLE)
    if not lost:
        return ()
    return (
        Caveat(
            "unknown",
            f"{lost:.0f} eligible sessions have no start time: they are outside every window, and their records are "
            f"not checked: list the sessions (list {UNDATED_ELIGIBLE.name}), and set the start time or exclude these "
            "sessions in eligible",
        ),
    )


def _lines(readings: Readings) -> tuple[ReportLine, ...]:
    statuses = sorted(readings.families.get(SESSIONS, {}).items(), key=lambda item: -item[1])
    if readings.pipeline.sessions.status is None:
        statuses = []
    undated = readings.get(UNDATED)
    # Without a session the family of statuses is empty.
    whole = None if undated is None else readings.total(SESSIONS) or 0.0
    where = readings.pipeline.sessions.where
    counted = f" where {' '.join(where.split())}" if where else ""
    return (
        ReportLine("state", f"Sessions in the window{counted}, eligible or not", whole),
        *(ReportLine("state", f"Sessions with the status {status}", count, whole) for (status,), count in statuses),
        ReportLine("quality", "Eligible sessions without a start time", readings.get(UNDATED_ELIGIBLE), good="none"),
        ReportLine("quality", "Sessions without a start time, outside every window", undated),
        ReportLine("quality", "Sessions with a start or completion in the future", readings.get(FUTURE)),
    )


VOLUME = Dimension(
    name="volume",
    question="How many sessions exist, and are the times plausible?",
    measures=(
        SessionMeasure(SESSIONS, _by_status),
        SessionMeasure(UNDATED, _undated),
        SessionMeasure(UNDATED_ELIGIBLE, _undated_eligible),
        SessionMeasure(FUTURE, _future),
    ),
    lists={
        UNDATED.name: SessionList(lambda _pipeline, _subject: "undated"),
        UNDATED_ELIGIBLE.name: SessionList(lambda _pipeline, _subject: _LOST),
        FUTURE.name: SessionList(lambda _pipeline, _subject: "in_window and future"),
    },
    caveats=_caveats,
    lines=_lines,
    session_totals=_session_totals,
    session_columns=_session_columns,
)
