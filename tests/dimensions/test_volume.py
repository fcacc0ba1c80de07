"""Volume: how many sessions there are, whatever is written in their status and times."""

import pytest
from conftest import Beginning, Database, care

CLOCK = "2025-06-01 12:00:00+00"

CONFIG = care(window="WINDOW", notes="", collection="{max_label_values: 50}")


def config(window: str = "{since: 2025-01-01}") -> str:
    return CONFIG.replace("WINDOW", window)


BEGINNING = Beginning(
    """
    create table visits (
      id int primary key generated always as identity,
      status text, started_at timestamptz, completed_at timestamptz, done boolean default true
    );
    create table notes (visit_id int);
    """,
    clock=CLOCK,
    timezone="Asia/Tokyo",
)
"""No visit yet; the clock stands, and the server's is not on UTC."""


async def test_an_empty_table_has_no_status_and_counts_of_zero(visits: Database) -> None:
    numbers = await visits.measure(config())

    assert numbers.family("sessions") == {}
    assert numbers.family("undated_sessions") == {(): 0}
    assert numbers.family("undated_eligible_sessions") == {(): 0}
    assert numbers.family("future_sessions") == {(): 0}


async def test_sessions_are_counted_by_status_whether_eligible_or_not(visits: Database) -> None:
    await visits.execute(
        """
        insert into visits (status, started_at, done) values
          ('open', '2025-05-01', true), ('done', '2025-05-01', true), ('done', '2025-05-01', false),
          ('done', '2025-05-01', null)
        """
    )

    numbers = await visits.measure(config())

    assert numbers.family("sessions") == {("open",): 1, ("done",): 3}
    assert set(numbers.snapshot.folded.values()) == {0}


async def test_no_two_statuses_share_a_label(visits: Database) -> None:
    texts = ["", " ", "<null>", "<empty>", "<other>", "\\<null>", "<Null>", "NULL", "ä", "line\nbreak", 'quo"te', "{}"]
    await visits.connection.executemany(
        "insert into visits (status, started_at) values ($1, '2025-05-01')", [(text,) for text in [None, *texts]]
    )

    numbers = await visits.measure(config())

    assert numbers.family("sessions") == {
        (label,): 1
        for label in (
            "<null>",
            "<empty>",
            " ",
            "\\<null>",
            "\\<empty>",
            "\\<other>",
            "\\\\<null>",
            "<Null>",
            "NULL",
            "ä",
            "line\nbreak",
            'quo"te',
            "{}",
        )
    }


@pytest.mark.parametrize(
    ("sql_type", "value", "label"),
    [("int", "7", "7"), ("boolean", "true", "true"), ("mood", "'fine'", "fine"), ("char(6)", "'ok'", "ok")],
)
async def test_a_status_of_any_type_is_shown_as_text(visits: Database, sql_type: str, value: str, label: str) -> None:
    await visits.execute(
        f"""
        create type mood as enum ('fine');
        alter table visits alter status type {sql_type} using null;
        insert into visits (status, started_at) values ({value}, '2025-05-01');
        """
    )

    numbers = await visits.measure(config())

    assert numbers.family("sessions") == {(label,): 1}


async def test_a_status_of_a_megabyte_is_cut(visits: Database) -> None:
    await visits.execute(
        "insert into visits (status, started_at) select status, '2025-05-01' from unnest(array["
        "repeat('ä', 1000000), repeat('ä', 256) || 'b', repeat('ä', 255)]) status"
    )

    numbers = await visits.measure(config())

    assert numbers.family("sessions") == {("ä" * 256,): 2, ("ä" * 255,): 1}


async def test_beyond_the_cap_the_rarest_statuses_are_one_and_the_total_is_right(visits: Database) -> None:
    await visits.execute(
        """
        insert into visits (status, started_at) select 'rare ' || n, '2025-05-01' from generate_series(1, 1990) n;
        insert into visits (status, started_at)
        select 'common ' || n, '2025-05-01' from generate_series(1, 10) n, generate_series(1, 5);
        """
    )

    numbers = await visits.measure(config())

    family = numbers.family("sessions")
    assert len(family) == 51
    assert [family[f"common {n}",] for n in range(1, 11)] == [5] * 10
    assert family["<other>",] == 1950
    assert sum(family.values()) == 2040
    assert numbers.snapshot.folded["session_health_sessions"] == 1950


