"""Standings -> the report: every line with its mark and its evidence.  Judges nothing again.

The Markdown, the JSON and the page show the same value.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from typing import Final, get_args

from exporter.model.advice import AsRead
from exporter.model.dimension import Dimension
from exporter.model.fault import Fault
from exporter.model.judging import Limit, Readings
from exporter.model.keys import presumed_link
from exporter.model.reporting import Breakdown, Caveat, Chapter, Evidence, ReportLine
from exporter.model.sections import SEVERITIES, Pipeline
from exporter.model.standing import STANDINGS, Standing, Verdict, rank
from exporter.model.states import gap_reasons
from exporter.present.report.shell import Shell
from exporter.state.board import PipelineStatus
from exporter.state.judge import Finding, could_judge
from exporter.state.snapshot import Snapshot
from exporter.text.figures import LimitUnit, format_exactly, format_value

CHAPTERS: Final[tuple[Chapter, ...]] = get_args(Chapter)

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
        """`118/157`, `24.84%`, `1h5m`, `none` or `not measured`."""
        line = self.line
        if line.value is None:
            return line.words or "not measured"
        value = self.figures(line.value)
        return value if line.of is None else f"{value}/{format_value(line.of, line.unit)}"

    def figures(self, value: float) -> str:
        """A value of this line, not rounded across the limit."""
        return format_value(value, self.line.unit, self.marks[self.line.unit])

    @property
    def is_told(self) -> bool:
        """Whether the line has a measurement."""
        return self.evidence != "not_measured"

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
    `is_markdown` says whether the steps are Markdown; texts of a database or a config are not.
    """

    what: str
    steps: tuple[str, ...]
    command: str
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
    of the `marks`.  `shell` writes commands.
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

    @property
    def broken(self) -> tuple[Finding, ...]:
        """Every broken limit, the worst first."""
        return tuple(finding for finding in self.findings if finding.outcome in ("critical", "warning"))

    def of(self, chapter: Chapter, record: str | None) -> tuple[JudgedLine, ...]:
        """The entries of a chapter about a record, or about the sessions for None."""
        return tuple(entry for entry in self.entries[chapter] if entry.line.record == record)


@dataclass(frozen=True, slots=True)
class Report:
    """One account for each pipeline, in the order of the config; `made_at` in Unix seconds."""

    made_at: float
    accounts: tuple[PipelineReport, ...]

    @property
    def verdict(self) -> Verdict:
        """The worst verdict of all pipelines."""
        return min((account.verdict for account in self.accounts), key=rank)

    @property
    def headline(self) -> str:
        """The headline of the worst pipeline, with the name if the report has several pipelines."""
        worst = min(self.accounts, key=lambda account: rank(account.verdict))
        return worst.headline if len(self.accounts) == 1 else f"{worst.pipeline}: {worst.headline}"


def report_on(
    statuses: Iterable[PipelineStatus],
    dimensions: Sequence[Dimension],
    now: float,
    pasts: Mapping[str, Baseline] | None = None,
    shell: Shell = Shell(),  # noqa: B008 - a frozen value
) -> Report:
    """The report on every pipeline at `now`, compared with the past of a pipeline (by name) if given.

    `shell` writes commands.
    """
    known = pasts or {}
    accounts = (_account(status, dimensions, known.get(status.pipeline), shell) for status in statuses)
    return Report(now, tuple(accounts))


def _account(
    status: PipelineStatus, dimensions: Sequence[Dimension], past: Baseline | None, shell: Shell
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
        headline=_headline(status, by_chapter["impact"], findings, faults),
        measured_at=snapshot.taken_at if snapshot else None,
        since=config.window.start(snapshot.taken_at) if snapshot else None,
        entries=by_chapter,
        findings=findings,
        faults=faults,
        caveats=status.caveats,
        actions=tuple(_actions(status, findings, faults, shell)),
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
        shell=shell,
    )


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


def _headline(
    status: PipelineStatus, impact: Sequence[JudgedLine], findings: Sequence[Finding], faults: Sequence[Fault]
) -> str:
    """One sentence: the worst problem, or no problem."""
    verdict = status.verdict
    if verdict == "unknown":
        causes = [fault.message for fault in faults]
        causes += [caveat.message for caveat in status.caveats if caveat.verdict == "unknown"]
        if causes:
            return f"data completeness is unknown: {causes[0]}"
        if unmeasured := next((finding for finding in findings if finding.outcome == "not_measured"), None):
            return f"data completeness is unknown: {_subject(unmeasured)} is not measured"
        return "no measurement yet" if status.last is None else "the last measurement is older than max_age"
    if verdict == "no_data":
        return "no eligible session in the window: nothing to judge"
    lacking = next((entry.number.replace("/", " of ") for entry in impact if entry.line.value), None)
    if verdict == "healthy":
        return f"{lacking} sessions have a gap, within the limits" if lacking else "no session needs a backfill"
    worst = findings[0]
    if lacking and worst.limit.name in {entry.line.limit for entry in impact}:
        return f"{lacking} sessions need a backfill"
    return f"{_subject(worst)}: {worst.text}"


