"""Conformance: are the records at the version that they should be, and does anything still write an old one?"""

from collections.abc import Iterator

from exporter.model.advice import Advice, AsRead, Step
from exporter.model.counting import Cells, Facet, RecordMeasure, Rows, Total
from exporter.model.dimension import Dimension
from exporter.model.judging import Limit, Readings, number_of
from exporter.model.metric import LABEL_LENGTH, Folded, LabelValue, Metric, Numbers
from exporter.model.reporting import ReportLine
from exporter.model.sections import Record
from exporter.model.sql import Bindings, moment, quote
from exporter.model.states import version_class, version_text

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

FACET = "version"

UNVERSIONED = "<none>"
"""The version of a record that has none."""


def _facets(record: Record, bind: Bindings) -> tuple[Facet, ...]:
    text = version_text(record)
    # One version may be a megabyte of text: what exceeds the length of a label never crosses the wire.
    value = f"left({text}, {LABEL_LENGTH})" if text else f"'{UNVERSIONED}'::text"
    return (Facet(FACET, value, version_class(record, bind)),)


def _row_totals(record: Record, bind: Bindings) -> tuple[Total, ...]:
    if record.version is None or record.version.current_since is None or record.created_at is None:
        return ()
    written = moment(quote(record.created_at), record.timezone, bind)
    since = bind(record.version.current_since, "timestamptz")
    # A row without a time may have been written since.
    late = f"({written} < {since}) is not true"
    return (Total("drifted", f"count(*) filter (where {late} and {version_class(record, bind)} = 'other')"),)


def _with_known_versions(record: Record, counts: dict[tuple[LabelValue, ...], int]) -> Numbers:
    """The versions that the config names are always there, so that a count of 0 is seen."""
    known: dict[tuple[LabelValue, ...], int] = {}
    if record.version is None:
        known[(UNVERSIONED, "current")] = 0
    else:
        known[(record.version.current[:LABEL_LENGTH], "current")] = 0
        known |= {(version[:LABEL_LENGTH], "accepted"): 0 for version in record.version.accepted}
    return known | counts


def _sessions_by_version(record: Record, _sessions: Cells, rows: Rows) -> Numbers:
    of_sessions = rows.facet(FACET).where(analysed=True)
    return _with_known_versions(record, of_sessions.totals("sessions", "value", "category"))


def _rows_by_version(record: Record, _sessions: Cells, rows: Rows) -> Numbers:
    return _with_known_versions(record, rows.facet(FACET).totals("rows", "value", "category"))


def _drifted(record: Record, _sessions: Cells, rows: Rows) -> Numbers:
    if record.version is None or record.version.current_since is None:
        return {}
    return {(): rows.all.total("drifted")}


def _list(read: AsRead, record: str) -> str:
    section = read.pipeline.records[record]
    version = f"{version_text(section)} as version" if section.version else "null"
    latest = f"max({quote(section.created_at)})" if section.created_at else "count(*)"
    return f"select {version}, {latest} from {read.rows(record)} group by 1 order by 2 desc nulls last;"


def _lines_of(record: Record, readings: Readings) -> Iterator[ReportLine]:
    name, version = record.name, record.version
    if version is None:
        return
    having = readings.series(VERSION_SESSIONS, name)
    rows = readings.series(RECORDS, name)
    whole = sum(rows.values()) if rows else None
    old = sum(count for (_, kind), count in rows.items() if kind == "other") if rows else None
    for (text, kind), count in sorted(having.items(), key=lambda item: (_CLASSES.index(item[0][1]), -item[1])):
        # What is added up counts a session once for each of its versions.
        whole_numbers = text != str(Folded.OTHER.value)
        yield ReportLine("versions", f"{text} ({kind})", count, record=name, of_analysed=whole_numbers)
    if not having:
        yield ReportLine("versions", f"{version.current} (current)", None, record=name)
    yield ReportLine("consistency", f"Rows of {name} at a version that does not count", old, whole, name, good="none")
    drifted = readings.get(DRIFTED, name)
    remedy = "" if version.current_since else f"records.{name}.version.current_since and created_at"
    yield ReportLine(
        "consistency",
        f"Rows of {name} written at an old version since the current one is in force",
        drifted,
        record=name,
        good="none",
        limit="drifted_records",
        remedy=remedy,
    )


_CLASSES = ("current", "accepted", "other")


def _lines(readings: Readings) -> tuple[ReportLine, ...]:
    return tuple(line for record in readings.pipeline.records.values() for line in _lines_of(record, readings))


CONFORMANCE = Dimension(
    name="conformance",
    question="Are the records at the version that they should be?",
    measures=(
        RecordMeasure(VERSION_SESSIONS, _sessions_by_version),
        RecordMeasure(RECORDS, _rows_by_version),
        RecordMeasure(DRIFTED, _drifted),
    ),
    limits=(
        Limit(
            "drifted_records",
            "count",
            "Rows written at a wrong version though the current one is in force",
            number_of(DRIFTED),
            Advice(
                "Something still writes records of an old version.",
                "Rows were written since `version.current_since` (or have no time) whose version is neither the "
                "current nor an accepted one.  This is about rows, whatever their session: every new one is work for "
                "the next migration.",
                (
                    "A worker, a region or a cron job was not deployed with the others.",
                    "A deployment was rolled back, and the config still names the newer version.",
                    "A backfill was run with old code.",
                ),
                (
                    Step("See when the latest such row was written", _list),
                    "Find who writes it and deploy the current version there.",
                    "Derive these rows anew.  The alert ends when none is left.",
                ),
                dashboard="versions",
            ),
            per="record",
            needs=(("records", "*", "version", "current_since"),),
        ),
    ),
    lines=_lines,
    facets=_facets,
    row_totals=_row_totals,
)
