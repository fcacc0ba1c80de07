"""The report as JSON, and a report that compares with an earlier one."""

import asyncio
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from conftest import TOUR, Database, NewDatabase

from exporter.baseline.document import BaselineError, baselines_of_document
from exporter.baseline.prometheus import Series, _of_one_exporter
from exporter.dimensions import DIMENSIONS
from exporter.measure.supervise import collect_once
from exporter.present.report.account import report_on
from exporter.present.report.document import DocumentError, as_json, read_document
from exporter.present.report.markdown import as_markdown

SCHEMA = json.loads((Path(__file__).parents[1] / "docs" / "report.schema.json").read_text())

BACKFILL = """
insert into profiles
select id, 'v1.2.1', now() from assessment_sessions s
where status = 'completed' and completed_questions > 0
  and not exists (select 1 from profiles where session_id = s.id);
insert into fc_scores
select id, 'v1.2', 'functions', 30, now() from assessment_sessions s
where status = 'completed' and completed_questions > 0
  and not exists (select 1 from fc_scores where session_id = s.id and version = 'v1.2');
"""


async def written(database: Database, text: str | None = None) -> str:
    return as_json(report_on(await collect_once([database.plan(text)]), DIMENSIONS, time.time()))


async def compared(database: Database, before: str, text: str | None = None) -> str:
    statuses = await collect_once([database.plan(text)])
    pasts = baselines_of_document(read_document(before), "before.json", statuses, DIMENSIONS)
    return as_markdown(report_on(statuses, DIMENSIONS, time.time(), pasts))


@pytest.mark.parametrize("spoil", ["select 1", "drop table fc_scores", "drop table assessment_sessions cascade"])
async def test_the_document_is_as_its_schema_says(backfill: Database, spoil: str) -> None:
    await backfill.execute(spoil)

    document = json.loads(await written(backfill))

    jsonschema.Draft202012Validator(SCHEMA).validate(document)
    assert document["format"] == 1


async def test_the_document_says_what_the_markdown_says(backfill: Database) -> None:
    document = json.loads(await written(backfill))

    [pipeline] = document["pipelines"]
    assert (document["verdict"], document["headline"]) == ("unhealthy", "39 of 157 sessions need a backfill")
    lines: dict[tuple[str | None, str], dict[str, Any]] = {
        (one["record"], one["text"]): one for one in pipeline["lines"]
    }
    gap = lines[None, "Unique sessions needing a backfill"]
    assert (gap["value"], gap["of"], gap["mark"], gap["evidence"]) == (39, 157, "critical", "measured")
    assert lines["profiles", "Sessions without profiles"]["value"] == 13
    assert lines["fc_scores", "… outdated"]["value"] == 11
    assert [action["command"] for action in pipeline["actions"]] == [
        f"session-health-exporter gaps --pipeline assessments{options} --config.file config.yaml"
        for options in ("", " --record fc_scores --reason outdated")
    ]
    assert pipeline["window"] == {"since": "2025-08-01T00:00:00Z", "last_seconds": None}
    assert len(pipeline["identity"]) == 32


async def test_before_and_after_a_backfill(backfill: Database) -> None:
    before = await written(backfill)
    await backfill.execute(BACKFILL)

    text = await compared(backfill, before)

    impact = text[text.index("## Before and after") : text.index("## All numbers")]
    assert "by before.json" in impact
    assert "- ✅ Sessions without profiles: **13 → 0**" in impact
    assert "- ✅ Sessions without fc_scores of v1.2: **39 → 0**" in impact
    assert "- ▫️ fc_scores: … missing: **28 → 0**" in impact
    assert "- ▫️ fc_scores: … outdated: **11 → 0**" in impact
    assert "- ✅ Unique sessions needing a backfill: **39 → 0**" in impact
    assert text.startswith("# ✅ HEALTHY: no session needs a backfill")


async def test_bad_rows_that_a_backfill_leaves_are_told(backfill: Database) -> None:
    before = await written(backfill)
    await backfill.execute(BACKFILL)
    await backfill.execute(
        "insert into fc_scores select gen_random_uuid(), 'v1.2', 'functions', 1, now() from generate_series(1, 3)"
    )

    text = await compared(backfill, before)

    impact = text[text.index("## Before and after") : text.index("## All numbers")]
    assert "- ⚠️ Rows of fc_scores whose session does not exist: **0 → 3**" in impact
    assert impact.count("outdated") == 1


