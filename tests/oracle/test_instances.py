"""One database for each kind that the random ones hold: what is right can be read off the rows."""

import re
from typing import Final

import asyncpg
import pytest
from conftest import Database, Numbers
from tools import NO_ICU

from exporter.config.read import ConfigError
from exporter.measure.collect import collect
from exporter.model.fault import CollectionError

TABLES: Final = """
create type mood as enum ('a', 'b', 'c');
create table visits (
  id {key}, status text default 'done', started_at timestamptz default now() - interval '2 days',
  completed_at timestamptz default now() - interval '1 day'
);
create table notes (visit_id {link});
"""
CONFIG: Final = """
database: {{url: "${{DATABASE_URL}}"}}
pipelines:
  care:
    window: {{last: 90d}}
    sessions: {{table: visits, key: id, status: status, started_at: started_at, completed_at: completed_at,
                eligible: "true"}}
    records: {{notes: {{table: notes, session_key: {key}}}}}
    limits: {{sessions_with_gap: {{critical: 0}}}}
"""
ONE: Final = "00000000-0000-0000-0000-00000000000a"
OTHER: Final = "00000000-0000-0000-0000-00000000000b"


def config(cast: str | None = None) -> str:
    return CONFIG.format(key="visit_id" if cast is None else f"{{column: visit_id, cast: {cast}}}")


async def fill(database: Database, key: str, link: str, keys: list[str], links: list[str]) -> None:
    """Sessions of these keys, and records that point at some of them."""
    await make_types(database, key, link)
    await database.execute(TABLES.format(key=key, link=link))
    await database.connection.executemany(f"insert into visits (id) select ($1::text)::{key}", [(k,) for k in keys])
    await database.connection.executemany(f"insert into notes select ($1::text)::{link}", [(k,) for k in links])


async def make_types(database: Database, *kinds: str) -> None:
    """What some servers do not have: citext, and a collation that tells no capitals."""
    if found := [kind for kind in kinds if "citext" in kind]:
        try:
            schema = "kinds" if "kinds.citext" in found else "public"
            await database.execute(f"create schema if not exists {schema}; create extension citext schema {schema}")
        except (asyncpg.UndefinedFileError, asyncpg.FeatureNotSupportedError):
            pytest.skip("this server has no citext")
    if any("blind" in kind for kind in kinds):
        try:
            await database.execute(
                "create collation blind (provider = icu, locale = 'und-u-ks-level2', deterministic = false)"
            )
        except asyncpg.FeatureNotSupportedError:
            pytest.skip(NO_ICU)


# --- Keys


@pytest.mark.parametrize(
    ("key", "link", "cast", "keys", "links", "found"),
    [
        ("char(10)", "varchar(40)", None, ["abc", "xyz"], ["abc", "abc ", "abc  "], (1, 2)),
        ("varchar(40)", "char(10)", None, ["abc", "abc "], ["abc"], (1, 0)),
        ("char(10)", "char(20)", None, ["abc", "xyz"], ["abc   "], (1, 0)),
        ("char(10)", "name", None, ["abc", "xyz"], ["abc", "abc "], (1, 1)),
        ("text", "name", None, ["abc", "ABC"], ["abc"], (1, 0)),
        ('text collate "C"', 'text collate "POSIX"', None, ["abc", "xyz"], ["abc"], (1, 0)),
        ('text collate "C"', "varchar(10)", None, ["abc", "xyz"], ["abc", "ABC"], (1, 1)),
        ("citext", "citext", None, ["abc", "xyz"], ["ABC", "abc"], (1, 0)),
        ("kinds.citext", "kinds.citext", None, ["abc", "xyz"], ["ABC", "abc"], (1, 0)),
        ("citext", "citext", "text", ["abc", "xyz"], ["ABC", "abc"], (1, 1)),
        ("text collate blind", "text collate blind", None, ["abc", "xyz"], ["ABC", "abc"], (1, 0)),
        ("text collate blind", "text", "text", ["abc", "xyz"], ["ABC", "abc"], (1, 1)),
        ("bigint", "numeric", None, ["1", "2"], ["1.0", "2.5"], (1, 1)),
        ("numeric", "smallint", None, ["1.00", "2.5"], ["1", "2"], (1, 1)),
        ("char(10)", "bigint", "character", ["1", "12"], ["12", "13", "14"], (1, 2)),
        ("char(10)", "bigint", "text", ["1", "12"], ["12", "13", "14"], (1, 2)),
        ("bigint", "char(10)", "varchar(1)", ["1", "12"], ["12", "13", "14"], (1, 2)),
        ("bigint", "char(10)", "bigint", ["1", "12"], ["012", "13"], (1, 1)),
        ("numeric", "text", "bigint", ["1", "12.0"], ["012", "13"], (1, 1)),
        ("numeric", "text", "text", ["1", "12.0"], ["12", "12.0"], (1, 1)),
        ("uuid", "char(36)", "uuid", [ONE, OTHER], [ONE.upper()], (1, 0)),
        ("char(36)", "uuid", "text", [ONE.upper(), OTHER], [OTHER], (1, 0)),
        ("mood", "text", "mood", ["a", "b"], ["a", "c"], (1, 1)),
    ],
)
async def test_keys_are_equal_as_their_types_say(
    empty: Database, key: str, link: str, cast: str | None, keys: list[str], links: list[str], found: tuple[int, int]
) -> None:
    """As many sessions are complete, and as many records orphans; all other sessions are a gap."""
    await fill(empty, key, link, keys, links)
    complete, orphaned = found

    numbers = await empty.measure(config(cast))

    assert numbers.snapshot.record_faults == {}
    assert numbers("eligible_sessions", "complete") == complete
    assert numbers("eligible_sessions", "gap") == len(keys) - complete
    assert numbers("orphaned_records", "notes") == orphaned
    assert sum(numbers.family("sessions").values()) == len(keys)


