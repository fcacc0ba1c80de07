"""Stuck: does a session stay in a status for longer than is normal?"""

from typing import Final

from pydantic import ConfigDict, model_validator

from exporter.model.advice import Advice
from exporter.model.counting import Cells, Fact, Part, Scope, SessionMeasure, Total, sessions_where
from exporter.model.dimension import Dimension
from exporter.model.judging import Limit, Readings, total_of
from exporter.model.listing import SessionList
from exporter.model.metric import LABEL_LENGTH, NO_STATUS, LabelValue, Metric, Numbers
from exporter.model.reporting import ReportLine
from exporter.model.sections import Key, Pipeline, Section
from exporter.model.sql import Ago, Bindings, condition, conjunction, moment, quote, same_text
from exporter.model.values import ColumnName, Expression, Interval, TextList
from exporter.text.figures import format_exactly


class Stuck(Section):
    """A status that must not last: exactly one of statuses and where."""

    model_config = ConfigDict(json_schema_extra={"oneOf": [{"required": ["statuses"]}, {"required": ["where"]}]})

    statuses: TextList = ()
    """The statuses to watch, as text."""
    where: Expression | None = None
    """SQL over this table instead of statuses: true for the sessions to watch; NULL is not stuck."""
    since: ColumnName | None = None
    """The column with the start time of the status.  If not set: started_at."""
    after: Interval
    """The longest normal time in the status."""

    @model_validator(mode="after")
    def _has_one_condition(self) -> "Stuck":
        if bool(self.statuses) == bool(self.where):
            raise ValueError("needs exactly one of statuses (a list of texts) and where (SQL)")
        return self


STUCK_STATUS: Final[Key[Stuck | None]] = Key(
    "sessions",
    "stuck",
    Stuck | None,
    default=None,
    help="Statuses, or an SQL condition, with the longest normal time.",
    example={"statuses": ["in_progress"], "after": "2h"},
    needs=(("statuses", "status", "name the column, or write where (SQL)"),),
)

STUCK_SESSIONS = Metric(
    "stuck_sessions",
    "Sessions in the window that stay in a status for longer than `stuck.after`, by status.  Absent without `stuck`.",
    labels=("status",),
    open_label="status",
)


_IS_STUCK: Final = "is_stuck"


def _parts(pipeline: Pipeline) -> tuple[Part, ...]:
    stuck = STUCK_STATUS.of(pipeline.sessions)
    return (Part("stuck", "sessions.stuck.where"),) if stuck and stuck.where else ()


def _session_facts(scope: Scope) -> tuple[Fact, ...]:
    sessions, stuck = scope.pipeline.sessions, STUCK_STATUS.of(scope.pipeline.sessions)
    if stuck is None or not set(_parts(scope.pipeline)) <= set(scope.parts):
        return ()

    def sql(bind: Bindings) -> str:
        since = moment(quote(stuck.since or sessions.started_at), sessions.timezone, bind)
        is_late = f"{since} <= {bind(Ago(stuck.after), 'timestamptz')}"
        if stuck.where:
            return conjunction([condition(stuck.where), is_late])
        return conjunction(
            [f"{same_text(quote(sessions.status or ''))} = any({bind(stuck.statuses, 'text[]')})", is_late]
        )

    return (Fact(_IS_STUCK, sql, once_settled=False),)


def _session_totals(scope: Scope) -> tuple[Total, ...]:
    return tuple(Total("stuck", sessions_where(quote(fact.name))) for fact in _session_facts(scope))


def _by_status(pipeline: Pipeline, sessions: Cells) -> Numbers:
    stuck = STUCK_STATUS.of(pipeline.sessions)
    if stuck is None or "stuck" not in sessions.columns:
        return {}
    # A named status is there at 0, and so is every status of the window: a series that ends would hide a recovery.
    known: dict[tuple[LabelValue, ...], int] = {(status[:LABEL_LENGTH],): 0 for status in stuck.statuses}
    found = sessions.where(in_window=True).totals("stuck", "status")
    counts = {status: count for status, count in found.items() if stuck.where or status in known or count}
    return (known | counts) or known | {(NO_STATUS,): 0}


def _lines(readings: Readings) -> tuple[ReportLine, ...]:
    stuck = STUCK_STATUS.of(readings.pipeline.sessions)
    longer = f" for longer than {format_exactly(stuck.after.total_seconds(), 'seconds')}" if stuck else ""
    total = ReportLine(
        "arrival",
        f"Sessions that stay in a status{longer}",
        readings.total(STUCK_SESSIONS),
        good="none",
        limit="stuck_sessions",
        remedy="" if stuck else "sessions.stuck, if a status must not last",
        brief="stuck sessions",
    )
    by_status = sorted(readings.families.get(STUCK_SESSIONS, {}).items(), key=lambda item: -item[1])
    return (total, *(ReportLine("arrival", f"… {status}", count) for (status,), count in by_status if count))


STUCK = Dimension(
    name="stuck",
    question="Does a session stay in a status for longer than is normal?",
    measures=(SessionMeasure(STUCK_SESSIONS, _by_status),),
    keys=(STUCK_STATUS,),
    limits=(
        Limit(
            "stuck_sessions",
            "count",
            "Sessions that stay in a status for too long",
            total_of(STUCK_SESSIONS),
            Advice(
                "Sessions stay in a status for too long.",
                "Sessions of the window are in a status of `sessions.stuck.statuses`, or meet `sessions.stuck.where`, "
                "for longer than `sessions.stuck.after`.  A stuck session never completes: no record is missing, and "
                "no gap counts the session.",
                (
                    "The worker that completes sessions is down, or waits for another service.",
                    "The worker failed for these sessions and does not retry.",
                    "Users leave sessions open: the status is not a fault, or `after` is too short.",
                ),
                (
                    "List the sessions with status and start (`list stuck_sessions`).",
                    "Repair or restart the worker, and let the worker process these sessions again.",
                    "Cancel the sessions that no user continues, or set a longer `after`.",
                ),
            ),
            needs=(("sessions", "stuck"),),
            members=SessionList(
                lambda _pipeline, _subject: f"in_window and {quote(_IS_STUCK)}",
                lambda pipeline: ("",) if STUCK_STATUS.of(pipeline.sessions) else (),
                needs="sessions.stuck",
            ),
        ),
    ),
    lines=_lines,
    parts=_parts,
    session_facts=_session_facts,
    session_totals=_session_totals,
)