async def test_a_record_that_could_not_be_measured_then_is_not_called_0(backfill: Database) -> None:
    await backfill.execute("alter table fc_scores rename to away")
    before = await written(backfill)
    await backfill.execute("alter table away rename to fc_scores")

    text = await compared(backfill, before)

    assert "- ❌ Sessions without profiles: **13 → 13**" in text
    assert "- ❌ Sessions without fc_scores of v1.2: **not measured → 39**" in text
    assert "- ❌ Unique sessions needing a backfill: **not measured → 39**" in text


async def test_a_baseline_of_something_else_is_refused_with_every_reason(new_database: NewDatabase) -> None:
    one, other = await new_database("backfill"), await new_database("backfill")
    before = await written(one)

    with pytest.raises(BaselineError, match=r"before\.json: the report is from another database"):
        await compared(other, before)
    renamed = TOUR.read_text().replace("  assessments:", "  orders:")
    with pytest.raises(BaselineError, match="the report has no pipeline orders"):
        await compared(one, before, renamed)
    window = TOUR.read_text().replace("window: {since: 2025-08-01}", "window: {last: 90d}")
    with pytest.raises(
        BaselineError, match=r"the window of .* was since 2025-08-01T00:00:00Z, and is now the last 7776000 s"
    ):
        await compared(one, before, window)
    await one.execute("alter table assessment_sessions rename to gone")
    nothing = await written(one)
    await one.execute("alter table gone rename to assessment_sessions")
    with pytest.raises(BaselineError, match="the report has no numbers of the pipeline assessments"):
        await compared(one, nothing)


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        ("grace: 5m", "grace: 400d"),
        ("completed_questions > 0\n", "completed_questions > 300\n"),
        ("satisfied_by: current_version", "satisfied_by: any_version"),
        ("current: v1.2}", "current: v1.1}"),
    ],
)
async def test_a_baseline_of_a_config_that_measures_something_else_proves_no_backfill(
    backfill: Database, ours: str, theirs: str
) -> None:
    text = TOUR.read_text()
    assert ours in text
    before = await written(backfill, text.replace(ours, theirs, 1))

    with pytest.raises(BaselineError, match="has changed since the report"):
        await compared(backfill, before)


async def test_limits_may_change_between_two_reports(backfill: Database) -> None:
    before = await written(
        backfill, TOUR.read_text().replace("sessions_with_gap: {critical: 0}", "sessions_with_gap: {warning: 5}")
    )

    assert "**39 → 39**" in await compared(backfill, before)


async def test_a_window_that_moves_on_is_said_for_it_mends_nothing(backfill: Database) -> None:
    text = TOUR.read_text().replace("window: {since: 2025-08-01}", "window: {last: 400d}")
    before = await written(backfill, text)
    await asyncio.sleep(1.1)

    assert "sessions that left the window no longer count" in await compared(backfill, before, text)


async def test_a_baseline_from_later_is_refused(backfill: Database) -> None:
    document = json.loads(await written(backfill))
    document["pipelines"][0]["measured_at"] = "2031-01-01T00:00:00Z"

    with pytest.raises(BaselineError, match="the report is newer than"):
        await compared(backfill, json.dumps(document))

    document["pipelines"][0]["measured_at"] = "yesterday"
    with pytest.raises(DocumentError, match=r"at pipelines\.0\.measured_at"):
        read_document(json.dumps(document))


def clock_of(clock: float = 5, **target: str) -> Series:
    metric = {"__name__": "session_health_snapshot_timestamp_seconds", "database": "main", "pipeline": "x", **target}
    return Series(metric=metric, value=(0, clock))


