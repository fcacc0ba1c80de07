"""Conformance: are the records at the version that they should be, and does anything still write an old one?"""

from exporter.dimension import LABEL_LENGTH, Cells, Column, Dimension, LabelValue, Metric, RecordMeasure, Total, Values
from exporter.schema import Record
from exporter.sql import Bindings, quote
from exporter.states import version_class, version_text

VERSION_SESSIONS = Metric(
    "record_version_sessions",
    "Eligible sessions in the window that have a row of that version.",
    labels=("record", "version", "class"),
    open_label="version",
)
RECORDS = Metric(
    "records",
    "Rows of the record table by version, whatever their session.",
    labels=("record", "version", "class"),
    open_label="version",
)
DRIFTED = Metric(
    "drifted_records",
    "Rows written since the current version is in force (or without a time) that are neither of it nor of "
    "an accepted one; absent without current_since.",
    labels=("record",),
)

UNVERSIONED = "<none>"
"""The version of a record that has none."""


def _row_columns(record: Record, bind: Bindings) -> tuple[Column, ...]:
    text = version_text(record)
    return (
        # One version may be a megabyte of text: what exceeds the length of a label never crosses the wire.
        Column("version", f"left({text}, {LABEL_LENGTH})" if text else f"'{UNVERSIONED}'", open=True),
        Column("class", version_class(record, bind)),
    )


def _row_totals(record: Record, bind: Bindings) -> tuple[Total, ...]:
    if record.version is None or record.version.current_since is None or record.created_at is None:
        return ()
    written = quote(record.created_at)
    since = bind(record.version.current_since, "timestamptz")
    late = f"({written} >= {since} and {written} < 'infinity') is true"
    undated = f"{written} is null or {written} in ('infinity', '-infinity')"
    return (
        Total(
            "drifted",
            f"count(*) filter (where ({late} or {undated}) and {version_class(record, bind)} = 'other')",
        ),
    )


def _with_known_versions(record: Record, counts: dict[tuple[LabelValue, ...], int]) -> Values:
    """The versions that the config names are always there, so that a count of 0 is seen."""
    known: dict[tuple[LabelValue, ...], int] = {}
    if record.version is None:
        known[(UNVERSIONED, "current")] = 0
    else:
        known[(record.version.current[:LABEL_LENGTH], "current")] = 0
        known |= {(version[:LABEL_LENGTH], "accepted"): 0 for version in record.version.accepted}
    return known | counts


def _sessions_by_version(record: Record, _sessions: Cells, rows: Cells) -> Values:
    return _with_known_versions(record, rows.where(analysed=True).totals("sessions", "version", "class"))


def _rows_by_version(record: Record, _sessions: Cells, rows: Cells) -> Values:
    return _with_known_versions(record, rows.totals("rows", "version", "class"))


def _drifted(record: Record, _sessions: Cells, rows: Cells) -> Values:
    if record.version is None or record.version.current_since is None:
        return {}
    return {(): rows.total("drifted")}


CONFORMANCE = Dimension(
    name="conformance",
    question="Are the records at the version that they should be?",
    measures=(
        RecordMeasure(VERSION_SESSIONS, _sessions_by_version),
        RecordMeasure(RECORDS, _rows_by_version),
        RecordMeasure(DRIFTED, _drifted),
    ),
    row_columns=_row_columns,
    row_totals=_row_totals,
)