@pytest.mark.parametrize(
    ("key", "link", "named", "one", "other"),
    [
        ("uuid", "text", ["uuid", "text"], ONE, OTHER),
        ("char(36)", "uuid", ["character", "uuid"], ONE, OTHER),
        ("char(10)", "bigint", ["character", "bigint"], "12", "1"),
        ("bigint", "varchar(40)", ["bigint", "character varying"], "12", "1"),
        ("text", "citext", ["text", "citext"], "a", "b"),
        ("citext", "varchar(10)", ["citext", "character varying"], "a", "b"),
        ("numeric", "text", ["numeric", "text"], "12", "1"),
        ("mood", "text", ["mood", "text"], "a", "b"),
        ("bit(4)", "text", ["bit", "text"], "0101", "0111"),
        ("text", "bit(4)", ["text", "bit"], "0101", "0111"),
        ("text collate blind", "text", ["blind", "text"], "a", "b"),
        ('text collate "C"', "text collate blind", ['"?C"?', "blind"], "a", "b"),
    ],
)
async def test_what_is_said_of_keys_that_cannot_be_compared_mends_them(
    empty: Database, key: str, link: str, named: list[str], one: str, other: str
) -> None:
    await fill(empty, key, link, [one, other], [one])

    refused = await empty.measure(config())

    fault = refused.snapshot.record_faults["notes"]
    assert fault.reason == "type"
    for name in named:
        assert re.search(rf"(?<![\w]){name}(?![\w])", fault.message), fault.message
    assert refused("eligible_sessions", "gap") is None
    remedy = re.search(r"cast: (?P<cast>[^{},;:]*[^{},;:. ])", fault.message)
    assert remedy, fault.message
    mended = await empty.measure(config(remedy["cast"]))
    assert mended.snapshot.record_faults == {}
    assert mended.positive("eligible_sessions") == {("complete",): 1, ("gap",): 1}
    assert mended("orphaned_records", "notes") == 0


@pytest.mark.parametrize(
    ("key", "link", "cast", "named", "one", "nearly"),
    [
        ("integer", "numeric", "integer", ["integer", "numeric"], "1", "1.4"),
        ("date", "timestamptz", "date", ["date", "timestamp with time zone"], "2025-01-01", "2025-01-01 12:00+00"),
    ],
)
async def test_a_cast_that_makes_two_keys_one_is_refused(
    empty: Database, key: str, link: str, cast: str, named: list[str], one: str, nearly: str
) -> None:
    await fill(empty, key, link, [one], [nearly])

    numbers = await empty.measure(config(cast))

    fault = numbers.snapshot.record_faults["notes"]
    assert fault.reason == "type"
    assert all(name in fault.message for name in named), fault.message
    assert numbers("eligible_sessions", "complete") is None


# --- Statuses, versions and values


@pytest.mark.parametrize("kind", ["text", "citext", "text collate blind"])
async def test_what_a_type_calls_equal_are_two_texts(empty: Database, kind: str) -> None:
    await make_types(empty, kind)
    await empty.execute(
        f"""
        {TABLES.format(key="int", link=f"int, version {kind}, kind {kind}")};
        alter table visits alter status type {kind};
        insert into visits values (1, 'paid'), (2, 'PAID'), (3, 'Paid');
        insert into notes values (1, 'v2', 'functions'), (2, 'V2', 'functions'), (3, 'v2', 'FUNCTIONS');
        """
    )
    text = config().replace(
        "session_key: visit_id",
        "session_key: visit_id, version: {column: version, current: v2}, accepted_values: {kind: [functions]}",
    )

    numbers = await empty.measure(text)

    assert numbers.positive("sessions") == {("paid",): 1, ("PAID",): 1, ("Paid",): 1}
    assert numbers.positive("record_sessions") == {
        ("notes", "current"): 1,
        ("notes", "outdated"): 1,
        ("notes", "invalid"): 1,
    }
    assert numbers.family("records") == {("notes", "v2", "current"): 2, ("notes", "V2", "other"): 1}
    assert numbers.family("record_value_rows") == {
        ("notes", "kind", "functions", "accepted"): 2,
        ("notes", "kind", "FUNCTIONS", "invalid"): 1,
    }


