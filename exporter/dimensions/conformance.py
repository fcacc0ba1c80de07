"""Conformance: do records have the current version, and does a worker still write an old version?"""

from collections.abc import Iterator, Mapping
from typing import Literal

from exporter.model.advice import Advice
from exporter.model.counting import Cells, Facet, Fact, RecordMeasure, Rows, Total, rows_where
from exporter.model.dimension import Dimension
from exporter.model.judging import Limit, Readings, UnmeasuredError, number_of
from exporter.model.listing import RowList
from exporter.model.metric import LABEL_LENGTH, Folded, LabelValue, Metric, Numbers
from exporter.model.reporting import ReportLine
from exporter.model.sections import Pipeline, Record
from exporter.model.sql import Bindings, moment, quote
from exporter.model.states import version_text

VERSION_SESSIONS = Metric(
    "record_version_sessions",
    "Eligible sessions in the window with a row of the version.",
    labels=("record", "version", "class"),
    open_label="version",
)
RECORDS = Metric(
    "records",
    "Rows of the record table by version, for all sessions.",
    labels=("record", "version", "class"),
    open_label="version",
)
DRIFTED = Metric(
    "drifted_records",
    "Rows written since `current_since` (or without a time) whose version is neither current nor accepted.  Absent if "
    "`current_since` is not set.",
    labels=("record",),
)

FACET = "version"

UNVERSIONED = "<none>"
"""The version label of a record without versions."""


def _facets(record: Record) -> tuple[Facet, ...]:
    text = version_text(record)
    if record.version is None or text is None:
        return (Facet(FACET, f"'{UNVERSIONED}'::text", {UNVERSIONED: "current"}),)
    known = {**dict.fromkeys(record.version.accepted, "accepted"), record.version.current: "current"}
    return (Facet(FACET, text, known, "other"),)


def _row_facts(record: Record) -> tuple[Fact, ...]:
    version, created, text = record.version, record.created_at, version_text(record)
    since = version.current_since if version else None
    if version is None or text is None or since is None or created is None:
        return ()

    def sql(bind: Bindings) -> str:
        written = moment(quote(created), record.timezone, bind)
        good = bind((version.current, *version.accepted), "text[]")
        # A row without a time may be newer than the current version.
        late = f"({written} < {bind(since, 'timestamptz')}) is not true"
        return f"{late} and ({text} = any({good})) is not true"

    return (Fact("has_drifted", sql),)


def _row_totals(record: Record) -> tuple[Total, ...]:
    return tuple(Total("drifted", rows_where(quote(fact.name))) for fact in _row_facts(record))


def _is_listed(_pipeline: Pipeline, record: Record) -> str | None:
    return next((quote(fact.name) for fact in _row_facts(record)), None)


def _version(record: Record, _bind: Bindings) -> Mapping[str, str]:
    return {"version": version_text(record) or "null::text"}


def _with_known_versions(record: Record, counts: dict[tuple[LabelValue, ...], int]) -> Numbers:
    """Add the versions in the config with a count of 0."""
    known: dict[tuple[LabelValue, ...], int] = {}
    if record.version is None:
        known[(UNVERSIONED, "current")] = 0
    else:
        known[(record.version.current[:LABEL_LENGTH], "current")] = 0
        known |= {(version[:LABEL_LENGTH], "accepted"): 0 for version in record.version.accepted}
    return known | counts


def _sessions_by_version(record: Record, _sessions: Cells, rows: Rows) -> Numbers:
    found = rows.sessions.get(FACET)
    return {} if found is None else _with_known_versions(record, found.totals("sessions", "value", "category"))


def _rows_by_version(record: Record, _sessions: Cells, rows: Rows) -> Numbers:
    return _with_known_versions(record, rows.facet(FACET).totals("rows", "value", "category"))


def _drifted(record: Record, _sessions: Cells, rows: Rows) -> Numbers:
    if record.version is None or record.version.current_since is None:
        return {}
    return {(): rows.all.total("drifted")}


def _lines_of(record: Record, readings: Readings) -> Iterator[ReportLine]:
    name, version = record.name, record.version
    if version is None:
        return
    having = readings.series(VERSION_SESSIONS, name)
    rows = readings.series(RECORDS, name)
    if any(kind not in _CLASSES for _, kind in (*having, *rows)):
        raise UnmeasuredError
    whole = sum(rows.values()) if rows else None
    old = sum(count for (_, kind), count in rows.items() if kind == "other") if rows else None
    for (text, kind), count in sorted(having.items(), key=lambda item: (_CLASSES.index(item[0][1]), -item[1])):
        # The sum in `<other>` counts a session once per version: the sum is no part of the sessions.
        whole_numbers = text != str(Folded.OTHER.value)
        good: Literal["all"] | None = "all" if kind == "current" else None
        yield ReportLine("versions", f"{text} ({kind})", count, record=name, good=good, of_analysed=whole_numbers)
    if not having:
        yield ReportLine("versions", f"{version.current} (current)", None, record=name)
    yield ReportLine(
        "consistency",
        f"Rows of {name} whose version is neither current nor accepted",
        old,
        whole,
        name,
        good="none",
        brief="rows of other versions",
    )
    drifted = readings.get(DRIFTED, name)
    remedy = "" if version.current_since else f"records.{name}.version.current_since and created_at"
    yield ReportLine(
        "consistency",
        f"Rows of {name} written with an old version since current_since",
        drifted,
        record=name,
        good="none",
        limit="drifted_records",
        remedy=remedy,
        brief="new rows of old versions",
    )


_CLASSES = ("current", "accepted", "other")


def _lines(readings: Readings) -> tuple[ReportLine, ...]:
    return tuple(line for record in readings.pipeline.stored.values() for line in _lines_of(record, readings))


CONFORMANCE = Dimension(
    name="conformance",
    question="Do the records have the current version?",
    measures=(
        RecordMeasure(VERSION_SESSIONS, _sessions_by_version, of_rows=True),
        RecordMeasure(RECORDS, _rows_by_version, of_rows=True),
        RecordMeasure(DRIFTED, _drifted, of_rows=True),
    ),
    limits=(
        Limit(
            "drifted_records",
            "count",
            "Rows written with an old version since current_since",
            number_of(DRIFTED),
            Advice(
                "New records are written with an old version.",
                "Rows written since `version.current_since`, or without a time, have a version other than `current` "
                "and `accepted`.  The limit counts the rows of all sessions.  Every new row of an old version needs a "
                "backfill later.",
                (
                    "A worker, a region or a cron job still runs the old release.",
                    "A deployment was rolled back, and the config still names the newer version.",
                    "A backfill ran with old code.",
                ),
                (
                    "List the rows with the version and the time (`list drifted_records`).",
                    "Find the writer of the old version, and deploy the current version there.",
                    "Derive the old rows again.  The alert ends when no old row is left.",
                ),
                dashboard="versions",
            ),
            per="record",
            needs=(("records", "*", "version", "current_since"),),
            members=RowList(_is_listed, columns=_version, needs="records.NAME.version.current_since and created_at"),
        ),
    ),
    lines=_lines,
    facets=_facets,
    row_facts=_row_facts,
    row_totals=_row_totals,
)
