"""A database is looked at, and the config proposed for it works as it is."""

import itertools
from dataclasses import dataclass
from urllib.parse import urlsplit

import pytest
from conftest import Database
from test_collect import as_reader

from exporter.config.read import parse_config, parse_database
from exporter.model.sections import Pipeline
from exporter.model.sql import parse_table_name
from exporter.setup.findings import FindingGroup, findings_text, has_errors
from exporter.setup.preflight import preflight
from exporter.setup.proposal import NoProposalError
from exporter.setup.survey import survey

_numbers = itertools.count(1)
GRANTED = "grant select on all tables in schema public to {role}"


@dataclass(frozen=True)
class Proposed:
    """A proposal that passed both checks: its one pipeline, its text, what was said, and what the checks found."""

    pipeline: Pipeline
    text: str
    said: str
    checked: tuple[FindingGroup, ...]


async def propose(database: Database, sessions: str | None = None, *records: str) -> Proposed:
    """Propose, then check file and database; none of it tells where the database is, or how to get in."""
    proposal = await survey(
        parse_database(database.dsn, "test"),
        parse_table_name(sessions) if sessions else None,
        [parse_table_name(record) for record in records],
        has_url=True,
    )
    parts = urlsplit(database.dsn)
    for secret in (parts.hostname, parts.password, parts.path[1:], str(parts.port)):
        assert not secret or secret not in proposal.text + "\n".join(proposal.said)
    assert parts.username == "postgres" or str(parts.username) not in proposal.text
    config = parse_config(proposal.text, {"DATABASE_URL": database.dsn})
    checked = await preflight(config)
    assert not has_errors(checked), proposal.text + findings_text(checked)
    [pipeline] = config.pipelines.values()
    return Proposed(pipeline, proposal.text, "\n".join(proposal.said), checked)


async def refusal(database: Database, sessions: str | None = None, *records: str) -> str:
    with pytest.raises(NoProposalError) as error:
        await propose(database, sessions, *records)
    return str(error.value)


INVOICED = "insert into invoices (order_id, issued_at) select id, paid_at from orders where paid_at is not null;"
ORDERS = f"""
create table customers (id serial primary key, name text, created_at timestamptz);
create table orders (
  id bigint primary key, customer_id int, state text,
  created_at timestamptz, updated_at timestamptz, paid_at timestamptz
);
create table invoices (id serial primary key, order_id bigint, issued_at timestamptz, total numeric);
create table settings (name text primary key, value text);
insert into orders (id, state, created_at, updated_at, paid_at)
select n, case when n % 4 = 0 then 'open' when n % 4 = 1 then 'shipped' else 'paid' end,
  now() - n * interval '1 hour', now(), case when n % 4 > 0 then now() - n * interval '1 hour' end
from generate_series(1, 40) n;
{INVOICED}
"""


async def test_the_sample_platform_is_proposed_as_its_tour_describes_it(healthy: Database) -> None:
    found = await propose(healthy)

    sessions, records = found.pipeline.sessions, found.pipeline.records
    assert sessions.table.written == "public.assessment_sessions"
    assert (sessions.key, sessions.status) == (("id",), "status")
    assert (sessions.started_at, sessions.completed_at) == ("created_at", "completed_at")
    assert sessions.eligible == "status = 'completed'"
    assert records.keys() == {"profiles", "fc_scores"}
    told = {
        name: (record.table.written, record.session_key[0].column, record.created_at, record.version.current)
        for name, record in records.items()
        if record.version
    }
    assert told == {
        "profiles": ("public.profiles", "session_id", "created_at", "v1.2.1"),
        "fc_scores": ("public.fc_scores", "session_id", "created_at", "v1.2"),
    }
    assert "unique: [session_id, version, fc_kind]" in found.text
    assert "A foreign key references the sessions" in found.text
    assert "No foreign key of this table, but a column named after the sessions" in found.text
    assert "in_progress (12)" in found.text
    assert "url: ${DATABASE_URL}" in found.text


