"""Coverage: does every eligible session have all required records?"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Literal

from exporter.model.advice import Advice
from exporter.model.counting import Cells, GroupColumn, RecordMeasure, Rows, Scope, SessionMeasure, Total
from exporter.model.dimension import Charts, Dimension
from exporter.model.judging import Judged, Limit, Readings, UnmeasuredError, number_of
from exporter.model.metric import Metric, Numbers
from exporter.model.reporting import Breakdown, Caveat, Chapter, ReportLine, Slice, Track
from exporter.model.sections import Pipeline, RatioThresholds, Record, RowCount
from exporter.model.sql import text_literal
from exporter.model.states import (
    GAP_REASONS,
    SESSION_STATES,
    GapReason,
    SessionState,
    State,
    gap_reasons,
    state,
    states_of,
)
from exporter.text.terminal import Tone

ELIGIBLE = Metric(
    "eligible_sessions",
    "Eligible sessions in the window by state: complete, pending (within the grace period) or gap.  The sum is the "
    "number of analysed sessions.",
    labels=("state",),
)
RECORD_SESSIONS = Metric(
    "record_sessions",
    "Eligible sessions in the window by the state of one record.  The sum is the number of analysed sessions.  The "
    "states too_few and too_many only where `rows` makes them possible.",
    labels=("record", "state"),
)
GAP_SESSIONS = Metric(
    "gap_sessions",
    "Eligible sessions in the window with a gap caused by this record.",
    labels=("record", "reason"),
)
GAP_OLDEST = Metric(
    "gap_oldest_timestamp_seconds",
    "Completion time (without completion: start time) of the oldest gap.  Absent without a gap.",
    labels=("record",),
)


def _session_columns(scope: Scope) -> tuple[GroupColumn, ...]:
    """A session has a gap if any record is a gap, else is pending if any record is pending, else is complete."""
    states = [(record, state(record, f"rank_{n}", f"required_{n}")) for n, record in enumerate(scope.records, start=1)]
    gap = " or ".join(f"{sql} in ({_texts(gap_reasons(record))})" for record, sql in states) or "false"
    pending = " or ".join(f"{sql} = 'pending'" for _, sql in states) or "false"
    of_analysed = f"case when {gap} then 'gap' when {pending} then 'pending' else 'complete' end"
    return (
        GroupColumn("analysed", "analysed"),
        GroupColumn("session_state", f"case when analysed then {of_analysed} end"),
    )


def _texts(texts: Sequence[str]) -> str:
    return ", ".join(map(text_literal, texts))


def _record_columns(record: Record) -> tuple[GroupColumn, ...]:
    of_record = f"case when analysed then {state(record, 'rank', 'required')} end"
    return (GroupColumn("analysed", "analysed"), GroupColumn("state", of_record))


def _eligible(_pipeline: Pipeline, sessions: Cells) -> Numbers:
    counts = sessions.where(analysed=True).totals("sessions", "session_state")
    return {(state,): counts.get((state,), 0) for state in SESSION_STATES}


def _states(record: Record, sessions: Cells, _rows: Rows) -> Numbers:
    counts = sessions.where(analysed=True).totals("sessions", "state")
    return {(name,): counts.get((name,), 0) for name in states_of(record)}


def _gaps(record: Record, sessions: Cells, rows: Rows) -> Numbers:
    states = _states(record, sessions, rows)
    reasons = gap_reasons(record)
    return {(reason,): states[(reason,)] if reason in reasons else 0 for reason in GAP_REASONS if (reason,) in states}


def _oldest_gap(record: Record, sessions: Cells, _rows: Rows) -> Numbers:
    oldest = sessions.only("state", gap_reasons(record)).oldest("oldest")
    return {} if oldest is None else {(): oldest}


def _record_totals(_record: Record) -> tuple[Total, ...]:
    return (Total("oldest", "extract(epoch from min(oldest))::float8", "min"),)


def _gap_count(readings: Readings, _subject: str) -> float:
    return readings.need(ELIGIBLE, "gap")


def _gap_share(readings: Readings, _subject: str) -> tuple[float, float] | None:
    gaps, complete = readings.need(ELIGIBLE, "gap"), readings.need(ELIGIBLE, "complete")
    settled = gaps + complete
    return (gaps / settled, settled) if settled else None


def _in_need(readings: Readings, record: str) -> float:
    """The number of sessions that need the record."""
    return (readings.total(RECORD_SESSIONS, record=record) or 0.0) - readings.need(
        RECORD_SESSIONS, record, "not_required"
    )


def _oldest_of_all(readings: Readings) -> float:
    since = [readings.get(GAP_OLDEST, name) for name in readings.pipeline.records]
    known = [moment for moment in since if moment is not None]
    if not known:
        raise UnmeasuredError
    return min(known)


def _gap_age(readings: Readings, subject: str) -> float | None:
    if not _gap_count(readings, subject):
        return None
    # A session that completes in the future may be a gap already.
    return max(0.0, readings.clock - _oldest_of_all(readings))


def _outdated(readings: Readings, record: str) -> float | None:
    number = readings.need(RECORD_SESSIONS, record, "outdated")
    return None if readings.pipeline.records[record].version is None else number


def _caveats(readings: Readings) -> tuple[Caveat, ...]:
    counts = [readings.need(ELIGIBLE, state) for state in SESSION_STATES]
    if not sum(counts):
        return (Caveat("no_data", "no eligible session in the window"),)
    gaps = _gap_count(readings, "")
    if gaps and not _are_gaps_judged(readings):
        names = ", ".join(limit.name for limit in GAP_LIMITS if not readings.pipeline.limits.of(limit.name))
        return (Caveat("unknown", f"{gaps:.0f} sessions have a gap, and no limit judges gaps: set one of {names}"),)
    return ()


def _are_gaps_judged(readings: Readings) -> bool:
    """Whether a limit judges the gaps: the ratio needs `min_sessions`, the age a gap before the snapshot's time."""
    given = {limit.name: readings.pipeline.limits.of(limit.name) for limit in GAP_LIMITS}
    ratio, age = given.pop("gap_ratio"), given.pop("gap_age")
    settled = readings.need(ELIGIBLE, "gap") + readings.need(ELIGIBLE, "complete")
    return (
        any(given.values())
        or (isinstance(ratio, RatioThresholds) and settled >= ratio.min_sessions)
        or (age is not None and _oldest_of_all(readings) <= readings.clock)
    )


