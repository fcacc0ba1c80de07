"""Report -> Markdown, in the order in which somebody who has a minute reads: the verdict, what is wrong, what to do."""

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Final

from exporter.dimension import Chapter
from exporter.judge import Verdict, shown
from exporter.report.account import Account, Entry, Mark, Report
from exporter.schema import moment_text
from exporter.terminal import printable

_SIGNS: Final[Mapping[Verdict, str]] = {
    "healthy": "✅ HEALTHY",
    "degraded": "⚠️ DEGRADED",
    "unhealthy": "❌ UNHEALTHY",
    "no_data": "⬜ NO DATA",
    "unknown": "❓ UNKNOWN",
}
_MARKS: Final[Mapping[Mark, str]] = {
    "fine": "✅",
    "warning": "⚠️",
    "critical": "❌",
    "unknown": "❓",
    "too_few": "⬜",
    "noted": "▫️",
}
_EVIDENCE: Final = {
    "measured": "measured",
    "enforced": "enforced by a constraint",
    "by_definition": "by definition",
    "not_measured": "not measured",
}


def as_markdown(report: Report) -> str:
    """The whole report; its first line says the verdict, whatever it is."""
    lines = [f"# {_SIGNS[report.verdict]}: {_text(report.headline)}", ""]
    for account in report.accounts:
        lines += _account(account, report, is_alone=len(report.accounts) == 1)
    return "\n".join(lines) + "\n"


def _account(account: Account, report: Report, *, is_alone: bool) -> Iterator[str]:
    if not is_alone:
        yield from (f"# {account.pipeline}: {_SIGNS[account.verdict]}", "")
    yield f"**Health report** of the pipeline {account.pipeline} in the database {account.database}  "
    yield f"**Measured**: {_moment(account.measured_at)} · **Written**: {_moment(report.made_at)}  "
    if account.since is not None:
        yield f"**Window**: sessions started since {_moment(account.since)}  "
    yield f"**Sessions analysed**: {account.entries['base'][0].number}"
    for title, section in (
        ("Summary", _summary(account)),
        ("Detailed findings", _findings(account)),
        ("Recommended actions", _actions(account)),
        ("No action required", _no_action(account)),
        ("Database state", _by_record(account, "state")),
        ("Version distribution", _by_record(account, "versions")),
        ("Data quality", _by_record(account, "quality")),
        ("Backfill impact", _impact(account)),
        ("Coverage", _entries(account.entries["completeness"])),
        ("System health indicators", _indicators(account)),
        ("Readiness", _readiness(account)),
        ("Monitoring recommendations", _monitoring(account)),
        ("Maintenance schedule", _SCHEDULE),
    ):
        if content := "\n".join(section).strip():
            yield from ("", f"## {title}", "", content)
    yield ""


def _summary(account: Account) -> Iterator[str]:
    yield f"{_SIGNS[account.verdict]}: {_text(account.headline)}."
    broken = [finding for finding in account.findings if finding.outcome in ("critical", "warning")]
    if broken:
        yield ""
    for finding in broken:
        about = f" ({finding.subject})" if finding.subject else ""
        yield f"- {_MARKS[finding.outcome]} {finding.limit.what}{about}: {finding.text}"  # type: ignore[index]


def _findings(account: Account) -> Iterator[str]:
    for record in account.config.records:
        yield from (f"### {record}", "", *_entries(account.of("finding", record)), "")
    yield from ("### Total impact", "", *_entries(account.entries["impact"]))


def _actions(account: Account) -> Iterator[str]:
    for number, action in enumerate(account.actions, start=1):
        yield f"{number}. **{_text(action.what)}**"
        yield from (f"   - {step if action.is_markdown else _text(step)}" for step in action.steps)
        yield f"   - `{action.command}`"
    if not account.actions:
        yield from _quiet(account)


def _quiet(account: Account) -> Iterator[str]:
    if account.verdict == "no_data":
        yield "1. See why no session is eligible: the SQL of `eligible`, and `window`."
        return
    lacking = account.entries["impact"][0]
    if lacking.line.value:
        yield f"1. No limit is broken: {lacking.number} sessions have a gap, as the limits allow."
    else:
        yield "1. No backfill is needed."
    yield "2. Go on with normal operations."
    yield "3. Go on watching: whatever is not judged yet is named under monitoring recommendations."


def _no_action(account: Account) -> Iterator[str]:
    if account.verdict == "healthy":
        yield f"Everything that the config asks for was measured.  {_judged(account)}"


def _by_record(account: Account, chapter: Chapter) -> Iterator[str]:
    for record in account.config.records:
        if found := account.of(chapter, record):
            yield from (f"### {record}", "", *_entries(found), "")
    if found := account.of(chapter, None):
        yield from ("### Sessions", "", *_entries(found))


