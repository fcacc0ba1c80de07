"""The report says every number that can be measured, and of nothing that was not that it is healthy."""

import json
import re
from dataclasses import replace

import pytest
from conftest import TOUR, Database, NewDatabase, plan_of

from exporter.dimensions import DIMENSIONS
from exporter.measure.supervise import collect_once
from exporter.model.fault import Fault
from exporter.model.standing import Standing
from exporter.present.check import Check, as_blocks, as_junit
from exporter.present.page.view import page
from exporter.present.report.account import Report, report_on
from exporter.present.report.document import as_json
from exporter.present.report.html import as_html
from exporter.present.report.links import Links
from exporter.present.report.markdown import as_markdown
from exporter.state.board import Board, PipelineStatus, ReloadStatus
from exporter.state.snapshot import Collection
from exporter.text.terminal import plain

MADE_AT = 1_700_000_000.0


async def report_of(database: Database, text: str | None = None) -> Report:
    return report_on(await collect_once([database.plan(text)]), DIMENSIONS, MADE_AT)


def said(text: str) -> dict[tuple[str, str], str]:
    """Every line of a report as Markdown: by what it is about and what it counts, its sign and number."""
    found, part = {}, ""
    for line in text.splitlines():
        if match := re.fullmatch(r"\*\*(.*)\*\*", line):
            part = match[1]
        elif match := re.fullmatch(r"- (\S+) (.*): \*\*(.*?)\*\*.*", line):
            assert (part, match[2]) not in found, f"said twice: {line}"
            found[part, match[2]] = f"{match[1]} {match[3]}"
    return found


def summary(text: str) -> dict[str, tuple[str, str, str]]:
    """The table on top: by row the sign, the numbers and what to do."""
    rows = re.findall(r"^\| (\w+) \| (\S+) (.*) \| (.*) \|$", text, re.MULTILINE)
    return {title: (sign, numbers, to_do) for title, sign, numbers, to_do in rows}


ASPECTS = ["Completeness", "Versions", "Integrity", "Freshness"]

# What the report of a healthy platform said, number by number.
HEALTHY = {
    ("Sessions", "Sessions with every required record"): "✅ 157/157",
    ("Sessions", "Sessions that are eligible: status = 'completed' and completed_questions > 0"): "✅ 157/157",
    ("Sessions", "Unique sessions needing a backfill"): "✅ 0/157",
    ("Sessions", "Share of sessions with a gap, pending sessions excluded"): "✅ 0%",
    ("Sessions", "Sessions with the status completed"): "▫️ 163/184",
    ("Sessions", "Sessions that pass the check answered"): "✅ 157/157",
    ("Sessions", "Sessions that pass the check finalized"): "✅ 157/157",
    ("profiles", "Sessions without profiles"): "✅ 0/157",
    ("profiles", "Sessions with profiles"): "✅ 157/157",
    ("profiles", "v1.2.1 (current)"): "✅ 157/157",
    ("profiles", "Sessions with only outdated profiles"): "✅ 0/157",
    ("profiles", "Rows written with an old version since current_since"): "✅ 0",
    ("profiles", "Rows whose version is neither current nor accepted"): "✅ 0/177",
    ("profiles", "Rows whose session does not exist"): "✅ 0",
    ("fc_scores", "Sessions without fc_scores of v1.2"): "✅ 0/157",
    ("fc_scores", "Sessions with fc_scores of v1.2"): "✅ 157/157",
    ("fc_scores", "v1.2 (current)"): "✅ 157/157",
    ("fc_scores", "Rows whose fc_kind is functions"): "✅ 177/177",
    ("fc_scores", "Sessions with only outdated fc_scores"): "✅ 0/157",
    ("fc_scores", "Rows whose version is neither current nor accepted"): "✅ 0/177",
    ("fc_scores", "Rows whose session does not exist"): "✅ 0",
    ("fc_scores", "Rows without a session key"): "✅ 0",
}

MOST_WORDS = 565
"""The words of the report that this one took the place of."""


async def test_a_healthy_platform_is_reported_with_every_number_of_the_first_report(healthy: Database) -> None:
    text = as_markdown(await report_of(healthy))

    assert text.splitlines()[0] == "# ✅ HEALTHY: no session needs a backfill"
    found = said(text)
    assert {key: found.get(key) for key in HEALTHY} == HEALTHY
    assert re.findall(r"^#+ (.*)$", text, re.MULTILINE)[1:] == ["All numbers"]
    assert "Sessions analysed: 157, started since 2025-08-01T00:00:00Z." in text
    # The link of profiles is proven by a foreign key.
    assert "- ✅ Rows whose session does not exist: **0** · enforced by a constraint" in text


