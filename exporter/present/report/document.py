"""Report -> JSON for programs and for later comparisons; the schema is docs/report.schema.json.

A new field changes nothing for readers; a field with a new meaning needs another `format`.
"""

from typing import Annotated, Any, Final, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from exporter import __version__
from exporter.model.elsewhere import identities_of
from exporter.model.fault import Fault, Reason
from exporter.model.judging import Readings
from exporter.model.reporting import Caveat, Chapter, Evidence
from exporter.model.sections import Pipeline, Window
from exporter.model.standing import Outcome, Standing, Verdict
from exporter.model.terms import digest_of, terms_of
from exporter.present.report.account import JudgedLine, PipelineReport, Report
from exporter.state.judge import Finding
from exporter.text.figures import LimitUnit
from exporter.text.terminal import printable
from exporter.text.times import moment_text, parse_moment

_LONGEST_PLACE: Final = 200
"""Characters of a place in a message: the place may have keys of the file."""


class DocumentError(Exception):
    """A file that is no report; the message says why."""


class Part(BaseModel):
    """A part of the document: immutable, extended by later versions."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class FaultPart(Part):
    """The fault of a failed measurement."""

    reason: Reason
    message: str

    @classmethod
    def of(cls, fault: Fault) -> "FaultPart":
        """The same."""
        return cls(reason=fault.reason, message=fault.message)


class CaveatPart(Part):
    """A reason besides the limits for a verdict other than healthy."""

    verdict: Literal["unknown", "no_data"]
    message: str

    @classmethod
    def of(cls, caveat: Caveat) -> "CaveatPart":
        """The same."""
        return cls(verdict=caveat.verdict, message=caveat.message)


class FindingPart(Part):
    """One value compared with the limit; in base units, null without a value."""

    limit: str
    subject: str | None = Field(description="The record or check, null for the pipeline.")
    outcome: Outcome
    value: float | None
    unit: LimitUnit
    warning: float | None
    critical: float | None
    sessions: int | None = Field(description="The number of sessions behind a ratio.")
    meaning: str
    words: str = Field("", description="Why the value was not judged, or a description of the value; else empty.")

    @classmethod
    def of(cls, finding: Finding) -> "FindingPart":
        """The same."""
        return cls(
            limit=finding.limit.name,
            subject=finding.subject,
            outcome=finding.outcome,
            value=finding.value,
            unit=finding.limit.unit,
            warning=finding.thresholds.get("warning"),
            critical=finding.thresholds.get("critical"),
            sessions=finding.sessions,
            meaning=finding.limit.what,
            words=finding.words,
        )


class LinePart(Part):
    """One line of the report: `value` of `of`; null without a measurement, or without a whole."""

    chapter: Chapter
    record: str | None
    text: str
    value: float | None
    of: float | None
    unit: LimitUnit
    mark: Standing
    evidence: Evidence
    limit: str | None
    bound: str
    reason: str
    words: str = Field("", description="Words in place of a value; else empty.")
    before: float | None = Field(description="The earlier value of the comparison, null without a comparison.")

    @classmethod
    def of_entry(cls, entry: JudgedLine, before: float | None) -> "LinePart":
        """The same."""
        line = entry.line
        return cls(
            chapter=line.chapter,
            record=line.record,
            text=line.text,
            value=line.value,
            of=line.of,
            unit=line.unit,
            mark=entry.mark,
            evidence=entry.evidence,
            limit=line.limit,
            bound=entry.bound,
            reason=entry.reason,
            words=line.words if line.value is None else "",
            before=before,
        )


class ActionPart(Part):
    """Something to do."""

    what: str
    steps: list[str]
    command: str


class NumberPart(Part):
    """One series of the page."""

    metric: str
    labels: dict[str, str]
    value: float


class WindowPart(Part):
    """The window of the config: a start, or seconds before now."""

    since: str | None
    last_seconds: float | None

    @classmethod
    def of(cls, window: Window) -> "WindowPart":
        """The same."""
        last = None if window.last is None else window.last.total_seconds()
        return cls(since=moment_text(window.since.timestamp()) if window.since else None, last_seconds=last)


class PastPart(Part):
    """The earlier report of the comparison."""

    source: str
    measured_at: str


def _is_moment(value: str | None) -> str | None:
    if value is not None:
        parse_moment(value)
    return value


class PipelinePart(Part):
    """The report on one pipeline."""

    database: str
    pipeline: str
    owner: str | None = None
    identity: str | None = Field(description="A digest that identifies the database, without further information.")
    identities: dict[str, str] = Field(
        default_factory=dict, description="The same of the databases of records in other databases, by name."
    )
    verdict: Verdict
    headline: str
    measured_at: Annotated[str | None, AfterValidator(_is_moment)]
    measures: str = Field(description="A digest of the keys that affect numbers; another digest means other numbers.")
    window: WindowPart
    faults: list[FaultPart]
    caveats: list[CaveatPart]
    findings: list[FindingPart]
    lines: list[LinePart]
    actions: list[ActionPart]
    unset_limits: list[str]
    past: PastPart | None
    numbers: list[NumberPart]


class Document(Part):
    """The whole report."""

    format: Literal[1]
    exporter_version: str
    generated_at: str
    verdict: Verdict
    headline: str
    pipelines: list[PipelinePart]


def as_json(report: Report) -> str:
    """The report as one JSON object, with a newline at its end."""
    document = Document(
        format=1,
        exporter_version=__version__,
        generated_at=moment_text(report.made_at),
        verdict=report.verdict,
        headline=report.headline,
        pipelines=[_pipeline(account) for account in report.accounts],
    )
    return document.model_dump_json(indent=2) + "\n"


def _pipeline(account: PipelineReport) -> PipelinePart:
    past = account.past
    return PipelinePart(
        database=account.database,
        owner=account.config.owner,
        pipeline=account.pipeline,
        identity=account.snapshot.identity if account.snapshot else None,
        identities=identities_of(account.snapshot.elsewhere) if account.snapshot else {},
        verdict=account.verdict,
        headline=account.headline,
        measured_at=moment_text(account.measured_at) if account.measured_at is not None else None,
        measures=measured_by(account.config),
        window=WindowPart.of(account.config.window),
        faults=[FaultPart.of(fault) for fault in account.faults],
        caveats=[CaveatPart.of(caveat) for caveat in account.caveats],
        findings=[FindingPart.of(finding) for finding in account.findings],
        lines=[
            LinePart.of_entry(entry, past.value_of(entry.line) if past else None)
            for entries in account.entries.values()
            for entry in entries
        ],
        actions=[ActionPart(what=a.what, steps=list(a.steps), command=a.command) for a in account.actions],
        unset_limits=[limit.name for limit in account.unset],
        past=PastPart(source=past.source, measured_at=moment_text(past.measured_at)) if past else None,
        numbers=_numbers(account.snapshot.readings) if account.snapshot else [],
    )


def measured_by(config: Pipeline) -> str:
    """A digest of all keys of the config that affect numbers."""
    return digest_of(terms_of(config))


def _numbers(readings: Readings) -> list[NumberPart]:
    return [
        NumberPart(metric=metric.full_name, labels=dict(zip(metric.labels, labels, strict=True)), value=value)
        for metric, family in readings.families.items()
        for labels, value in family.items()
    ]


def document_schema() -> dict[str, Any]:
    """The JSON Schema of the document."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **Document.model_json_schema(mode="serialization"),
    }


def read_document(text: str | bytes) -> Document:
    """Read a report in JSON; raises DocumentError."""
    try:
        return Document.model_validate_json(text)
    except ValidationError as error:
        first = error.errors()[0]
        place = printable(".".join(str(part) for part in first["loc"])[:_LONGEST_PLACE]) or "the file"
        raise DocumentError(
            f"it is no report of format 1 (at {place}: {first['msg']}): write a report with report --format json"
        ) from None
