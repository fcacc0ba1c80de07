"""The report says every number that can be measured, and of nothing that was not that it is healthy."""

import re
from pathlib import Path

import pytest
from conftest import TOUR, Database, NewDatabase, plan_of

from exporter.dimensions import DIMENSIONS
from exporter.measure.supervise import collect_once
from exporter.present.check import Check, as_blocks, as_junit
from exporter.present.page.view import Links, page
from exporter.present.report.account import Report, report_on
from exporter.present.report.html import as_html
from exporter.present.report.markdown import as_markdown
from exporter.state.board import Board, PipelineStatus, ReloadStatus
from exporter.text.terminal import plain

MADE_AT = 1_700_000_000.0
SEED = Path(__file__).parents[1] / "docs" / "report.md"


async def report_of(database: Database, text: str | None = None) -> Report:
    return report_on(await collect_once([database.plan(text)]), DIMENSIONS, MADE_AT)


def said(text: str) -> dict[tuple[str, str, str], str]:
    """Every line of a report as Markdown: by section, sub-section and what it counts, its sign and number."""
    found, section, part = {}, "", ""
    for line in text.splitlines():
        if line.startswith("## "):
            section, part = line[3:], ""
        elif line.startswith("### "):
            part = line[4:]
        elif match := re.fullmatch(r"- (\S+) (.*): \*\*(.*?)\*\*.*", line):
            assert (section, part, match[2]) not in found, f"said twice: {line}"
            found[section, part, match[2]] = f"{match[1]} {match[3]}"
    return found


SECTIONS = [
    "Summary",
    "Detailed findings",
    "Recommended actions",
    "No action required",
    "Database state",
    "Version distribution",
    "Data quality",
    "Backfill impact",
    "Coverage",
    "System health indicators",
    "Readiness",
    "Monitoring recommendations",
    "Maintenance schedule",
]

# What the report of a healthy platform said, number by number.
HEALTHY = {
    ("Detailed findings", "profiles", "Sessions without profiles"): "✅ 0/157",
    ("Detailed findings", "fc_scores", "Sessions without fc_scores of v1.2"): "✅ 0/157",
    ("Detailed findings", "Total impact", "Unique sessions needing a backfill"): "✅ 0/157",
    ("Detailed findings", "Total impact", "Share of sessions with a gap, pending sessions excluded"): "✅ 0%",
    ("Database state", "profiles", "Sessions with profiles"): "✅ 157/157",
    ("Database state", "fc_scores", "Sessions with fc_scores of v1.2"): "✅ 157/157",
    ("Database state", "Sessions", "Complete sessions"): "✅ 157/157",
    ("Database state", "Sessions", "Sessions with the status completed"): "▫️ 163/184",
    ("Version distribution", "fc_scores", "v1.2 (current)"): "▫️ 157/157",
    ("Version distribution", "profiles", "v1.2.1 (current)"): "▫️ 157/157",
    ("Data quality", "fc_scores", "Sessions without any fc_scores"): "✅ 0/157",
    ("Data quality", "fc_scores", "Sessions with fc_scores of the current version v1.2"): "✅ 157/157",
    ("Data quality", "fc_scores", "Rows whose fc_kind is functions"): "✅ 177/177",
    ("Data quality", "fc_scores", "Sessions with only outdated fc_scores"): "✅ 0/157",
    ("Data quality", "profiles", "Sessions without any profiles"): "✅ 0/157",
    ("Data quality", "profiles", "Sessions with profiles of the current version v1.2.1"): "✅ 157/157",
    ("Data quality", "Sessions", "Sessions that pass the check answered"): "✅ 157/157",
    ("Data quality", "Sessions", "Sessions that pass the check finalized"): "✅ 157/157",
    ("Coverage", "", "Sessions with every required record"): "✅ 157/157",
    (
        "Coverage",
        "",
        "Sessions that are eligible: status = 'completed' and completed_questions > 0",
    ): "✅ 157/157",
    (
        "System health indicators",
        "Versions",
        "Rows of profiles written with an old version since current_since",
    ): "✅ 0",
    (
        "System health indicators",
        "Versions",
        "Rows of profiles whose version is neither current nor accepted",
    ): "✅ 0/177",
    (
        "System health indicators",
        "Versions",
        "Rows of fc_scores whose version is neither current nor accepted",
    ): "✅ 0/177",
    ("System health indicators", "Operation", "Rows of profiles whose session does not exist"): "✅ 0",
    ("System health indicators", "Operation", "Rows of fc_scores whose session does not exist"): "✅ 0",
    ("System health indicators", "Operation", "Rows of fc_scores without a session key"): "✅ 0",
}


