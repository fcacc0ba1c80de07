"""PipelineReport -> the summary in four rows, and the sections below, the most important first.

Markdown, HTML and the page have the same rows and lines, and differ only in the looks.
"""

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Final

from exporter.model.advice import code
from exporter.model.reporting import Chapter, Evidence
from exporter.model.standing import Standing
from exporter.present.report.account import Action, Baseline, JudgedLine, PipelineReport, Report
from exporter.text.figures import format_value
from exporter.text.terminal import printable
from exporter.text.times import moment_text

_ASPECTS: Final[Mapping[str, tuple[Chapter, ...]]] = {
    "Completeness": ("completeness", "impact", "finding", "state"),
    "Versions": ("versions", "consistency"),
    "Integrity": ("quality", "operation"),
    "Freshness": ("arrival",),
}
"""The chapters of each row of the summary."""

_BROKEN: Final = (Standing.CRITICAL, Standing.UNKNOWN, Standing.WARNING)


@dataclass(frozen=True, slots=True)
class Row:
    """One aspect of a pipeline: the standing, the numbers and what to do.  Texts are not Markdown."""

    title: str
    mark: Standing
    numbers: tuple[str, ...]
    to_do: str

    @property
    def not_zero(self) -> str:
        """The numbers for a place beside other pipelines."""
        return ", ".join(number for number in self.numbers if not number.startswith("0 "))


@dataclass(frozen=True, slots=True)
class Part:
    """The lines about the sessions, or about one record; only `lost`, the reason, if no line was measured."""

    title: str
    record: str | None
    entries: tuple[JudgedLine, ...]
    lost: str = ""


@dataclass(frozen=True, slots=True)
class Change:
    """The current value of a line beside the earlier value."""

    entry: JudgedLine
    text: str
    was: str
    now: str


@dataclass(frozen=True, slots=True)
class ReportSection:
    """One section, its content in this order: paragraphs, before and after, lines, and what to do.

    `unasked` are notes about numbers that the config does not ask for.  Notes and steps are one line of Markdown, with
    texts from the database escaped.
    """

    title: str
    notes: tuple[str, ...] = ()
    unasked: tuple[str, ...] = ()
    changes: tuple[Change, ...] = ()
    parts: tuple[Part, ...] = ()
    actions: tuple[Action, ...] = ()
    steps: tuple[str, ...] = ()


def sections(account: PipelineReport) -> Iterator[ReportSection]:
    """What to do, before and after if the report compares, and all numbers."""
    steps = _steps(account)
    if account.actions or steps:
        yield ReportSection("To do", actions=account.actions, steps=steps)
    if account.past:
        yield _compared(account, account.past)
    yield ReportSection("All numbers", _judged(account), tuple(_unasked(account)), parts=_parts(account))


# --- The summary


def rows(account: PipelineReport) -> tuple[Row, ...]:
    """The four rows: completeness, versions, integrity and freshness."""
    return tuple(_row(account, title, chapters) for title, chapters in _ASPECTS.items())


def _row(account: PipelineReport, title: str, chapters: Sequence[Chapter]) -> Row:
    found = [entry for chapter in chapters for entry in account.entries[chapter]]
    entries = [entry for entry in found if entry.mark is not Standing.NOT_ASKED]
    if found and not entries:
        keys = dict.fromkeys(entry.line.remedy for entry in found)
        return Row(title, Standing.NOT_ASKED, (), f"not asked for: set {', '.join(keys)}")
    mark = _mark(account, entries)
    numbers = (*_numbers(mark, entries), *([account.scope] if account.scope and account.snapshot else []))
    return Row(title, mark, numbers, _to_do(account, mark, entries))


def _mark(account: PipelineReport, entries: Sequence[JudgedLine]) -> Standing:
    """The worst mark; fine only if a number of all rows is fine, and no number lacks a judgement."""
    broken = [entry.mark for entry in entries if entry.mark in _BROKEN] + [Standing.UNKNOWN] * bool(account.scope)
    if broken:
        return min(broken, key=lambda mark: mark.rank)
    if any(entry.line.brief and entry.line.of == 0 for entry in entries):
        return Standing.TOO_FEW
    fine = [entry for entry in entries if entry.mark is Standing.FINE and entry.evidence != "by_definition"]
    return Standing.FINE if fine and not any(entry.is_unjudged for entry in entries) else Standing.NOTED


