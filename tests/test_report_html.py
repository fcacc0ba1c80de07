"""The report as HTML says what the Markdown says, line by line, and nothing of it is markup."""

import re
from html import escape, unescape

import pytest
from conftest import TOUR, Database, NewDatabase, plan_of
from markup import assert_well_formed
from test_report import MADE_AT, report_of, said, summary

from exporter.dimensions import DIMENSIONS
from exporter.measure.supervise import collect_once
from exporter.model.fault import Fault
from exporter.model.standing import Standing
from exporter.present.report.account import Baseline, Report, report_on
from exporter.present.report.account import told as told_of
from exporter.present.report.html import as_html
from exporter.present.report.markdown import as_markdown
from exporter.state.board import PipelineStatus
from exporter.state.snapshot import Collection

SIGNS = {standing.value: standing.sign for standing in Standing}


def text_of(html: str) -> str:
    return " ".join(unescape(re.sub(r"<[^>]*>", "", html)).split())


def told(html: str) -> dict[tuple[str, str], str]:
    """As `said` of the Markdown: every line by what it is about and what it counts, its sign and number."""
    found = {}
    for table in re.findall(r'(?s)<table class="lines">(.*?)</table>', html):
        [caption] = re.findall(r"<caption>(.*?)</caption>", table)
        row = r'(?s)<tr class="line line-(\w+)">.*?<span class="what">(.*?)<small>.*?<td><b>(.*?)</b>'
        for kind, what, number in re.findall(row, table):
            found[caption, text_of(what)] = f"{SIGNS[kind]} {text_of(number)}"
    return found


def plain(lines: dict[tuple[str, str], str]) -> dict[tuple[str, str], str]:
    """Without what escapes Markdown."""
    return {(part, re.sub(r"\\\\(.)", r"\1", what)): number for (part, what), number in lines.items()}


def rows_of(html: str) -> dict[str, tuple[str, str, str]]:
    """As `summary` of the Markdown: the table on top."""
    [table] = re.findall(r'(?s)<table class="summary">(.*?)</table>', html)
    row = r'(?s)<th scope="row">(\w+)</th><td>.*?#sign-(\w+)".*?</span> (.*?)</td><td>(.*?)</td>'
    return {title: (SIGNS[kind], unescape(said), unescape(do)) for title, kind, said, do in re.findall(row, table)}


async def reports(new_database: NewDatabase) -> dict[str, Report]:
    healthy, backfill, broken = [await new_database(name) for name in ("healthy", "backfill", "healthy")]
    await broken.execute("drop table fc_scores")
    plan = healthy.plan(TOUR.read_text())
    never = report_on([PipelineStatus(plan.pipeline, max_age=300)], DIMENSIONS, MADE_AT)
    return {
        "healthy": await report_of(healthy),
        "backfill": await report_of(backfill),
        "broken": await report_of(broken),
        "never measured": never,
    }


async def test_it_has_every_section_and_every_line_of_the_markdown_in_its_order(new_database: NewDatabase) -> None:
    for state, report in (await reports(new_database)).items():
        html, markdown = as_html(report), as_markdown(report)

        assert_well_formed(html)
        assert re.findall(r"<h3>(.*?)</h3>", html) == re.findall(r"(?m)^## (.*)$", markdown), state
        assert rows_of(html) == summary(markdown), state
        assert list(told(html).items()) == list(plain(said(markdown)).items()), state


async def test_what_is_to_be_done_is_said_as_in_the_markdown(backfill: Database) -> None:
    report = await report_of(backfill)
    text = text_of(as_html(report))

    for action in report.accounts[0].actions:
        assert all(told_of(finding) in text for finding in action.findings)
        assert action.command in text
        assert all(re.sub("`|\\*\\*", "", " ".join(step.split())) in text for step in action.steps)
    assert "Weekly: completion, delays." in text


def test_what_a_server_says_is_no_markdown() -> None:
    said = r"cannot read C:\temp\x: `a` **b** <c>"
    plan = plan_of(TOUR.read_text(), "postgresql://nowhere")
    status = PipelineStatus(plan.pipeline, max_age=300).after(
        Collection(None, Fault("connect", said), 0.1, MADE_AT), 0.0
    )

    html = as_html(report_on([status], DIMENSIONS, MADE_AT))

    assert f"<p>{escape(said)}</p>" in html


async def test_before_and_after_stand_beside_each_other(backfill: Database) -> None:
    statuses = await collect_once([backfill.plan()])
    now = report_on(statuses, DIMENSIONS, MADE_AT)
    then = Baseline(
        "before.json", MADE_AT - 3600, MADE_AT - 7200, tuple(entry.line for entry in now.accounts[0].entries["impact"])
    )

    html = as_html(report_on(statuses, DIMENSIONS, MADE_AT, {"assessments": then}))

    assert_well_formed(html)
    rows = [text_of(row) for row in re.findall(r"(?s)<tr><th scope=\"row\">(.*?)</tr>", html)]
    assert "critical: Unique sessions needing a backfill3939" in rows
    assert "Before: 2023-11-14T21:13:20Z, by before.json" in text_of(html)


@pytest.mark.parametrize(
    "text", ["<script>alert(1)</script>", "</style>", "\"'><b>", "{{ 7 * 7 }}", "&lt;", "a\nb\x1b"]
)
async def test_what_the_database_holds_is_text(healthy: Database, text: str) -> None:
    await healthy.execute(
        "insert into assessment_sessions (id, status, created_at) values (gen_random_uuid(), $1, now())", text
    )
    await healthy.execute("update fc_scores set version = $1 where session_id = md5('session 7')::uuid", text)

    html = as_html(await report_of(healthy))

    assert_well_formed(html)
    shown = text.replace("\n", "\\n").replace("\x1b", "\\x1b")
    assert f"Sessions with the status {shown}" in unescape(html)
    assert f"{shown} (other)" in unescape(html)
    assert "<script" not in html
    assert html.count("<style>") == html.count("</style>") == 1
