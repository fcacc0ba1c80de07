"""PipelineReport -> the sections of the report, the most important first.

Markdown and HTML have the same sections, and differ only in the looks.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from typing import Final

from exporter.model.advice import code
from exporter.model.reporting import Chapter
from exporter.model.standing import Standing, Verdict, in_words
from exporter.present.report.account import Action, Baseline, JudgedLine, PipelineReport
from exporter.state.judge import Finding
from exporter.text.terminal import printable
from exporter.text.times import moment_text


@dataclass(frozen=True, slots=True)
class Part:
    """A group of lines; `title` is empty if the section has only one group."""

    title: str
    entries: tuple[JudgedLine, ...]


@dataclass(frozen=True, slots=True)
class Change:
    """The current value of a line beside the earlier value."""

    entry: JudgedLine
    text: str
    was: str
    now: str


@dataclass(frozen=True, slots=True)
class ReportSection:
    """One section, its content in this order.

    `stand` is the judgement after the sign of the verdict or of `mark`, `notes` are paragraphs, `findings` broken
    limits, `steps` a numbered list and `points` a bullet list.  Texts are one line of Markdown, with texts from the
    database escaped.
    """

    title: str
    stand: str = ""
    mark: Standing | None = None
    notes: tuple[str, ...] = ()
    findings: tuple[Finding, ...] = ()
    changes: tuple[Change, ...] = ()
    parts: tuple[Part, ...] = ()
    actions: tuple[Action, ...] = ()
    steps: tuple[str, ...] = ()
    points: tuple[str, ...] = ()

    @property
    def is_empty(self) -> bool:
        """Whether the section has only a title."""
        return not any(getattr(self, field.name) for field in fields(self) if field.name != "title")


EVIDENCE: Final = {
    "measured": "measured",
    "enforced": "enforced by a constraint",
    "by_definition": "by definition",
    "visible": "of the rows that policies show",
    "not_measured": "not measured",
}
"""The evidence of a line in words."""


def sections(account: PipelineReport) -> tuple[ReportSection, ...]:
    """All sections with content."""
    found = (
        ReportSection(
            "Summary", f"{in_words(account.verdict).upper()}: {escaped(account.headline)}.", findings=account.broken
        ),
        ReportSection(
            "Detailed findings",
            parts=(*_by_record(account, "finding"), Part("Total impact", account.entries["impact"])),
        ),
        _recommended(account),
        ReportSection("No action required", notes=_nothing_to_do(account)),
        ReportSection("Database state", parts=(*_by_record(account, "state"), *_of_sessions(account, "state"))),
        ReportSection("Version distribution", parts=_by_record(account, "versions")),
        ReportSection("Data quality", parts=(*_by_record(account, "quality"), *_of_sessions(account, "quality"))),
        _impact(account),
        ReportSection("Coverage", parts=(Part("", account.entries["completeness"]),)),
        ReportSection(
            "System health indicators",
            parts=(Part("Versions", account.entries["consistency"]), Part("Operation", account.entries["operation"])),
        ),
        ReportSection("Readiness", *_ready(account), notes=(_judged(account), _OTHERS)),
        ReportSection("Monitoring recommendations", steps=tuple(_monitoring(account))),
        ReportSection("Maintenance schedule", points=_SCHEDULE),
    )
    return tuple(section for section in found if not section.is_empty)


def escaped(text: str) -> str:
    """A text that may come from the database, escaped: no markup, one line."""
    return _MARKUP.sub(r"\\\g<0>", printable(text))


_MARKUP: Final = re.compile(r"[\\`*\[\]<~]|(?<![^\W_])_|_(?![^\W_])")
"""Markup of Markdown anywhere in a line; an underscore inside a word is no markup."""


def _by_record(account: PipelineReport, chapter: Chapter) -> tuple[Part, ...]:
    parts = (Part(record, account.of(chapter, record)) for record in account.config.records)
    return tuple(part for part in parts if part.entries)


def _of_sessions(account: PipelineReport, chapter: Chapter) -> tuple[Part, ...]:
    entries = account.of(chapter, None)
    return (Part("Sessions", entries),) if entries else ()


def quiet(account: PipelineReport) -> tuple[str, ...]:
    """The steps without a broken limit."""
    if account.verdict == "no_data":
        return ("Check why no session is eligible: see the SQL of `eligible`, and the `window`.",)
    if account.verdict == "unknown":
        return ("Wait for the next collection.  If no collection succeeds, read the log of the exporter.",)
    lacking = account.entries["impact"][0]
    return (
        f"No limit is broken: {lacking.number} sessions have a gap, within the limits."
        if lacking.line.value
        else "No backfill is needed.",
        "Continue normal operations.",
        "Continue monitoring.  Monitoring recommendations lists values without a limit.",
    )


def _nothing_to_do(account: PipelineReport) -> tuple[str, ...]:
    if account.verdict != "healthy":
        return ()
    return (f"Every configured value was measured.  {_judged(account)}",)


def _judged(account: PipelineReport) -> str:
    """The number of broken limits, and the limits without a judgement."""
    if not account.findings:
        return "No limit is set: nothing was judged."
    silent = [
        f"{finding.limit.name} ({'too few sessions' if finding.outcome == 'too_few' else finding.text})"
        for finding in account.findings
        if finding.outcome in ("too_few", "not_judged")
    ]
    said = f"Broken limits: {len(account.broken)} of {len(account.findings)}"
    return f"{said}.  Not judged: {', '.join(dict.fromkeys(silent))}." if silent else f"{said}."


def _recommended(account: PipelineReport) -> ReportSection:
    if not account.actions:
        return ReportSection("Recommended actions", steps=quiet(account))
    note = account.shell.note
    return ReportSection("Recommended actions", notes=(note,) if note else (), actions=account.actions)


def _no_past(account: PipelineReport) -> str:
    keep = account.shell.command("report", "--format", "json", "--output", "before.json")
    compare = account.shell.command("report", "--baseline", "before.json")
    return (
        "Before and after: no earlier report to compare with.  Save a report as JSON before a backfill "
        f"({code(keep)}) and compare afterwards ({code(compare)}), or compare with Prometheus' history: "
        "`--prometheus URL --at TIME`."
    )


def _impact(account: PipelineReport) -> ReportSection:
    past, now = account.past, account.measured_at
    if past is None:
        return ReportSection("Backfill impact", notes=(_no_past(account),))
    before = f"**Before**: {moment_text(past.measured_at)}, by {escaped(past.source)}"
    notes = [f"{before} · **Now**: {'no measurement' if now is None else moment_text(now)}"]
    if account.since is not None and account.since != past.since:
        moved = f"The window moved from {moment_text(past.since)} to {moment_text(account.since)}"
        notes.append(f"{moved}: sessions that left the window no longer count, with or without a gap.")
    return ReportSection(
        "Backfill impact",
        notes=tuple(notes),
        changes=tuple(_change(entry, past) for entry in (*account.entries["finding"], *account.entries["impact"])),
    )


def _change(entry: JudgedLine, past: Baseline) -> Change:
    line, before = entry.line, past.value_of(entry.line)
    was = "not measured" if before is None else entry.figures(before)
    now = entry.number if line.value is None else entry.figures(line.value)
    about = f"{line.record}: " if line.record and line.text.startswith("…") else ""
    return Change(entry, about + line.text, was, now)


_READY: Final[Mapping[Verdict, str]] = {
    "healthy": "**Ready**: no limit is broken.",
    "degraded": "**Ready, with warnings**: no critical limit is broken.",
    "unhealthy": "**Not ready**: a critical limit is broken.",
    "no_data": "**Unknown**: no session to judge.",
    "unknown": "**Unknown**: a value was not measured or not judged.",
}


def _ready(account: PipelineReport) -> tuple[str, Standing | None]:
    if account.verdict == "healthy" and not account.findings:
        return "**Unknown**: no limit is set.", Standing.NOTED
    return _READY[account.verdict], None


_OTHERS: Final = "Not covered: other systems of the platform, such as user-facing services and queues."


def _monitoring(account: PipelineReport) -> Iterator[str]:
    for limit in account.unset:
        yield f"{limit.what} is not judged: set `limits.{limit.name}`."
    entries = (entry for found in account.entries.values() for entry in found)
    for remedy in dict.fromkeys(entry.line.remedy for entry in entries if entry.line.remedy):
        yield f"To measure more, set {escaped(remedy)}."
    yield "Load `alerts/rules.yml` into Prometheus: a broken limit and a missing measurement raise an alert."


_SCHEDULE: Final = (
    "**Every interval**: all values above, by the exporter.",
    "**Weekly**: completion of sessions and delay of records, over a week of Prometheus' history.",
    "**Monthly**: versions and quality, over a month of Prometheus' history.",
    "**Quarterly**: an audit: archive this report, and review the limits.",
)
