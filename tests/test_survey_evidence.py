"""`init` on tables whose names mislead: the rows decide."""

import re

import pytest
import yaml
from conftest import Database
from test_survey import propose

ORDERS = """
create table orders (id int primary key, status text, created_at timestamptz, kind text, total int, tenant_id int);
insert into orders
select n, case when n % 10 = 0 then 'open' else 'done' end, now() - n * interval '1 hour', 'k' || n % 2, n % 3, null
from generate_series(2, 600) n;
create table invoices (id int primary key, order_id int references orders, created_at timestamptz);
insert into invoices
select id, id, created_at + interval '10 s' from orders where status = 'done' and id not in (55, 56, 57);
"""
OF_ORDERS = ("public.orders", ["invoices"])


async def chosen(database: Database, *more: str) -> tuple[str, list[str]]:
    """The proposed table of sessions, and the tables of the records."""
    await database.execute(ORDERS + "".join(more) + "; analyze")
    found = (await propose(database)).pipeline
    return found.sessions.table.written, sorted(record.table.name for record in found.stored.values())


# --- Which table


async def test_empty_tables_that_look_like_sessions_take_no_place(empty: Database) -> None:
    tables = "".join(
        f"create table coupon_{n} (id int primary key, status text, terminated_at timestamptz, created_at timestamptz);"
        f"create table target_{n} (coupon_{n}_id int references coupon_{n});"
        for n in range(12)
    )

    assert await chosen(empty, tables) == OF_ORDERS


async def test_a_table_of_settings_with_many_sessions_for_each_row_is_no_table_of_sessions(empty: Database) -> None:
    survey = """
    create table surveys (id int primary key, created_at timestamptz, status text);
    create table responses (id int primary key, created_at timestamptz, finished boolean, survey_id int
      references surveys);
    create table scores (id int primary key, created_at timestamptz, response_id int references responses);
    insert into surveys select n, now() - n * interval '2 days', 'completed' from generate_series(1, 20) n;
    insert into responses
    select n, now() - n * interval '30 min', n % 4 > 0, n % 20 + 1 from generate_series(1, 2000) n;
    insert into scores
    select id, created_at + interval '9 s', id from responses where finished and id not in (5, 6, 7);
    analyze
    """
    await empty.execute(survey)

    found = (await propose(empty)).pipeline

    assert (found.sessions.table.written, found.sessions.eligible) == ("public.responses", "finished")
    assert [record.table.name for record in found.stored.values()] == ["scores"]


async def test_settings_that_are_all_that_can_be_proposed_are_said(empty: Database) -> None:
    await empty.execute(
        """
        create table forms (id int primary key, status text, created_at timestamptz);
        create table answers (id int primary key, form_id int references forms, created_at timestamptz);
        insert into forms select n, 'done', now() - n * interval '2 days' from generate_series(1, 20) n;
        insert into answers select n, n % 20 + 1, now() - n * interval '1 min' from generate_series(1, 900) n;
        analyze
        """
    )

    found = await propose(empty)

    assert found.pipeline.sessions.table.written == "public.forms"
    assert "a row of public.forms has about 45 rows of public.answers" in found.said
    assert "write --sessions public.answers" in found.said


async def test_where_every_status_has_rows_every_session_is_eligible(empty: Database) -> None:
    """A subscription has its items from the beginning, and not only when it ends."""
    await empty.execute(
        """
        create table subscriptions (id int primary key, status int, started_at timestamptz, terminated_at timestamptz);
        create table items (subscription_id int references subscriptions, created_at timestamptz);
        insert into subscriptions
        select n, 1 + (n % 4 = 0)::int, now() - n * interval '1 hour', case when n % 4 = 0 then now() end
        from generate_series(2, 400) n;
        insert into items select id, started_at from subscriptions where id not in (51, 52)
        """
    )

    assert (await propose(empty)).pipeline.sessions.eligible == "true"