def test_of_a_pair_of_exporters_the_newest_is_compared_with_and_others_must_be_named() -> None:
    def gap(instance: str, count: int) -> Series:
        name = "session_health_eligible_sessions"
        metric = {"__name__": name, "job": "j", "instance": instance, "database": "main", "state": "gap"}
        return Series(metric=metric, value=(0, count))

    old, new = clock_of(job="j", instance="one"), clock_of(9, job="j", instance="two")

    found = _of_one_exporter([old, new, gap("one", 1), gap("two", 2)])

    assert {(name, value) for name, _, value in found} == {
        ("session_health_snapshot_timestamp_seconds", 9.0),
        ("session_health_eligible_sessions", 2.0),
    }
    with pytest.raises(BaselineError, match="with different cluster: select one with --match cluster=VALUE"):
        _of_one_exporter([clock_of(job="j", cluster="prod"), clock_of(job="j", cluster="staging")])


async def test_where_the_server_does_not_tell_what_it_is_the_names_decide(new_database: NewDatabase) -> None:
    database = await new_database("backfill")
    # As a service may have it: nobody but its operators may look.
    await database.execute("create role curious login password 'reading'")
    await database.execute("grant select on all tables in schema public to curious")
    await database.execute("revoke execute on function pg_control_system() from public")
    try:
        parts = database.dsn.rpartition("@")
        dsn = f"postgresql://curious:reading@{parts[2]}"
        statuses = await collect_once([Database(dsn, database.connection).plan()])
        [status] = statuses

        assert status.verdict == "unhealthy"
        assert status.snapshot is not None
        assert status.snapshot.identity is None
        before = as_json(report_on(statuses, DIMENSIONS, time.time()))
        assert "**39 → 39**" in await compared(database, before)
    finally:
        await database.execute("drop owned by curious; drop role curious")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "at the file"),
        ("{}", "at format"),
        ('{"format": 2}', "at format"),
        ("# ✅ HEALTHY", "at the file"),
    ],
)
def test_what_is_no_report_is_refused_with_the_place_and_the_remedy(text: str, reason: str) -> None:
    with pytest.raises(DocumentError, match=reason) as refusal:
        read_document(text)

    assert "report --format json" in str(refusal.value)


@pytest.mark.parametrize(
    "numbers",
    [
        pytest.param(lambda n: n["labels"].get("state") == "pending", id="a state"),
        pytest.param(lambda n: n["labels"].get("state") == "not_required", id="a state of a record"),
        pytest.param(lambda n: n["labels"].get("reason") == "missing", id="a reason"),
        pytest.param(lambda n: n["metric"].endswith("_gap_sessions"), id="every reason"),
        pytest.param(lambda n: n["metric"].endswith("_gap_oldest_timestamp_seconds"), id="the oldest gap"),
    ],
)
async def test_a_report_that_lacks_a_number_is_refused(
    backfill: Database, numbers: Callable[[dict[str, Any]], bool]
) -> None:
    document = json.loads(await written(backfill))
    kept = [number for number in document["pipelines"][0]["numbers"] if not numbers(number)]
    assert len(kept) < len(document["pipelines"][0]["numbers"])
    document["pipelines"][0]["numbers"] = kept

    with pytest.raises(BaselineError, match=r"numbers of the pipeline assessments are missing or changed .*: compare"):
        await compared(backfill, json.dumps(document))


@pytest.mark.parametrize("value", ["NaN", "Infinity", "-Infinity", "1e300"])
async def test_a_report_with_a_number_that_is_none_is_refused(backfill: Database, value: str) -> None:
    document = json.loads(await written(backfill))
    document["pipelines"][0]["numbers"][0]["value"] = 4242424242.5

    with pytest.raises((BaselineError, DocumentError)):
        await compared(backfill, json.dumps(document).replace("4242424242.5", value))


@pytest.mark.parametrize("class_", ["", "newest"])
async def test_a_report_with_another_class_of_versions_is_refused(backfill: Database, class_: str) -> None:
    document = json.loads(await written(backfill))
    for number in document["pipelines"][0]["numbers"]:
        if "class" in number["labels"]:
            number["labels"]["class"] = class_

    with pytest.raises(BaselineError, match="are missing or changed"):
        await compared(backfill, json.dumps(document))


async def test_a_later_version_of_the_document_can_be_read(backfill: Database) -> None:
    document = json.loads(await written(backfill))
    document["pipelines"][0]["lines"][0]["colour"] = "blue"

    assert read_document(json.dumps(document)).pipelines[0].pipeline == "assessments"