async def test_orders_and_invoices_are_found_by_their_names_alone(empty: Database) -> None:
    await empty.execute(ORDERS)

    found = await propose(empty)

    assert found.pipeline.sessions.table.written == "public.orders"
    assert found.pipeline.sessions.eligible == "state in ('paid', 'shipped')"
    assert found.pipeline.sessions.completed_at == "paid_at"
    assert list(found.pipeline.records) == ["invoices"]
    assert found.pipeline.records["invoices"].created_at == "issued_at"
    assert "30 sessions analysed: 30 complete, 0 pending, 0 gap" in findings_text(found.checked)


async def test_a_record_without_a_version_is_told(empty: Database) -> None:
    await empty.execute(ORDERS)

    found = await propose(empty)

    assert "# No column is named version." in found.text
    assert "# version: {column: …, current: '…'}" in found.text
    assert "\n        unique: [order_id]" in found.text


async def test_a_new_row_of_the_current_version_is_no_duplicate(empty: Database) -> None:
    """A backfill may add a row beside an outdated row, as the docs advise."""
    await empty.execute(ORDERS + "alter table invoices add version int; update invoices set version = 2 - id % 2")

    found = await propose(empty)

    assert "# No column is named version." not in found.text
    assert "\n        unique: [order_id, version]" in found.text
    assert "Remove a version from accepted if sessions with only" in " ".join(found.text.split())


async def test_starts_before_year_1_are_no_newest_one(empty: Database) -> None:
    await empty.execute(ORDERS + "update orders set created_at = '0044-03-15 BC'")

    assert "window: {last: 90d}" in (await propose(empty, "orders", "invoices")).text


async def test_only_what_is_named_is_proposed(empty: Database) -> None:
    await empty.execute(ORDERS + "create table receipts (order_id bigint); create table parcels (order_id bigint)")

    found = await propose(empty, "orders", "receipts", "public.parcels")

    assert list(found.pipeline.records) == ["receipts", "parcels"]
    assert "invoices" not in found.text


async def test_names_with_capitals_and_spaces_are_written_as_they_must_be(empty: Database) -> None:
    await empty.execute(
        """
        create schema "My Schema";
        create table "My Schema"."Order Sessions" (
          "Id" uuid primary key, "Order Status" text, "Started At" timestamptz, "Completed At" timestamptz
        );
        create table "My Schema"."Bill Ings" (
          "Order Session Id" uuid references "My Schema"."Order Sessions",
          "Results Version" text, "createdAt" timestamptz
        );
        create table "My Schema"."true" ("sessionId" uuid, "select" int);
        insert into "My Schema"."Order Sessions" values (gen_random_uuid(), 'It''s done', now(), now());
        insert into "My Schema"."Bill Ings" select "Id", '1.10', now() from "My Schema"."Order Sessions";
        """
    )

    found = await propose(empty)

    assert found.pipeline.sessions.table.sql == '"My Schema"."Order Sessions"'
    assert found.pipeline.sessions.eligible == "\"Order Status\" = 'It''s done'"
    assert found.pipeline.records.keys() == {"bill_ings", "table_true"}
    record = found.pipeline.records["bill_ings"]
    assert record.version
    assert (record.version.column, record.version.current, record.created_at) == (
        "Results Version",
        "1.10",
        "createdAt",
    )


@pytest.mark.parametrize(
    ("key", "pointing", "cast"),
    [("uuid", "text", "uuid"), ("text", "uuid", "text"), ("bigint", "int", None), ("uuid", "uuid", None)],
)
async def test_keys_of_different_types_get_the_cast_that_helps(
    empty: Database, key: str, pointing: str, cast: str | None
) -> None:
    await empty.execute(
        f"create table orders (id {key} primary key, status text, created_at timestamptz, completed_at timestamptz);"
        f"create table invoices (order_id {pointing})"
    )

    found = await propose(empty)

    [part] = found.pipeline.records["invoices"].session_key
    assert (part.column, part.cast) == ("order_id", cast)


async def test_a_table_whose_key_nothing_makes_comparable_is_left_out_and_said(empty: Database) -> None:
    await empty.execute(ORDERS + "create table parcels (order_id uuid)")

    found = await propose(empty)

    assert "parcels" not in found.pipeline.records
    assert "Left out: public.parcels (keys not comparable: order_id is uuid, id of the sessions bigint)" in found.text
    await empty.execute("drop table invoices")
    assert "order_id is uuid" in await refusal(empty)


