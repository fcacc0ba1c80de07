"""Timeliness: from the completion of a session to its record, over sessions whose fate is settled."""

import pytest
from conftest import Beginning, Database, care

CONFIG = care(
    "cohort: {window: 24h, maturity: 1h}",
    window="{since: 2025-05-31}",
    scores="created_at: created_at, KEYS version: {column: version, current: v3, accepted: [v2]}, valid: blocks > 0",
)


def config(keys: str = "") -> str:
    return CONFIG.replace("KEYS", f"{keys}," if keys else "")


BEGINNING = Beginning(
    """
    create table visits (
      id int primary key, status text, started_at timestamptz, completed_at timestamptz, done boolean default true
    );
    create table scores (visit_id int, created_at timestamptz, version text default 'v3', blocks int default 1);
    """,
    clock="2025-06-01 12:00:00+00",
)


async def visit(database: Database, number: int, started: str = "2025-06-01 06:00+00") -> None:
    """A visit that is completed an hour after its start."""
    await database.execute(
        "insert into visits values ($1, 'done', $2::text::timestamptz, $2::text::timestamptz + interval '1 hour')",
        number,
        started,
    )


async def score(database: Database, number: int, after: str, version: str = "v3", blocks: int = 1) -> None:
    """A row of a visit, written so long after its completion."""
    await database.execute(
        "insert into scores select $1, completed_at + $2::text::interval, $3, $4 from visits where id = $1",
        number,
        after,
        version,
        blocks,
    )


async def test_percentiles_are_values_that_occurred(visits: Database) -> None:
    for number in range(1, 101):
        await visit(visits, number)
        await score(visits, number, f"{number} seconds")

    numbers = await visits.measure(config())

    assert numbers.family("processing_delay_seconds") == {
        ("scores", "50"): 50,
        ("scores", "95"): 95,
        ("scores", "99"): 99,
    }
    assert numbers.family("processing_delay_sessions") == {("scores",): 100}


async def test_the_first_row_that_satisfies_counts(visits: Database) -> None:
    await visit(visits, 1)
    await score(visits, 1, "5 s", version="v1")
    await score(visits, 1, "6 s", blocks=0)
    await score(visits, 1, "20 s", version="v2")
    await score(visits, 1, "90 s")

    strict = await visits.measure(config())
    any_version = await visits.measure(config("satisfied_by: any_version"))

    assert strict("processing_delay_seconds", "scores", "99") == 20
    assert any_version("processing_delay_seconds", "scores", "99") == 5


@pytest.mark.parametrize("index", ["", "create unique index on scores (visit_id)"])
async def test_with_every_row_the_last_row_of_a_satisfied_session_counts(visits: Database, index: str) -> None:
    for number in range(1, 5):
        await visit(visits, number)
        await score(visits, number, "5 s", version="v2", blocks=number != 4)
    if index:
        await visits.execute(index)
    else:
        await score(visits, 1, "90 s")
        await score(visits, 2, "95 s", version="v1")
        await score(visits, 3, "96 s", blocks=0)

    numbers = await visits.measure(config("satisfied_by: every_row"))

    assert numbers("processing_delay_sessions", "scores") == (3 if index else 1)
    assert numbers("processing_delay_seconds", "scores", "99") == (5 if index else 90)


async def test_negative_delays_and_missing_times_are_left_out(visits: Database) -> None:
    for number in range(1, 7):
        await visit(visits, number)
    await visits.execute("update visits set completed_at = null where id = 3")
    await visits.execute("update visits set completed_at = 'infinity' where id = 4")
    await score(visits, 1, "-1 s")
    await score(visits, 2, "0 s")
    await visits.execute("insert into scores values (3, '2025-06-01 10:00+00'), (4, '2025-06-01 10:00+00'), (5, null)")

    numbers = await visits.measure(config())

    assert numbers.family("processing_delay_sessions") == {("scores",): 1}
    assert numbers("processing_delay_seconds", "scores", "50") == 0


async def test_sessions_that_do_not_need_the_record_are_left_out(visits: Database) -> None:
    for number in range(1, 6):
        await visit(visits, number)
        await score(visits, number, f"{number}0 seconds")
    await visits.execute("update visits set done = false where id = 4; update visits set done = null where id = 5")

    needed = await visits.measure(config("required_when: done"))
    always = await visits.measure(config())

    assert needed.family("processing_delay_sessions") == {("scores",): 3}
    assert needed("processing_delay_seconds", "scores", "99") == 30
    assert always.family("processing_delay_sessions") == {("scores",): 5}


async def test_the_times_of_a_session_and_of_its_record_may_be_of_two_zones(visits: Database) -> None:
    await visits.execute(
        """
        alter table visits alter started_at type timestamp, alter completed_at type timestamp;
        alter table scores alter created_at type timestamp;
        insert into visits values (1, 'done', '2025-06-01 08:00', '2025-06-01 09:00');  -- 07:00 UTC
        insert into scores values (1, '2025-06-01 16:00:30');
        """
    )
    text = config("timezone: Asia/Tokyo").replace("eligible: done", "eligible: done, timezone: Europe/Berlin")

    numbers = await visits.measure(text)

    assert numbers("processing_delay_seconds", "scores", "50") == 30
    assert numbers("newest_session_timestamp_seconds", "completed") == 1748761200
    assert numbers("newest_record_timestamp_seconds", "scores") == 1748761230


@pytest.mark.parametrize(
    ("started", "counted"),
    [
        ("2025-05-31 11:00:00+00", 1),
        ("2025-05-31 10:59:59.999999+00", 0),
        ("2025-06-01 10:59:59.999999+00", 1),
        ("2025-06-01 11:00:00+00", 0),
    ],
)
async def test_the_cohort_is_half_open_and_ends_at_its_maturity(visits: Database, started: str, counted: int) -> None:
    await visit(visits, 1, started)
    await score(visits, 1, "1 s")

    assert (await visits.measure(config()))("processing_delay_sessions", "scores") == counted


async def test_the_cohort_may_be_outside_the_window(visits: Database) -> None:
    await visit(visits, 1)
    await score(visits, 1, "7 s")

    numbers = await visits.measure(config().replace("since: 2025-05-31", "last: 1s"))

    assert numbers("processing_delay_seconds", "scores", "95") == 7
    assert numbers.family("sessions") == {}
    assert numbers.positive("eligible_sessions") == {}


async def test_without_a_cohort_or_a_time_nothing_is_said_and_without_sessions_a_zero(visits: Database) -> None:
    no_cohort = await visits.measure(config().replace("    cohort: {window: 24h, maturity: 1h}\n", ""))
    no_time = await visits.measure(config().replace("created_at: created_at, ", ""))
    nobody = await visits.measure(config())

    for numbers in (no_cohort, no_time):
        assert numbers.family("processing_delay_seconds") == {}
        assert numbers.family("processing_delay_sessions") == {}
    assert nobody.family("processing_delay_seconds") == {}
    assert nobody.family("processing_delay_sessions") == {("scores",): 0}


async def test_a_worker_that_slows_down_is_seen_and_mended(visits: Database) -> None:
    limits = "    limits: {processing_delay_p95: {warning: 10m}}\n"
    text = config().replace("    sessions:", f"{limits}    sessions:")
    await visit(visits, 1)
    await score(visits, 1, "11 minutes")
    broken = await visits.measure(text)
    await visits.execute("update scores set created_at = created_at - interval '1 minute'")

    mended = await visits.measure(text)

    assert broken.snapshot.judgement.verdict(is_complete=True) == "degraded"
    assert mended.snapshot.judgement.verdict(is_complete=True) == "healthy"