def _numbers(mark: Standing, entries: Sequence[JudgedLine]) -> Iterator[str]:
    """The brief lines, each summed over the records; then the lines behind a bad mark, and the unknown subjects."""
    brief: dict[str, list[JudgedLine]] = {}
    for entry in entries:
        if entry.line.brief:
            brief.setdefault(entry.line.brief, []).append(entry)
    for name, those in brief.items():
        if all(entry.is_told for entry in those):
            yield from _brief(name, those)
    told = [entry for those in brief.values() if all(entry.is_told for entry in those) for entry in those]
    bad = (Standing.CRITICAL, Standing.WARNING)
    if not any(entry.mark in bad for entry in told):
        yield from (f"{text_of(entry)}: {entry.number}" for entry in entries if entry.mark in bad)
    if mark in _BROKEN:
        lost = [entry.line.record for entry in entries if not entry.is_told]
        names = list(dict.fromkeys(filter(None, lost))) or (["sessions"] if lost else [])
        yield from [f"not measured: {' and '.join(names)}"] if names else []


def _brief(name: str, those: Sequence[JudgedLine]) -> Iterator[str]:
    first = those[0]
    if first.line.unit == "seconds":
        if not first.is_none:
            yield f"{name}: {first.number}"
    elif first.line.good == "all":
        yield f"{first.number} {name}" + (f" ({first.percent})" if first.percent else "")
    else:
        yield f"{format_value(sum(entry.line.value or 0 for entry in those), 'count')} {name}"


def _to_do(account: PipelineReport, mark: Standing, entries: Sequence[JudgedLine]) -> str:
    if mark is Standing.NOTED:
        unset = dict.fromkeys(f"limits.{entry.line.limit}" for entry in entries if entry.is_unjudged)
        return f"not judged: set {', '.join(unset)}" if unset else "nothing"
    if mark not in _BROKEN:
        return "nothing" if mark is Standing.FINE else "nothing to judge"
    limits = {entry.line.limit for entry in entries if entry.mark is mark}
    concerned = {
        str(number): action
        for number, action in enumerate(account.actions, start=1)
        if any(finding.limit.name in limits for finding in action.findings)
        or (mark is Standing.UNKNOWN and not action.findings)
    }
    if not concerned:
        return "wait for the next collection"
    causes = [finding.limit.advice.summary for action in concerned.values() for finding in action.findings]
    cause = causes[0].rstrip(".") if causes else next(iter(concerned.values())).what
    return f"{cause}: see {' and '.join(concerned)}"


# --- What to do


def _steps(account: PipelineReport) -> tuple[str, ...]:
    """The steps where no action is known, and the verdict is not healthy."""
    if account.actions:
        return ()
    if account.verdict == "no_data":
        return ("Check why no session is eligible: see the SQL of `eligible`, and the `window`.",)
    if account.verdict == "unknown":
        return ("Wait for the next collection.  If no collection succeeds, read the log of the exporter.",)
    return ()


def notes(report: Report) -> Iterator[str]:
    """Where to run the commands, and how to prove a backfill, in Markdown; nothing where there is nothing to do."""
    shell = report.accounts[0].shell
    if shell.note and any(account.actions for account in report.accounts):
        yield shell.note
    if any(account.past is None and account.is_lacking for account in report.accounts):
        keep = shell.command("report", "--format", "json", "--output", "before.json")
        compare = shell.command("report", "--baseline", "before.json")
        yield f"To compare before and after a backfill, run {code(keep)} before, and {code(compare)} after."


def _compared(account: PipelineReport, past: Baseline) -> ReportSection:
    now = account.measured_at
    before = f"**Before**: {moment_text(past.measured_at)}, by {escaped(past.source)}"
    notes = [f"{before} · **Now**: {'no measurement' if now is None else moment_text(now)}"]
    if account.since is not None and account.since != past.since:
        moved = f"The window moved from {moment_text(past.since)} to {moment_text(account.since)}"
        notes.append(f"{moved}: sessions that left the window no longer count, with or without a gap.")
    return ReportSection(
        "Before and after",
        notes=tuple(notes),
        changes=tuple(
            _change(entry, past)
            for entry in (*account.entries["finding"], *account.entries["impact"], *_side_effects(account, past))
        ),
    )


def _side_effects(account: PipelineReport, past: Baseline) -> Iterator[JudgedLine]:
    """The counts of bad rows that have changed: a backfill may leave duplicates or orphans."""
    for entry in (*account.entries["quality"], *account.entries["operation"]):
        line, before = entry.line, past.value_of(entry.line)
        if line.good == "none" and None not in (line.value, before) and line.value != before:
            yield entry


