"""Segments: which tenants, regions or products have the gaps?"""

from dataclasses import dataclass
from typing import Annotated, Final

from pydantic import Field

from exporter.model.advice import Advice
from exporter.model.counting import Cells, Part, Scope, SessionMeasure, Total, sessions_where
from exporter.model.dimension import Dimension
from exporter.model.judging import Judged, Limit, Readings, UnmeasuredError
from exporter.model.metric import Folded, LabelValue, Metric, Numbers, is_folded
from exporter.model.reporting import ReportLine
from exporter.model.sections import Key, Pipeline, RatioThresholds, Record, Section
from exporter.model.sql import quote, same_text, text_literal
from exporter.model.states import SESSION_STATES, gap_reasons
from exporter.model.states import state as state_of
from exporter.model.values import COUNT, Columns
from exporter.text.figures import format_value

SHOWN: Final = 5
"""Segments in the report, at most."""


GAP_RATIO: Final = "segment_gap_ratio"


class Segment(Section):
    """What tells segments of sessions apart, such as the tenant; never a person."""

    columns: Columns
    """The column, or the list of columns, of this table: each combination of values is a segment."""
    top: Annotated[int, Field(ge=1, le=200), COUNT] = 20
    """Segments with numbers of their own, half by gaps and half by share of gaps; the exporter adds up the rest."""
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
    "Eligible sessions in the window by segment and state: `top` segments, half with the most gaps and half with the "
    "largest shares of gaps, and the rest as <other>.  The sum is the number of analysed sessions.  Without a session "
    "only <other>.  Absent without `segment`.",
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
    """The segments with numbers of their own: half have the most gaps, half the largest shares of gaps."""
    segment = SEGMENT.of(pipeline.sessions)
    if segment is None or "segment" not in cells.columns:
        return set()
    sizes = {name: count for (name,), count in cells.totals("sessions", "segment").items()}
    gaps, complete = (
        {name: n for (name,), n in cells.only("session_state", [state]).totals("sessions", "segment").items()}
        for state in ("gap", "complete")
    )

    def by_gaps(name: LabelValue) -> tuple[float, int, str]:
        return -gaps.get(name, 0), -sizes[name], str(name or "")

    def by_share(name: LabelValue) -> tuple[float, float, int, str]:
        found = gaps.get(name, 0)
        return -found / max(1, found + complete.get(name, 0)), *by_gaps(name)

    large = [name for name, size in sizes.items() if size >= segment.least and not isinstance(name, Folded)]
    # A small segment without a single record has few gaps.
    most = sorted(large, key=by_gaps)[: -(-segment.top // 2)]
    rest = sorted({*large}.difference(most), key=by_share)
    return {*most, *rest[: segment.top - len(most)]}


def _sessions(pipeline: Pipeline, cells: Cells) -> Numbers:
    if "segment" not in cells.columns:
        return {}
    kept = _kept(pipeline, cells)
    counts = cells.totals("sessions", "segment", "session_state")
    # Without a session the numbers are 0, and not absent as after a fault.
    shown = {name if name in kept else Folded.OTHER for name, _ in counts} or {Folded.OTHER}
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
            shown = {name if name in kept else Folded.OTHER for (name,) in counts} or {Folded.OTHER}
            found |= {(record.name, name): 0 for name in shown}
            for (name,), count in counts.items():
                label = (record.name, name if name in kept else Folded.OTHER)
                found[label] = found.get(label, 0) + count
    return found


@dataclass(frozen=True, slots=True)
class _Standing:
    """A segment as on the metrics, with its sessions: with a gap, and settled (complete or with a gap)."""

    name: str
    gaps: float
    settled: float

    @property
    def share(self) -> float:
        return self.gaps / self.settled


def _settled(readings: Readings) -> list[_Standing]:
    """The segments with a settled session; raises UnmeasuredError."""
    found: dict[str, dict[str, float]] = {}
    for (name, state), count in readings.families.get(SEGMENT_SESSIONS, {}).items():
        found.setdefault(name, {})[state] = count
    if not found:
        raise UnmeasuredError
    counts = ((name, states.get("gap", 0), states.get("complete", 0)) for name, states in found.items())
    standings = (_Standing(name, gaps, gaps + complete) for name, gaps, complete in counts)
    return [one for one in standings if one.settled]


def _worst(readings: Readings) -> _Standing | None:
    """The segment with the largest share of gaps; if every segment has too few sessions, the largest segment."""
    given = readings.pipeline.limits.of(GAP_RATIO)
    least = given.min_sessions if isinstance(given, RatioThresholds) else 1
    settled = _settled(readings)
    enough = [one for one in settled if one.settled >= least]
    if enough:
        return max(enough, key=lambda one: (one.share, one.settled, one.name))
    return max(settled, key=lambda one: (one.settled, one.name), default=None)


def _worst_share(readings: Readings, _subject: str) -> tuple[float, float] | None:
    worst = _worst(readings)
    return (worst.share, worst.settled) if worst else None


def _worst_in_words(readings: Readings, _subject: str) -> str:
    worst, given = _worst(readings), readings.pipeline.limits.of(GAP_RATIO)
    if worst is None or given is None:
        return ""
    beside = [bound for bound in (given.warning, given.critical) if isinstance(bound, float)]
    return f"{worst.name}: {format_value(worst.share, 'ratio', beside)}"


def _worst_chosen(readings: Readings) -> tuple[str, ...]:
    """The option of `gaps` for the worst segment."""
    worst = _worst(readings)
    return () if worst is None or is_folded(worst.name) else ("--segment", worst.name)


def _lines(readings: Readings) -> tuple[ReportLine, ...]:
    if SEGMENT.of(readings.pipeline.sessions) is None:
        return ()
    try:
        settled, worst = _settled(readings), _worst(readings)
    except UnmeasuredError:
        settled, worst, words = [], None, ""
    else:
        words = "" if worst else "none"
    rest = str(Folded.OTHER.value)
    with_gaps = sorted(
        (one for one in settled if one.gaps), key=lambda one: (one.name == rest, -one.share, -one.gaps, one.name)
    )
    others = with_gaps[SHOWN:]
    return (
        ReportLine(
            "impact",
            f"Largest share of sessions with a gap in a segment{f' ({worst.name})' if worst and worst.gaps else ''}",
            worst.share if worst else None,
            unit="ratio",
            good="none",
            limit=GAP_RATIO,
            words=words,
        ),
        *(
            ReportLine("impact", f"Sessions with a gap of segment {one.name}", one.gaps, one.settled)
            for one in with_gaps[:SHOWN]
        ),
        *(
            [
                ReportLine(
                    "impact",
                    "Sessions with a gap of all other segments",
                    sum(one.gaps for one in others),
                    sum(one.settled for one in others),
                )
            ]
            if others
            else []
        ),
    )


SEGMENTS = Dimension(
    name="segments",
    question="Which segments of the sessions have the gaps?",
    measures=(
        SessionMeasure(SEGMENT_SESSIONS, _sessions, needs_every_record=True, by_segment=True),
        SessionMeasure(SEGMENT_GAPS, _gaps, by_segment=True),
    ),
    keys=(SEGMENT,),
    limits=(
        Limit(
            GAP_RATIO,
            "ratio",
            "Share of sessions with a gap in the worst segment, pending sessions excluded",
            Judged(_worst_share, nothing="no session is complete or has a gap", in_words=_worst_in_words),
            Advice(
                "Too large a share of the sessions of a segment is missing required records.",
                "The value is the share of the worst segment: gaps divided by gaps and complete sessions.  A segment "
                "with fewer sessions than `min_sessions` is not judged, and the segments in `<other>` are judged "
                "together.  `gap_ratio` alone hides a small segment without a single record.",
                (
                    "A worker, queue or credential of this segment fails: the other segments have no gaps.",
                    "A deployment, a migration or a setting reached some segments only.",
                    "All segments have gaps: SessionHealthGapRatio or SessionHealthSessionsWithGap has the cause.",
                ),
                (
                    "Find the segments: `check` names the worst, report and dashboard list them by share.",
                    "List the sessions (`gaps --segment NAME`), and compare them with sessions of other segments.",
                    "After the repair write a worklist (`gaps --segment NAME --worklist FILE`), and run the backfill.",
                    "Verify the backfill (`verify FILE`), and watch the share of the segment fall on the dashboard.",
                ),
                gaps="",
            ),
            chosen=_worst_chosen,
            worst_of=SEGMENT_SESSIONS,
            rounds=30,
            needs=(("sessions", "segment"),),
        ),
    ),
    lines=_lines,
    parts=_parts,
    segment=_segment,
    segment_totals=_totals,
)
