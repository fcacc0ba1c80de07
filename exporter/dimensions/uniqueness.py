"""Uniqueness: does every record exist only once?"""

from collections.abc import Mapping
from typing import Final

from exporter.model.advice import Advice, Step
from exporter.model.counting import Cells, RecordMeasure, Repeats, Rows
from exporter.model.dimension import Dimension
from exporter.model.judging import Limit, Readings, number_of
from exporter.model.listing import VALUES, RowList
from exporter.model.metric import Metric, Numbers
from exporter.model.reporting import ReportLine
from exporter.model.sections import Key, Pipeline, Record
from exporter.model.sql import Bindings, conjunction, moment, quote, text_literal
from exporter.model.values import Columns

UNIQUE: Final[Key[tuple[str, ...] | None]] = Key(
    "record",
    "unique",
    Columns | None,
    default=None,
    help="Columns whose values no two rows may share; a row with a NULL in one of the columns is no duplicate.",
    example=["order_id", "kind"],
)

DUPLICATES = Metric(
    "duplicate_records",
    "Duplicate rows: all but one per value of the `unique` columns; rows with NULL in the columns are ignored.  Absent "
    "if `unique` is not set.",
    labels=("record",),
)

REPEATS = "duplicates"


def _repeats(record: Record) -> tuple[Repeats, ...]:
    columns = UNIQUE.of(record)
    return () if columns is None else (Repeats(REPEATS, columns),)


def _duplicates(_record: Record, _sessions: Cells, rows: Rows) -> Numbers:
    return {(): rows.repeats[REPEATS]} if REPEATS in rows.repeats else {}


def _copies(record: Record, bind: Bindings) -> Mapping[str, str]:
    """The values that must not repeat, and the number of the row among those with the same values, from 1."""
    columns = [quote(column) for column in UNIQUE.of(record) or ()]
    present = conjunction([f"{column} is not null" for column in columns])
    same = f"partition by {', '.join(columns)}"
    written = moment(quote(record.created_at), record.timezone, bind) if record.created_at else "null::timestamptz"
    values = ", ".join(f"{text_literal(column)}, {quote(column)}::text" for column in UNIQUE.of(record) or ())
    return {
        VALUES: f"pg_catalog.jsonb_build_object({values})",
        "copy": f"case when {present} then row_number() over ({same} order by {written}) end",
        "copies": f"case when {present} then count(*) over ({same}) end",
    }


def _forbid(pipeline: Pipeline, record: str) -> str:
    section = pipeline.records[record]
    unique = UNIQUE.of(section) or ()
    if section.where or not section.computed.keys().isdisjoint(unique):
        return ""  # Rows that `where` excludes may be duplicates.
    columns = ", ".join(map(quote, unique))
    return f"create unique index concurrently on {section.table.sql} ({columns});"


def _line(record: Record, readings: Readings) -> ReportLine:
    columns = UNIQUE.of(record)
    return ReportLine(
        "quality",
        f"Duplicate rows by {', '.join(columns)}" if columns else "Duplicate rows",
        readings.get(DUPLICATES, record.name),
        record=record.name,
        good="none",
        limit="duplicate_records",
        remedy="" if columns else f"records.{record.name}.unique",
        brief="duplicates",
    )


def _lines(readings: Readings) -> tuple[ReportLine, ...]:
    return tuple(_line(record, readings) for record in readings.pipeline.stored.values())


UNIQUENESS = Dimension(
    name="uniqueness",
    question="Does every record exist only once?",
    measures=(RecordMeasure(DUPLICATES, _duplicates, of_rows=True),),
    keys=(UNIQUE,),
    limits=(
        Limit(
            "duplicate_records",
            "count",
            "Duplicate rows",
            number_of(DUPLICATES),
            Advice(
                "Records are duplicated.",
                "Rows have the same values in the columns of `unique`.  The value counts all but one row per key.  "
                "A reader of a duplicated record gets any of the rows.",
                (
                    (
                        "The worker ran twice for a session, or two workers ran at once, without a unique index in the "
                        "database."
                    ),
                    "A backfill inserted rows instead of replacing rows.",
                ),
                (
                    "List the rows with the same values (`list duplicate_records`).",
                    "Keep the correct row, delete the other rows.",
                    Step("Prevent duplicates with a unique index on the table", _forbid),
                ),
            ),
            per="record",
            needs=(("records", "*", "unique"),),
            members=RowList(
                lambda _pipeline, record: "copies > 1" if UNIQUE.of(record) else None,
                columns=_copies,
                ordered_by=(VALUES, "copy"),
                counted="copy > 1",
                needs="records.NAME.unique",
            ),
        ),
    ),
    lines=_lines,
    repeats=_repeats,
)