async def test_beyond_what_is_transported_every_number_is_right(visits: Database) -> None:
    await visits.execute(
        """
        insert into visits (status, started_at, completed_at, done)
        select 'noise ' || n, '2025-05-01', '2025-05-01', true from generate_series(1, 12000) n, generate_series(1, 2);
        -- One row of the commonest status in a cell of its own: it must not get lost among the noise.
        insert into visits (status, started_at, done) select 'common', '2025-05-01', false from generate_series(1, 9);
        insert into visits (status, started_at, completed_at, done) values ('common', '2025-05-01', '2025-05-01', true);
        insert into notes select id from visits where status < 'noise 2';
        """
    )

    numbers = await visits.measure(config())

    assert numbers("sessions", "common") == 10
    assert sum(numbers.family("sessions").values()) == 24010
    assert len(numbers.family("sessions")) == 51
    assert sum(numbers.family("eligible_sessions").values()) == 24001
    complete = await visits.connection.fetchval("select count(*) from notes join visits on visit_id = id where done")
    assert numbers("eligible_sessions", "complete") == complete
    assert numbers("record_sessions", "notes", "missing") == 24001 - complete


# --- Times


async def test_a_session_without_a_start_is_undated_and_in_no_window(visits: Database) -> None:
    await visits.execute(
        """
        insert into visits (status, started_at) values
          ('done', null), ('done', 'infinity'), ('done', '-infinity'), ('done', '2025-05-01'), ('done', '1999-01-01')
        """
    )

    broken = await visits.measure(config())
    await visits.execute("update visits set started_at = '2025-05-01' where started_at is null")
    better = await visits.measure(config())

    assert broken("undated_sessions") == 3
    assert broken.family("sessions") == {("done",): 1}
    assert better("undated_sessions") == 2
    assert better.family("sessions") == {("done",): 2}


@pytest.mark.parametrize(
    ("started_at", "completed_at", "future"),
    [
        ("'2025-06-01 12:00:00+00'", "'2025-06-01 12:00:00+00'", 0),
        ("'2025-06-01 12:00:00.000001+00'", "null", 1),
        ("'2025-05-01'", "'2025-06-01 12:00:00.000001+00'", 1),
        ("'2999-01-01'", "'2999-01-01'", 1),
        ("'2025-05-01'", "'infinity'", 0),
        ("'2025-05-01'", "'-infinity'", 0),
        ("'infinity'", "'2999-01-01'", 0),  # undated, so in no window
        ("null", "'2999-01-01'", 0),
        ("'2024-12-31'", "'2999-01-01'", 0),  # before the window
    ],
)
async def test_a_session_that_starts_or_completes_after_the_clock_is_in_the_future(
    visits: Database, started_at: str, completed_at: str, future: int
) -> None:
    await visits.execute(f"insert into visits (started_at, completed_at) values ({started_at}, {completed_at})")

    numbers = await visits.measure(config())

    assert numbers("future_sessions") == future


SINCE = "{since: 2025-03-01}"
SINCE_NOON = "{since: 2025-03-01T12:00:00+09:00}"
LAST = "{last: 36h}"


@pytest.mark.parametrize(
    ("window", "started_at", "inside"),
    [
        (SINCE, "2025-03-01 00:00:00+00", 1),
        (SINCE, "2025-02-28 23:59:59.999999+00", 0),
        (SINCE, "2025-03-01 08:59:59+09", 0),
        (SINCE, "2025-03-01 09:00:00+09", 1),
        (SINCE, "2999-01-01 00:00:00+00", 1),
        (SINCE_NOON, "2025-03-01 03:00:00+00", 1),
        (SINCE_NOON, "2025-03-01 02:59:59.999999+00", 0),
        (LAST, "2025-05-31 00:00:00+00", 1),
        (LAST, "2025-05-30 23:59:59.999999+00", 0),
    ],
)
async def test_the_window_includes_its_first_instant(
    visits: Database, window: str, started_at: str, inside: int
) -> None:
    await visits.execute(f"insert into visits (status, started_at, completed_at) values ('done', '{started_at}', null)")
    await visits.execute("insert into notes values (1)")

    numbers = await visits.measure(config(window))

    assert sum(numbers.family("sessions").values()) == inside
    assert numbers("eligible_sessions", "complete") == inside
    assert sum(numbers.family("record_version_sessions").values()) == inside


@pytest.mark.parametrize(
    ("sql_type", "first", "before"),
    [
        ("timestamp", "2025-03-01 00:00:00", "2025-02-28 23:59:59.999999"),
        ("date", "2025-03-01", "2025-02-28"),
        ("timestamp(0)", "2025-03-01 00:00:00", "2025-02-28 23:59:59"),
    ],
)
async def test_a_time_without_a_zone_is_read_as_utc(visits: Database, sql_type: str, first: str, before: str) -> None:
    await visits.execute(
        f"""
        alter table visits alter started_at type {sql_type}, alter completed_at type {sql_type};
        insert into visits (status, started_at) values
          ('in', '{first}'), ('out', '{before}'), ('undated', 'infinity'), ('undated', null), ('undated', '-infinity');
        """
    )

    numbers = await visits.measure(config(SINCE))

    assert numbers.family("sessions") == {("in",): 1}
    assert numbers("undated_sessions") == 3