_GAP = (
    "An `eligible` session, completed longer ago than `grace`, has no good record: no row (`missing`), only rows of an "
    "old version (`outdated`), or only `invalid` rows; with `satisfied_by: every_row`, one such row among good rows.  "
    "With `rows`, a session with another number of good rows is a gap (`too_few`, `too_many`).  "
    "A session with several missing records counts once, and stays a gap until every required record exists."
)
_GAP_CAUSES = (
    "The worker of the record is down, stuck, or not deployed: the number grows with every completed session.",
    "The worker failed for some sessions and gave up: the number stands still.  Compare the sessions of the list.",
    "The config names a new `current` version, and the backfill has not run: sessions became `outdated` at once.",
    "`grace` is shorter than the pipeline takes: gaps come and go without a backfill.",
    "With `rows`: the worker stopped half-way (`too_few`), or ran twice (`too_many`).",
)
_GAP_REMEDY = (
    "Get the worker going: new sessions must get records before a backfill of old sessions.",
    "Write a worklist (`gaps --worklist FILE`), and run the backfill over the file.",
    "Verify the backfill (`verify FILE`), and watch the number fall to 0 on the dashboard.",
)

GAP_LIMITS = (
    Limit(
        "sessions_with_gap",
        "count",
        "Sessions with a gap",
        Judged(_gap_count, whole=lambda readings, _subject: readings.total(ELIGIBLE)),
        Advice("Sessions are missing required records.", _GAP, _GAP_CAUSES, _GAP_REMEDY, gaps=""),
        former_name="gap_sessions",
        # Longer than other limits: a short backlog that clears by itself does not page.
        rounds=30,
    ),
    Limit(
        "gap_age",
        "seconds",
        "Age of the oldest gap",
        Judged(_gap_age, nothing="no session has a gap"),
        Advice(
            "A session has waited too long for a required record.",
            f"{_GAP}  The value is the age of the oldest gap: a single stuck session is enough.",
            _GAP_CAUSES,
            _GAP_REMEDY,
            gaps="",
        ),
        rounds=8,
        # The age of one session does not say how many others wait.
        beside="sessions_with_gap",
    ),
    Limit(
        "gap_ratio",
        "ratio",
        "Share of sessions with a gap, pending sessions excluded",
        Judged(_gap_share, nothing="no session is complete or has a gap"),
        Advice(
            "Too large a share of the sessions is missing required records.",
            f"{_GAP}  The ratio is gaps divided by gaps and complete sessions; pending sessions do not count.",
            _GAP_CAUSES,
            _GAP_REMEDY,
            gaps="",
        ),
        rounds=30,
    ),
)


