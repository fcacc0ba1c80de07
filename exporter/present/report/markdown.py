"""Report -> Markdown: the sections, with a sign before every judged line."""

from collections.abc import Iterable, Iterator

from exporter.model.advice import code
from exporter.model.standing import STANDINGS, Verdict, in_words
from exporter.present.report.account import Action, JudgedLine, PipelineReport, Report
from exporter.present.report.sections import EVIDENCE, ReportSection, escaped, sections
from exporter.text.times import moment_text


def as_markdown(report: Report) -> str:
    """The whole report; the first line is the verdict."""
    lines = [f"# {_sign(report.verdict)}: {escaped(report.headline)}", ""]
    for account in report.accounts:
        lines += _account(account, report, is_alone=len(report.accounts) == 1)
    return "\n".join(lines) + "\n"


def _account(account: PipelineReport, report: Report, *, is_alone: bool) -> Iterator[str]:
    if not is_alone:
        yield from (f"# {account.pipeline}: {_sign(account.verdict)}", "")
    yield f"**Health report** of the pipeline {account.pipeline} in the database {account.database}  "
    yield f"**Measured**: {_moment(account.measured_at)} · **Written**: {_moment(report.made_at)}  "
    if account.since is not None:
        yield f"**Window**: sessions started since {_moment(account.since)}  "
    yield f"**Sessions analysed**: {account.entries['base'][0].number}"
    for section in sections(account):
        yield from ("", f"## {section.title}", "", "\n".join(_section(section, account.verdict)).strip())
    yield ""


def _section(section: ReportSection, verdict: Verdict) -> Iterator[str]:
    if section.stand:
        yield from (f"{(section.mark or STANDINGS[verdict]).sign} {section.stand}", "")
    for note in section.notes:
        yield from (note, "")
    for finding in section.findings:
        about = f" ({finding.subject})" if finding.subject else ""
        yield f"- {STANDINGS[finding.outcome].sign} {finding.limit.what}{about}: {finding.text}"
    for change in section.changes:
        yield f"- {change.entry.mark.sign} {escaped(change.text)}: **{change.was} → {change.now}**"
    for part in section.parts:
        yield from ((f"### {part.title}", "") if part.title else ())
        yield from (*_entries(part.entries), "")
    for number, action in enumerate(section.actions, start=1):
        yield from _action(number, action)
    yield from (f"{number}. {step}" for number, step in enumerate(section.steps, start=1))
    yield from (f"- {point}" for point in section.points)


def _action(number: int, action: Action) -> Iterator[str]:
    yield f"{number}. **{escaped(action.what)}**"
    yield from (f"   - {step if action.is_markdown else escaped(step)}" for step in action.steps)
    yield f"   - {code(action.command)}"


def _sign(verdict: Verdict) -> str:
    return f"{STANDINGS[verdict].sign} {in_words(verdict).upper()}"


def _entries(entries: Iterable[JudgedLine]) -> Iterator[str]:
    for entry in entries:
        said = [f"**{entry.number}**"]
        if entry.share is not None and entry.line.of != entry.line.value:
            said[0] += f" ({entry.percent})"
        said += [entry.bound] if entry.bound else []
        said.append(EVIDENCE[entry.evidence] if entry.is_told else "")
        said += [escaped(entry.reason)] if entry.reason else []
        yield f"- {entry.mark.sign} {escaped(entry.line.text)}: {' · '.join(filter(None, said))}"


def _moment(unix_seconds: float | None) -> str:
    return "no measurement" if unix_seconds is None else moment_text(unix_seconds)
