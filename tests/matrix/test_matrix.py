"""What holds on one PostgreSQL holds on every one: the versions that differ in what we lean on."""

import re
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import test_collect
import test_gaps
import test_lists
import test_scenarios
from conftest import TOUR, Database, NewDatabase, Numbers, plan_of
from servers import settings
from test_collect import SELECT_ALL, as_reader, config, refused

from exporter.embedded import EmbeddedPostgres
from exporter.measure.collect import collect
from exporter.model.fault import CollectionError
from exporter.plan.plan import Plan

pytest_plugins = ["majors"]

GRANT = "grant select on assessment_sessions, profiles, fc_scores to {role}"

# Claims of the ordinary tests, made here of every version: error codes and texts, row security, locks, the planner.
# They take these fixtures from this module, so the scenarios are measured through a role that may only read.
for claim in (
    test_collect.test_a_dropped_table_takes_only_its_own_numbers_and_they_come_back,
    test_collect.test_whatever_is_wrong_with_one_record_the_others_are_measured,
    test_collect.test_a_grant_on_columns_is_not_enough_to_hold_a_table,
    test_collect.test_a_materialized_view_is_measured_though_it_cannot_be_locked,
    test_collect.test_foreign_sessions_are_not_measured_at_all,
    test_collect.test_a_revoked_privilege_is_named_with_its_remedy,
    test_collect.test_a_policy_on_a_record_is_an_error_and_never_a_smaller_number,
    test_collect.test_a_policy_on_the_sessions_leaves_nothing_to_measure,
    test_collect.test_a_policy_on_a_table_in_a_sub_query_is_an_error_too,
    test_collect.test_a_locked_record_is_lost_alone_and_soon,
    test_collect.test_locked_sessions_leave_nothing_to_measure,
    test_collect.test_a_slow_statement_is_ended_and_not_tried_again,
    test_collect.test_a_record_rewritten_before_our_lock_is_seen_whole,
    test_collect.test_the_transaction_is_guarded,
    test_collect.test_an_expression_cannot_write,
    test_collect.test_cancelling_a_collection_ends_its_statement_on_the_server,
    test_collect.test_a_role_that_may_not_connect_is_told_what_to_grant,
    test_scenarios.test_the_healthy_scenario_has_157_complete_sessions_and_no_gap,
    test_scenarios.test_rows_that_must_not_count_are_there_and_do_not_count,
    test_scenarios.test_the_backfill_scenario_has_39_13_and_39,
    test_gaps.test_the_backfill_scenario_lists_39_sessions_for_13_28_and_11_reasons,
):
    globals()[claim.__name__] = claim
del claim
BEGINNING = test_collect.BEGINNING
large = test_collect.large


def with_valid(expression: str) -> str:
    """The tour's config with an expression that every row of fc_scores must fulfil."""
    before, line, after = TOUR.read_text().partition("        accepted_values: {fc_kind:")
    assert line
    return f"{before}        valid: {expression}\n{line}{after}"


SLOW = with_valid("pg_sleep(60) is not null")


@pytest.fixture(scope="session")
def server(postgres: EmbeddedPostgres) -> EmbeddedPostgres:
    return postgres


@pytest.fixture(scope="session")
def templates(postgres_templates: dict[str, str]) -> dict[str, str]:
    return postgres_templates


@pytest.fixture
async def healthy(new_database: NewDatabase) -> Database:
    return await as_reader(await new_database("healthy"), GRANT)


@pytest.fixture
async def backfill(new_database: NewDatabase) -> Database:
    return await as_reader(await new_database("backfill"), GRANT)


async def test_the_server_is_of_the_version_that_the_test_names(empty: Database, major: int) -> None:
    assert int(await empty.connection.fetchval("show server_version_num")) // 10000 == major


