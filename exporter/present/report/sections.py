"""PipelineReport -> the sections of the report, in the order in which somebody who has a minute reads.

What is said where is decided here, once; Markdown and HTML differ in how it looks.
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
    """Lines that belong together; `title` is empty where the section has no other."""

    title: str
    entries: tuple[JudgedLine, ...]


@dataclass(frozen=True, slots=True)
class Change:
    """What a line says now, beside what it said in the past that the report compares with."""

    entry: JudgedLine
    text: str
    was: str
    now: str


@dataclass(frozen=True, slots=True)
class ReportSection:
    """One section, its content in this order.

    `stand` is what to think of it all, after the sign of the verdict or of `mark`, `notes` are paragraphs, `findings`
    broken limits, `steps` numbered and `points` not.  Texts are Markdown within a line, what comes from the database
    escaped in it.
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
        """Whether there is nothing below the title."""
        return not any(getattr(self, field.name) for field in fields(self) if field.name != "title")


EVIDENCE: Final = {
    "measured": "measured",
    "enforced": "enforced by a constraint",
    "by_definition": "by definition",
    "visible": "of the rows that policies show",
    "not_measured": "not measured",
}
"""What a line rests on, in words; of one that has no number the number says so already."""


def sections(account: PipelineReport) -> tuple[ReportSection, ...]:
    """All of them that have something to say."""
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
    """A text that may come from the database, so that it is neither markup nor more than a line."""
    return _MARKUP.sub(r"\\\g<0>", printable(text))


_MARKUP: Final = re.compile(r"[\\`*\[\]<~]|(?<![^\W_])_|_(?![^\W_])")
"""What Markdown would take for its own anywhere in a line; an underscore inside a word is none."""


def _by_record(account: PipelineReport, chapter: Chapter) -> tuple[Part, ...]:
    parts = (Part(record, account.of(chapter, record)) for record in account.config.records)
    return tuple(part for part in parts if part.entries)


def _of_sessions(account: PipelineReport, chapter: Chapter) -> tuple[Part, ...]:
    entries = account.of(chapter, None)
    return (Part("Sessions", entries),) if entries else ()


def quiet(account: PipelineReport) -> tuple[str, ...]:
    """What is to be done where nothing asks for an action."""
    if account.verdict == "no_data":
        return ("See why no session is eligible: the SQL of `eligible`, and `window`.",)
    if account.verdict == "unknown":
        return ("Wait for the next look at the database; if none comes, see the log of the exporter.",)
    lacking = account.entries["impact"][0]
    return (
        f"No limit is broken: {lacking.number} sessions have a gap, as the limits allow."
        if lacking.line.value
        else "No backfill is needed.",
        "Go on with normal operations.",
        "Go on watching: whatever is not judged yet is named under monitoring recommendations.",
    )


def _nothing_to_do(account: PipelineReport) -> tuple[str, ...]:
    if account.verdict != "healthy":
        return ()
    return (f"Everything that the config asks for was measured.  {_judged(account)}",)


def _judged(account: PipelineReport) -> str:
    """What the verdict rests on: how many limits judged something, and which could not."""
    if not account.findings:
        return "No limit is set, so nothing was judged."
    silent = [
        f"{finding.limit.name} ({'too few sessions' if finding.outcome == 'too_few' else finding.text})"
        for finding in account.findings
        if finding.outcome in ("too_few", "not_judged")
    ]
    said = f"Of {len(account.findings)} numbers with a limit {len(account.broken) or 'none'} broke it"
    return f"{said}; these said nothing: {', '.join(dict.fromkeys(silent))}." if silent else f"{said}."


def _recommended(account: PipelineReport) -> ReportSection:
    if not account.actions:
        return ReportSection("Recommended actions", steps=quiet(account))
    note = account.shell.note
    return ReportSection("Recommended actions", notes=(note,) if note else (), actions=account.actions)


def _no_past(account: PipelineReport) -> str:
    keep = account.shell.command("report", "--format", "json", "--output", "before.json")
    compare = account.shell.command("report", "--baseline", "before.json")
    return (
        "Before and after: not measured, for one snapshot knows no past.  Keep a report as JSON before a backfill "
        f"({code(keep)}) and name it afterwards ({code(compare)}), or name a moment in Prometheus' history with "
        "`--prometheus URL --at TIME`."
    )


def _impact(account: PipelineReport) -> ReportSection:
    past, now = account.past, account.measured_at
    if past is None:
        return ReportSection("Backfill impact", notes=(_no_past(account),))
    before = f"**Before**: {moment_text(past.measured_at)}, by {escaped(past.source)}"
    notes = [f"{before} · **Now**: {'nothing' if now is None else moment_text(now)}"]
    if account.since is not None and account.since != past.since:
        moved = f"The window has moved on from {moment_text(past.since)} to {moment_text(account.since)}"
        notes.append(f"{moved}: what left it counts no more, mended or not.")
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
    "no_data": "**Cannot be said**: there is no session to judge.",
    "unknown": "**Cannot be said**: something was not measured, or is not judged.",
}


def _ready(account: PipelineReport) -> tuple[str, Standing | None]:
    if account.verdict == "healthy" and not account.findings:
        return "**Cannot be said**: no limit is set.", Standing.NOTED
    return _READY[account.verdict], None


_OTHERS: Final = "Other systems of the platform (its answers to users, its queues) are not looked at."


def _monitoring(account: PipelineReport) -> Iterator[str]:
    for limit in account.unset:
        yield f"{limit.what} is not judged: set `limits.{limit.name}`."
    entries = (entry for found in account.entries.values() for entry in found)
    for remedy in dict.fromkeys(entry.line.remedy for entry in entries if entry.line.remedy):
        yield f"More would be measured with {escaped(remedy)}."
    yield "Load `alerts/rules.yml` into Prometheus: every limit alerts, and so does not knowing."


_SCHEDULE: Final = (
    "**Every interval**: everything above, by the exporter.",
    "**Weekly**: completion of sessions and delay of records, over a week of Prometheus' history.",
    "**Monthly**: versions and quality, over a month of it.",
    "**Quarterly**: an audit: this report, kept; and whether its limits are still right.",
)