@pytest.mark.parametrize("link", ["", ", foreign key (number, shop) references orders (order_no, tenant)"])
async def test_a_key_of_several_columns_is_pointed_at_in_its_order(empty: Database, link: str) -> None:
    names = "number int, shop int" if link else "order_no int, tenant int"
    await empty.execute(
        f"""
        create table orders (
          tenant int, order_no int, status text, started_at timestamptz, finished_at timestamptz,
          primary key (tenant, order_no)
        );
        create table invoices ({names}{link})
        """
    )

    found = await propose(empty, "orders")

    assert {*found.pipeline.sessions.key} == {"tenant", "order_no"}
    pairs = dict(zip(found.pipeline.sessions.key, found.pipeline.records["invoices"].session_key, strict=True))
    told = {name: part.column for name, part in pairs.items()}
    expected = {"tenant": "shop", "order_no": "number"} if link else {"tenant": "tenant", "order_no": "order_no"}
    assert told == expected


async def test_a_foreign_key_to_another_unique_column_makes_that_the_key(empty: Database) -> None:
    await empty.execute(
        """
        create table orders (
          id int primary key, code text unique, status text, created_at timestamptz, paid_at timestamptz
        );
        create table invoices (order_code text references orders (code))
        """
    )

    found = await propose(empty)

    assert found.pipeline.sessions.key == ("code",)
    assert found.pipeline.records["invoices"].session_key[0].column == "order_code"


async def test_partitions_are_not_proposed_and_their_parents_id_is_the_key(empty: Database) -> None:
    await empty.execute(
        """
        create table orders (
          id int, status text, created_at timestamptz, paid_at timestamptz, primary key (id, created_at)
        ) partition by range (created_at);
        create table orders_2025 partition of orders for values from ('2025-01-01') to ('2030-01-01');
        create table invoices (order_id int)
        """
    )

    found = await propose(empty)

    assert found.pipeline.sessions.table.written == "public.orders"
    assert found.pipeline.sessions.key == ("id",)


async def test_views_are_proposed_where_they_are_what_may_be_read(empty: Database) -> None:
    await empty.execute(
        ORDERS
        + """
        create schema open;
        create view open.orders as select * from orders;
        create view open.invoices as select * from invoices;
        create view open.paid_invoices as select * from invoices
        """
    )
    reader = await as_reader(
        empty, "grant usage on schema open to {role}", "grant select on all tables in schema open to {role}"
    )

    found = await propose(reader)
    everything = await propose(empty)

    assert found.pipeline.sessions.table.written == "open.orders"
    assert {record.table.written for record in found.pipeline.records.values()} == {
        "open.invoices",
        "open.paid_invoices",
    }
    assert everything.pipeline.sessions.table.written == "public.orders"
    assert list(everything.pipeline.records) == ["invoices"]


@pytest.mark.parametrize("rows", [True, False])
async def test_the_statuses_of_an_enum_are_known_with_and_without_rows(empty: Database, rows: bool) -> None:
    await empty.execute(
        """
        create type progress as enum ('begun', 'Completed', 'cancelled');
        create table jobs (id int primary key, status progress, started_at timestamptz, ended_at timestamptz);
        create table results (job_id int references jobs)
        """
    )
    if rows:
        await empty.execute("insert into jobs values (1, 'Completed', now(), now()), (2, 'begun', now(), null)")

    found = await propose(empty)

    assert found.pipeline.sessions.eligible == "status = 'Completed'"
    assert ("Completed (1)" in found.text) is rows
    assert ("begun, Completed, cancelled" in found.text) is not rows


async def test_a_status_that_says_nothing_leaves_the_completion_to_decide(empty: Database) -> None:
    await empty.execute(ORDERS + "alter table orders alter state type int using length(state)")

    found = await propose(empty)

    assert found.pipeline.sessions.eligible == "paid_at is not null"
    assert "No status looks like the end of a session" in found.text


async def test_a_table_without_status_or_completion_is_proposed_when_named_with_what_to_check(empty: Database) -> None:
    await empty.execute(
        "create table uploads (id int primary key, file text, at date); create table thumbnails (upload_id int)"
    )

    found = await propose(empty, "uploads")

    assert (found.pipeline.sessions.status, found.pipeline.sessions.completed_at) == (None, None)
    assert "No column looks like a status" in found.text
    assert "No column looks like the time of completion" in found.text