def _wanted(record: Record) -> str:
    """The required record in words, with its versions."""
    rows = f"{_in_numbers(record.rows)} of {record.name}" if record.rows else record.name
    if record.satisfied_by == "any_version" or record.version is None:
        return rows
    versions = " or ".join((record.version.current, *record.version.accepted))
    return f"{rows}{', all' if record.satisfied_by == 'every_row' else ''} of {versions}"


def _in_numbers(wanted: RowCount) -> str:
    least, most = wanted.least, wanted.most
    if most is None:
        return f"{least} or more rows"
    return f"{least} {'row' if least == 1 else 'rows'}" if least == most else f"{least} to {most} rows"


_IN_WORDS: Mapping[GapReason, str] = {"too_few": "too few rows", "too_many": "too many rows"}


def _lines_of(record: Record, readings: Readings) -> Iterator[ReportLine]:
    name, reasons, wanted = record.name, gap_reasons(record), _wanted(record)
    gaps = readings.all_of(GAP_SESSIONS, reasons, name)
    states = readings.all_of(RECORD_SESSIONS, states_of(record), name)
    if (gaps is None) != (states is None):
        raise UnmeasuredError
    # Pending sessions count neither as with the record nor as without.
    settled = None if states is None else sum(states.values()) - states["not_required"] - states["pending"]
    lacking = None if gaps is None else sum(gaps.values())
    satisfied = None if settled is None or lacking is None else settled - lacking
    states, gaps = states or {}, gaps or {}

    def of_settled(
        chapter: Chapter,
        text: str,
        count: float | None,
        good: Literal["all", "none"] | None,
        limit: str | None,
        brief: str = "",
    ) -> ReportLine:
        return ReportLine(chapter, text, count, settled, name, good=good, limit=limit, brief=brief)

    yield of_settled("finding", f"Sessions without {wanted}", lacking, "none", "sessions_with_gap")
    for reason in reasons if len(reasons) > 1 else ():
        yield of_settled("finding", f"… {_IN_WORDS.get(reason, reason)}", gaps.get(reason), None, None)
    yield of_settled("state", f"Sessions with {wanted}", satisfied, "all", "sessions_with_gap")
    if states.get("pending"):
        text = f"Sessions waiting for {name}, within the grace period"
        yield ReportLine("state", text, states["pending"], record=name, of_analysed=True)
    if record.is_optional:
        yield ReportLine(
            "state", f"Sessions that do not need {name}", states.get("not_required"), record=name, of_analysed=True
        )
    if record.exists:
        return
    text = f"Sessions with {'an' if record.satisfied_by == 'every_row' else 'only'} outdated {name}"
    if record.version is None:
        remedy = f"records.{name}.version"
        yield ReportLine("consistency", text, None, record=name, remedy=remedy, brief="outdated sessions")
        return
    yield of_settled("consistency", text, states.get("outdated"), "none", "outdated_sessions", "outdated sessions")


def _lines(readings: Readings) -> tuple[ReportLine, ...]:
    sessions = readings.all_of(ELIGIBLE, SESSION_STATES) or {}
    gaps, complete = sessions.get("gap"), sessions.get("complete")
    age = None if gaps is None else _gap_age(readings, "")
    settled = None if gaps is None or complete is None else gaps + complete
    share = gaps / settled if gaps is not None and settled else None

    def of_all(
        chapter: Chapter, text: str, count: float | None, good: Literal["all", "none"] | None, brief: str = ""
    ) -> ReportLine:
        limit = "sessions_with_gap" if good else None
        return ReportLine(chapter, text, count, good=good, limit=limit, of_analysed=True, brief=brief)

    analysed = readings.total(ELIGIBLE)
    return (
        ReportLine("base", "Sessions analysed", analysed),
        of_all("completeness", "Sessions with every required record", complete, "all", "sessions complete"),
        of_all("impact", "Unique sessions needing a backfill", gaps, "none", "need a backfill"),
        ReportLine(
            "impact",
            "Share of sessions with a gap, pending sessions excluded",
            share,
            unit="ratio",
            good="none",
            limit="gap_ratio",
            words="none" if settled == 0 else "",
        ),
        ReportLine(
            "impact",
            "Age of the oldest gap",
            age,
            unit="seconds",
            good="none",
            limit="gap_age",
            words="none" if gaps == 0 else "",
            since=None if age is None else readings.clock - age,
            brief="age of the oldest gap",
        ),
        *(line for record in readings.pipeline.records.values() for line in _lines_of(record, readings)),
        of_all(
            "state", "Sessions waiting for a record, within the grace period", readings.get(ELIGIBLE, "pending"), None
        ),
        ReportLine(
            "completeness",
            f"Sessions that are eligible: {' '.join(readings.pipeline.sessions.eligible.split())}",
            analysed,
            of_analysed=True,
            evidence="by_definition",
        ),
    )