def _change(entry: JudgedLine, past: Baseline) -> Change:
    line, before = entry.line, past.value_of(entry.line)
    was = "not measured" if before is None else entry.figures(before)
    now = entry.number if line.value is None else entry.figures(line.value)
    about = f"{line.record}: " if line.record and line.text.startswith("…") else ""
    return Change(entry, about + line.text, was, now)


# --- All numbers


def _parts(account: PipelineReport) -> tuple[Part, ...]:
    """The lines about the sessions, then about each record: without unasked numbers, and without empty details."""
    return tuple(part for record in (None, *account.config.records) if (part := _part(account, record)))


def _part(account: PipelineReport, record: str | None) -> Part | None:
    chapters = chain.from_iterable(_ASPECTS.values())
    entries = tuple(entry for chapter in chapters for entry in account.of(chapter, record) if _is_shown(entry))
    title = _title(account, record) if record else "Sessions"
    if any(entry.is_told for entry in entries):
        return Part(title, record, entries)
    return Part(title, record, (), lost=entries[0].reason or "not yet") if entries else None


def _title(account: PipelineReport, record: str) -> str:
    """The record and, where its rows are in another database, which, and how much earlier they were read."""
    if account.snapshot is None or record not in account.snapshot.elsewhere:
        return record
    read = account.snapshot.elsewhere[record]
    earlier = format_value(math.ceil(read.seconds * 10) / 10, "seconds")
    return f"{record}, in the database {read.database}, read {earlier} before the sessions"


def _is_shown(entry: JudgedLine) -> bool:
    line = entry.line
    is_nothing = line.value == 0 if line.text.startswith("…") else entry.is_none and line.good is not None
    return entry.mark is not Standing.NOT_ASKED and not is_nothing


def text_of(entry: JudgedLine) -> str:
    """What a line of a part says: the title names the record."""
    return entry.line.text.replace(f" of {entry.line.record}", "", 1)


def remarks(entry: JudgedLine) -> tuple[str, ...]:
    """What a line says besides the number: the thresholds beside an imperfect number, another evidence, the reason."""
    line = entry.line
    if entry.is_none or line.of == 0:
        return ()
    bound = "" if line.is_perfect or not entry.is_told else entry.bound
    return tuple(filter(None, (bound, _EVIDENCE.get(entry.evidence, ""), entry.reason)))


_EVIDENCE: Final[Mapping[Evidence, str]] = {
    "enforced": "enforced by a constraint",
    "by_definition": "by definition",
    "visible": "of the rows that policies show",
    "two_databases": "rows of another database",
}


def _judged(account: PipelineReport) -> tuple[str, ...]:
    """The number of broken limits, and the limits without a judgement."""
    if not account.config.limits.given:
        return ("No limit is set: nothing was judged.",)
    if not account.findings:
        return ()
    silent = [
        f"{code(finding.limit.name)}{f' of {escaped(finding.subject)}' if finding.subject else ''}"
        for finding in account.findings
        if finding.outcome in ("too_few", "not_judged")
    ]
    said = f"Broken limits: {len(account.broken)} of {len(account.findings)}."
    return (f"{said}  Nothing to judge: {', '.join(silent)}." if silent else said,)


def _unasked(account: PipelineReport) -> Iterator[str]:
    """The keys and the limits that the config does not set."""
    unasked = [entry for found in account.entries.values() for entry in found if entry.mark is Standing.NOT_ASKED]
    keys = dict.fromkeys(escaped(entry.line.remedy) for entry in unasked)
    if keys:
        yield f"Not asked for, set to measure: {'; '.join(keys)}."
    if account.unset:
        yield f"No limit, set to judge: {', '.join(code(limit.name) for limit in account.unset)}."


OUTLOOK: Final = (
    "Weekly: completion, delays.  Monthly: versions, quality.  Quarterly: archive this report, review the limits.  "
    "Alerts: `alerts/rules.yml`.  Not covered: other systems, such as queues."
)
"""The last lines of a report, in Markdown."""


def escaped(text: str) -> str:
    """A text that may come from the database, escaped: no markup, one line."""
    return _MARKUP.sub(r"\\\g<0>", printable(text))


_MARKUP: Final = re.compile(r"[\\`*\[\]<~]|(?<![^\W_])_|_(?![^\W_])")
"""Markup of Markdown anywhere in a line; an underscore inside a word is no markup."""
