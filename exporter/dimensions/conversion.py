"""Conversion: how many of those who start complete, and how many of these get all their records?"""

from typing import Final

from exporter.dimension import (
    Cells,
    Column,
    Dimension,
    Limit,
    Metric,
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


def _session_facts(scope: Scope, bind: Bindings) -> tuple[Column, ...]:
    sessions = scope.pipeline.sessions
    written = COMPLETED.of(sessions)
    timed = f"{moment(sessions.completed_at, sessions.timezone, bind)} is not null"
    return (Column("reached_completion", condition(written) if written else timed),)


def _session_totals(scope: Scope, _bind: Bindings) -> tuple[Total, ...]:
    covered = conjunction(
        [f"(not required_{n} or {satisfies(record, f'best_{n}')})" for n, record in enumerate(scope.records, start=1)]
    )
    completed = "in_cohort and reached_completion"
    return (
        Total("started", "count(*) filter (where in_cohort)"),
        Total("completed_of_cohort", f"count(*) filter (where {completed})"),
        Total("covered", f"count(*) filter (where {completed} and {covered})"),
    )


def _reached(pipeline: Pipeline, sessions: Cells) -> Values:
    if pipeline.cohort is None:
        return {}
    return {("started",): sessions.total("started"), ("completed",): sessions.total("completed_of_cohort")}


def _covered(pipeline: Pipeline, sessions: Cells) -> Values:
    return {} if pipeline.cohort is None else {("covered",): sessions.total("covered")}


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
    measures=(SessionMeasure(COHORT, _reached), SessionMeasure(COHORT, _covered, needs_every_record=True)),
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
    session_facts=_session_facts,
    session_totals=_session_totals,
)