async def test_old_sessions_get_a_window_that_has_them(empty: Database) -> None:
    await empty.execute(ORDERS + "update orders set created_at = timestamptz '2024-12-30 12:00+00', state = 'paid'")

    found = await propose(empty)

    assert found.pipeline.window.since
    assert found.pipeline.window.since.date().isoformat() == "2024-10-01"
    assert "40 sessions analysed" in findings_text(found.checked)


async def test_times_in_the_future_and_at_no_end_do_not_move_the_window(empty: Database) -> None:
    await empty.execute(
        ORDERS + "update orders set created_at = 'infinity' where id = 4; "
        "update orders set created_at = '2999-01-01' where id = 2"
    )

    found = await propose(empty)
    await empty.execute("update orders set created_at = '-infinity'")
    undated = await propose(empty)

    assert found.pipeline.window.last
    assert found.pipeline.sessions.eligible == "state in ('paid', 'shipped')"
    assert undated.pipeline.window.last


async def test_the_current_version_is_the_most_frequent_of_late(empty: Database) -> None:
    await empty.execute(
        ORDERS
        + """
        alter table invoices add template_version text;
        insert into invoices (order_id, issued_at, template_version)
        select 1, now() - interval '300 days', 'v1' from generate_series(1, 50);
        insert into invoices (order_id, issued_at, template_version)
        select n, now(), case when n < 4 then 'v3' when n < 10 then 'v9' when n < 12 then '' end
        from generate_series(1, 20) n;
        """
    )

    found = await propose(empty)

    version = found.pipeline.records["invoices"].version
    assert version
    assert (version.column, version.current) == ("template_version", "v9")
    assert "Versions of the last 90 days: v9 (6), v3 (3)." in found.text


async def test_a_version_that_no_row_has_yet_is_left_to_a_comment(empty: Database) -> None:
    await empty.execute(ORDERS + "alter table invoices add version text")

    found = await propose(empty)

    assert found.pipeline.records["invoices"].version is None
    assert "# version: {column: version, current: '…'}" in found.text


async def test_several_rows_of_a_session_leave_unique_to_the_operator(empty: Database) -> None:
    await empty.execute(ORDERS)
    once = await propose(empty)
    await empty.execute(INVOICED)
    twice = await propose(empty)

    assert "\n        unique: [order_id]" in once.text
    assert "\n        # unique: [order_id]" in twice.text


@pytest.mark.parametrize(
    "value", ["${HOME} $1 done", "done: 'a' # \"b\"", "done\n\x07\u2028é日本🙂", "x" * 300 + " done"]
)
async def test_hostile_values_are_read_back_as_they_are(empty: Database, value: str) -> None:
    await empty.execute(ORDERS + "alter table invoices add version text")
    await empty.execute("update orders set state = $1", value)
    await empty.execute("insert into invoices (order_id, issued_at, version) select id, now(), $1 from orders", value)

    found = await propose(empty)

    version = found.pipeline.records["invoices"].version
    assert version
    assert version.current == value
    assert "40 sessions analysed: 40 complete" in findings_text(found.checked)


async def test_other_tables_that_look_like_sessions_are_said(empty: Database) -> None:
    await empty.execute(
        ORDERS
        + """
        create table upload_sessions (
          id int primary key, status text, started_at timestamptz, completed_at timestamptz
        );
        create table thumbnails (upload_session_id int);
        insert into upload_sessions values (1, 'new', now() - interval '2 days', null)
        """
    )

    found = await propose(empty)

    # Rows speak for the orders; of the other table only the names speak.
    assert found.pipeline.sessions.table.written == "public.orders"
    assert (
        "chosen as the table of sessions: public.orders; also possible: public.upload_sessions (choose with --sessions)"
        in found.said
    )
    assert "(choose with --sessions): public.upload_sessions" in found.text


# --- Where nothing can be proposed


async def test_a_database_without_tables_is_told_with_what_to_check(empty: Database) -> None:
    assert "the database has no tables: check the database in the url" in await refusal(empty)


async def test_a_database_without_sessions_is_told_with_the_flags_that_help(empty: Database) -> None:
    await empty.execute("create table settings (name text primary key, value text, created_at timestamptz)")

    said = await refusal(empty)

    assert "no table of 1 looks like the table of sessions" in said
    assert "--sessions and --record" in said