def _impact(account: Account) -> Iterator[str]:
    past = account.past
    if past is None:
        yield "Before and after: not measured, for one snapshot knows no past.  Keep a report as JSON before a backfill"
        yield "(`report --format json --output before.json`) and name it afterwards (`report --baseline before.json`),"
        yield "or name a moment in Prometheus' history (`report --prometheus URL --at TIME`)."
        return
    yield f"**Before**: {_moment(past.measured_at)}, by {_text(past.source)} · **Now**: {_moment(account.measured_at)}"
    yield ""
    if account.since is not None and account.since != past.since:
        yield f"The window has moved on from {_moment(past.since)} to {_moment(account.since)}: what left it counts no"
        yield "more, mended or not."
        yield ""
    for entry in (*account.entries["finding"], *account.entries["impact"]):
        line, before = entry.line, past.value_of(entry.line)
        was = "not measured" if before is None else shown(before, line.unit)
        now = "not measured" if line.value is None else shown(line.value, line.unit)
        about = f"{line.record}: " if line.record and line.text.startswith("…") else ""
        yield f"- {_MARKS[entry.mark]} {about}{_text(line.text)}: **{was} → {now}**"


def _indicators(account: Account) -> Iterator[str]:
    yield from ("### Versions", "", *_entries(account.entries["consistency"]), "")
    yield from ("### Operation", "", *_entries(account.entries["operation"]))


def _judged(account: Account) -> str:
    """What the verdict rests on: how many limits judged something, and which could not."""
    if not account.findings:
        return "No limit is set, so nothing was judged."
    silent = [
        f"{finding.limit.name} ({'too few sessions' if finding.outcome == 'too_few' else 'nothing to judge'})"
        for finding in account.findings
        if finding.outcome == "too_few" or (finding.outcome == "within" and finding.value is None)
    ]
    broken = sum(finding.outcome in ("critical", "warning") for finding in account.findings)
    said = f"Of {len(account.findings)} numbers with a limit {broken or 'none'} broke it"
    return f"{said}; these said nothing: {', '.join(dict.fromkeys(silent))}." if silent else f"{said}."


_READY: Final[Mapping[Verdict, str]] = {
    "healthy": "✅ **Ready**: no limit is broken.",
    "degraded": "⚠️ **Ready, with warnings**: no critical limit is broken.",
    "unhealthy": "❌ **Not ready**: a critical limit is broken.",
    "no_data": "⬜ **Cannot be said**: there is no session to judge.",
    "unknown": "❓ **Cannot be said**: something was not measured, or is not judged.",
}


def _readiness(account: Account) -> Iterator[str]:
    ready = _READY[account.verdict]
    if account.verdict == "healthy" and not account.findings:
        ready = "▫️ **Cannot be said**: no limit is set."
    yield f"{ready}  {_judged(account)}"
    yield ""
    yield "Other systems of the platform (its answers to users, its queues) are not looked at."


def _monitoring(account: Account) -> Iterator[str]:
    number = 0
    for limit in account.unset:
        number += 1
        yield f"{number}. {limit.what} is not judged: set `limits.{limit.name}`."
    for remedy in dict.fromkeys(entry.line.remedy for entry in _all(account) if entry.line.remedy):
        number += 1
        yield f"{number}. More would be measured with {_text(remedy)}."
    yield f"{number + 1}. Load `alerts/rules.yml` into Prometheus: every limit alerts, and so does not knowing."


_SCHEDULE: Final = (
    "- **Every interval**: everything above, by the exporter.",
    "- **Weekly**: completion of sessions and delay of records, over a week of Prometheus' history.",
    "- **Monthly**: versions and quality, over a month of it.",
    "- **Quarterly**: an audit: this report, kept; and whether its limits are still right.",
)


def _all(account: Account) -> Iterable[Entry]:
    return (entry for entries in account.entries.values() for entry in entries)


def _entries(entries: Iterable[Entry]) -> Iterator[str]:
    for entry in entries:
        said = [f"**{entry.number}**"]
        if entry.share is not None and entry.line.of != entry.line.value:
            said[0] += f" ({entry.share:.1%})"
        said += [entry.bound] if entry.bound else []
        said.append(_EVIDENCE[entry.evidence] if entry.line.value is not None else "")
        said += [_text(entry.reason)] if entry.reason else []
        yield f"- {_MARKS[entry.mark]} {_text(entry.line.text)}: {' · '.join(filter(None, said))}"


_MARKUP: Final = re.compile(r"[\\`*\[\]<~]|(?<![^\W_])_|_(?![^\W_])")
"""What Markdown would take for its own anywhere in a line; an underscore inside a word is none."""


def _text(text: str) -> str:
    """A text that may come from the database, so that it is neither markup nor more than a line."""
    return _MARKUP.sub(r"\\\g<0>", printable(text))


def _moment(unix_seconds: float | None) -> str:
    return "never" if unix_seconds is None else moment_text(unix_seconds)