async def test_a_healthy_report_is_no_longer_than_the_first_and_says_no_more_than_it_was_asked(
    healthy: Database,
) -> None:
    text = as_markdown(await report_of(healthy))

    assert len(text.split()) <= MOST_WORDS
    assert "measured" not in text.partition("## All numbers")[2].replace("Not asked for, set to measure:", "")
    assert "❓" not in text
    sign = Standing.NOT_ASKED.sign
    assert f"{sign} Not asked for, set to measure: records.fc_scores.version.current_since and created_at;" in text
    assert f"{sign} No limit, set to judge: `newest_session_age`, `newest_record_age`." in text
    # How to compare, and where to run commands, only where there is work.
    assert "session-health-exporter" not in text


async def test_a_report_begins_with_four_rows_of_numbers_and_what_to_do(new_database: NewDatabase) -> None:
    healthy, backfill = await new_database("healthy"), await new_database("backfill")

    well, ill = [summary(as_markdown(await report_of(database))) for database in (healthy, backfill)]

    assert list(well) == list(ill) == ASPECTS
    assert well["Completeness"] == ("✅", "157/157 sessions complete (100%), 0 need a backfill", "nothing")
    outdated = "0 outdated sessions, 0 rows of other versions, 0 new rows of old versions"
    assert well["Versions"] == ("✅", outdated, "nothing")
    orphans = "0 invalid rows, 0 duplicates, 0 orphans, 0 rows without a key"
    assert well["Integrity"] == ("✅", orphans, "nothing")
    # A number without a limit has no tick.
    assert well["Freshness"][0::2] == ("▫️", "not judged: set limits.newest_session_age")
    sign, numbers, to_do = ill["Completeness"]
    assert (sign, to_do) == ("❌", "Sessions are missing required records: see 1")
    lacking = r"118/157 sessions complete \(75\.2%\), 39 need a backfill, age of the oldest gap: \d+ weeks"
    assert re.fullmatch(lacking + r" \(since 20\d\d-\d\d-\d\d\)", numbers)
    assert ill["Versions"][0::2] == ("⚠️", "Sessions have records of an outdated version: see 2")


async def test_a_platform_that_waits_for_a_backfill_is_told_what_to_do(backfill: Database) -> None:
    text = as_markdown(await report_of(backfill))

    assert text.splitlines()[0] == "# ❌ UNHEALTHY: 39 of 157 sessions need a backfill"
    found = said(text)
    assert found["profiles", "Sessions without profiles"] == "❌ 13/157"
    assert found["fc_scores", "Sessions without fc_scores of v1.2"] == "❌ 39/157"
    assert found["fc_scores", "… missing"] == "▫️ 28/157"
    assert found["fc_scores", "… outdated"] == "▫️ 11/157"
    assert found["Sessions", "Unique sessions needing a backfill"] == "❌ 39/157"
    assert found["fc_scores", "v1.1 (other)"] == "▫️ 11/157"
    assert re.findall(r"^## (.*)$", text, re.MULTILINE) == ["To do", "All numbers"]
    actions = text[text.index("## To do") : text.index("## All numbers")]
    assert actions.count("`session-health-exporter gaps --pipeline assessments --config.file config.yaml`") == 1
    outdated = "gaps --pipeline assessments --record fc_scores --reason outdated --config.file config.yaml"
    assert f"`session-health-exporter {outdated}`" in actions
    assert "`session-health-exporter report --baseline before.json --config.file config.yaml` after." in text


async def test_numbers_of_an_earlier_collection_have_no_standing_but_a_broken_critical_limit(
    new_database: NewDatabase,
) -> None:
    found = {}
    for name in ("healthy", "backfill"):
        [status] = await collect_once([(await new_database(name)).plan()])
        failed = status.after(Collection(None, Fault("connect", "refused"), 0.1, MADE_AT), now=0.0)
        found[name] = summary(as_markdown(report_on([failed], DIMENSIONS, MADE_AT)))

    assert [row[0] for row in found["healthy"].values()] == ["❓"] * 4
    assert [row[0] for row in found["backfill"].values()] == ["❌", "❓", "❓", "❓"]
    assert all(row[1].endswith(", of an earlier collection") for rows in found.values() for row in rows.values())


async def test_an_alert_and_a_runbook_are_links_where_their_address_is_known(backfill: Database) -> None:
    statuses = await collect_once([backfill.plan()])
    links = Links("https://wiki.example")

    text = as_markdown(report_on(statuses, DIMENSIONS, MADE_AT, links=links))

    assert "([runbook](https://wiki.example/coverage.md#sessionhealthsessionswithgap))" in text
    drifted = "SessionHealthDriftedRecords](https://wiki.example/conformance.md#sessionhealthdriftedrecords)"
    assert f"stop the worker first: [{drifted}." in text
    assert f'href="https://wiki.example/conformance.md#{drifted.rpartition("#")[2][:-1]}"' in as_html(
        report_on(statuses, DIMENSIONS, MADE_AT, links=links)
    )
    assert "](" not in as_markdown(report_on(statuses, DIMENSIONS, MADE_AT))


