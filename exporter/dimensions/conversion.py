"""Conversion: how many of those who start complete, and how many of these get all their records?"""

from collections.abc import Callable
from typing import Final

from exporter.model.advice import Advice
from exporter.model.counting import Cells, Fact, Part, Scope, SessionMeasure, Total
from exporter.model.dimension import Dimension
from exporter.model.judging import Judged, Limit, PromQL, Readings, Select, series_of
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
    help="SQL over this table alone: which sessions are completed; those with a time in completed_at unless given.",
    example="status <> 'open'",
)

COHORT = Metric(
    "cohort_sessions",
    "Sessions of the cohort that reached a step: started, completed, covered (completed, and with every record that "
    "they need); each is part of the one before.  Absent without a cohort.",
    labels=("step",),
)


def _parts(pipeline: Pipeline) -> tuple[Part, ...]:
    is_written = COMPLETED.of(pipeline.sessions) is not None
    return (Part("completed", "sessions.completed"),) if is_written and pipeline.cohort else ()


def _session_facts(scope: Scope) -> tuple[Fact, ...]:
    sessions = scope.pipeline.sessions
    written = COMPLETED.of(sessions)
    if scope.pipeline.cohort is None or not set(_parts(scope.pipeline)) <= set(scope.parts):
        return ()

    def sql(bind: Bindings) -> str:
        timed = f"{moment(quote(sessions.completed_at), sessions.timezone, bind)} is not null"
        return condition(written) if written else timed

    return (Fact("reached_completion", sql),)


def _session_totals(scope: Scope, _bind: Bindings) -> tuple[Total, ...]:
    if scope.pipeline.cohort is None:
        return ()
    started = Total("started", "count(*) filter (where in_cohort)")
    if not _session_facts(scope):
        return (started,)
    covered = conjunction(
        [f"(not required_{n} or {satisfies(record, f'best_{n}')})" for n, record in enumerate(scope.records, start=1)]
    )
    completed = "in_cohort and reached_completion"
    return (
        started,
        Total("completed_of_cohort", f"count(*) filter (where {completed})"),
        Total("covered", f"count(*) filter (where {completed} and {covered})"),
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


def _share_in_promql(step: str, of: str) -> PromQL:
    reached, base = series_of(COHORT, step=step), series_of(COHORT, step=of)

    def written(select: Select) -> str:
        return f"{reached(select)}\n/\n({base(select)} > 0)"

    return written


def _lines(readings: Readings) -> tuple[ReportLine, ...]:
    started, completed, covered = (readings.get(COHORT, step) for step in ("started", "completed", "covered"))
    remedy = "" if readings.pipeline.cohort else "cohort"
    return (
        ReportLine(
            "operation",
            "Sessions of the cohort that were completed",
            completed,
            started,
            limit="completion_ratio",
            remedy=remedy,
        ),
        ReportLine(
            "operation",
            "Completed ones of these with every record",
            covered,
            completed,
            good="all",
            limit="conversion_ratio",
            remedy=remedy,
        ),
    )


CONVERSION = Dimension(
    name="conversion",
    question="How many of those who start complete, and how many of these get all their records?",
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
            "Sessions of the cohort with every record, of those completed",
            Judged(
                _conversion,
                _share_in_promql("covered", "completed"),
                rests_on=series_of(COHORT, step="completed"),
                nothing="no session of the cohort was completed",
            ),
            Advice(
                "Too few of the completed sessions get all their records.",
                "Of the sessions of the cohort that were completed, this share has every record that it needs, "
                "whatever `eligible` says.  The cohort is old enough (`maturity`) for records to have come.",
                (
                    "A worker is down or fails for some sessions: gaps grow too.",
                    "Completed sessions that are not eligible get no records, and there are more of them than before.",
                    "`maturity` is shorter than the pipeline takes.",
                ),
                (
                    "If there are gaps, mend those: SessionHealthSessionsWithGap.",
                    (
                        "If there are none, see which completed sessions are not eligible: `session_health_sessions` "
                        "by status, against `session_health_eligible_sessions`."
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
            "Completed sessions of the cohort, of those started",
            Judged(
                _completion,
                _share_in_promql("completed", "started"),
                rests_on=series_of(COHORT, step="started"),
                nothing="no session started in the cohort",
            ),
            Advice(
                "Too few of the sessions that start are completed.",
                "Of the sessions that started in the cohort's window, this share was completed.  Their users have "
                "left, or the platform does not let them finish.",
                (
                    "A release broke a step that users must take.",
                    "A job that completes sessions (payment, upload, time-out) does not run.",
                    "Sessions are started by machines: a crawler, a load test.",
                ),
                (
                    "See where they stand: `session_health_sessions` by status.",
                    "Compare the beginning of the fall with the platform's releases.",
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
