"""Segments: which tenants, regions or products have the gaps?"""

from collections.abc import Iterator
from typing import Annotated, Final

from pydantic import Field

from exporter.model.counting import Cells, Part, Scope, SessionMeasure, Total, sessions_where
from exporter.model.dimension import Dimension
from exporter.model.judging import Readings
from exporter.model.metric import Folded, LabelValue, Metric, Numbers
from exporter.model.reporting import ReportLine
from exporter.model.sections import Key, Pipeline, Record, Section
from exporter.model.sql import quote, same_text, text_literal
from exporter.model.states import SESSION_STATES, gap_reasons
from exporter.model.states import state as state_of
from exporter.model.values import COUNT, Columns

SHOWN: Final = 5
"""Segments in the report, at most."""


class Segment(Section):
    """What tells segments of sessions apart, such as the tenant; never a person."""

    columns: Columns
    """The column, or the list of columns, of this table: each combination of values is a segment."""
    top: Annotated[int, Field(ge=1, le=200), COUNT] = 20
    """Segments with numbers of their own, the most gaps first; the exporter adds up the rest in <other>."""
    least: Annotated[int, Field(ge=1), COUNT] = 1
    """Eligible sessions of a segment, at least; the exporter adds up smaller segments in <other>."""


SEGMENT: Final[Key[Segment | None]] = Key(
    "sessions",
    "segment",
    Segment | None,
    default=None,
    help="Columns that tell segments apart, such as the tenant: eligible sessions and gaps by segment.",
    example={"columns": ["tenant"], "top": 20, "least": 5},
)

SEGMENT_SESSIONS = Metric(
    "segment_sessions",
    "Eligible sessions in the window by segment and state: the `top` segments with the most gaps, and the rest as "
    "<other>.  The sum is the number of analysed sessions.  Absent without `segment`.",
    labels=("segment", "state"),
)
SEGMENT_GAPS = Metric(
    "segment_gap_sessions",
    "Eligible sessions in the window with a gap caused by this record, by segment, as in segment_sessions.  Absent "
    "without `segment`.",
    labels=("record", "segment"),
)


def _parts(pipeline: Pipeline) -> tuple[Part, ...]:
    return (Part("segment", "sessions.segment"),) if SEGMENT.of(pipeline.sessions) else ()


def _segment(scope: Scope) -> str | None:
    """A text of the columns; a part without a value reads <null>, as in labels."""
    segment = SEGMENT.of(scope.pipeline.sessions)
    if segment is None or not set(_parts(scope.pipeline)) <= set(scope.parts):
        return None
    texts = [same_text(quote(column)) for column in segment.columns]
    if len(texts) == 1:
        return texts[0]
    return " || ', ' || ".join(f"coalesce({text}, '<null>')" for text in texts)


def _kept(pipeline: Pipeline, cells: Cells) -> set[LabelValue]:
    """The segments with numbers of their own."""
    segment = SEGMENT.of(pipeline.sessions)
    if segment is None or "segment" not in cells.columns:
        return set()
    sizes = {name: count for (name,), count in cells.totals("sessions", "segment").items()}
    gaps = {
        name: count for (name,), count in cells.only("session_state", ["gap"]).totals("sessions", "segment").items()
    }
    large = [name for name, size in sizes.items() if size >= segment.least and not isinstance(name, Folded)]
    return {*sorted(large, key=lambda name: (-gaps.get(name, 0), -sizes[name], str(name or "")))[: segment.top]}


def _sessions(pipeline: Pipeline, cells: Cells) -> Numbers:
    if "segment" not in cells.columns:
        return {}
    kept = _kept(pipeline, cells)
    counts = cells.totals("sessions", "segment", "session_state")
    shown = {name if name in kept else Folded.OTHER for name, _ in counts}
    found: dict[tuple[LabelValue, ...], int] = {(name, state): 0 for name in shown for state in SESSION_STATES}
    for (name, state), count in counts.items():
        label = (name if name in kept else Folded.OTHER, state)
        found[label] = found.get(label, 0) + count
    return found


def _gaps_of(record: Record) -> str:
    return f"gaps of {record.name}"


def _totals(scope: Scope) -> tuple[Total, ...]:
    if _segment(scope) is None:
        return ()
    found = []
    for n, record in enumerate(scope.records, start=1):
        reasons = ", ".join(map(text_literal, gap_reasons(record)))
        of_record = state_of(record, quote(f"rank_{n}"), quote(f"required_{n}"))
        found.append(Total(_gaps_of(record), sessions_where(f"{of_record} in ({reasons})")))
    return tuple(found)


def _gaps(pipeline: Pipeline, cells: Cells) -> Numbers:
    kept = _kept(pipeline, cells)
    found: dict[tuple[LabelValue, ...], int] = {}
    for record in pipeline.records.values():
        if _gaps_of(record) in cells.columns:
            counts = cells.totals(_gaps_of(record), "segment")
            found |= {(record.name, name if name in kept else Folded.OTHER): 0 for (name,) in counts}
            for (name,), count in counts.items():
                label = (record.name, name if name in kept else Folded.OTHER)
                found[label] = found.get(label, 0) + count
    return found


def _by_segment(readings: Readings) -> Iterator[tuple[str, float, float]]:
    """The segments with gaps: name, gaps, and sessions that are complete or have a gap; the most gaps first."""
    found: dict[str, dict[str, float]] = {}
    for (name, state), count in readings.families.get(SEGMENT_SESSIONS, {}).items():
        found.setdefault(name, {})[state] = count
    rest = str(Folded.OTHER.value)
    ordered = sorted(found.items(), key=lambda item: (item[0] == rest, -item[1].get("gap", 0), item[0]))
    for name, states in ordered:
        if gaps := states.get("gap", 0):
            yield name, gaps, gaps + states.get("complete", 0)


def _lines(readings: Readings) -> tuple[ReportLine, ...]:
    worst = list(_by_segment(readings))
    return tuple(
        ReportLine("impact", f"Sessions with a gap of segment {name}", gaps, settled)
        for name, gaps, settled in worst[:SHOWN]
    )


SEGMENTS = Dimension(
    name="segments",
    question="Which segments of the sessions have the gaps?",
    measures=(
        SessionMeasure(SEGMENT_SESSIONS, _sessions, needs_every_record=True, by_segment=True),
        SessionMeasure(SEGMENT_GAPS, _gaps, by_segment=True),
    ),
    keys=(SEGMENT,),
    lines=_lines,
    parts=_parts,
    segment=_segment,
    segment_totals=_totals,
)