async def test_a_healthy_platform_is_reported_with_every_number_of_the_first_report(healthy: Database) -> None:
    text = as_markdown(await report_of(healthy))

    assert text.splitlines()[0] == "# ✅ HEALTHY: no session needs a backfill"
    found = said(text)
    assert {key: found.get(key) for key in HEALTHY} == HEALTHY
    assert re.findall(r"^## (.*)$", text, re.MULTILINE) == SECTIONS
    assert "**Sessions analysed**: 157\n" in text
    assert "**Window**: sessions started since 2025-08-01T00:00:00Z" in text
    assert "1. No backfill is needed." in text
    assert "✅ **Ready**" in text
    # The link of profiles is proven by a foreign key, and scores have no limit on what is not configured.
    assert (
        "- ✅ Rows of profiles whose session does not exist: **0** · warning above 0 · enforced by a constraint" in text
    )
    drift = "Rows of fc_scores written with an old version since current_since"
    assert f"- ❓ {drift}: **not measured** · set records.fc_scores.version.current_since and created_at" in text


async def test_a_platform_that_waits_for_a_backfill_is_told_what_to_do(backfill: Database) -> None:
    text = as_markdown(await report_of(backfill))

    assert text.splitlines()[0] == "# ❌ UNHEALTHY: 39 of 157 sessions need a backfill"
    found = said(text)
    assert found["Detailed findings", "profiles", "Sessions without profiles"] == "❌ 13/157"
    assert found["Detailed findings", "fc_scores", "Sessions without fc_scores of v1.2"] == "❌ 39/157"
    assert found["Detailed findings", "fc_scores", "… missing"] == "▫️ 28/157"
    assert found["Detailed findings", "fc_scores", "… outdated"] == "▫️ 11/157"
    assert found["Detailed findings", "Total impact", "Unique sessions needing a backfill"] == "❌ 39/157"
    assert found["Version distribution", "fc_scores", "v1.1 (other)"] == "▫️ 11/157"
    sections = re.findall(r"^## (.*)$", text, re.MULTILINE)
    assert sections == [section for section in SECTIONS if section != "No action required"]
    actions = text[text.index("## Recommended actions") : text.index("## Database state")]
    assert actions.count("`session-health-exporter gaps --pipeline assessments --config.file config.yaml`") == 1
    outdated = "gaps --pipeline assessments --record fc_scores --reason outdated --config.file config.yaml"
    assert f"`session-health-exporter {outdated}`" in actions
    assert "❌ **Not ready**" in text


@pytest.mark.parametrize(
    ("spoil", "first"),
    [
        ("drop table fc_scores", "# ❓ UNKNOWN: data completeness is unknown: "),
        ("drop table assessment_sessions cascade", "# ❓ UNKNOWN: data completeness is unknown: "),
        (
            "truncate assessment_sessions, profiles, fc_scores",
            "# ⬜ NO DATA: no eligible session in the window: ",
        ),
    ],
)
async def test_what_is_not_known_is_said_in_the_first_line(new_database: NewDatabase, spoil: str, first: str) -> None:
    database = await new_database("healthy")
    await database.execute(spoil)

    text = as_markdown(await report_of(database))

    assert text.startswith(first)
    assert "## No action required" not in text
    assert "**Ready**" not in text
    # Of none, all are as well as none: nothing is said by it.
    assert not [line for line in text.splitlines() if line.startswith("- ✅") and ": **0/0**" in line]


async def test_gaps_that_the_limits_allow_are_said_though_all_is_well(backfill: Database) -> None:
    loose = (
        TOUR.read_text()[: TOUR.read_text().index("    limits:")] + "    limits: {sessions_with_gap: {critical: 100}}\n"
    )

    text = as_markdown(await report_of(backfill, loose))

    assert text.splitlines()[0] == "# ✅ HEALTHY: 39 of 157 sessions have a gap, within the limits"
    assert "1. No limit is broken: 39/157 sessions have a gap, within the limits." in text
    assert "No backfill is needed" not in text
    assert said(text)["Detailed findings", "Total impact", "Unique sessions needing a backfill"] == "✅ 39/157"


async def test_what_broke_heads_the_report_not_the_gaps_that_are_allowed(backfill: Database) -> None:
    limits = "    limits: {sessions_with_gap: {critical: 100}, outdated_sessions: {critical: 0}}\n"
    text = TOUR.read_text()[: TOUR.read_text().index("    limits:")] + limits

    first = as_markdown(await report_of(backfill, text)).splitlines()[0]

    assert first == "# ❌ UNHEALTHY: Sessions with only outdated records (fc_scores): 11 > 0"