async def test_a_domain_over_a_time_with_a_zone_keeps_it_whatever_the_config_names(visits: Database) -> None:
    await visits.execute(
        """
        create domain moment as timestamptz;
        alter table visits alter started_at type moment, alter completed_at type moment;
        insert into visits (started_at) values ('2025-06-01 12:00:01+00'), ('2025-06-01 12:00:00+00');
        """
    )

    numbers = await visits.measure(config().replace("key: id", "key: id, timezone: Europe/Berlin"))

    assert numbers("future_sessions") == 1


async def test_a_naive_time_is_in_the_future_by_utc(visits: Database) -> None:
    await visits.execute(
        """
        alter table visits alter started_at type timestamp, alter completed_at type timestamp;
        insert into visits (started_at)
        values ('2025-06-01 12:00:01'), ('2025-06-01 12:00:00'), ('2025-06-01 03:30:00');
        """
    )

    numbers = await visits.measure(config())

    assert numbers("future_sessions") == 1


ZONES = [
    ("Europe/Berlin", "timestamp", "2025-03-01 01:00:00", "2025-03-01 00:59:59.999999"),
    ("America/Los_Angeles", "timestamp", "2025-02-28 16:00:00", "2025-02-28 15:59:59.999999"),
    ("Pacific/Kiritimati", "timestamp", "2025-03-01 14:00:00", "2025-03-01 13:59:59.999999"),
    ("Etc/GMT+12", "timestamp", "2025-02-28 12:00:00", "2025-02-28 11:59:59.999999"),
    # A date is the midnight that begins it.
    ("Europe/Berlin", "date", "2025-03-02", "2025-03-01"),
    ("America/Los_Angeles", "date", "2025-03-01", "2025-02-28"),
    # What has a zone keeps it.
    ("America/Los_Angeles", "timestamptz", "2025-03-01 00:00:00+00", "2025-02-28 23:59:59.999999+00"),
]
"""The window begins 2025-03-01 00:00 UTC: the first time of that zone within it, and the last one before."""


@pytest.mark.parametrize(("zone", "sql_type", "first", "before"), ZONES)
async def test_a_time_without_a_zone_is_of_the_zone_that_is_declared(
    visits: Database, zone: str, sql_type: str, first: str, before: str
) -> None:
    await visits.execute(
        f"""
        alter table visits alter started_at type {sql_type}, alter completed_at type {sql_type};
        insert into visits (status, started_at) values
          ('in', '{first}'), ('out', '{before}'), ('undated', 'infinity'), ('undated', null), ('undated', '-infinity');
        insert into notes select id from visits;
        """
    )

    numbers = await visits.measure(config(SINCE).replace("eligible: done", f"eligible: done, timezone: {zone}"))

    assert numbers.family("sessions") == {("in",): 1}
    assert numbers("undated_sessions") == 3
    assert sum(numbers.family("record_version_sessions").values()) == 1


@pytest.mark.parametrize("declared", ["", ", timezone: Europe/Berlin"])
@pytest.mark.parametrize(("started_at", "inside"), [("2025-03-29 01:30+00", 1), ("2025-03-29 01:29:59+00", 0)])
async def test_a_day_of_a_window_has_24_hours_though_clocks_change(
    visits: Database, declared: str, started_at: str, inside: int
) -> None:
    """Reckoned by the calendar of Berlin, where this night lacks an hour, the window would begin an hour later."""
    await visits.set("timezone", "'Europe/Berlin'")
    await visits.stop_clock("2025-03-30 01:30+00")
    await visits.execute(f"insert into visits (status, started_at) values ('done', '{started_at}')")

    numbers = await visits.measure(config("{last: 1d}").replace("eligible: done", f"eligible: done{declared}"))

    assert sum(numbers.family("sessions").values()) == inside


async def test_the_year_that_the_calendar_ends_is_only_the_future(visits: Database) -> None:
    await visits.execute("insert into visits (started_at, completed_at) values ('294276-12-31', '294276-12-31')")

    numbers = await visits.measure(config())

    assert numbers("future_sessions") == 1
    assert numbers("gap_oldest_timestamp_seconds", "notes") == 9224318016000 - 86400


async def test_eligible_sessions_without_a_start_keep_the_pipeline_from_being_healthy(visits: Database) -> None:
    await visits.execute(
        """
        insert into visits (started_at, done)
        values ('2025-05-01', true), (null, true), ('-infinity', true), (null, false);
        insert into notes values (1);
        """
    )
    broken = await visits.measure(config())
    await visits.execute("update visits set done = false where id > 1")

    mended = await visits.measure(config())

    assert broken.family("undated_eligible_sessions") == {(): 2}
    assert broken.snapshot.judgement.verdict(is_complete=True) == "unknown"
    assert "2 eligible sessions have no start time" in broken.snapshot.judgement.caveats[0].message
    assert mended.family("undated_sessions") == {(): 3}
    assert mended.snapshot.judgement.verdict(is_complete=True) == "healthy"
