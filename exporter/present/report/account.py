"""Standings -> the report: every line with its mark and its evidence.  Judges nothing again.

The Markdown, the JSON and the page show the same value.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from typing import Final, get_args

from exporter.model.alert_names import ALERT_PREFIX, alert_name
from exporter.model.dimension import Dimension
from exporter.model.fault import Fault
from exporter.model.judging import Limit, Readings
from exporter.model.reporting import Breakdown, Caveat, Chapter, Evidence, ReportLine
from exporter.model.sections import SEVERITIES, Pipeline, Severity
from exporter.model.standing import STANDINGS, Standing, Verdict, in_words, rank
from exporter.model.states import gap_reasons
from exporter.present.report.links import NO_LINKS, Links
from exporter.present.report.shell import Shell
from exporter.state.board import PipelineStatus
from exporter.state.judge import Finding, could_judge
from exporter.state.snapshot import Snapshot
from exporter.text.figures import LimitUnit, format_age, format_exactly, format_value
from exporter.text.times import moment_text

CHAPTERS: Final[tuple[Chapter, ...]] = get_args(Chapter)

_DATED: Final = 86400.0
"""The least age, in seconds, that a report tells with a date."""

Marks = Mapping[LimitUnit, tuple[float, ...]]
"""The thresholds of a pipeline, in base units: a share has the same figures beside the limit and elsewhere."""


@dataclass(frozen=True, slots=True)
class JudgedLine:
    """A line with the judgement.

    `bound` is the threshold in words, empty without a threshold.  No figure is rounded across one of the `marks`.
    """

    line: ReportLine
    mark: Standing
    evidence: Evidence
    bound: str
    reason: str
    marks: Marks

    @property
    def number(self) -> str:
        """`118/157`, `24.84%`, `17 weeks (since 2026-07-31)`, `none`, `not measured` or `not asked for`."""
        line = self.line
        if line.value is None:
            return line.words or ("not asked for" if self.mark is Standing.NOT_ASKED else "not measured")
        value = self.figures(line.value)
        if line.since is not None and line.value >= _DATED:
            return f"{value} (since {moment_text(line.since)[:10]})"
        return value if line.of is None else f"{value}/{format_value(line.of, line.unit)}"

    def figures(self, value: float) -> str:
        """A value of this line, not rounded across the limit."""
        marks = self.marks[self.line.unit]
        return format_value(value, self.line.unit, marks) if self.line.since is None else format_age(value, marks)

    @property
    def is_told(self) -> bool:
        """Whether the line has a measurement."""
        return self.evidence != "not_measured"

    @property
    def is_none(self) -> bool:
        """Whether the line was measured, and nothing exists."""
        return self.line.value is None and self.line.words == "none"

    @property
    def is_unjudged(self) -> bool:
        """Whether a limit could judge the imperfect value, and does not."""
        is_judgeable = self.line.limit and (self.line.good or self.line.brief)
        return bool(is_judgeable) and self.mark is Standing.NOTED and not self.is_none and self.line.of != 0

    @property
    def share(self) -> float | None:
        """The value as a share of the whole, from 0 to 1; None without a whole."""
        line = self.line
        return line.value / line.of if line.value is not None and line.of else None

    @property
    def percent(self) -> str:
        """The share in figures, not rounded across the limit; empty without a whole."""
        return "" if self.share is None else format_value(self.share, "ratio", self.marks["ratio"], places=1)


@dataclass(frozen=True, slots=True)
class Action:
    """Something to do: the problem, the steps in order, and the first command.

    `findings` are the broken limits of the action, empty for a value that was not measured or judged.
    `is_markdown` says whether the steps are Markdown; texts of a database or a config are not.  `runbook` and
    `dashboard` are URLs, empty without an address.
    """

    what: str
    steps: tuple[str, ...]
    command: str
    runbook: str
    dashboard: str
    findings: tuple[Finding, ...] = ()
    is_markdown: bool = False


@dataclass(frozen=True, slots=True)
class Baseline:
    """Earlier numbers, as lines of the current config.

    `source` names the origin; `measured_at` and `since`, the start of the window, are Unix seconds.
    """

    source: str
    measured_at: float
    since: float
    lines: tuple[ReportLine, ...]

    def value_of(self, line: ReportLine) -> float | None:
        """The earlier value of the same line, None without a value."""
        key = (line.chapter, line.record, line.text)
        return next((was.value for was in self.lines if (was.chapter, was.record, was.text) == key), None)


@dataclass(frozen=True, slots=True)
class PipelineReport:
    """The report on one pipeline.

    `measured_at` and `since` (the start of the window) are Unix seconds, None without a served snapshot.  `headline`
    is the most important fact.  `unset` are limits that the config could set.  `past` is the earlier report for the
    comparison, None without a comparison.  `breakdowns` are wholes in parts, for bars.  No figure is rounded across one
    of the `marks`.  `shell` writes commands.  `scope` is empty for numbers of all rows by the last collection, else
    the lesser scope in words.
    """

    database: str
    pipeline: str
    verdict: Verdict
    headline: str
    measured_at: float | None
    since: float | None
    entries: Mapping[Chapter, tuple[JudgedLine, ...]]
    findings: tuple[Finding, ...]
    faults: tuple[Fault, ...]
    caveats: tuple[Caveat, ...]
    actions: tuple[Action, ...]
    unset: tuple[Limit, ...]
    config: Pipeline
    snapshot: Snapshot | None
    past: Baseline | None
    breakdowns: tuple[Breakdown, ...]
    marks: Marks
    shell: Shell
    scope: str

    @property
    def is_lacking(self) -> bool:
        """Whether a session needs a backfill."""
        return any(entry.line.value for entry in self.entries["impact"])

    @property
    def broken(self) -> tuple[Finding, ...]:
        """Every broken limit, the worst first."""
        return tuple(finding for finding in self.findings if finding.outcome in ("critical", "warning"))

    def of(self, chapter: Chapter, record: str | None) -> tuple[JudgedLine, ...]:
        """The entries of a chapter about a record, or about the sessions for None."""
        return tuple(entry for entry in self.entries[chapter] if entry.line.record == record)


@dataclass(frozen=True, slots=True)
class Report:
    """One account for each pipeline, the worst first; `made_at` in Unix seconds."""

    made_at: float
    accounts: tuple[PipelineReport, ...]

    @property
    def verdict(self) -> Verdict:
        """The worst verdict of all pipelines."""
        return self.accounts[0].verdict

    @property
    def is_alone(self) -> bool:
        """Whether the report has only one pipeline."""
        return len(self.accounts) == 1

    @property
    def counts(self) -> str:
        """The number of pipelines per verdict, the worst first: `2 unhealthy, 28 healthy`."""
        counted = Counter(account.verdict for account in self.accounts)
        return ", ".join(f"{count} {in_words(verdict)}" for verdict, count in counted.items())

    @property
    def headline(self) -> str:
        """The headline of the pipeline; of several pipelines, the counts and the headline of the worst."""
        worst = self.accounts[0]
        return worst.headline if self.is_alone else f"{self.counts}; {worst.pipeline}: {worst.headline}"


def report_on(
    statuses: Iterable[PipelineStatus],
    dimensions: Sequence[Dimension],
    now: float,
    pasts: Mapping[str, Baseline] | None = None,
    links: Links = NO_LINKS,
) -> Report:
    """The report on every pipeline at `now`, compared with the past of a pipeline (by name) if given.

    `links` has the addresses of runbooks and dashboards, and writes commands.
    """
    known = pasts or {}
    accounts = (_account(status, dimensions, known.get(status.pipeline), links) for status in statuses)
    return Report(now, tuple(sorted(accounts, key=lambda account: rank(account.verdict))))


def _account(
    status: PipelineStatus, dimensions: Sequence[Dimension], past: Baseline | None, links: Links
) -> PipelineReport:
    config, served = status.config, status.readings
    # Without a snapshot the report has every line, each as not measured.
    readings = served or Readings(config, 0.0, {})
    judged = {(finding.limit.name, finding.subject): finding for finding in status.findings}
    faults = status.last.faults if status.last else ()
    lines = lines_of(readings, dimensions)
    marks = _marks(status.findings)
    entries = [_entry(line, judged, status, marks) for line in lines]
    findings = tuple(sorted(status.findings, key=lambda finding: rank(finding.outcome)))
    snapshot = status.snapshot
    by_chapter = {chapter: tuple(e for e in entries if e.line.chapter == chapter) for chapter in CHAPTERS}
    return PipelineReport(
        database=status.database,
        pipeline=status.pipeline,
        verdict=status.verdict,
        headline=_headline(status, by_chapter["impact"], findings),
        measured_at=snapshot.taken_at if snapshot else None,
        since=config.window.start(snapshot.taken_at) if snapshot else None,
        entries=by_chapter,
        findings=findings,
        faults=faults,
        caveats=status.caveats,
        actions=tuple(_actions(status, findings, dimensions, links)),
        unset=tuple(
            limit
            for dimension in dimensions
            for limit in dimension.limits
            if config.limits.of(limit.name) is None and could_judge(limit, config)
        ),
        config=config,
        snapshot=snapshot,
        past=past,
        breakdowns=tuple(chain.from_iterable(dimension.charts.breakdowns(readings) for dimension in dimensions)),
        marks=marks,
        shell=links.shell,
        scope=_scope(status),
    )


def _scope(status: PipelineStatus) -> str:
    if _is_partial(status):
        return "not of all rows"
    return "" if status.last and status.last.snapshot else "of an earlier collection"


def _is_partial(status: PipelineStatus) -> bool:
    """Whether rows are missing from the numbers: hidden by policies, or not reached by the first sweep."""
    snapshot = status.snapshot
    return snapshot is not None and bool(snapshot.restricted or (snapshot.swept and not snapshot.swept.is_whole))


def _marks(findings: Iterable[Finding]) -> Marks:
    found: dict[LimitUnit, tuple[float, ...]] = dict.fromkeys(get_args(LimitUnit), ())
    for finding in findings:
        found[finding.limit.unit] += tuple(finding.thresholds.values())
    return found


def lines_of(readings: Readings, dimensions: Sequence[Dimension]) -> tuple[ReportLine, ...]:
    """Every line of the dimensions for some numbers."""
    lines = tuple(chain.from_iterable(dimension.lines(readings) for dimension in dimensions))
    analysed = next((line.value for line in lines if line.chapter == "base"), None)
    return tuple(replace(line, of=analysed) if line.of_analysed else line for line in lines)


def _headline(status: PipelineStatus, impact: Sequence[JudgedLine], findings: Sequence[Finding]) -> str:
    """One sentence: the worst problem, or no problem."""
    verdict = status.verdict
    if verdict == "unknown":
        return _cause(status, findings)
    if verdict == "no_data":
        return "no eligible session in the window: nothing to judge"
    lacking = next((entry.number.replace("/", " of ") for entry in impact if entry.line.value), None)
    if verdict == "healthy":
        return f"{lacking} sessions have a gap, within the limits" if lacking else "no session needs a backfill"
    worst = findings[0]
    if lacking and worst.limit.name in {entry.line.limit for entry in impact}:
        return f"{lacking} sessions need a backfill"
    return told(worst)


def _cause(status: PipelineStatus, findings: Sequence[Finding]) -> str:
    """Why the verdict is unknown, without the details of the fault."""
    if status.last is None:
        return "no measurement yet"
    if status.last.snapshot is None and status.last.fault:
        return f"nothing could be measured ({status.last.fault.reason.replace('_', ' ')})"
    parts = status.last.snapshot.part_faults if status.last.snapshot else {}
    if lost := [*status.record_faults, *(path.rpartition(".")[2] for path in parts)]:
        return f"{' and '.join(filter(None, (', '.join(lost[:-1]), lost[-1])))} could not be measured"
    if caveat := next((caveat for caveat in status.caveats if caveat.verdict == "unknown"), None):
        return caveat.message.partition(":")[0]
    if unmeasured := next((finding for finding in findings if finding.outcome == "not_measured"), None):
        return f"{subject_of(unmeasured)} could not be measured"
    return "the last measurement is older than max_age"


def subject_of(finding: Finding) -> str:
    """The judged value, with the record or check."""
    return finding.limit.what + (f" ({finding.subject})" if finding.subject else "")


def told(finding: Finding) -> str:
    """A broken limit in words: `Age of the oldest gap: 17 weeks, critical above 1h`."""
    value, marks = finding.value, [*finding.thresholds.values()]
    if finding.outcome not in ("critical", "warning") or value is None:
        return f"{subject_of(finding)}: {finding.text}"
    unit = finding.limit.unit
    number = format_age(value, marks) if unit == "seconds" else format_value(value, unit, marks)
    rests = "" if finding.sessions is None else f" of {finding.sessions} sessions"
    bound = f"{finding.outcome} {_side(finding, finding.outcome)}"
    return f"{subject_of(finding)}: {finding.words or number}{rests}, {bound}"


def _actions(
    status: PipelineStatus, findings: Sequence[Finding], dimensions: Sequence[Dimension], links: Links
) -> Iterator[Action]:
    """The worst first: a missing measurement can hide other problems."""
    look = links.shell.command("config", "check", "--connect")
    unknown = (links.runbook(f"{ALERT_PREFIX}Unknown", dimensions), links.dashboard(status, None))
    for fault in status.last.faults if status.last else ():
        yield Action("Not measured", (fault.message,), look, *unknown)
    for caveat in status.caveats:
        if caveat.verdict == "unknown":
            yield Action("Not judged", (caveat.message,), look, *unknown)
    # Several limits can have the same repair: the report prints the repair once.
    mended: dict[tuple[tuple[str, ...], str], list[Finding]] = {}
    for finding in findings:
        if finding.outcome in ("critical", "warning"):
            steps = finding.limit.advice.steps(_as_measured(status), finding.subject or "")
            linked = tuple(links.linked(step, dimensions) for step in steps)
            mended.setdefault((linked, _command(status, finding, links.shell)), []).append(finding)
    for (steps, command), those in mended.items():
        first = those[0]
        addresses = (links.runbook(alert_name(first.limit), dimensions), links.dashboard(status, first))
        yield Action("; ".join(map(told, those)), steps, command, *addresses, tuple(those), is_markdown=True)


def _as_measured(status: PipelineStatus) -> Pipeline:
    """The pipeline with full names of tables; judged values have a snapshot."""
    return status.snapshot.readings.pipeline if status.snapshot else status.config


def _command(status: PipelineStatus, finding: Finding, shell: Shell) -> str:
    record = status.config.records.get(finding.subject or "")
    words = finding.limit.command(status.pipeline, finding.subject)
    if record and "--reason" in words and words[words.index("--reason") + 1] not in gap_reasons(record):
        # The record is satisfied by any version: no session has a gap for this reason.
        return shell.command("check")
    if finding.limit.chosen is not None and status.readings is not None:
        words = (*words, *finding.limit.chosen(status.readings))
    return shell.command(*words)


def _entry(
    line: ReportLine, judged: Mapping[tuple[str, str | None], Finding], status: PipelineStatus, marks: Marks
) -> JudgedLine:
    finding = None
    if line.limit is not None:
        finding = judged.get((line.limit, line.subject or line.record)) or judged.get((line.limit, None))
    bound = _bound(line, finding) if finding else ""
    if line.value is None and not line.words:
        if line.remedy:
            return JudgedLine(line, Standing.NOT_ASKED, "not_measured", bound, f"set {line.remedy}", marks)
        return JudgedLine(line, Standing.UNKNOWN, "not_measured", bound, _why(line, status), marks)
    scope, is_hidden = _scope(status), bool(status.snapshot and status.snapshot.restricted)
    evidence = line.evidence
    if evidence == "measured" and is_hidden:
        evidence = "visible"
    elif evidence == "measured" and status.snapshot and line.record in status.snapshot.elsewhere:
        evidence = "two_databases"
    if line.of == 0:
        return JudgedLine(line, Standing.NOTED, evidence, bound, "nothing to count", marks)
    if line.is_perfect and not scope:
        return JudgedLine(line, Standing.FINE, evidence, bound, line.reason, marks)
    if finding is None:
        reason = line.reason
        if line.limit and line.good and line.value is not None and not line.is_perfect:
            reason = f"not judged: set limits.{line.limit}"
        return JudgedLine(line, Standing.NOTED, evidence, "", reason, marks)
    # The limit covers more than this line: a missing measurement elsewhere does not affect the line.
    unproved = finding.outcome == "not_measured" or (scope and finding.outcome == "within")
    mark = Standing.NOTED if unproved else STANDINGS[finding.outcome]
    return JudgedLine(line, mark, evidence, bound, line.reason, marks)


def _why(line: ReportLine, status: PipelineStatus) -> str:
    """Why a line was not measured: the fault, else the reason of the line."""
    if status.last is None:
        return "not yet"
    fault = status.last.fault or status.record_faults.get(line.record or "")
    parts = status.last.snapshot.part_faults if status.last.snapshot else {}
    of_part = next((found for path, found in parts.items() if line.subject and path.endswith(f".{line.subject}")), None)
    said = fault or of_part
    if said is None and line.record is None and status.record_faults:
        return f"needs {', '.join(status.record_faults)}"
    return said.reason if said else line.reason


def _bound(line: ReportLine, finding: Finding) -> str:
    """`warning above 0, critical above 10`; empty beside the good sessions, where the limit counts the others."""
    if line.good == "all" and finding.limit.unit == "count":
        return ""
    given = (severity for severity in SEVERITIES if severity in finding.thresholds)
    return ", ".join(f"{severity} {_side(finding, severity)}" for severity in given)


def _side(finding: Finding, severity: Severity) -> str:
    side = "below" if finding.limit.below else "above"
    return f"{side} {format_exactly(finding.thresholds[severity], finding.limit.unit)}"