async def test_a_check_that_is_rejected_says_why_it_was_not_measured(healthy: Database) -> None:
    text = TOUR.read_text().replace("finalized: finalized_at is not null", "finalized: nothing is not null")

    found = as_markdown(await report_of(healthy, text))

    line = "- ❓ Sessions that pass the check finalized: **not measured** · warning above 0 · missing_object"
    assert line in found.splitlines()


async def test_sessions_within_their_grace_are_neither_with_nor_without_their_record(backfill: Database) -> None:
    found = said(as_markdown(await report_of(backfill, TOUR.read_text().replace("grace: 5m", "grace: 400d"))))

    assert found["Detailed findings", "fc_scores", "Sessions without fc_scores of v1.2"] == "✅ 0/118"
    assert found["Database state", "fc_scores", "Sessions waiting for fc_scores, within the grace period"] == "▫️ 39/157"
    assert found["Data quality", "fc_scores", "Sessions without any fc_scores"] == "✅ 0/118"


async def test_a_limit_stands_beside_the_number_that_it_judges_and_is_named_beside_others(backfill: Database) -> None:
    text = as_markdown(await report_of(backfill))

    assert "- ❌ Unique sessions needing a backfill: **39/157** (24.8%) · critical above 0 · measured" in text
    assert "- ❌ Sessions with profiles: **144/157** (91.7%) · judged by sessions_with_gap: 39 > 0 · measured" in text
    assert (
        "- ✅ Sessions that pass the check finalized: **157/157** · judged by failed_checks: 0 ≤ 0 · measured" in text
    )


async def test_without_limits_nothing_was_judged_and_nothing_is_ready(healthy: Database) -> None:
    text = as_markdown(await report_of(healthy, TOUR.read_text()[: TOUR.read_text().index("    limits:")]))

    assert "**Unknown**: no limit is set." in text
    assert "No limit is set: nothing was judged." in text
    assert "**Ready**" not in text


async def test_what_a_ready_platform_could_not_be_judged_by_is_named(healthy: Database) -> None:
    text = as_markdown(await report_of(healthy))

    ready = text[text.index("## Readiness") :]
    assert re.search(r"no limit is broken\.\n\nBroken limits: 0 of \d+\.  Not judged: ", ready)
    assert "completion_ratio (too few sessions)" in ready


async def test_the_age_that_is_judged_is_told_where_no_row_is_there(healthy: Database) -> None:
    await healthy.execute("delete from fc_scores")
    text = TOUR.read_text().replace("# newest_record_age: {critical: 30m}", "newest_record_age: {critical: 30m}")

    found = said(as_markdown(await report_of(healthy, text)))

    section = ("System health indicators", "Operation")
    assert found[*section, "Age of the newest row of fc_scores"] == "▫️ none"
    waited = found[*section, "Age of the newest row of fc_scores while sessions wait for a newer row"]
    assert waited.startswith("❌ ")
    assert found[*section, "Age of the newest row of profiles while sessions wait for a newer row"] == "▫️ none"


async def test_what_a_database_says_is_no_markup_in_actions(healthy: Database) -> None:
    text = as_markdown(
        await report_of(healthy, TOUR.read_text().replace("table: public.profiles", "table: '\"a*b*<i>\"'"))
    )

    assert "a\\*b\\*\\<i>" in text[text.index("## Recommended actions") :]
    assert "a*b*<i>" not in text


async def test_nothing_is_called_fine_that_was_not_measured(healthy: Database) -> None:
    """Whatever of the platform is taken away, no line gains a tick, and those that need it say so."""
    whole = {key: value for key, value in said(as_markdown(await report_of(healthy))).items() if value[0] == "✅"}
    for statement in ("drop table fc_scores", "drop table profiles", "drop table assessment_sessions cascade"):
        await healthy.execute(statement)

        found = said(as_markdown(await report_of(healthy)))

        fine = {key for key, value in found.items() if value[0] == "✅"}
        assert fine <= whole.keys()
        whole = {key: whole[key] for key in fine}
        assert all("/" in value or "not measured" in value or value[2:].strip() for value in found.values())
    assert whole == {}