_SESSION_TONES: Mapping[SessionState, Tone] = {"complete": "good", "pending": "quiet", "gap": "bad"}


def _tone(record: Record, state: State) -> Tone:
    """A gap is bad; a gap that `satisfied_by` permits is a warning."""
    if state in gap_reasons(record):
        return "bad"
    if state in GAP_REASONS:
        return "warning"
    return "good" if state in ("current", "accepted") else "quiet"


def _breakdowns(readings: Readings) -> tuple[Breakdown, ...]:
    of_sessions = (Slice(state, readings.get(ELIGIBLE, state), tone) for state, tone in _SESSION_TONES.items())
    of_records = (
        Breakdown(
            f"Sessions by the state of {name}",
            tuple(
                Slice(state, readings.get(RECORD_SESSIONS, name, state), _tone(record, state))
                for state in _SHOWN
                if state in states_of(record)
            ),
            name,
        )
        for name, record in readings.pipeline.records.items()
    )
    return (Breakdown("Sessions analysed", tuple(of_sessions)), *of_records)


_SHOWN: tuple[State, ...] = (
    "current",
    "accepted",
    "not_required",
    "pending",
    "too_many",
    "too_few",
    "outdated",
    "invalid",
    "missing",
)
"""From the best to the worst."""


COVERAGE = Dimension(
    name="coverage",
    question="Does every eligible session have all required records?",
    measures=(
        SessionMeasure(ELIGIBLE, _eligible, needs_every_record=True),
        RecordMeasure(RECORD_SESSIONS, _states),
        RecordMeasure(GAP_SESSIONS, _gaps),
        RecordMeasure(GAP_OLDEST, _oldest_gap),
    ),
    limits=(
        *GAP_LIMITS,
        Limit(
            "outdated_sessions",
            "count",
            "Outdated sessions",
            replace(
                number_of(RECORD_SESSIONS, state="outdated"),
                read=_outdated,
                whole=_in_need,
                nothing="the record has no version",
            ),
            Advice(
                "Sessions have records of an outdated version.",
                "Eligible sessions have a row of the record, but no row of the `current` or an `accepted` version; "
                "with `satisfied_by: every_row`, one row of another version is enough.  Every such session is a gap, "
                "except with `any_version`: then a migration has not ended.",
                (
                    "A migration to the current version did not run, or did not finish.",
                    "A worker still writes the old version: then `drifted_records` grows as well.",
                    "The previous version is good enough, and the config does not list the version as accepted.",
                ),
                (
                    "If a worker still writes the old version, stop the worker first: SessionHealthDriftedRecords.",
                    (
                        "Run the migration over the outdated sessions alone.  `gaps --reason outdated` lists the "
                        "sessions, except with `satisfied_by: any_version`.  With `every_row`, replace the old rows: a "
                        "new row beside an old row is not enough."
                    ),
                    "If the old version is good enough, add the version to `version.accepted`.",
                ),
                dashboard="versions",
                gaps="--reason outdated",
            ),
            per="record",
            needs=(("records", "*", "table"),),
        ),
    ),
    caveats=_caveats,
    lines=_lines,
    charts=Charts(
        breakdowns=_breakdowns,
        tracks=(
            Track("Sessions with a gap", ELIGIBLE, ("gap",), good="none"),
            Track("Complete sessions", ELIGIBLE, ("complete",), good="many"),
        ),
    ),
    session_columns=_session_columns,
    record_columns=_record_columns,
    record_totals=_record_totals,
)