async def test_a_completion_that_few_rows_have_does_not_make_a_table_of_sessions(empty: Database) -> None:
    fees = """
    create table fees (id int primary key, invoice_status text, order_id int references orders, created_at timestamptz,
      succeeded_at timestamptz);
    insert into fees select id, 'x', id, created_at, case when id % 40 = 0 then created_at end from orders
    where status = 'done';
    create table fee_taxes (fee_id int references fees, created_at timestamptz);
    insert into fee_taxes select id, created_at from fees
    """

    table, records = await chosen(empty, fees)

    assert (table, records) == ("public.orders", ["fees", "invoices"])


async def test_a_table_without_a_record_for_most_sessions_is_refused(empty: Database) -> None:
    await empty.execute(ORDERS + "delete from invoices where id % 30 > 0; analyze")

    with pytest.raises(Exception, match="no table has a row for most sessions"):
        await propose(empty)


async def test_a_record_that_has_been_missing_for_longer_than_the_window_is_proposed(empty: Database) -> None:
    await empty.execute(
        ORDERS + "delete from invoices;"
        "insert into orders select n, 'done', now() - (n - 800) * interval '1 day' from generate_series(1000, 1300) n;"
        "insert into invoices select id, id, created_at from orders where id >= 1000; analyze"
    )

    found = (await propose(empty)).pipeline

    assert [record.table.name for record in found.stored.values()] == ["invoices"]


async def test_a_column_of_a_foreign_key_refers_to_its_table_alone(empty: Database) -> None:
    """order_id of the parcels is an order of another shop."""
    others = """
    create table shop_orders (id int primary key, created_at date);
    insert into shop_orders select id from orders;
    create table parcels (order_id int references shop_orders, at date);
    insert into parcels select id from orders
    """

    assert await chosen(empty, others) == OF_ORDERS


# --- Which columns


async def test_a_column_without_values_has_no_role(empty: Database) -> None:
    await empty.execute(ORDERS + "alter table orders add trial_ended_at timestamptz, add closed_at timestamptz")
    await empty.execute("update orders set closed_at = created_at where status = 'done'")

    found = (await propose(empty)).pipeline

    assert found.sessions.completed_at == "closed_at"


async def test_a_number_that_counts_from_1970_is_proposed_as_a_time(empty: Database) -> None:
    await empty.execute(
        """
        create table checkouts (id text primary key, status text, created bigint, updated_at timestamptz);
        create table line_items (id text primary key, checkout text, created numeric, updated_at timestamptz);
        insert into checkouts
        select 'c' || n, case when n % 3 = 0 then 'expired' else 'complete' end,
          extract(epoch from now() - n * interval '1 hour'), now() from generate_series(2, 300) n;
        insert into line_items select 'i' || id, id, (created + 7) * 1000, now() from checkouts
        where status = 'complete' and id not in ('c55', 'c56', 'c58')
        """
    )

    found = await propose(empty)
    sessions, [record] = found.pipeline.sessions, found.pipeline.stored.values()
    numbers = await empty.measure(found.text.replace("${DATABASE_URL}", empty.dsn))

    assert (sessions.started_at, dict(sessions.computed)) == ("created_time", {"created_time": "to_timestamp(created)"})
    assert dict(record.computed) == {"created_time": "to_timestamp(created / 1000.0)"}
    assert record.created_at == "created_time"
    assert numbers("gap_sessions", record.name, "missing") == 3
    assert "half within 7s" in found.text


async def test_a_setting_is_no_flag_of_a_done_session(empty: Database) -> None:
    await empty.execute(
        """
        create table subscriptions (id int primary key, status text, cancel_at_period_end boolean,
          created_at timestamptz);
        create table bills (subscription_id int references subscriptions);
        insert into subscriptions
        select n, 'active', n % 20 = 0, now() - n * interval '1 hour' from generate_series(2, 400) n;
        insert into bills select id from subscriptions where id <> 7
        """
    )

    assert (await propose(empty)).pipeline.sessions.eligible == "true"


async def test_the_state_of_an_address_is_no_status(empty: Database) -> None:
    await empty.execute(ORDERS + "delete from orders where status = 'open'; alter table orders rename status to state")
    await empty.execute("alter table orders add city text default 'Rome'")

    assert (await propose(empty)).pipeline.sessions.status is None