async def test_hostile_values_are_neither_markup_nor_lines(healthy: Database) -> None:
    hostile = [
        "# heading",
        "a\n## b",
        "<script>alert(1)</script>",
        "[x](http://y)",
        "`code`",
        "*b* _i_ ~~s~~",
        "\x1b[31m",
    ]
    for number, status in enumerate(hostile):
        await healthy.execute(
            "insert into assessment_sessions (id, status, created_at) values (gen_random_uuid(), $1, now())", status
        )
        await healthy.execute(
            "update fc_scores set version = $1 where session_id = md5('session ' || $2::text)::uuid",
            status,
            str(number),
        )

    text = as_markdown(await report_of(healthy))

    assert re.findall(r"^## (.*)$", text, re.MULTILINE) == [s for s in SECTIONS if s != "No action required"]
    assert "\x1b" not in text
    assert "<script>" not in text.replace("\\<", "")
    assert "\\[x\\](http://y)" in text
    assert "\\`code\\`" in text
    assert "\\*b\\* \\_i\\_ \\~\\~s\\~\\~" in text


def test_before_anything_was_measured_it_says_so() -> None:
    plan = plan_of(TOUR.read_text(), "postgresql://nowhere")

    text = as_markdown(report_on([PipelineStatus(plan.pipeline, max_age=300)], DIMENSIONS, MADE_AT))

    assert text.splitlines()[0] == "# ❓ UNKNOWN: no measurement yet"
    assert "**Measured**: no measurement" in text
    assert set(said(text).values()) == {"❓ not measured"}


async def test_several_pipelines_are_headed_by_the_worst(new_database: NewDatabase) -> None:
    healthy, backfill = await new_database("healthy"), await new_database("backfill")
    good = await collect_once([healthy.plan()])
    bad = await collect_once([backfill.plan(TOUR.read_text().replace("  assessments:", "  orders:"))])

    text = as_markdown(report_on([*good, *bad], DIMENSIONS, MADE_AT))

    titles = [line for line in text.splitlines() if line.startswith("# ")]
    assert titles == [
        "# ❌ UNHEALTHY: orders: 39 of 157 sessions need a backfill",
        "# assessments: ✅ HEALTHY",
        "# orders: ❌ UNHEALTHY",
    ]


EMPTY = """
database: {url: "${DATABASE_URL}"}
pipelines:
  assessments:
    window: {last: 90d}
    cohort: {window: 1d, maturity: 1h}
    sessions: {table: assessment_sessions, key: id, status: status, started_at: created_at,
      completed_at: completed_at, eligible: status = 'completed' and completed_questions > 0}
    records:
      profiles: {table: profiles, session_key: session_id, created_at: created_at}
    limits:
      sessions_with_gap: {critical: 0}
      gap_age: {critical: 1h}
      conversion_ratio: {critical: 0.9}
      processing_delay_p95: {critical: 90s}
      newest_session_age: {warning: 36h}
      newest_record_age: {critical: 30m}
"""


async def test_an_empty_window_has_no_age_and_nothing_in_it_is_judged(healthy: Database) -> None:
    await healthy.execute("update assessment_sessions set created_at = created_at - interval '400 days'")
    statuses = await collect_once([healthy.plan(EMPTY)])

    text = as_markdown(report_on(statuses, DIMENSIONS, MADE_AT))

    newest = "Age of the newest session: **none in the window (90d)** · warning above 1d12h · measured"
    assert f"- ⚠️ {newest}" in text.splitlines()
    rows = [line.split() for line in plain(as_blocks(Check(statuses))).splitlines() if line.startswith("  ")]
    assert ["warning", "newest_session_age", "none", "in", "the", "window", "(90d)", ">", "1d12h"] in rows
    assert [row[0] for row in rows if row[0] == "within"] == []
    assert [line for line in text.splitlines() if line.startswith("- ✅") and "**0s**" in line] == []


async def test_a_share_just_below_its_limit_is_not_shown_at_it(tables: Database) -> None:
    await tables.execute(
        "insert into assessment_sessions (id, status, created_at, completed_at, completed_questions) "
        "select md5(n::text)::uuid, 'completed', now() - interval '3 hours', now() - interval '2 hours', 30 "
        "from generate_series(1, 25000) n"
    )
    await tables.execute(
        "insert into profiles (session_id, created_at, results_version) "
        "select md5(n::text)::uuid, now(), 'v1.2.1' from generate_series(1, 22499) n"
    )
    [status] = await collect_once([tables.plan(EMPTY)])
    report = report_on([status], DIMENSIONS, MADE_AT)

    board = Board({status.pipeline: status}, ReloadStatus(succeeded=True, last_success=1.0))
    shown = page(board, Links(), clock=0.0, now=MADE_AT, is_paused=True)
    checked = plain(as_blocks(Check((status,))))
    told = [as_markdown(report), as_html(report), shown, checked, as_junit([status], "warning")]

    for text in told:
        assert "89.996%" in text
        assert not re.search(r"90(\.0+)?% of 25000", text)
        assert "(90%)" not in text
        assert "<small>90%</small>" not in text
