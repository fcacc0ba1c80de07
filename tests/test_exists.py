"""A record without a table: `exists`, a condition that each session must meet."""

import pytest
from conftest import Beginning, Database, of_orders, whole_tour
from sweeping import Life, Sweeping, assert_same, in_small_slices
from test_collect import as_reader
from test_sessions_where import worklist

from exporter.config.contradictions import WITH_ROWS
from exporter.config.read import ConfigError, parse_config
from exporter.config.whole import CONFIG, MODELS
from exporter.mend.gaps import count_gaps
from exporter.mend.verify import verify
from exporter.model.fault import CollectionError
from exporter.setup.preflight import preflight

BEGINNING = Beginning(
    """
    create table orders (
      id int primary key, status text default 'closed', at timestamptz default '2025-05-31 11:00+00',
      score_id int, total numeric default 5, "Needs It" boolean default true
    );
    create table payments (order_id int, amount numeric);
    create table invoices (order_id int);
    insert into orders (id, score_id, total) values (1, 7, 5), (2, 8, 7), (3, null, null);
    insert into payments values (1, 3), (1, 2), (2, 4), (null, 1);
    insert into invoices values (1), (2), (3), (9);
    """,
    clock="2025-06-01 12:00:00+00",
)
PAID = "exists (select 1 from public.payments p where p.order_id = session.id)"


def config(sql: str = PAID, more: str = "", lines: tuple[str, ...] = (), **records: str) -> str:
    """One record without a table, `paid`; `more` are further keys of it."""
    text = of_orders(*lines, **records)
    quoted = sql.replace("'", "''")
    return text.replace("    records:\n", f"    records:\n      paid: {{exists: '{quoted}'{more and ', '}{more}}}\n")


async def states(database: Database, text: str) -> dict[str, float]:
    numbers = await database.measure(text)
    assert not numbers.snapshot.record_faults
    return {labels[1]: n for labels, n in numbers.positive("record_sessions").items() if labels[0] == "paid"}


@pytest.mark.parametrize(
    ("sql", "having"),
    [
        (PAID, 2),
        ("not exists (select 1 from public.payments p where p.order_id = session.id)", 1),
        ("exists (select 1 from public.scores s where s.id = session.score_id)", 1),
        ("exists (select 1 from payments p where p.order_id = orders.id) or id in (select order_id from invoices)", 3),
        ("(select sum(amount) from public.payments p where p.order_id = session.id) = session.total", 1),
        ("score_id > 7", 1),
        ("true", 3),
        ("null::boolean", 0),
    ],
)
async def test_a_session_has_the_record_where_the_sql_is_true(visits: Database, sql: str, having: int) -> None:
    await visits.execute("create table scores (id int); insert into scores values (7), (9)")

    found = await states(visits, config(sql))

    assert found == {state: n for state, n in {"current": having, "missing": 3 - having}.items() if n}


async def test_it_stands_beside_records_with_tables(visits: Database) -> None:
    await visits.execute("delete from invoices where order_id = 1")

    numbers = await visits.measure(config(invoices=""))

    assert numbers.positive("eligible_sessions") == {("complete",): 1, ("gap",): 2}
    assert numbers.positive("gap_sessions") == {("paid", "missing"): 1, ("invoices", "missing"): 1}
    assert numbers("orphaned_records", "invoices") == 1
    assert numbers("gap_oldest_timestamp_seconds", "paid") == 1748689200.0


async def test_it_has_no_number_of_rows(visits: Database) -> None:
    text = config(invoices="").replace('"true"', '"true", deleted: "false"')

    numbers = await visits.measure(text)

    of_rows = {series[0] for series in numbers.snapshot.readings.numbers if "invoices" in series}
    of_condition = {series[0] for series in numbers.snapshot.readings.numbers if "paid" in series}
    assert of_condition == {"record_sessions", "gap_sessions", "gap_oldest_timestamp_seconds"}
    assert of_rows - of_condition == {
        *("records", "record_version_sessions", "invalid_records", "orphaned_records", "unlinked_records"),
        *("detached_records", "foreign_key_enforced"),
    }


async def test_the_report_tells_who_has_it_and_nothing_of_rows(visits: Database) -> None:
    text = config(more="required_when: id > 1", lines=("cohort: {window: 30d, maturity: 1h}",))
    snapshot = (await visits.measure(text)).snapshot
    lines = [line for d in visits.plan(text).dimensions for line in d.lines(snapshot.readings) if line.record == "paid"]

    assert {line.text: line.value for line in lines} == {
        "Sessions without paid": 1,
        "Sessions with paid": 1,
        "Sessions that do not need paid": 1,
    }


