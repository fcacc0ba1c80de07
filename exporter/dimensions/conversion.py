"""Conversion: how many started sessions complete, and how many completed sessions get all required records?"""

from collections.abc import Callable
from typing import Final

from exporter.model.advice import Advice
from exporter.model.counting import COHORT_PART, Cells, Fact, Part, Scope, SessionMeasure, Total, sessions_where
from exporter.model.dimension import Dimension
from exporter.model.judging import Judged, Limit, Readings
from exporter.model.metric import Metric, Numbers
from exporter.model.reporting import ReportLine
from exporter.model.sections import Key, Pipeline
from exporter.model.sql import Bindings, condition, conjunction, moment, quote
from exporter.model.states import satisfies
from exporter.model.values import Expression

COMPLETED: Final[Key[str | None]] = Key(
    "sessions",
    "completed",
    Expression | None,
    default=None,
    help="SQL: true for completed sessions.  Default: sessions with a time in completed_at; without the key, eligible "
    "sessions.",
    example="status <> 'open'",
)

COHORT = Metric(
    "cohort_sessions",
    "Sessions of the cohort that reached a step: started, completed, or covered (completed, with every required "
    "record).  Each step is part of the step before.  Absent if `cohort` is not set.",
    labels=("step",),
)


_WRITTEN: Final = Part("completed", "sessions.completed")


def _parts(pipeline: Pipeline) -> tuple[Part, ...]:
    if pipeline.cohort is None:
        return ()
    return (COHORT_PART, _WRITTEN) if COMPLETED.of(pipeline.sessions) is not None else (COHORT_PART,)


def _session_facts(scope: Scope) -> tuple[Fact, ...]:
    sessions = scope.pipeline.sessions
    written = COMPLETED.of(sessions)
    if not set(_parts(scope.pipeline)) <= set(scope.parts) or scope.pipeline.cohort is None:
        return ()

    def sql(bind: Bindings) -> str:
        if written or sessions.completed_at is None:
            return condition(written or sessions.eligible)
        return f"{moment(quote(sessions.completed_at), sessions.timezone, bind)} is not null"

    return (Fact("reached_completion", sql),)


def _session_totals(scope: Scope) -> tuple[Total, ...]:
    if COHORT_PART not in scope.parts:
        return ()
    started = Total("started", sessions_where("in_cohort"))
    if not _session_facts(scope):
        return (started,)
    covered = conjunction(
        [f"(not required_{n} or {satisfies(record, f'rank_{n}')})" for n, record in enumerate(scope.records, start=1)]
    )
    completed = "in_cohort and reached_completion"
    return (
        started,
        Total("completed_of_cohort", sessions_where(completed)),
        Total("covered", sessions_where(f"{completed} and {covered}")),
    )


def _step(step: str, total: str) -> Callable[[Pipeline, Cells], Numbers]:
    def read(_pipeline: Pipeline, sessions: Cells) -> Numbers:
        return {(step,): sessions.total(total)} if total in sessions.columns else {}

    return read


def _share(readings: Readings, step: str, of: str) -> tuple[float, float] | None:
    reached, base = readings.need(COHORT, step), readings.need(COHORT, of)
    return (reached / base, base) if base else None


def _conversion(readings: Readings, _subject: str) -> tuple[float, float] | None:
    return _share(readings, "covered", "completed")


def _completion(readings: Readings, _subject: str) -> tuple[float, float] | None:
    return _share(readings, "completed", "started")


def _lines(readings: Readings) -> tuple[ReportLine, ...]:
    started, completed, covered = (readings.get(COHORT, step) for step in ("started", "completed", "covered"))
    remedy = "" if readings.pipeline.cohort else "cohort"
    return (
        ReportLine(
            "arrival",
            "Completed sessions of the cohort",
            completed,
            started,
            limit="completion_ratio",
            remedy=remedy,
        ),
        ReportLine(
            "arrival",
            "Completed sessions of the cohort with every record",
            covered,
            completed,
            good="all",
            limit="conversion_ratio",
            remedy=remedy,
        ),
    )


CONVERSION = Dimension(
    name="conversion",
    question="How many started sessions complete, and how many completed sessions get all required records?",
    measures=(
        SessionMeasure(COHORT, _step("started", "started")),
        SessionMeasure(COHORT, _step("completed", "completed_of_cohort")),
        SessionMeasure(COHORT, _step("covered", "covered"), needs_every_record=True),
    ),
    keys=(COMPLETED,),
    limits=(
        Limit(
            "conversion_ratio",
            "ratio",
            "Share of the cohort's completed sessions with every record",
            Judged(_conversion, nothing="no session of the cohort was completed"),
            Advice(
                "Too few completed sessions get all required records.",
                "The ratio is the share of the cohort's completed sessions with every required record, eligible or "
                "not.  The cohort is older than `maturity`: the pipeline has had time for the records.",
                (
                    "A worker is down or fails for some sessions: the number of gaps grows too.",
                    "More completed sessions than before are not eligible, and get no records.",
                    "`maturity` is shorter than the pipeline's processing time.",
                ),
                (
                    "If sessions have gaps, run a backfill: SessionHealthSessionsWithGap.",
                    (
                        "Without gaps, find the completed sessions that are not eligible: compare "
                        "`session_health_sessions` by status with `session_health_eligible_sessions`."
                    ),
                ),
                dashboard="timeliness",
                gaps="",
            ),
            below=True,
            needs=(("cohort",),),
        ),
        Limit(
            "completion_ratio",
            "ratio",
            "Share of the cohort's started sessions that completed",
            Judged(_completion, nothing="no session started in the cohort"),
            Advice(
                "Too few started sessions are completed.",
                "The ratio is the share of the cohort's started sessions that completed.  Users leave, or the platform "
                "keeps users from finishing.",
                (
                    "A release broke a step of the session.",
                    "A job that completes sessions (payment, upload, time-out) does not run.",
                    "Machines start sessions: a crawler, a load test.",
                ),
                (
                    "See the status of the open sessions: `session_health_sessions` by status.",
                    "Compare the time of the drop with the platform's releases.",
                ),
                dashboard="timeliness",
            ),
            below=True,
            needs=(("cohort",),),
        ),
    ),
    lines=_lines,
    parts=_parts,
    session_facts=_session_facts,
    session_totals=_session_totals,
)