def _subject(finding: Finding) -> str:
    return finding.limit.what + (f" ({finding.subject})" if finding.subject else "")


def _actions(
    status: PipelineStatus, findings: Sequence[Finding], faults: Sequence[Fault], shell: Shell
) -> Iterator[Action]:
    """The worst first: a missing measurement can hide other problems."""
    look = shell.command("config", "check", "--connect")
    for fault in faults:
        yield Action("Not measured", (fault.message,), look)
    for caveat in status.caveats:
        if caveat.verdict == "unknown":
            yield Action("Not judged", (caveat.message,), look)
    # Several limits can have the same repair: the report prints the repair once.
    mended: dict[tuple[tuple[str, ...], str], list[Finding]] = {}
    for finding in findings:
        if finding.outcome in ("critical", "warning"):
            steps = finding.limit.advice.steps(_as_read(status), finding.subject or "")
            mended.setdefault((steps, _command(status, finding, shell)), []).append(finding)
    for (steps, command), those in mended.items():
        what = "; ".join(f"{_subject(finding)}: {finding.text} ({finding.outcome})" for finding in those)
        yield Action(what, steps, command, tuple(those), is_markdown=True)


def _as_read(status: PipelineStatus) -> AsRead:
    # Judged values have a snapshot.
    read = status.snapshot.read if status.snapshot else None
    return read or AsRead(status.config, {name: presumed_link(r) for name, r in status.config.records.items()})


def _command(status: PipelineStatus, finding: Finding, shell: Shell) -> str:
    record = status.config.records.get(finding.subject or "")
    words = finding.limit.command(status.pipeline, record.name if record else None)
    if record and "--reason" in words and words[words.index("--reason") + 1] not in gap_reasons(record):
        # The record is satisfied by any version: no session has a gap for this reason.
        return shell.command("check")
    return shell.command(*words)


def _entry(
    line: ReportLine, judged: Mapping[tuple[str, str | None], Finding], status: PipelineStatus, marks: Marks
) -> JudgedLine:
    finding = None
    if line.limit is not None:
        finding = judged.get((line.limit, line.subject or line.record)) or judged.get((line.limit, None))
    bound = _bound(line, finding) if finding else ""
    if line.value is None and not line.words:
        return JudgedLine(line, Standing.UNKNOWN, "not_measured", bound, _why(line, status), marks)
    is_partial = bool(status.snapshot and status.snapshot.restricted)
    evidence: Evidence = "visible" if is_partial and line.evidence == "measured" else line.evidence
    if line.of == 0:
        return JudgedLine(line, Standing.NOTED, evidence, bound, "nothing to count", marks)
    if _is_good(line) and not is_partial:
        return JudgedLine(line, Standing.FINE, evidence, bound, line.reason, marks)
    if finding is None:
        reason = line.reason
        if line.limit and line.good and line.value is not None and not _is_good(line):
            reason = f"not judged: set limits.{line.limit}"
        return JudgedLine(line, Standing.NOTED, evidence, "", reason, marks)
    # The limit covers more than this line: a missing measurement elsewhere does not affect the line.
    mark = Standing.NOTED if finding.outcome == "not_measured" else STANDINGS[finding.outcome]
    return JudgedLine(line, mark, evidence, bound, line.reason, marks)


def _why(line: ReportLine, status: PipelineStatus) -> str:
    """Why a line was not measured: a key missing in the config, else the fault, else the reason of the line."""
    if line.remedy:
        return f"set {line.remedy}"
    if status.last is None:
        return "not yet"
    fault = status.last.fault or status.record_faults.get(line.record or "")
    parts = status.last.snapshot.part_faults if status.last.snapshot else {}
    of_part = next((found for path, found in parts.items() if line.subject and path.endswith(f".{line.subject}")), None)
    said = fault or of_part
    if said is None and line.record is None and status.record_faults:
        return f"needs every record; not measured: {', '.join(status.record_faults)}"
    return said.reason if said else line.reason


def _is_good(line: ReportLine) -> bool:
    if line.evidence == "by_definition":
        return True
    return line.value == (line.of if line.good == "all" else 0) if line.good else False


def _bound(line: ReportLine, finding: Finding) -> str:
    """`warning above 0, critical above 10`; or the limit that judges the line by another number."""
    if line.value is not None and line.value != finding.value and line.unit != "ratio" and not finding.sessions:
        # The line of a limit without a judgement gives the reason.
        is_judged = finding.outcome not in ("not_measured", "not_judged", "too_few")
        return f"judged by {finding.limit.name}: {finding.text}" if is_judged else ""
    side = "below" if finding.limit.below else "above"
    return ", ".join(
        f"{severity} {side} {format_exactly(finding.thresholds[severity], finding.limit.unit)}"
        for severity in SEVERITIES
        if severity in finding.thresholds
    )