async def test_the_role_of_these_tests_has_a_scram_password_and_may_only_read(healthy: Database) -> None:
    role = urlsplit(healthy.dsn).username

    [rights] = await healthy.connection.fetch(
        """
        select
          (select rolpassword from pg_authid where rolname = $1) as password,
          (select array_agg(distinct privilege_type::text) from information_schema.role_table_grants
           where grantee = $1) as privileges,
          (select array_agg(table_name::text order by table_name) from information_schema.role_table_grants
           where grantee = $1) as tables,
          exists (select from pg_auth_members where member = $1::regrole) as member,
          exists (select from pg_roles where rolname = $1
                  and (rolsuper or rolcreaterole or rolcreatedb or rolreplication or rolbypassrls)) as special
        """,
        role,
    )

    assert rights["password"].startswith("SCRAM-SHA-256$")
    assert rights["privileges"] == ["SELECT"]
    assert rights["tables"] == ["assessment_sessions", "fc_scores", "profiles"]
    assert not rights["member"]
    assert not rights["special"]


async def test_the_gap_of_the_backfill_is_told_by_record_state_and_version(backfill: Database) -> None:
    numbers = await backfill.measure()

    assert numbers.snapshot.record_faults == {}
    assert numbers.positive("record_version_sessions") == {
        ("profiles", "v1.2.1", "current"): 144,
        ("fc_scores", "v1.2", "current"): 118,
        ("fc_scores", "v1.1", "other"): 11,
    }
    assert numbers("gap_sessions", "fc_scores", "missing") == 28
    assert numbers("gap_sessions", "fc_scores", "outdated") == 11


async def test_computed_keys_change_no_number_and_every_list_is_whole(backfill: Database) -> None:
    text = TOUR.read_text()
    for old, new in (
        ("      key: id ", "      computed: {own: id, began: created_at}\n      key: own "),
        ("      started_at: created_at\n", "      started_at: began\n"),
        ("        session_key: session_id   #", "        computed: {of: session_id}\n        session_key: of   #"),
    ):
        assert old in text
        text = text.replace(old, new)
    plan = backfill.plan(text)

    snapshot = (await backfill.measure(text)).snapshot
    plain = (await backfill.measure()).snapshot.readings.numbers
    listed = await test_lists.assert_explained(plan, snapshot)

    assert {**snapshot.readings.numbers, ("foreign_key_enforced", "profiles"): 1.0} == plain
    assert {"orphaned_records", "failed_checks", "duplicate_records", "undated_sessions"} <= listed.keys()


async def test_records_of_another_database_give_the_numbers_of_one_and_every_list_is_whole(backfill: Database) -> None:
    other = TOUR.read_text()
    main = "  main:\n    url: ${DATABASE_URL} "
    assert main in other
    other = other.replace(main, f"  other:\n    url: ${{DATABASE_URL}}\n{main}")
    for table in ("profiles", "fc_scores"):
        other = other.replace(
            f"        table: public.{table}\n", f"        database: other\n        table: public.{table}\n"
        )
    plan = backfill.plan(other)

    snapshot = (await backfill.measure(other)).snapshot
    plain = (await backfill.measure()).snapshot.readings.numbers
    listed = await test_lists.assert_explained(plan, snapshot)

    assert snapshot.elsewhere.keys() == {"profiles", "fc_scores"}
    assert snapshot.readings.numbers == {k: v for k, v in plain.items() if k[0] != "foreign_key_enforced"}
    assert {"orphaned_records", "failed_checks", "duplicate_records", "undated_sessions"} <= listed.keys()


async def test_a_foreign_key_counts_once_it_is_validated(healthy: Database) -> None:
    link = "foreign key (session_id) references assessment_sessions (id)"
    seen = []
    for change in (
        "select",
        f"alter table fc_scores add constraint link {link} not valid",
        "alter table fc_scores validate constraint link",
        "alter table profiles drop constraint profiles_session_id_fkey",
    ):
        await healthy.execute(change)
        seen.append((await healthy.measure()).family("foreign_key_enforced"))

    assert seen == [
        {("profiles",): 1, ("fc_scores",): 0},
        {("profiles",): 1, ("fc_scores",): 0},
        {("profiles",): 1, ("fc_scores",): 1},
        {("profiles",): 0, ("fc_scores",): 1},
    ]