async def test_limits_on_rows_judge_only_records_with_tables(visits: Database) -> None:
    limits = "limits: {orphaned_records: {warning: 0}, unlinked_records: {warning: 0}, sessions_with_gap: {warning: 0}}"

    snapshot = (await visits.measure(config(lines=(limits,), invoices=""))).snapshot

    judged = {(finding.limit.name, finding.subject): finding.outcome for finding in snapshot.judgement.findings}
    assert judged == {
        ("sessions_with_gap", None): "warning",
        ("orphaned_records", "invoices"): "warning",
        ("unlinked_records", "invoices"): "within",
    }


async def test_grace_and_required_when_are_those_of_any_record(visits: Database) -> None:
    await visits.execute(
        "update orders set \"Needs It\" = null where id = 1; update orders set at = '2025-06-01 11:50Z'"
    )

    found = await states(visits, config(more="grace: 15m, required_when: '\"Needs It\"'"))

    assert found == {"not_required": 1, "current": 1, "pending": 1}


async def test_a_session_with_a_null_in_its_key_may_meet_the_condition(visits: Database) -> None:
    await visits.execute("alter table orders drop constraint orders_pkey, alter id drop not null, add unique (id)")
    await visits.execute("insert into orders (id, score_id) values (null, 9)")

    assert await states(visits, config("score_id > 7")) == {"current": 2, "missing": 2}


async def test_conversion_counts_what_meets_the_condition(visits: Database) -> None:
    numbers = await visits.measure(config(lines=("cohort: {window: 30d, maturity: 1h}",), invoices=""))

    assert numbers.family("cohort_sessions") == {("started",): 3, ("completed",): 3, ("covered",): 2}
    assert numbers.family("processing_delay_sessions") == {}


async def test_the_sql_is_computed_for_sessions_of_the_window_alone(visits: Database) -> None:
    await visits.execute("insert into orders (id, at) values (4, '2024-01-01'), (5, now())")
    text = config("1 / (5 - id) + 1 / (4 - id) < 9").replace('"true"', '"true", where: "id <> 5"')

    assert await states(visits, text) == {"current": 3}
    assert (await count_gaps(visits.plan(text))).count == 0


# --- Lists


async def test_gaps_are_listed_and_verified(visits: Database) -> None:
    text = config(invoices="")
    made = await worklist(visits, text)
    listed = [(one.session, dict(one.reasons)) for one in made.sessions()]
    await visits.execute("insert into payments values (3, 1)")

    fates = (await verify(visits.plan(text), made)).records["paid"]

    assert listed == [(("3",), {"paid": "missing"})]
    assert {fate: number for fate, number in fates.items() if number} == {"fixed": 1}
    assert (await count_gaps(visits.plan(text))).count == 0


# --- Faults


@pytest.mark.parametrize(
    ("sql", "reason", "said"),
    [
        ("no_such_column = 1", "missing_object", "no_such_column"),
        ("exists (select 1 from public.nowhere)", "missing_object", "nowhere"),
        ("count(*) > 0", "invalid_sql", "aggregate functions are not allowed"),
        ("random() < 2", "invalid_sql", "volatile"),
        ("total", "type", "boolean"),
        ("1 / (id - 2) > 0", "type", "check casts and expressions"),
    ],
)
async def test_a_fault_costs_this_record_alone(visits: Database, sql: str, reason: str, said: str) -> None:
    numbers = await visits.measure(config(sql, invoices=""))

    [(name, fault)] = numbers.snapshot.record_faults.items()
    assert (name, fault.reason) == ("paid", reason)
    assert fault.message.startswith("pipelines.shop.records.paid")
    assert said in fault.message
    assert numbers("record_sessions", "invoices", "current") == 3
    assert numbers("eligible_sessions", "gap") is None


async def test_the_check_of_the_config_names_the_key_and_is_quiet_about_the_rest(visits: Database) -> None:
    good = [f for group in await preflight(visits.config(config(invoices=""))) for f in group.findings]
    bad = [f for group in await preflight(visits.config(config("no_such_column"))) for f in group.findings]

    assert [finding for finding in good if finding.severity == "error"] == []
    assert [(f.path, f.message) for f in good if f.path == "pipelines.shop.records.paid"] == [
        ("pipelines.shop.records.paid", "sessions by state: 2 current, 1 missing")
    ]
    assert [finding.path for finding in bad if finding.severity == "error"] == ["pipelines.shop.records.paid.exists"]


async def test_a_role_without_rights_on_the_table_of_the_sub_query_loses_the_record(visits: Database) -> None:
    reader = await as_reader(visits, "grant select on orders, invoices to {role}")

    snapshot = (await reader.measure(config(invoices=""))).snapshot

    assert {name: fault.reason for name, fault in snapshot.record_faults.items()} == {"paid": "permission"}


# --- The config


def refusal(text: str) -> list[tuple[str, str]]:
    with pytest.raises(ConfigError) as error:
        parse_config(text, {"DATABASE_URL": "postgresql://nowhere"})
    return [(problem.path.removeprefix("pipelines.shop.records."), problem.message) for problem in error.value.problems]


