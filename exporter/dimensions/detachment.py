"""Detachment: do records of soft-deleted sessions still exist?"""

from typing import Final

from exporter.model.advice import Advice
from exporter.model.counting import Cells, Fact, Part, RecordMeasure, Rows, Scope
from exporter.model.dimension import Dimension
from exporter.model.judging import Limit, Readings, number_of
from exporter.model.listing import RowList
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
    help="SQL over this table: true for soft-deleted sessions; NULL is not deleted.",
    example="deleted_at is not null",
)

DETACHED = Metric(
    "detached_records",
    "Rows whose session is soft-deleted.  Absent if `sessions.deleted` is not set.",
    labels=("record",),
)


def _parts(pipeline: Pipeline) -> tuple[Part, ...]:
    return (Part("deleted", "sessions.deleted"),) if DELETED.of(pipeline.sessions) else ()


def _session_facts(scope: Scope) -> tuple[Fact, ...]:
    deleted = DELETED.of(scope.pipeline.sessions)
    is_asked = set(_parts(scope.pipeline)) <= set(scope.parts)
    return (Fact("deleted", lambda _bind: condition(deleted), of_rows=True),) if deleted and is_asked else ()


def _detached(_record: Record, sessions: Cells, _rows: Rows) -> Numbers:
    is_known = "deleted" in sessions.columns
    return {(): sessions.where(deleted=True).total("rows")} if is_known else {}


def _lines(readings: Readings) -> tuple[ReportLine, ...]:
    remedy = "" if DELETED.of(readings.pipeline.sessions) else "sessions.deleted, if sessions are soft-deleted"
    return tuple(
        ReportLine(
            "operation",
            f"Rows of {record} whose session is soft-deleted",
            readings.get(DETACHED, record),
            record=record,
            good="none",
            limit="detached_records",
            remedy=remedy,
        )
        for record in readings.pipeline.stored
    )


DETACHMENT = Dimension(
    name="detachment",
    question="Do records of soft-deleted sessions still exist?",
    measures=(RecordMeasure(DETACHED, _detached, of_rows=True),),
    keys=(DELETED,),
    limits=(
        Limit(
            "detached_records",
            "count",
            "Rows whose session is soft-deleted",
            number_of(DETACHED),
            Advice(
                "Records of deleted sessions still exist.",
                "The record table has rows of soft-deleted sessions (`sessions.deleted` is true).",
                (
                    "The deletion of a session does not delete the rows of this table.",
                    "A worker derived the record after the deletion of the session.",
                ),
                (
                    "List the rows (`list detached_records`).",
                    "Delete the rows, or mark the rows as deleted and exclude marked rows with `where`.",
                    "Extend the deletion of a session to the records.",
                ),
            ),
            per="record",
            needs=(("sessions", "deleted"), ("records", "*", "table")),
            members=RowList(
                lambda pipeline, _record: "deleted" if DELETED.of(pipeline.sessions) else None,
                by_session=True,
                needs="sessions.deleted",
            ),
        ),
    ),
    lines=_lines,
    parts=_parts,
    session_facts=_session_facts,
)