async def test_a_table_that_nothing_points_at_is_told(empty: Database) -> None:
    await empty.execute(ORDERS)

    await empty.execute("alter table settings add changed_at timestamptz")

    assert "no table references public.settings" in await refusal(empty, "settings")
    assert "not all of public.settings reference public.orders" in await refusal(empty, "orders", "settings")
    assert "not all of public.invoices and public.settings reference" in await refusal(
        empty, "orders", "invoices", "settings"
    )


async def test_records_that_lead_to_no_sessions_are_named_and_no_other_table_is_blamed(empty: Database) -> None:
    await empty.execute(ORDERS)

    said = await refusal(empty, None, "invoices", "settings")

    assert said.startswith("public.invoices and public.settings: no foreign key and no column named after a table")
    assert "(looked at public.orders" in said
    assert "with --sessions" in said


@pytest.mark.parametrize(
    ("sessions", "message"),
    [
        ("ordres", '"ordres" does not exist; did you mean orders?'),
        ("elsewhere.orders", '"elsewhere"."orders" does not exist: write public.orders'),
        ("customers_id_seq", "customers_id_seq is a sequence, and the exporter does not measure it"),
        ("nokey", "public.nokey has no primary key"),
        ("notime", "public.notime has no column with a time"),
    ],
)
async def test_a_named_table_that_cannot_be_sessions_is_told(empty: Database, sessions: str, message: str) -> None:
    await empty.execute(
        ORDERS + "create table nokey (a int, at timestamptz); create table notime (id int primary key);"
        "create table pointing (notime_id int)"
    )

    assert message in await refusal(empty, sessions)


async def test_a_role_without_privileges_is_told_the_grants_that_it_needs(empty: Database) -> None:
    await empty.execute(ORDERS)
    reader = await as_reader(empty)
    role = urlsplit(reader.dsn).username

    said = await refusal(reader)

    head, *grants = said.splitlines()
    assert head == "public.orders looks like the table of sessions, but the role may not read it:"
    assert grants == [f'GRANT SELECT ON "public"."{table}" TO "{role}";' for table in ("orders", "invoices")]
    assert await refusal(reader, "orders") == f"the role may not read public.orders:\n{grants[0]}"
    await empty.execute("".join(grants))
    assert list((await propose(reader)).pipeline.records) == ["invoices"]


async def test_if_no_record_may_be_read_the_grants_are_told(empty: Database) -> None:
    await empty.execute(ORDERS)
    reader = await as_reader(empty, "grant select on orders to {role}")

    for named in ((), ("orders",)):
        assert (await refusal(reader, *named)).splitlines()[1:] == [
            "left out: public.invoices (the role may not read it):",
            f'GRANT SELECT ON "public"."invoices" TO "{urlsplit(reader.dsn).username}";',
        ]


async def test_a_record_that_may_not_be_read_is_left_out_and_its_grant_said(empty: Database) -> None:
    await empty.execute(ORDERS + "create table receipts (order_id bigint)")
    reader = await as_reader(empty, "grant select on orders, invoices to {role}")

    found = await propose(reader)

    assert list(found.pipeline.records) == ["invoices"]
    assert "Left out: public.receipts (the role may not read it)" in found.text
    assert f'GRANT SELECT ON "public"."receipts" TO "{urlsplit(reader.dsn).username}";' in found.said


async def test_row_security_keeps_the_values_but_not_the_names(empty: Database) -> None:
    await empty.execute(ORDERS + "alter table orders enable row level security")
    reader = await as_reader(empty, GRANTED)

    proposal = await survey(parse_database(reader.dsn, "test"), None, [], has_url=True)

    assert "table: public.orders" in proposal.text
    assert "eligible: paid_at is not null" in proposal.text
    assert "The sessions could not be read" in proposal.text
    assert "BYPASSRLS" in "\n".join(proposal.said)


async def test_without_a_url_the_environment_goes_on_to_decide(empty: Database) -> None:
    await empty.execute(ORDERS)

    proposal = await survey(parse_database(empty.dsn, "test"), None, [], has_url=False)

    assert parse_config(proposal.text, {}).databases["main"].url is None
