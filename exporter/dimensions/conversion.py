"""Conversion: how many of those who start complete, and how many of these get all their records?"""

from collections.abc import Callable
from typing import Final

from exporter.dimension import (
    Cells,
    Column,
    Dimension,
    Limit,
    Metric,
    Part,
    Readings,
    Scope,
    SessionMeasure,
    Total,
    Values,
)
from exporter.schema import Expression, Key, Pipeline
from exporter.sql import Bindings, condition, conjunction, moment
from exporter.states import satisfies

COMPLETED: Final[Key[str | None]] = Key(
    "sessions",
    "completed",
    Expression | None,
    "sql",
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


def _session_facts(scope: Scope, bind: Bindings) -> tuple[Column, ...]:
    sessions = scope.pipeline.sessions
    written = COMPLETED.of(sessions)
    if scope.pipeline.cohort is None or not set(_parts(scope.pipeline)) <= set(scope.parts):
        return ()
    timed = f"{moment(sessions.completed_at, sessions.timezone, bind)} is not null"
    return (Column("reached_completion", condition(written) if written else timed),)


def _session_totals(scope: Scope, bind: Bindings) -> tuple[Total, ...]:
    if scope.pipeline.cohort is None:
        return ()
    started = Total("started", "count(*) filter (where in_cohort)")
    if not _session_facts(scope, bind):
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


def _step(step: str, total: str) -> Callable[[Pipeline, Cells], Values]:
    def read(_pipeline: Pipeline, sessions: Cells) -> Values:
        return {(step,): sessions.total(total)} if total in sessions.columns else {}

    return read


def _share(readings: Readings, step: str, of: str) -> tuple[float, float] | None:
    reached, base = readings.need(COHORT, step), readings.need(COHORT, of)
    return (reached / base, base) if base else None


def _conversion(readings: Readings, _subject: str) -> tuple[float, float] | None:
    return _share(readings, "covered", "completed")


def _completion(readings: Readings, _subject: str) -> tuple[float, float] | None:
    return _share(readings, "completed", "started")


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
            _conversion,
            below=True,
            needs=(("cohort",),),
        ),
        Limit(
            "completion_ratio",
            "ratio",
            "Completed sessions of the cohort, of those started",
            _completion,
            below=True,
            needs=(("cohort",),),
        ),
    ),
    parts=_parts,
    session_facts=_session_facts,
    session_totals=_session_totals,
)