# --- Time zones


ZONED: Final = """
create table visits (id int primary key, status text, started_at timestamp, completed_at timestamp);
create table notes (visit_id int, created_at timestamp);
insert into visits values (1, 'done', '2025-07-01 11:00', '2025-07-01 12:00');
insert into notes values (1, '2025-07-01 12:00');
"""


@pytest.mark.parametrize("of", ["status: status", "session_key: visit_id, created_at: created_at"])
@pytest.mark.parametrize(
    "zone", ["IST", "CST", "EST", "MST", "HST", "PST", "BST", "EDT", "CEST", "ist", "CET", "EET", "MET"]
)
async def test_an_abbreviation_is_no_time_zone(empty: Database, zone: str, of: str) -> None:
    """The last three are names of zones as well, whose summer time an abbreviation does not know."""
    await empty.execute(ZONED)

    assert await reason(empty, config().replace(of.partition(",")[0], f"{of}, timezone: {zone}")) in {"config", "type"}


async def reason(database: Database, text: str) -> str:
    """Why nothing, or a record, was not measured."""
    try:
        plan = database.plan(text)
    except ConfigError:
        return "config"
    try:
        snapshot = await collect(plan)
    except CollectionError as error:
        return error.fault.reason
    return str(next((fault.reason for fault in snapshot.record_faults.values()), None))


@pytest.mark.parametrize(
    ("zone", "offset"),
    [("Asia/Kolkata", "+05:30"), ("Europe/Berlin", "+02"), ("UTC", "+00"), ("Etc/GMT-2", "+02"), ("GMT", "+00")],
)
async def test_a_name_of_the_zone_database_is_one(empty: Database, zone: str, offset: str) -> None:
    await empty.execute(ZONED)
    text = config().replace("status: status", f"status: status, timezone: {zone}")
    text = text.replace("visit_id", f"visit_id, created_at: created_at, timezone: {zone}")
    text = text.replace("last: 90d", "since: 2025-01-01")

    numbers = await empty.measure(text)

    noon = await empty.connection.fetchval(f"select extract(epoch from timestamptz '2025-07-01 12:00{offset}')::float8")
    assert numbers("newest_session_timestamp_seconds", "completed") == noon
    assert numbers("newest_record_timestamp_seconds", "notes") == noon


# --- Checks


@pytest.mark.parametrize(
    ("grace", "check", "result"),
    [
        ("10m", "status = 'paid'", "pending"),
        ("10m", "{sql: status = 'paid'}", "pending"),
        ("10m", "{sql: status = 'paid', grace: 0}", "fail"),
        ("10m", "{sql: status = 'paid', grace: 0s}", "fail"),
        ("10m", "{sql: status = 'paid', grace: 30s}", "fail"),
        ("0s", "{sql: status = 'paid', grace: 10m}", "pending"),
        ("0s", "status = 'paid'", "fail"),
        ("10m", "{sql: status = 'done', grace: 0s}", "pass"),
    ],
)
async def test_a_check_has_the_grace_of_the_pipeline_or_its_own(
    empty: Database, grace: str, check: str, result: str
) -> None:
    await empty.execute(TABLES.format(key="int", link="int") + "insert into notes values (1)")
    await empty.stop_clock("2025-06-01 12:00+00")
    await empty.execute("insert into visits values (1, 'done', '2025-06-01 11:00+00', '2025-06-01 11:59+00')")
    text = config().replace('eligible: "true"', f'eligible: "true", checks: {{paid: {check}}}')
    text = text.replace("window:", f"grace: {grace}\n    window:").replace(
        "limits: {", "limits: {failed_checks: {critical: 0}, "
    )

    numbers = await empty.measure(text)

    assert numbers.family("check_sessions") == {
        ("paid", one): float(one == result) for one in ("pass", "fail", "pending")
    }
    assert verdict_of(numbers) == ("unhealthy" if result == "fail" else "healthy")


def verdict_of(numbers: Numbers) -> str:
    snapshot = numbers.snapshot
    return snapshot.judgement.verdict(is_complete=not snapshot.record_faults and not snapshot.part_faults)