@pytest.mark.parametrize("key", ["table: payments", "session_key: order_id"])
def test_a_record_has_a_table_or_a_condition(key: str) -> None:
    [(path, message)] = refusal(config(more=key))

    assert path == f"paid.{key.split(':', maxsplit=1)[0]}"
    assert message == "excludes exists: keep either table and session_key, or exists"


@pytest.mark.parametrize(
    "key",
    [
        "created_at: at",
        "timezone: UTC",
        "version: {column: v, current: v1}",
        "accepted_values: {kind: [a]}",
        "valid: total > 0",
        "where: total > 0",
        "satisfied_by: any_version",
        "unique: [id]",
    ],
)
def test_a_condition_has_no_key_about_rows(key: str) -> None:
    [(path, message)] = refusal(config(more=key))

    assert path == f"paid.{key.split(':', maxsplit=1)[0]}"
    assert "is about rows of a table" in message


def test_every_key_is_about_rows_or_about_sessions() -> None:
    [record] = [model for model in MODELS if model.__name__ == "Record"]

    assert record.model_fields.keys() == WITH_ROWS | {
        *("name", "table", "session_key", "exists", "required_when", "grace")
    }
    assert CONFIG in MODELS


def test_without_both_the_table_is_required() -> None:
    text = config().replace("exists: ", "required_when: ")

    assert [path for path, _ in refusal(text)] == ["paid.table", "paid.session_key"]


def test_a_limit_on_rows_needs_a_table() -> None:
    [(_, message)] = refusal(config(lines=("limits: {orphaned_records: {warning: 0}}",)))

    assert message.startswith("would judge nothing: add records.NAME.table")


def test_a_fault_of_the_sessions_is_told_once() -> None:
    problems = refusal(config().replace("table: public.orders", "table: 5"))

    assert [path for path, _ in problems] == ["pipelines.shop.sessions.table"]


# --- Slices


@pytest.fixture
async def platform(empty: Database, monkeypatch: pytest.MonkeyPatch) -> Database:
    return await in_small_slices(empty, monkeypatch)


def tour(*, alone: bool) -> str:
    """The tour with a record without a table, or with nothing else."""
    text = whole_tour(deleted="deleted_at is not null", statement_timeout="20s")
    condition = (
        "exists (select 1 from public.profiles p where p.session_id = session.id and p.results_version > 'v1.2')"
    )
    record = (
        f"    records:\n      scored:\n        exists: {condition}\n        required_when: completed_questions > 0\n"
    )
    if not alone:
        return text.replace("    records:\n", record)
    before, rest = text.split("    records:\n")
    return before + record + "    cohort:" + rest.split("    cohort:")[1].split("    limits:")[0]


@pytest.mark.parametrize("alone", [True, False])
async def test_slices_count_what_a_full_pass_counts(platform: Database, alone: bool) -> None:
    life, sweeping = Life(platform, 6), Sweeping(platform, tour(alone=alone))
    for _ in range(80):
        await life.act()
    await assert_same(sweeping.plan, await sweeping.whole())
    for _ in range(60):
        await life.act()
    # Chance alone may leave one of the two states out.
    await platform.execute(
        """
        with made as (
          insert into assessment_sessions (id, status, created_at, completed_at, finalized_at, completed_questions)
          select gen_random_uuid(), 'completed', '2026-11-01', '2026-11-01', '2026-11-01', 240
          from generate_series(1, 2) returning id
        )
        insert into profiles select id, 'v1.3', now() from made limit 1
        """
    )

    swept = await sweeping.whole()

    await assert_same(sweeping.plan, swept)
    assert swept.readings.numbers["record_sessions", "scored", "current"] > 0
    assert swept.readings.numbers["record_sessions", "scored", "missing"] > 0


async def test_a_session_that_meets_the_condition_is_no_gap_in_the_next_round(platform: Database) -> None:
    sweeping = Sweeping(platform, tour(alone=True))
    session = await platform.connection.fetchval(
        "insert into assessment_sessions (id, status, created_at, completed_at, finalized_at, completed_questions) "
        "values (gen_random_uuid(), 'completed', '2026-11-01', '2026-11-01', '2026-11-01', 240) returning id"
    )
    before = await sweeping.whole()
    await platform.execute("insert into profiles values ($1, 'v1.3', now())", session)

    after = await sweeping.round()

    assert before.readings.numbers["eligible_sessions", "gap"] == 1
    assert after.readings.numbers["eligible_sessions", "gap"] == 0


async def test_without_an_index_that_proves_the_key_there_are_no_slices(platform: Database) -> None:
    await platform.execute(
        "alter table assessment_sessions drop constraint assessment_sessions_pkey cascade; "
        "create index on assessment_sessions (id)"
    )

    with pytest.raises(CollectionError, match="create unique index concurrently"):
        await Sweeping(platform, tour(alone=True)).round()