async def test_a_message_is_no_status_and_a_start_is_no_completion(empty: Database) -> None:
    await empty.execute(
        """
        create table traces (id int primary key, at timestamptz);
        create table observations (id int primary key, trace_id int references traces, start_time timestamptz,
          end_time timestamptz, completion_start_time timestamptz, status_message text);
        create table scores (id int primary key, trace_id int references traces, observation_id int, at timestamptz);
        insert into traces select n, now() - n * interval '1 hour' from generate_series(2, 900) n;
        insert into observations select id, id, at, at + interval '5 s', at, 'm' || id from traces where id % 300 > 0;
        insert into scores select id, id, null, at + interval '1 min' from traces where id % 5 = 0;
        analyze
        """
    )

    found = (await propose(empty)).pipeline

    assert found.sessions.table.written == "public.traces"
    assert [record.table.name for record in found.stored.values()] == ["observations"]


async def test_created_at_is_before_created(empty: Database) -> None:
    await empty.execute(ORDERS + "alter table invoices add created timestamptz")

    [record] = (await propose(empty)).pipeline.stored.values()

    assert record.created_at == "created_at"


async def test_the_only_time_of_a_record_is_the_time_of_the_write(empty: Database) -> None:
    await empty.execute(ORDERS + "alter table invoices rename created_at to dttm")

    [record] = (await propose(empty)).pipeline.stored.values()

    assert record.created_at == "dttm"


# --- Which records


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ("3", "536 of 536 sessions with a row have 3 rows. If every session needs as many, write: rows: 3"),
        ("1 + (id > 40)::int", "501 of 536 sessions with a row have 2 rows."),
        ("1 + id % 3", "Some sessions have several rows."),
        ("1", None),
    ],
)
async def test_as_many_rows_as_nearly_every_session_has_may_be_needed(
    empty: Database, rows: str, said: str | None
) -> None:
    scores = (
        "create table scores (id serial primary key, order_id int references orders, created_at timestamptz);"
        "insert into scores (order_id, created_at) select id, created_at + interval '9 s' from orders, "
        f"lateral generate_series(1, {rows}) n where status = 'done' and id not in (55, 56, 57)"
    )
    await empty.execute(ORDERS + scores + "; analyze")

    text = " ".join((await propose(empty)).text.replace("#", "").split())

    if said is None:
        assert "If every session" not in text
    else:
        assert said in text


async def test_a_version_of_before_a_migration_makes_no_flood_of_gaps(empty: Database) -> None:
    """The newest version is the current one, however many rows the old one has."""
    migrated = (
        "alter table invoices add version text; "
        "update invoices set version = case when created_at < now() - interval '10 days' then 'old' else 'new' end; "
        "update invoices set created_at = created_at - interval '40 days' where version = 'old'; "
        "update orders set created_at = created_at - interval '40 days' where created_at < now() - interval '10 days'"
    )
    await empty.execute(ORDERS + migrated + "; analyze")

    found = await propose(empty)
    numbers = await empty.measure(found.text.replace("${DATABASE_URL}", empty.dsn))

    version = found.pipeline.records["invoices"].version
    assert version is not None
    assert (version.current, version.accepted) == ("new", ("old",))
    assert numbers("gap_sessions", "invoices", "outdated") == 0