@pytest.mark.parametrize(
    ("spoil", "first"),
    [
        ("drop table fc_scores", "# ❓ UNKNOWN: fc_scores could not be measured\n"),
        ("drop table assessment_sessions cascade", "# ❓ UNKNOWN: nothing could be measured (missing object)\n"),
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
    assert summary(text)["Completeness"][0] == first[2]
    # Of none, all are as well as none: nothing is said by it.
    assert not [line for line in text.splitlines() if line.startswith("- ✅") and ": **0/0**" in line]


async def test_gaps_that_the_limits_allow_are_said_though_all_is_well(backfill: Database) -> None:
    loose = (
        TOUR.read_text()[: TOUR.read_text().index("    limits:")] + "    limits: {sessions_with_gap: {critical: 100}}\n"
    )

    text = as_markdown(await report_of(backfill, loose))

    assert text.splitlines()[0] == "# ✅ HEALTHY: 39 of 157 sessions have a gap, within the limits"
    assert said(text)["Sessions", "Unique sessions needing a backfill"] == "✅ 39/157"
    assert "- ✅ Unique sessions needing a backfill: **39/157** (24.8%) · critical above 100" in text


async def test_what_broke_heads_the_report_not_the_gaps_that_are_allowed(backfill: Database) -> None:
    limits = "    limits: {sessions_with_gap: {critical: 100}, outdated_sessions: {critical: 0}}\n"
    text = TOUR.read_text()[: TOUR.read_text().index("    limits:")] + limits

    first = as_markdown(await report_of(backfill, text)).splitlines()[0]

    assert first == "# ❌ UNHEALTHY: Outdated sessions (fc_scores): 11, critical above 0"


async def test_a_check_that_is_rejected_says_why_it_was_not_measured(healthy: Database) -> None:
    text = TOUR.read_text().replace("finalized: finalized_at is not null", "finalized: nothing is not null")

    found = as_markdown(await report_of(healthy, text))

    assert "- ❓ Sessions that pass the check finalized: **not measured** · missing_object" in found.splitlines()
    assert found.splitlines()[0] == "# ❓ UNKNOWN: finalized could not be measured"


async def test_sessions_within_their_grace_are_neither_with_nor_without_their_record(backfill: Database) -> None:
    found = said(as_markdown(await report_of(backfill, TOUR.read_text().replace("grace: 5m", "grace: 400d"))))

    assert found["fc_scores", "Sessions without fc_scores of v1.2"] == "✅ 0/118"
    assert found["fc_scores", "Sessions waiting for fc_scores, within the grace period"] == "▫️ 39/157"


async def test_a_threshold_stands_beside_the_number_that_it_judges_alone(backfill: Database) -> None:
    text = as_markdown(await report_of(backfill))

    assert "- ❌ Unique sessions needing a backfill: **39/157** (24.8%) · critical above 0\n" in text
    # The limit counts the others; no threshold would make a perfect number better.
    assert "- ❌ Sessions with profiles: **144/157** (91.7%)\n" in text
    assert "- ✅ Sessions that pass the check finalized: **157/157**\n" in text
    assert re.search(
        r"- ❌ Age of the oldest gap: \*\*\d+ weeks \(since 20\d\d-\d\d-\d\d\)\*\* · warning above 15m", text
    )


async def test_without_limits_nothing_was_judged(healthy: Database) -> None:
    text = as_markdown(await report_of(healthy, TOUR.read_text()[: TOUR.read_text().index("    limits:")]))

    assert "No limit is set: nothing was judged." in text


async def test_what_could_not_be_judged_is_named(healthy: Database) -> None:
    text = as_markdown(await report_of(healthy))

    assert re.search(r"Broken limits: 0 of \d+\.  Nothing to judge: `completion_ratio`, `gap_age`,", text)


async def test_the_age_that_is_judged_is_told_where_no_row_is_there(healthy: Database) -> None:
    await healthy.execute("delete from fc_scores")
    text = TOUR.read_text().replace("# newest_record_age: {critical: 30m}", "newest_record_age: {critical: 30m}")

    found = said(as_markdown(await report_of(healthy, text)))

    assert found["fc_scores", "Age of the newest row"] == "▫️ none"
    assert found["fc_scores", "Age of the newest row while sessions wait for a newer row"].startswith("❌ ")
    # No session waits for a profile: there is nothing to say.
    assert ("profiles", "Age of the newest row while sessions wait for a newer row") not in found


async def test_what_a_database_says_is_no_markup_in_actions(healthy: Database) -> None:
    text = as_markdown(
        await report_of(healthy, TOUR.read_text().replace("table: public.profiles", "table: '\"a*b*<i>\"'"))
    )

    assert "a\\*b\\*\\<i>" in text[text.index("## To do") :]
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

    assert re.findall(r"^## (.*)$", text, re.MULTILINE) == ["To do", "All numbers"]
    assert "\x1b" not in text
    assert "<script>" not in text.replace("\\<", "")
    assert "\\[x\\](http://y)" in text
    assert "\\`code\\`" in text
    assert "\\*b\\* \\_i\\_ \\~\\~s\\~\\~" in text


async def test_numbers_of_an_earlier_collection_have_no_tick_anywhere(healthy: Database) -> None:
    [status] = await collect_once([healthy.plan()])
    failed = status.after(Collection(None, Fault("connect", "refused"), 0.1, MADE_AT), now=0.0)

    [account] = report_on([failed], DIMENSIONS, MADE_AT).accounts

    assert not [
        e
        for entries in account.entries.values()
        for e in entries
        if e.mark is Standing.FINE and e.evidence == "measured"
    ]


async def test_a_broken_limit_beside_a_lost_record_has_its_number_and_the_record(backfill: Database) -> None:
    """Of the records, one has outdated sessions and the other cannot be read."""
    await backfill.execute("drop table profiles")

    text = as_markdown(await report_of(backfill))

    [versions] = [line for line in text.splitlines() if line.startswith("| Versions")]
    assert "11" in versions
    assert "not measured: profiles" in versions


def test_the_owner_is_told_and_is_no_markup() -> None:
    pipeline = plan_of(TOUR.read_text(), "postgresql://nowhere").pipeline
    report = report_on(
        [PipelineStatus(pipeline.model_copy(update={"owner": "team <b>*data*\n# 1"}), max_age=300)], DIMENSIONS, MADE_AT
    )
    nobody = report_on([PipelineStatus(pipeline, max_age=300)], DIMENSIONS, MADE_AT)

    assert "Pipeline: assessments, of team \\<b>\\*data\\*\\\\n# 1, in the database" in as_markdown(report)
    assert "\n# 1" not in as_markdown(report)
    assert "<dt>Owner</dt><dd>team &lt;b&gt;*data*" in as_html(report)
    assert json.loads(as_json(report))["pipelines"][0]["owner"] == "team <b>*data*\n# 1"
    assert "Owner" not in as_html(nobody)
    assert "Pipeline: assessments, in the database main.  " in as_markdown(nobody)


def test_before_anything_was_measured_it_says_so() -> None:
    plan = plan_of(TOUR.read_text(), "postgresql://nowhere")

    text = as_markdown(report_on([PipelineStatus(plan.pipeline, max_age=300)], DIMENSIONS, MADE_AT))

    assert text.splitlines()[0] == "# ❓ UNKNOWN: no measurement yet"
    assert "Not measured, written at " in text
    assert said(text) == {}
    assert text.count("- ❓ not measured: not yet\n") == 3
    assert {row[0] for row in summary(text).values()} == {"❓"}


async def test_several_pipelines_are_a_table_then_the_worst_first(new_database: NewDatabase) -> None:
    healthy, backfill, lost = [await new_database(name) for name in ("healthy", "backfill", "healthy")]
    await lost.execute("drop table fc_scores")
    kinds = {4: backfill, 17: backfill, 9: lost}
    measured = {}
    for database in (healthy, backfill, lost):
        [measured[database.dsn]] = await collect_once([database.plan()])
    statuses = []
    for number in range(30):
        status = measured[kinds.get(number, healthy).dsn]
        config = status.config.model_copy(update={"name": f"pipeline-{number:02d}"})
        statuses.append(replace(status, config=config))

    text = as_markdown(report_on(statuses, DIMENSIONS, MADE_AT))

    counts = "2 unhealthy, 1 unknown, 27 healthy"
    assert text.splitlines()[0] == f"# ❌ UNHEALTHY: {counts}; pipeline-04: 39 of 157 sessions need a backfill"
    rows = re.findall(r"^\| (\S+ pipeline-\d\d) \| (.*) \|$", text, re.MULTILINE)
    names = [name for name, _ in rows]
    assert names[:4] == ["❌ pipeline-04", "❌ pipeline-17", "❓ pipeline-09", "✅ pipeline-00"]
    assert len(names) == 30
    assert dict(rows)["✅ pipeline-00"].startswith("✅ 157/157 sessions complete (100%) | ✅ | ✅ | ▫️ age of")
    titles = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    assert len(titles) == len(set(titles)), "one anchor twice"
    assert [title.partition(":")[0] for title in titles if "Y, " in title or "N, " in title] == [
        name.split()[1] for name in names
    ]
    # What holds for every pipeline is said once.
    for sentence in ("Run the commands on", "To compare before and after", "Quarterly:"):
        assert text.count(sentence) == 1


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

    newest = "Age of the newest session: **none in the window (90d)** · warning above 1d12h"
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
