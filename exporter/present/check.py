"""Standings -> every judged line, for people or programs, and the exit code.  Judges nothing anew."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal
from xml.etree import ElementTree as ET

from exporter.model.fault import Fault
from exporter.model.sections import Severity
from exporter.state.board import Standing
from exporter.state.judge import IN_WORDS, Finding, Outcome, Verdict
from exporter.text.exits import ExitCode
from exporter.text.terminal import Block, Span, Table, Tone, printable
from exporter.text.times import moment_text

_OUTCOMES: Final[tuple[Outcome, ...]] = ("critical", "not_measured", "warning", "too_few", "not_judged", "within")
_WIDTHS: Final = (12, 30, 0)
_TONES: Final[Mapping[Verdict, Tone]] = {
    "unhealthy": "bad",
    "unknown": "unknown",
    "degraded": "warning",
    "no_data": "quiet",
    "healthy": "good",
}
_TONES_OF_OUTCOMES: Final[Mapping[Outcome, Tone]] = {
    "critical": "bad",
    "not_measured": "unknown",
    "warning": "warning",
    "too_few": "quiet",
    "not_judged": "quiet",
    "within": "good",
}


@dataclass(frozen=True, slots=True)
class Check:
    """Every pipeline, judged; `fail_on` is the least severity of a broken limit that fails the check."""

    standings: tuple[Standing, ...]
    fail_on: Severity = "warning"

    @property
    def exit_code(self) -> ExitCode:
        """The first that holds: a critical limit is broken, something is not measured, a warning, no eligible session.

        With `fail_on` critical, a broken warning limit does not count.
        """
        verdicts = {standing.verdict for standing in self.standings}
        if "unhealthy" in verdicts:
            return ExitCode.FAILED
        if "unknown" in verdicts:
            return ExitCode.NOT_MEASURED
        if "degraded" in verdicts and self.fail_on == "warning":
            return ExitCode.FAILED
        if any(caveat.verdict == "no_data" for standing in self.standings for caveat in standing.caveats):
            return ExitCode.NO_DATA
        return ExitCode.DONE


def as_blocks(standings: Sequence[Standing]) -> Iterator[Block]:
    """A paragraph for each pipeline: its verdict, what keeps it from health, then every limit, the worst first."""
    for place, standing in enumerate(standings):
        if place:
            yield ()
        yield from _paragraph(standing)


def _paragraph(standing: Standing) -> Iterator[Block]:
    snapshot = standing.snapshot
    at = f", measured at {moment_text(snapshot.taken_at)}" if snapshot else ""
    yield Span(f"{standing.pipeline}: "), Span(standing.verdict, _TONES[standing.verdict]), Span(at, "quiet")
    for fault in faults_of(standing):
        yield Span("  "), Span("not measured", "unknown"), Span(f": {fault.message}")
    for caveat in standing.caveats:
        yield Span("  "), Span(caveat.verdict, _TONES[caveat.verdict]), Span(f": {caveat.message}")
    if not standing.limits:
        yield (Span("  no limits are set, so nothing is judged: see limits in the config"),)
    findings = sorted(standing.findings, key=lambda finding: _OUTCOMES.index(finding.outcome))
    yield Table(tuple(_row(finding) for finding in findings), _WIDTHS)


def _row(finding: Finding) -> tuple[Span, ...]:
    name = " ".join(filter(None, (finding.limit.name, finding.subject)))
    outcome = finding.outcome
    return Span(IN_WORDS[outcome], _TONES_OF_OUTCOMES[outcome]), Span(name), Span(finding.text)


def faults_of(standing: Standing) -> tuple[Fault, ...]:
    """Why the last collection of a pipeline did not measure everything."""
    return standing.last.faults if standing.last else ()


Kind = Literal["failure", "error", "skipped", "passed"]


@dataclass(frozen=True, slots=True)
class _Case:
    """One thing that was judged, for whoever counts cases: what it is called, how it ended, and why."""

    name: str
    kind: Kind
    why: str


def _cases(standing: Standing, fail_on: Severity) -> Iterator[_Case]:
    """A broken limit is a failure, what is not known an error; a warning passes where only critical ones count."""
    for fault in faults_of(standing):
        yield _Case(f"measured: {fault.reason}", "error", fault.message)
    for caveat in standing.caveats:
        yield _Case(caveat.verdict, "error" if caveat.verdict == "unknown" else "skipped", caveat.message)
    kinds: dict[Outcome, Kind] = {
        "critical": "failure",
        "warning": "failure" if fail_on == "warning" else "passed",
        "not_measured": "error",
        "too_few": "skipped",
        "not_judged": "skipped",
        "within": "passed",
    }
    for finding in standing.findings:
        name = " ".join(filter(None, (finding.limit.name, finding.subject)))
        yield _Case(name, kinds[finding.outcome], f"{finding.limit.what}: {finding.text}")
    if not standing.findings and not faults_of(standing) and not standing.caveats:
        yield _Case("limits", "skipped", "no limits are set, so nothing is judged")


def as_junit(standings: Sequence[Standing], fail_on: Severity) -> str:
    """The same as JUnit's XML: a suite for each pipeline, a case for each judged line.

    https://github.com/testmoapp/junitxml
    """
    suites = ET.Element("testsuites", name="session-health")
    for standing in standings:
        cases = list(_cases(standing, fail_on))
        suite = ET.SubElement(suites, "testsuite", {"name": standing.pipeline, **_counts(cases)})
        if standing.snapshot:
            suite.set("timestamp", moment_text(standing.snapshot.taken_at).removesuffix("Z"))
        for case in cases:
            element = ET.SubElement(
                suite, "testcase", name=printable(case.name), classname=f"session-health.{standing.pipeline}", time="0"
            )
            if case.kind == "passed":
                ET.SubElement(element, "system-out").text = printable(case.why)
            else:
                ET.SubElement(element, case.kind, message=printable(case.why))
    totals = _counts([case for standing in standings for case in _cases(standing, fail_on)])
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


def as_annotations(check: "Check") -> str:
    """What went wrong as commands to the runner of GitHub's workflows, which shows them beside the run.

    https://docs.github.com/actions/reference/workflow-commands-for-github-actions#setting-an-error-message
    """
    lines = []
    for standing in check.standings:
        for case in _cases(standing, check.fail_on):
            if case.kind in ("failure", "error"):
                title = _escaped(f"{standing.pipeline}: {case.name}").replace(":", "%3A").replace(",", "%2C")
                lines.append(f"::error title={title}::{_escaped(case.why)}\n")
    return "".join(lines)


def _escaped(text: str) -> str:
    return printable(text).replace("%", "%25")