async def test_of_a_part_of_the_rows_nothing_is_claimed_about_their_number(
    empty: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other rows of the same sessions may lie elsewhere in a large table."""
    for module in ("evidence", "proposed_yaml"):
        monkeypatch.setattr(f"exporter.setup.{module}.ROW_LIMIT", 300)
    scores = (
        "create table scores (id serial primary key, order_id int references orders, created_at timestamptz);"
        "insert into scores (order_id, created_at) select id, created_at + interval '9 s' from orders, "
        "generate_series(1, 3) n where status = 'done' order by id"
    )
    await empty.execute(ORDERS + scores + "; analyze")

    text = (await propose(empty)).text

    assert "sessions with a row have" not in text
    assert "Some sessions have several rows." in text


BOOKINGS = """
create type booking_state as enum ('draft', 'held', 'confirmed', 'expired');
create table bookings (id bigint primary key, ref text unique, state booking_state, opened_at timestamptz,
  confirmed_at timestamptz, product text);
create table tickets (id int primary key, booking_id bigint references bookings, issued_at timestamptz);
create table receipts (id int primary key, booking_ref text, issued timestamptz);
create table audit_log (id int primary key, booking_id bigint, what text, at timestamptz);
insert into bookings
select n, 'BK-' || n, (array['confirmed', 'confirmed', 'confirmed', 'expired', 'draft']::booking_state[])[n % 5 + 1],
  now() - n * interval '1 hour', case when n % 5 < 3 then now() - n * interval '1 hour' + interval '5 min' end,
  case when n % 10 = 0 then 'voucher' else 'seat' end
from generate_series(2, 1500) n;
insert into tickets select id, id, confirmed_at + interval '20 s' from bookings
where confirmed_at is not null and product = 'seat';
insert into receipts select id, ref, confirmed_at + interval '2 min' from bookings
where confirmed_at is not null and id not in (31, 41);
insert into audit_log select id, id, 'opened', opened_at from bookings;
"""
"""A log has a row for every session; the receipts refer to another key; some sessions need no ticket."""


async def test_a_log_hides_no_record_and_a_table_by_another_key_is_told_with_its_keys(
    empty: Database,
) -> None:
    await empty.execute(BOOKINGS + "analyze")

    found = await propose(empty)
    text = " ".join(found.text.replace("#", "").split())

    assert found.pipeline.sessions.eligible == "state = 'confirmed'"
    assert found.pipeline.sessions.completed_at == "confirmed_at"
    assert {*found.pipeline.records} == {"tickets", "audit_log"}
    assert "CHECK: nearly all of the rows come before completion." in text
    computed = "{of_session: (select s.id from public.bookings s where record.booking_ref = s.ref)}"
    assert "public.receipts (by another key, ref: " in text
    assert f"as a record write session_key: of_session and computed: {computed})" in text

    receipts = f"    records:\n      receipts: {{table: receipts, session_key: of_session, computed: {computed}}}\n"
    numbers = await empty.measure(found.text.replace("${DATABASE_URL}", empty.dsn).replace("    records:\n", receipts))
    assert numbers("gap_sessions", "receipts", "missing") == 2


async def test_the_newest_version_is_current_also_where_the_sample_of_all_rows_lacks_it(
    empty: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    migrated = (
        "alter table invoices add version text; update invoices set version = 'old' where id > 200;"
        "create table sorted as select * from invoices order by version nulls last, id; truncate invoices;"
        "insert into invoices (id, order_id, created_at, version) "
        "select id, order_id, created_at - interval '40 days' * (version is not null)::int, coalesce(version, 'new') "
        "from sorted; drop table sorted; update orders set created_at = created_at - interval '40 days' where id > 200;"
    )
    await empty.execute(ORDERS + migrated + "; analyze")
    monkeypatch.setattr("exporter.setup.evidence.ROW_LIMIT", 100)

    version = (await propose(empty)).pipeline.records["invoices"].version

    assert version is not None
    assert (version.current, version.accepted) == ("new", ("old",))


@pytest.mark.parametrize("name", ["ref, 'b'", "ref: $x", "{ref}"])
async def test_a_table_by_another_key_is_told_in_yaml_whatever_its_columns_are(empty: Database, name: str) -> None:
    await empty.execute(BOOKINGS + "analyze")
    await empty.execute(f'alter table receipts rename booking_ref to "booking {name}"')
    await empty.execute(f'alter table bookings rename ref to "{name}"')

    text = " ".join((await propose(empty)).text.replace("#", "").split())

    [computed] = re.findall(r'by another key.*? computed: (\{of_session: "?\(select .*?\)"?\})\)', text)
    assert f'record."booking {name}" = s."{name}"' in yaml.safe_load(computed.replace("$$", "$"))["of_session"]


async def test_where_no_status_tells_the_end_init_says_so(empty: Database) -> None:
    await empty.execute(ORDERS.replace("'done'", "'b'").replace("'open'", "'a'") + "analyze")
    known = await propose(empty)
    await empty.execute("insert into invoices select id + 1000, id, created_at from orders where status = 'a'; analyze")
    unknown = await propose(empty)

    assert "tells whether a session is done" not in known.said
    assert "no status of public.orders tells whether a session is done" in unknown.said


async def test_other_versions_in_use_are_accepted_until_the_owner_says_otherwise(empty: Database) -> None:
    await empty.execute(ORDERS + "alter table invoices add version text; update invoices set version = 'v' || id / 400")

    [record] = (await propose(empty)).pipeline.stored.values()

    assert record.version
    assert {record.version.current, *record.version.accepted} == {"v0", "v1"}


async def test_statuses_that_may_last_too_long_are_told(empty: Database) -> None:
    await empty.execute(ORDERS + "update orders set status = 'failed' where id = 10")

    text = (await propose(empty)).text

    assert "# stuck: {statuses: [open], after: 1d}" in text


@pytest.mark.parametrize(
    ("needs", "sql"),
    [
        ("kind = 'k1'", "kind = 'k1'"),
        ("order_kind = 2", "order_kind = 2"),
        ("total > 0", "total > 0"),
        ("is_big", "is_big"),
        ("is_true = 'true'", "is_true = 'true'"),
    ],
)
async def test_a_record_of_some_sessions_is_required_by_the_column_that_tells_them(
    empty: Database, needs: str, sql: str
) -> None:
    await empty.execute(
        ORDERS
        + "alter table orders add is_big boolean, add is_true text, add order_kind int;"
        + "update orders set order_kind = id / 3 % 4;"
        + "update orders set is_big = id % 5 > 0, is_true = case when id % 7 > 1 then 'true' else 'false' end;"
        + "create table order_parcels (order_id int references orders);"
        # Columns with many values stand beside the one that tells.
        + "".join(f"alter table orders add number_{n} int; update orders set number_{n} = id * {n};" for n in range(12))
        + f"insert into order_parcels select id from orders where {needs} and id not in (51, 52, 53); analyze"
    )

    found = (await propose(empty)).pipeline.records["order_parcels"]

    assert found.required_when == sql


@pytest.mark.parametrize("column", ["parcel_number is not null", "parcel_kind", "paid_total", "state_of_it"])
async def test_what_may_follow_from_a_record_is_no_condition_for_it(empty: Database, column: str) -> None:
    """Else a session without the record would need none: the gap would be hidden."""
    name, _, _ = column.partition(" ")
    await empty.execute(
        ORDERS + "create table parcels (order_id int references orders);"
        "insert into parcels select id from orders where id % 10 between 1 and 8;"
        f"alter table orders add {name} int; update orders set {name} = (id % 10 between 1 and 8)::int"
    )

    found = (await propose(empty)).pipeline.records

    assert "parcels" not in found or found["parcels"].required_when is None


async def test_an_outage_is_no_condition(empty: Database) -> None:
    """The plan changes with the outage: old orders have parcels, new orders of either plan have none."""
    await empty.execute(
        ORDERS + "create table parcels (order_id int references orders); alter table orders add plan text;"
        "update orders set plan = case when id > 150 then 'old' else 'new' end;"
        "insert into parcels select id from orders where id > 150"
    )

    found = (await propose(empty)).pipeline.records

    assert "parcels" not in found or found["parcels"].required_when is None


async def test_a_record_that_comes_later_has_its_own_grace(empty: Database) -> None:
    await empty.execute(
        ORDERS + "create table payouts (order_id int references orders, created_at timestamptz);"
        "insert into payouts select id, created_at + interval '2 days' from orders where id > 60"
    )

    found = (await propose(empty)).pipeline

    assert found.grace.total_seconds() == found.records["invoices"].grace.total_seconds() == 300
    assert found.records["payouts"].grace.days == 2


async def test_the_session_points_at_its_record_by_a_column_with_the_name_of_the_table(empty: Database) -> None:
    await empty.execute(
        ORDERS + "create table receipts (id text primary key, sent_on date);"
        "insert into receipts select 'r' || id from orders where status = 'done' and id <> 77;"
        "alter table orders add receipt text; update orders set receipt = 'r' || id where status = 'done'"
    )

    found = (await propose(empty)).pipeline

    assert found.records["receipts"].exists == "exists (select 1 from public.receipts r where r.id = session.receipt)"


async def test_keys_that_do_not_compare_are_no_record_and_no_remark(empty: Database) -> None:
    texts = "create table notes (order_id text, at date); insert into notes select 'manual-' || id from orders"

    await empty.execute(ORDERS + texts)
    found = await propose(empty)

    assert [record.table.name for record in found.pipeline.stored.values()] == ["invoices"]
    assert "InvalidTextRepresentation" not in found.said
    assert "public.notes (the server cannot compare the keys)" in " ".join(found.text.replace("#", "").split())


async def test_a_composite_key_takes_the_column_with_the_same_name(empty: Database) -> None:
    await empty.execute(
        """
        create table dag_run (id serial primary key, dag_id text, run_id text, state text, start_date timestamptz,
          end_date timestamptz, unique (dag_id, run_id));
        create table task_instance (dag_id text, run_id text, task_id text, primary key (dag_id, run_id, task_id),
          foreign key (dag_id, run_id) references dag_run (dag_id, run_id));
        create table xcom (dag_run_id int, dag_id text, run_id text, key text);
        insert into dag_run (dag_id, run_id, state, start_date, end_date)
        select 'd', 'manual__' || n, 'success', now() - n * interval '1 hour', now() - n * interval '59 min'
        from generate_series(2, 300) n;
        insert into task_instance select dag_id, run_id, 't' from dag_run where id > 3;
        insert into xcom select id, dag_id, run_id, 'k' from dag_run where id > 3
        """
    )

    found = (await propose(empty)).pipeline

    assert found.sessions.key == ("dag_id", "run_id")
    assert sorted(found.stored) == ["task_instance", "xcom"]
    assert [part.column for part in found.records["xcom"].session_key] == ["dag_id", "run_id"]


async def test_rows_that_are_no_good_records_are_told(empty: Database) -> None:
    await empty.execute(
        ORDERS + "alter table invoices add status text default 'sent'; "
        "update invoices set status = 'failed' where id < 9"
    )

    text = " ".join((await propose(empty)).text.replace("#", "").split())

    assert "Statuses of the rows: sent (5" in text
    assert "), failed (" in text
    assert "valid: status in ('sent')" in text


async def test_rows_before_the_completion_are_told(empty: Database) -> None:
    await empty.execute(ORDERS + "update invoices set created_at = created_at - interval '1 day'")

    assert "CHECK: nearly all of the rows come before the start" in " ".join(
        (await propose(empty)).text.replace("#", "").split()
    )


# --- Names that mislead


async def test_a_number_that_each_table_makes_itself_refers_to_no_other_table(empty: Database) -> None:
    """Every table counts its own rows in `record_id`; the link is `invoice_id`, a text."""
    await empty.execute(
        """
        create table invoices (record_id serial primary key, id varchar(36) unique not null, status text,
          created_date timestamp);
        create table items (record_id serial primary key, id varchar(36) unique not null, invoice_id varchar(36),
          created_date timestamp);
        create table tags (record_id serial primary key, id varchar(36) unique not null, created_date timestamp);
        insert into invoices (id, status, created_date)
        select 'i' || n, case when n % 9 = 0 then 'DRAFT' else 'PAID' end, now() - n * interval '1 hour'
        from generate_series(1, 600) n;
        insert into items (id, invoice_id, created_date)
        select 'x' || id, id, created_date from invoices where status = 'PAID' and id not in ('i50', 'i51') order by id;
        insert into tags (id, created_date) select 't' || n, now() from generate_series(1, 700) n;
        analyze
        """
    )

    found = (await propose(empty)).pipeline

    assert (found.sessions.table.written, found.sessions.key) == ("public.invoices", ("id",))
    assert {record.table.name: record.session_key[0].column for record in found.stored.values()} == {
        "items": "invoice_id"
    }


async def test_the_last_words_of_a_column_name_the_table_if_no_column_names_all(empty: Database) -> None:
    await empty.execute(
        """
        create table good_jobs (id uuid primary key default gen_random_uuid(), created_at timestamp,
          finished_at timestamp);
        create table executions (id uuid primary key default gen_random_uuid(), active_job_id uuid,
          created_at timestamp);
        insert into good_jobs (created_at, finished_at)
        select now() - n * interval '1 hour', case when n % 10 > 0 then now() - n * interval '50 min' end
        from generate_series(1, 600) n;
        insert into executions (active_job_id, created_at)
        select id, finished_at from good_jobs where finished_at is not null order by id offset 3;
        analyze
        """
    )

    found = (await propose(empty)).pipeline

    assert found.sessions.table.written == "public.good_jobs"
    assert [record.session_key[0].column for record in found.stored.values()] == ["active_job_id"]


async def test_a_dead_foreign_key_hides_no_living_pair_of_type_and_id(empty: Database) -> None:
    await empty.execute(
        ORDERS
        + """
        create table payments (id int primary key, order_id int references orders, payable_type text, payable_id int,
          created_at timestamptz);
        insert into payments
        select id, null, 'Order', id, created_at + interval '1 min' from orders where status = 'done' and id <> 58;
        analyze
        """
    )

    found = (await propose(empty)).pipeline

    assert {name: record.session_key[0].column for name, record in found.stored.items()} == {
        "invoices": "order_id",
        "payments": "payable_id",
    }


async def test_of_two_foreign_keys_to_the_sessions_the_one_with_rows_counts(empty: Database) -> None:
    await empty.execute(
        ORDERS
        + """
        create table moves (id int primary key, made_for int references orders, used_by int references orders,
          created_at timestamptz);
        insert into moves select id, case when id % 3 = 0 then id end, id, created_at from orders where status = 'done';
        analyze
        """
    )

    found = (await propose(empty)).pipeline

    assert found.records["moves"].session_key[0].column == "used_by"


async def test_records_that_come_at_the_start_are_needed_before_the_completion(empty: Database) -> None:
    await empty.execute(
        """
        create table rentals (id int primary key, rented_at timestamptz, returned_at timestamptz);
        create table payments (id int primary key, rental_id int references rentals, created_at timestamptz);
        insert into rentals
        select n, now() - n * interval '1 hour', case when n > 100 then now() - n * interval '50 min' end
        from generate_series(2, 600) n;
        insert into payments select id, id, rented_at + interval '2 s' from rentals where id not in (5, 6, 300);
        analyze
        """
    )

    found = await propose(empty)

    assert found.pipeline.sessions.eligible == "true"
    assert (found.pipeline.sessions.completed_at, found.pipeline.sessions.due_at) == ("returned_at", "rented_at")
    assert "Delay after the start: half within 2s" in " ".join(found.text.replace("#", "").split())
    numbers = await empty.measure(found.text)
    assert numbers.positive("eligible_sessions")["gap",] == 3


async def test_a_time_in_the_future_is_a_plan_and_no_completion(empty: Database) -> None:
    """Every row has a shipping date, as planned; of late no parcel was made, so that rows tell no status apart."""
    await empty.execute(
        """
        create table orders (id int primary key, status int, created_at timestamptz, ship_date timestamptz);
        create table parcels (id int primary key, order_id int references orders, created_at timestamptz);
        insert into orders
        select n, case when n < 100 then 1 else 5 end, now() - n * interval '1 hour',
          now() + (100 - n) * interval '30 min' - interval '1 min'
        from generate_series(2, 600) n;
        insert into parcels select id, id, ship_date from orders where status = 5 and id > 250;
        analyze
        """
    )

    found = (await propose(empty)).pipeline

    assert found.sessions.eligible == "status = 5"


async def test_the_record_that_tells_which_sessions_are_eligible_proves_nothing(empty: Database) -> None:
    """A display is `responded` if it has a response; of a finished response a document is made."""
    await empty.execute(
        """
        create table displays (id int primary key, status text, created_at timestamptz);
        create table responses (id int primary key, display_id int references displays, finished boolean,
          created_at timestamptz);
        create table documents (id int primary key, response_id int references responses, created_at timestamptz);
        insert into displays
        select n, case when n % 2 = 0 then 'responded' else 'seen' end, now() - n * interval '20 min'
        from generate_series(1, 1200) n;
        insert into responses
        select id, id, id % 6 <> 0, created_at + interval '1 min' from displays where status = 'responded';
        insert into documents
        select id, id, created_at + interval '5 s' from responses where finished and id not in (200, 202);
        analyze
        """
    )

    found = await propose(empty)

    assert found.pipeline.sessions.table.written == "public.responses"
    assert [record.table.name for record in found.pipeline.stored.values()] == ["documents"]


async def test_nearly_every_session_with_a_row_still_gets_the_condition_that_tells_the_others(empty: Database) -> None:
    await empty.execute(
        ORDERS
        + """
        update orders set kind = case when id % 23 = 7 then 'sample' else 'sale' end;
        create table webhooks (id int primary key, order_id int references orders, created_at timestamptz);
        insert into webhooks select id, id, created_at from orders where status = 'done' and kind = 'sale' and id <> 9;
        analyze
        """
    )

    found = (await propose(empty)).pipeline

    assert found.records["webhooks"].required_when == "kind = 'sale'"


async def test_few_rows_are_no_sessions_beside_a_table_with_many(empty: Database) -> None:
    await empty.execute(
        """
        create table employees (id int primary key, hire_date timestamptz);
        create table customers (id int primary key, support_rep_id int references employees, created_at timestamptz);
        create table invoices (id int primary key, invoice_date timestamptz, billing_state text, billing_city text);
        create table lines (id int primary key, invoice_id int references invoices);
        insert into employees select n, now() - n * interval '2 days' from generate_series(1, 8) n;
        insert into customers select n, n % 8 + 1, now() from generate_series(1, 50) n;
        insert into invoices
        select n, now() - n * interval '1 hour', (array['CA', 'NY'])[n % 2 + 1], 'x' from generate_series(1, 600) n;
        insert into lines select n, n from generate_series(1, 600) n where n not in (7, 8);
        analyze
        """
    )

    found = (await propose(empty)).pipeline

    # The state is one of an address.
    assert (found.sessions.table.written, found.sessions.status) == ("public.invoices", None)


@pytest.mark.parametrize(
    "summaries",
    [
        "session_id uuid primary key default gen_random_uuid()",
        "id bigserial primary key, session_id uuid not null default gen_random_uuid()",
        "id bigserial primary key, session_id uuid not null",
    ],
)
async def test_a_column_that_names_the_sessions_refers_to_them_whatever_its_default(
    empty: Database, summaries: str
) -> None:
    await empty.execute(
        f"""
        create table sessions (id uuid primary key default gen_random_uuid(), status text, created_at timestamptz,
          completed_at timestamptz);
        create table summaries ({summaries}, created_at timestamptz);
        insert into sessions (status, created_at, completed_at)
        select case when n % 9 = 0 then 'open' else 'completed' end, now() - n * interval '1 hour',
          case when n % 9 > 0 then now() - n * interval '55 min' end from generate_series(2, 300) n;
        insert into summaries (session_id, created_at)
        select id, completed_at from sessions where status = 'completed' order by id offset 3;
        analyze
        """
    )

    found = (await propose(empty)).pipeline

    assert found.sessions.table.written == "public.sessions"
    assert [record.session_key[0].column for record in found.stored.values()] == ["session_id"]


async def test_the_orders_of_a_small_shop_are_more_than_the_employees(empty: Database) -> None:
    await empty.execute(
        """
        create table employees (id serial primary key, status text, created_at timestamptz);
        create table orders (id serial primary key, status text, created_at timestamptz, completed_at timestamptz,
          employee_id int references employees);
        create table invoices (id serial primary key, order_id int references orders, created_at timestamptz);
        insert into employees (status, created_at) select 'active', now() - n * interval '1 day'
        from generate_series(1, 60) n;
        insert into orders (status, created_at, completed_at, employee_id)
        select 'completed', now() - n * interval '1 day', now() - n * interval '23 hours', n
        from generate_series(2, 46) n;
        insert into invoices (order_id, created_at) select id, completed_at from orders where id <> 9;
        analyze
        """
    )

    found = (await propose(empty)).pipeline

    assert found.sessions.table.written == "public.orders"
