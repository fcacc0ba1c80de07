"""Report -> Markdown: the summary as a table, then the sections, with a sign before every judged line."""

from collections.abc import Iterable, Iterator

from exporter.model.advice import code
from exporter.model.standing import STANDINGS, Standing, Verdict, in_words
from exporter.present.report.account import Action, JudgedLine, PipelineReport, Report
from exporter.present.report.sections import OUTLOOK, ReportSection, escaped, notes, remarks, rows, sections, text_of
from exporter.text.times import moment_text


def as_markdown(report: Report) -> str:
    """The whole report; the first line is the verdict."""
    lines = [f"# {_sign(report.verdict)}: {escaped(report.headline)}", ""]
    if not report.is_alone:
        lines += _overview(report)
    for account in report.accounts:
        lines += _account(account, report)
    return "\n".join([*lines, OUTLOOK, ""])


def _overview(report: Report) -> Iterator[str]:
    """A row for each pipeline, the worst first."""
    summaries = [(account, rows(account)) for account in report.accounts]
    yield _cells("Pipeline", *(row.title for row in summaries[0][1]))
    yield "|---|---|---|---|---|"
    for account, found in summaries:
        name = f"{STANDINGS[account.verdict].sign} {account.pipeline}"
        yield _cells(name, *(f"{row.mark.sign} {row.not_zero}".rstrip() for row in found))
    yield from ("", *_paragraphs(notes(report)))


def _paragraphs(texts: Iterable[str]) -> Iterator[str]:
    for text in texts:
        yield from (text, "")


def _account(account: PipelineReport, report: Report) -> Iterator[str]:
    is_alone = report.is_alone
    if not is_alone:
        yield from (f"## {account.pipeline}: {_sign(account.verdict)}, {escaped(account.headline)}", "")
    since = "" if account.since is None else f", started since {moment_text(account.since)}"
    owner = "" if account.config.owner is None else f", of {escaped(account.config.owner)}"
    yield f"Pipeline: {account.pipeline}{owner}, in the database {account.database}.  "
    yield f"Sessions analysed: {account.entries['base'][0].number}{since}.  "
    measured = "Not measured" if account.measured_at is None else f"Measured at {moment_text(account.measured_at)}"
    yield from (f"{measured}, written at {moment_text(report.made_at)}.", "")
    if is_alone:
        yield from ("| | Standing | To do |", "|---|---|---|")
        for row in rows(account):
            yield _cells(row.title, f"{row.mark.sign} {', '.join(row.numbers)}", row.to_do)
        yield from ("", *_paragraphs(notes(report)))
    for section in sections(account):
        title = f"## {section.title}" if is_alone else f"### {account.pipeline}: {section.title.lower()}"
        yield from (title, "", "\n".join(_section(section)).strip(), "")


def _cells(*texts: str) -> str:
    cells = (escaped(text).replace("|", "\\|") for text in texts)
    return f"| {' | '.join(cells)} |"


def _section(section: ReportSection) -> Iterator[str]:
    yield from _paragraphs((*section.notes, *(f"{Standing.NOT_ASKED.sign} {text}" for text in section.unasked)))
    for change in section.changes:
        yield f"- {change.entry.mark.sign} {escaped(change.text)}: **{change.was} → {change.now}**"
    for part in section.parts:
        lost = [f"- {Standing.UNKNOWN.sign} not measured: {part.lost}"] if part.lost else []
        yield from (f"**{part.title}**", "", *lost, *_entries(part.entries), "")
    for number, action in enumerate(section.actions, start=1):
        yield from _action(number, action)
    yield from (f"{number}. {step}" for number, step in enumerate(section.steps, start=1))


def _action(number: int, action: Action) -> Iterator[str]:
    yield f"{number}. **{escaped(action.what)}**" + (f" ([runbook]({action.runbook}))" if action.runbook else "")
    yield from (f"   - {step if action.is_markdown else escaped(step)}" for step in action.steps)
    yield f"   - {code(action.command)}"


def _sign(verdict: Verdict) -> str:
    return f"{STANDINGS[verdict].sign} {in_words(verdict).upper()}"


def _entries(entries: Iterable[JudgedLine]) -> Iterator[str]:
    for entry in entries:
        number = f"**{entry.number}**"
        if entry.line.value and entry.share is not None and entry.line.of != entry.line.value:
            number += f" ({entry.percent})"
        said = (number, *map(escaped, remarks(entry)))
        yield f"- {entry.mark.sign} {escaped(text_of(entry))}: {' · '.join(said)}"
