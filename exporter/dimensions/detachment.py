"""Detachment: are there records of sessions that were deleted softly?"""

from typing import Final

from exporter.model.advice import Advice, AsRead, Step
from exporter.model.counting import Cells, Fact, Part, RecordMeasure, Rows, Scope
from exporter.model.dimension import Dimension
from exporter.model.judging import Limit, Readings, number_of
from exporter.model.metric import Metric, Numbers
from exporter.model.reporting import ReportLine
from exporter.model.sections import Key, Pipeline, Record
from exporter.model.sql import condition
from exporter.model.values import Expression

DELETED: Final[Key[str | None]] = Key(
    "sessions",
    "deleted",
    Expression | None,
    default=None,
    help="SQL over this table: which sessions were deleted, though their rows are there; NULL is not deleted.",
    example="deleted_at is not null",
)

DETACHED = Metric(
    "detached_records",
    "Rows whose session was deleted softly; absent without the key deleted.",
    labels=("record",),
)


def _parts(pipeline: Pipeline) -> tuple[Part, ...]:
    return (Part("deleted", "sessions.deleted"),) if DELETED.of(pipeline.sessions) else ()


def _session_facts(scope: Scope) -> tuple[Fact, ...]:
    deleted = DELETED.of(scope.pipeline.sessions)
    is_asked = set(_parts(scope.pipeline)) <= set(scope.parts)
    return (Fact("deleted", lambda _bind: condition(deleted), of_rows=True),) if deleted and is_asked else ()


def _detached(_record: Record, _sessions: Cells, rows: Rows) -> Numbers:
    is_known = "deleted" in rows.all.columns
    return {(): rows.all.where(deleted=True).total("rows")} if is_known else {}


def _list(read: AsRead, record: str) -> str:
    deleted = read.sessions(DELETED.of(read.pipeline.sessions) or DELETED.example)
    return (
        f"select records.* from {read.rows(record)} where exists "
        f"(select 1 from {deleted} where {read.is_linked(record)});"
    )


def _lines(readings: Readings) -> tuple[ReportLine, ...]:
    remedy = "" if DELETED.of(readings.pipeline.sessions) else "sessions.deleted, where sessions are deleted softly"
    return tuple(
        ReportLine(
            "operation",
            f"Rows of {record} whose session was deleted softly",
            readings.get(DETACHED, record),
            record=record,
            good="none",
            limit="detached_records",
            remedy=remedy,
        )
        for record in readings.pipeline.records
    )


DETACHMENT = Dimension(
    name="detachment",
    question="Are there records of sessions that were deleted softly?",
    measures=(RecordMeasure(DETACHED, _detached),),
    keys=(DELETED,),
    limits=(
        Limit(
            "detached_records",
            "count",
            "Rows whose session was deleted softly",
            number_of(DETACHED),
            Advice(
                "Records of deleted sessions are still there.",
                "Rows belong to sessions for which `sessions.deleted` is true: the session was deleted softly, and "
                "what was derived from it was not.",
                (
                    "Deleting a session does not reach this table.",
                    "A worker derived the record after the session had been deleted.",
                ),
                (
                    Step("List them", _list),
                    "Delete them, or mark them as deleted and leave them out with `where`.",
                    "Let the deletion of a session reach its records.",
                ),
            ),
            per="record",
            needs=(("sessions", "deleted"),),
        ),
    ),
    lines=_lines,
    parts=_parts,
    session_facts=_session_facts,
)
