"""Uniqueness: is every record there once?"""

from typing import Final

from exporter.dimension import Cells, Dimension, Facet, Limit, Metric, RecordMeasure, Rows, Total, Values, number_of
from exporter.schema import Columns, Key, Record
from exporter.sql import Bindings, quote

UNIQUE: Final[Key[tuple[str, ...] | None]] = Key(
    "record",
    "unique",
    Columns | None,
    "columns",
    default=None,
    help="The columns of which no two rows may have the same values; a row with a NULL in one is no duplicate.",
    example=["order_id", "kind"],
)

DUPLICATES = Metric(
    "duplicate_records",
    "Rows in excess of one for each key of unique, a NULL in which makes none; absent without unique.",
    labels=("record",),
)

FACET = "duplicates"


def _facets(record: Record, _bind: Bindings) -> tuple[Facet, ...]:
    columns = UNIQUE.of(record)
    if columns is None:
        return ()
    names = [quote(column) for column in columns]
    # As in a UNIQUE constraint, a NULL equals nothing.
    present = " and ".join(f"{name} is not null" for name in names)
    return (Facet(FACET, by=tuple(names), where=present, having="count(*) > 1"),)


def _row_totals(record: Record, _bind: Bindings) -> tuple[Total, ...]:
    return () if UNIQUE.of(record) is None else (Total("in_excess", "count(*) - 1"),)


def _duplicates(record: Record, _sessions: Cells, rows: Rows) -> Values:
    return {} if UNIQUE.of(record) is None else {(): rows.facet(FACET).total("in_excess")}


UNIQUENESS = Dimension(
    name="uniqueness",
    question="Is every record there once?",
    measures=(RecordMeasure(DUPLICATES, _duplicates),),
    keys=(UNIQUE,),
    limits=(
        Limit(
            "duplicate_records",
            "count",
            "Rows in excess of one for each unique key",
            number_of(DUPLICATES),
            per="record",
            needs=(("records", "*", "unique"),),
        ),
    ),
    facets=_facets,
    row_totals=_row_totals,
)
