"""Volume: how many sessions are there, and can their times be believed?"""

from exporter.dimension import Cells, Column, Dimension, Metric, Scope, SessionMeasure, Values
from exporter.schema import Pipeline
from exporter.sql import Bindings, Moment

SESSIONS = Metric("sessions", "Sessions in the window, by status.", labels=("status",), open_label="status")
UNDATED = Metric("undated_sessions", "Sessions without a start time, so in no window.")
FUTURE = Metric("future_sessions", "Sessions in the window whose start or completion lies in the future.")


def _session_columns(_scope: Scope, bind: Bindings) -> tuple[Column, ...]:
    clock = bind(Moment.CLOCK, "timestamptz")
    return (
        Column("status", "status", open=True),
        Column("in_window", "in_window"),
        Column("undated", "started is null"),
        Column("future", f"(started > {clock}) is true or (completed > {clock}) is true"),
    )


def _by_status(_pipeline: Pipeline, sessions: Cells) -> Values:
    return sessions.where(in_window=True).totals("sessions", "status")


def _undated(_pipeline: Pipeline, sessions: Cells) -> Values:
    return {(): sessions.where(undated=True).total("sessions")}


def _future(_pipeline: Pipeline, sessions: Cells) -> Values:
    return {(): sessions.where(in_window=True, future=True).total("sessions")}


VOLUME = Dimension(
    name="volume",
    question="How many sessions are there, and can their times be believed?",
    measures=(
        SessionMeasure(SESSIONS, _by_status),
        SessionMeasure(UNDATED, _undated),
        SessionMeasure(FUTURE, _future),
    ),
    session_columns=_session_columns,
)
