"""Sessions without a time of completion: grace and delay count from the start."""

import pytest
from conftest import Database

from exporter.config.read import parse_config
from exporter.mend.gaps import Gap, list_gaps
from exporter.setup.findings import has_errors
from exporter.setup.preflight import preflight

CONFIG = """
database: {url: "${DATABASE_URL}"}
pipelines:
  uploads:
    window: {since: 2025-01-01}
    grace: 2h
    sessions: {table: uploads, key: id, started_at: at, eligible: kind = 'image'}
    records:
      previews: {table: previews, session_key: upload_id, created_at: made_at}
    cohort: {window: 30d, maturity: 1h}
    limits: {sessions_with_gap: {critical: 0}, conversion_ratio: {warning: 0.9}, processing_delay_p95: {warning: 1h}}
"""


@pytest.fixture
async def uploads(empty: Database) -> Database:
    """Upload 1 has its preview after 5 minutes, 2 waits in the grace period, 3 is a gap, and 4 is no image."""
    await empty.execute(
        """
        create table uploads (id int primary key, kind text, at timestamptz);
        create table previews (upload_id int, made_at timestamptz);
        insert into uploads values
          (1, 'image', now() - interval '3 hours'), (2, 'image', now() - interval '90 minutes'),
          (3, 'image', now() - interval '5 hours'), (4, 'text', now() - interval '5 hours');
        insert into previews select 1, at + interval '5 minutes' from uploads where id = 1;
        """
    )
    return empty


async def test_the_grace_period_counts_from_the_start(uploads: Database) -> None:
    found = await uploads.measure(CONFIG)

    assert found.family("eligible_sessions") == {("complete",): 1, ("pending",): 1, ("gap",): 1}
    await uploads.execute("insert into previews values (3, now())")
    assert (await uploads.measure(CONFIG)).family("eligible_sessions")["gap",] == 0


async def test_the_delay_counts_from_the_start_and_completions_are_not_told(uploads: Database) -> None:
    found = await uploads.measure(CONFIG)

    assert found.family("processing_delay_seconds")["previews", "50"] == 300
    assert found.family("newest_session_timestamp_seconds").keys() == {("started",)}


async def test_of_the_cohort_the_eligible_sessions_count_as_completed(uploads: Database) -> None:
    found = await uploads.measure(CONFIG)

    assert found.family("cohort_sessions") == {("started",): 4, ("completed",): 3, ("covered",): 1}


async def test_a_list_of_gaps_names_no_completion(uploads: Database) -> None:
    found: list[Gap] = []

    await list_gaps(uploads.plan(CONFIG), found.append)

    assert found == [Gap(("3",), {"previews": "missing"}, None)]


async def test_the_check_of_the_config_measures_it(uploads: Database) -> None:
    assert not has_errors(await preflight(parse_config(CONFIG, {"DATABASE_URL": uploads.dsn})))