async def test_every_table_is_read_at_most_twice_by_the_buffers(large: Database) -> None:
    """20,000 sessions and two records; the ordinary test counts rows too, which version 14 tells late."""
    reader = await as_reader(large, SELECT_ALL, "create extension pg_stat_statements")
    await reader.measure(config())  # fills the catalog's caches and sets hint bits
    await large.execute("select pg_stat_statements_reset()")

    numbers = await reader.measure(config())

    [ours] = await large.connection.fetch(
        """
        select sum(calls) as calls, sum(shared_blks_hit + shared_blks_read) as blocks,
          (select sum(relpages) from pg_class
           where relnamespace = 'public'::regnamespace and relname ~ 'visits|scores|notes') as pages
        from pg_stat_statements
        where userid = $1::text::regrole and dbid = (select oid from pg_database where datname = current_database())
          and query ~ 'visits|scores|notes' and query !~* '^lock'
        """,
        urlsplit(reader.dsn).username,
    )
    assert numbers.positive("sessions") == {("done",): 20000}
    # The catalog, the indexes and the key; the rows of each record; the sessions.
    assert ours["calls"] <= 6
    assert ours["blocks"] <= 2 * ours["pages"] + 100


# --- Who we are to the server


async def test_a_wrong_password_is_an_authentication_fault(healthy: Database) -> None:
    fault = await refused(Database(with_password(healthy, "wrOng"), healthy.connection), TOUR.read_text())

    assert fault.reason == "authentication"
    assert "pg_hba.conf" in fault.message


def with_password(database: Database, password: str) -> str:
    """The url of the same role with another password."""
    return re.sub(":wOrd-[^@]+@", f":{password}@", database.dsn)


async def outcome(plan: Plan) -> object:
    """The states of a collection, or the reason why there was none."""
    try:
        return Numbers(await collect(plan)).positive("eligible_sessions")
    except CollectionError as error:
        return error.fault.reason


@pytest.mark.parametrize(("method", "stored"), [("scram-sha-256", "SCRAM-SHA-256$"), ("md5", "md5")])
@pytest.mark.parametrize("key", ["password_file", "url_file"])
async def test_a_rotated_secret_is_read_again_at_each_connect(
    healthy: Database, server: EmbeddedPostgres, tmp_path: Path, method: str, stored: str, key: str
) -> None:
    """In between, the server has the new password and the file still the old one."""
    role = urlsplit(healthy.dsn).username
    file = tmp_path / "secret"
    keys = "url: ${DATABASE_URL}\n    password_file: " if key == "password_file" else "url_file: "
    plan = plan_of(TOUR.read_text().replace("url: ${DATABASE_URL}", f"{keys}{file}"), with_password(healthy, "stale"))

    async def rotate(password: str) -> str:
        await healthy.execute(f"set password_encryption = '{method}'; alter role {role} password '{password}'")
        return str(await healthy.connection.fetchval("select rolpassword from pg_authid where rolname = $1", role))

    def write(password: str) -> None:
        file.write_text((password if key == "password_file" else with_password(healthy, password)) + "\n")

    async with settings(server, hba=f"host all {role} 127.0.0.1/32 {method}"):
        kept = [await rotate("f1rst")]
        write("f1rst")
        first = await outcome(plan)
        kept.append(await rotate("s3cond"))
        between = await outcome(plan)
        write("s3cond")
        second = await outcome(plan)

    assert all(password.startswith(stored) for password in kept)
    assert [first, between, second] == [{("complete",): 157}, "authentication", {("complete",): 157}]
