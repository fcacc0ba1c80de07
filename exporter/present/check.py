"""Standings -> every judged line, for people or programs, and the exit code.  Judges nothing again."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final, Literal
from xml.etree import ElementTree as ET

from exporter.model.fault import Fault
from exporter.model.sections import Severity
from exporter.model.standing import STANDINGS, Standing, in_words, rank
from exporter.state.board import PipelineStatus
from exporter.state.judge import Finding
from exporter.text.exits import ExitCode
from exporter.text.terminal import Block, Span, Table, printable
from exporter.text.times import moment_text

_WIDTHS: Final = (12, 30, 0)


@dataclass(frozen=True, slots=True)
class Check:
    """Every judged pipeline; `fail_on` is the least severity of a broken limit that fails the check.

    `only_broken`: people see the broken limits and missing numbers alone.
    """

    statuses: tuple[PipelineStatus, ...]
    fail_on: Severity = "warning"
    only_broken: bool = False

    @property
    def exit_code(self) -> ExitCode:
        """The first that applies: a broken critical limit, a missing measurement, a warning, no eligible session.

        With `fail_on` critical, a broken warning limit does not count.
        """
        verdicts = {status.verdict for status in self.statuses}
        if "unhealthy" in verdicts:
            return ExitCode.FAILED
        if "unknown" in verdicts:
            return ExitCode.NOT_MEASURED
        if "degraded" in verdicts and self.fail_on == "warning":
            return ExitCode.FAILED
        if any(caveat.verdict == "no_data" for status in self.statuses for caveat in status.caveats):
            return ExitCode.NO_DATA
        return ExitCode.DONE


def as_blocks(check: Check) -> Iterator[Block]:
    """A paragraph per pipeline, the worst first: the verdict, faults and caveats, then every limit; then the totals."""
    for status in sorted(check.statuses, key=lambda status: rank(status.verdict)):
        if check.only_broken and STANDINGS[status.verdict] is Standing.FINE:
            continue
        yield from _paragraph(status, only_broken=check.only_broken)
        yield ()
    yield (Span(_totals(check)),)


def _totals(check: Check) -> str:
    """`10 pipelines: 1 unhealthy, 9 healthy; 4 of 180 numbers broken; exit code 1`."""
    verdicts = Counter(status.verdict for status in check.statuses)
    found = [f"{count} {in_words(verdict)}" for verdict, count in sorted(verdicts.items(), key=lambda v: rank(v[0]))]
    outcomes = Counter(finding.outcome for status in check.statuses for finding in status.findings)
    counted = [f"{outcomes['critical'] + outcomes['warning']} of {outcomes.total()} numbers broken"]
    counted += [f"{outcomes['not_measured']} not measured"] if outcomes["not_measured"] else []
    many = f"{len(check.statuses)} pipeline{'' if len(check.statuses) == 1 else 's'}"
    return f"{many}: {', '.join(found)}; {', '.join(counted)}; exit code {check.exit_code:d}"


_BROKEN: Final = frozenset({Standing.CRITICAL, Standing.UNKNOWN, Standing.WARNING})


def _paragraph(status: PipelineStatus, *, only_broken: bool) -> Iterator[Block]:
    snapshot = status.snapshot
    at = f", measured at {moment_text(snapshot.taken_at)}" if snapshot else ""
    yield Span(f"{status.pipeline}: "), Span(status.verdict, STANDINGS[status.verdict].tone), Span(at, "quiet")
    for fault in faults_of(status):
        yield Span("  "), Span("not measured", "unknown"), Span(f": {fault.message}")
    for caveat in status.caveats:
        yield Span("  "), Span(caveat.verdict, STANDINGS[caveat.verdict].tone), Span(f": {caveat.message}")
    if not status.config.limits.given:
        yield (Span("  no limits are set, nothing is judged: set limits in the config"),)
    findings = sorted(status.findings, key=lambda finding: rank(finding.outcome))
    if only_broken:
        findings = [finding for finding in findings if STANDINGS[finding.outcome] in _BROKEN]
    yield Table(tuple(_row(finding) for finding in findings), _WIDTHS)


def _row(finding: Finding) -> tuple[Span, ...]:
    name = " ".join(filter(None, (finding.limit.name, finding.subject)))
    outcome = finding.outcome
    return Span(in_words(outcome), STANDINGS[outcome].tone), Span(name), Span(finding.text)


def faults_of(status: PipelineStatus) -> tuple[Fault, ...]:
    """The faults of the last collection of a pipeline."""
    return status.last.faults if status.last else ()


Kind = Literal["failure", "error", "skipped", "passed"]


@dataclass(frozen=True, slots=True)
class _Case:
    """A test case: name, result and reason."""

    name: str
    kind: Kind
    why: str


def _cases(status: PipelineStatus, fail_on: Severity) -> Iterator[_Case]:
    """A broken limit is a failure, an unknown value an error; with `fail_on` critical, a warning passes."""
    for fault in faults_of(status):
        yield _Case(f"measured: {fault.reason}", "error", fault.message)
    for caveat in status.caveats:
        yield _Case(caveat.verdict, "error" if caveat.verdict == "unknown" else "skipped", caveat.message)
    kinds: dict[Standing, Kind] = {
        Standing.CRITICAL: "failure",
        Standing.WARNING: "failure" if fail_on == "warning" else "passed",
        Standing.UNKNOWN: "error",
        Standing.TOO_FEW: "skipped",
        Standing.NOTED: "skipped",
        Standing.FINE: "passed",
    }
    for finding in status.findings:
        name = " ".join(filter(None, (finding.limit.name, finding.subject)))
        yield _Case(name, kinds[STANDINGS[finding.outcome]], f"{finding.limit.what}: {finding.text}")
    if not status.findings and not faults_of(status) and not status.caveats:
        yield _Case("limits", "skipped", "no limits are set, nothing is judged")


def as_junit(statuses: Sequence[PipelineStatus], fail_on: Severity) -> str:
    """The check as JUnit XML: a suite per pipeline, a case per judged line.

    https://github.com/testmoapp/junitxml
    """
    suites = ET.Element("testsuites", name="session-health")
    for status in statuses:
        cases = list(_cases(status, fail_on))
        suite = ET.SubElement(suites, "testsuite", {"name": status.pipeline, **_counts(cases)})
        if status.snapshot:
            suite.set("timestamp", moment_text(status.snapshot.taken_at).removesuffix("Z"))
        for case in cases:
            element = ET.SubElement(
                suite, "testcase", name=printable(case.name), classname=f"session-health.{status.pipeline}", time="0"
            )
            if case.kind == "passed":
                ET.SubElement(element, "system-out").text = printable(case.why)
            else:
                ET.SubElement(element, case.kind, message=printable(case.why))
    totals = _counts([case for status in statuses for case in _cases(status, fail_on)])
    for name, count in totals.items():
        suites.set(name, count)
    ET.indent(suites)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + ET.tostring(suites, encoding="unicode") + "\n"


def _counts(cases: Sequence[_Case]) -> dict[str, str]:
    kinds = Counter(case.kind for case in cases)
    return {
        "tests": str(len(cases)),
        "failures": str(kinds["failure"]),
        "errors": str(kinds["error"]),
        "skipped": str(kinds["skipped"]),
    }


def as_annotations(check: "Check") -> list[str]:
    """Failures and errors as workflow commands of GitHub, a line each: the runner shows the texts beside the run.

    https://docs.github.com/actions/reference/workflow-commands-for-github-actions#setting-an-error-message
    """
    lines = []
    for status in check.statuses:
        for case in _cases(status, check.fail_on):
            if case.kind in ("failure", "error"):
                title = _escaped(f"{status.pipeline}: {case.name}").replace(":", "%3A").replace(",", "%2C")
                lines.append(f"::error title={title}::{_escaped(case.why)}")
    return lines


def _escaped(text: str) -> str:
    return printable(text).replace("%", "%25")
