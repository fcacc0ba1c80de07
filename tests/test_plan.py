"""The plan: its SQL counts the right rows whatever tables and columns are called, and only that SQL runs."""

import re
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from conftest import TOUR, Beginning, Database, Numbers, care, plan_of

from exporter.config.read import ConfigError
from exporter.embedded import EmbeddedPostgres
from exporter.measure.collect import collect
from exporter.model.counting import Cells, Facet, Fact, RecordMeasure, Total, rows_where
from exporter.model.dimension import Dimension
from exporter.model.fault import CollectionError
from exporter.model.metric import Metric
from exporter.model.sql import Ago, Moment
from exporter.plan.plan import Plan
from exporter.plan.statement import Statement

NOWHERE = "postgresql://nobody@127.0.0.1:1/nothing"

CONFIG = care(scores="version: {column: version, current: v3} KEYS")

VISITS = """
create table visits (
  id int primary key, status text, started_at timestamptz, completed_at timestamptz, done boolean
);
create table scores (visit_id int, version text, owner text);
insert into visits values
  (1, 'done', '2025-05-01', '2025-05-01', true),
  (2, 'done', '2025-05-01', '2025-05-01', true),
  (3, 'open', '2025-05-01', null, false),
  (4, 'done', '2024-05-01', '2024-05-01', true);
insert into scores values (1, 'v3', 'b'), (1, 'v2', 'b'), (4, 'v3', 'b'), (99, 'v3', 'b'), (null, 'v3', 'b');
"""
"""One eligible visit has current scores, one has none; one row of scores is an orphan, one unlinked."""


def config(keys: str = "", eligible: str = "done") -> str:
    return CONFIG.replace(" KEYS", f", {keys}" if keys else "").replace("eligible: done", f"eligible: {eligible}")


BEGINNING = Beginning(VISITS)


async def assert_right(database: Database, text: str) -> None:
    numbers = await database.measure(text)
    assert numbers.snapshot.record_faults == {}
    assert numbers.positive("sessions") == {("done",): 2, ("open",): 1}
    assert numbers.positive("eligible_sessions") == {("complete",): 1, ("gap",): 1}
    assert numbers.positive("record_sessions") == {("scores", "current"): 1, ("scores", "missing"): 1}
    assert numbers.positive("record_version_sessions") == {
        ("scores", "v3", "current"): 1,
        ("scores", "v2", "other"): 1,
    }
    assert numbers("orphaned_records", "scores") == 1
    assert numbers("unlinked_records", "scores") == 1


# --- Names


OUR_NAMES = sorted(
    {
        name
        for statement in plan_of(TOUR.read_text(), NOWHERE).statements()
        for name in re.findall(r"\b(?:from|join|as|with|,|\))\s+\"?([a-z_0-9]+)\"?", statement.sql)
    }
    - {
        "select",
        "case",
        "case_",
        "not",
        "not_",
        "exists",
        "null",
        "group",
        "order",
        "unnest",
        "to_regclass",
        "l",
        "min",
    }
)
"""Every alias, part and column that our statements name, with some words of SQL."""


@pytest.mark.parametrize("kind", ["scores", "visits"])
async def test_no_name_of_ours_hides_a_table_of_the_platform(visits: Database, kind: str) -> None:
    assert {"judged", "cells", "placed", "packed", "s", "r_1", "key_1", "class", "folded"} <= set(OUR_NAMES)
    for name in OUR_NAMES:
        await visits.execute(f'alter table {kind} rename to "{name}"')

        await assert_right(visits, CONFIG.replace(" KEYS", "").replace(f"table: {kind}", f"table: '\"{name}\"'"))

        await visits.execute(f'alter table "{name}" rename to {kind}')


async def test_no_name_of_ours_hides_a_table_in_a_sub_query(visits: Database) -> None:
    for name in ("cells", "judged", "placed", "weighed", "packed", "joined", "coded", "s", "rows"):
        await visits.execute(f"create table {name} as select 1 as visit union select 2")
        known = f"select 1 from {name} where visit"

        await assert_right(
            visits, config(f'valid: "exists ({known} <> visit_id)", required_when: "exists ({known} = visits.id)"')
        )

        await visits.execute(f"drop table {name}")


async def test_columns_may_have_the_names_of_ours(visits: Database) -> None:
    names = [name for name in OUR_NAMES if name not in {"id", "status", "version", "visit_id", "done", "owner"}]
    for table in ("visits", "scores"):
        kept = "started_at" if table == "visits" else "version"
        others = ", ".join(f"add \"{name}\" text default '{name}'" for name in names if name != kept)
        await visits.execute(f"alter table {table} {others}")

    await assert_right(
        visits,
        config(
            "valid: rows = 'rows' and class = 'class', where: key_1 = 'key_1', required_when: started = 'started'",
            "done and eligible = 'eligible' and analysed = 'analysed'",
        ),
    )


async def test_schemas_tables_and_columns_may_have_any_name(empty: Database) -> None:
    await empty.execute(
        """
        create schema "My Schema";
        create table "My Schema"."select" (
          "order" bigint, "Group" text, "sel""ect" timestamptz, "end;--" timestamptz, "user" boolean, "a b" uuid,
          primary key ("order", "a b")
        );
        create table "My Schema"."Sco""res; --" ("from" bigint, "täble" uuid, "$1" text);
        insert into "My Schema"."select"
        select n, 'done', '2025-05-01', '2025-05-01', true, md5(n::text)::uuid from generate_series(1, 3) n;
        insert into "My Schema"."Sco""res; --" select "order", "a b", 'v3' from "My Schema"."select" where "order" < 3;
        """
    )

    numbers = await empty.measure(
        """
database: {url: "${DATABASE_URL}"}
pipelines:
  care:
    window: {since: 2025-01-01}
    sessions:
      table: '"My Schema"."select"'
      key: [order, a b]
      status: Group
      started_at: sel"ect
      completed_at: end;--
      eligible: '"user"'
    records:
      scores:
        table: '"My Schema"."Sco""res; --"'
        session_key: [from, täble]
        version: {column: $$1, current: v3}
"""
    )

    assert numbers.positive("record_sessions") == {("scores", "current"): 2, ("scores", "missing"): 1}
    assert numbers.positive("sessions") == {("done",): 3}
    assert numbers("orphaned_records", "scores") == 0


async def test_a_table_without_a_schema_is_found_by_the_search_path(visits: Database) -> None:
    await visits.execute(
        "create schema platform; alter table visits set schema platform; alter table scores set schema platform"
    )
    await visits.set("search_path", "platform")

    await assert_right(visits, config())


async def test_one_table_may_hold_sessions_and_two_records(empty: Database) -> None:
    await empty.execute(
        """
        create table visits (
          id int primary key, status text, started_at timestamptz, completed_at timestamptz, done boolean, kind text
        );
        insert into visits values
          (1, 'done', '2025-05-01', null, true, 'a'), (2, 'done', '2025-05-01', null, true, 'b'),
          (3, 'done', '2025-05-01', null, true, null);
        """
    )
    text = config().partition("      scores:")[0] + (
        "      a: {table: visits, session_key: id, where: kind = 'a'}\n"
        "      b: {table: visits, session_key: id, where: kind = 'b'}\n"
    )

    numbers = await empty.measure(text)

    assert numbers.positive("record_sessions") == {
        ("a", "current"): 1,
        ("a", "missing"): 2,
        ("b", "current"): 1,
        ("b", "missing"): 2,
    }
    assert numbers.positive("eligible_sessions") == {("gap",): 3}


# --- Expressions


@pytest.mark.parametrize(
    ("keys", "eligible"),
    [
        ("", "done -- and nothing else"),
        ("", "/* all */ done"),
        ("", '"done or false"'),
        ("where: version is not null or owner = 'b' -- all", "done"),
        ("valid: true or false", "done"),
        ("required_when: status = 'done' or done", "done"),
        ("required_when: exists (select 1 from visits v where v.id = visits.id)", "done"),
        ("required_when: id in (select id from visits where done)", "done"),
        ("valid: (select count(*) from visits where id = visit_id) <= 1", "done"),
        ("valid: case when owner = 'b' then true end", "done"),
        ("valid: owner in ('b') and version between 'v' and 'w'", "done"),
        ("", '"status = $$text$$done$$text$$ and done"'),
        ("", '"done\\n"'),
    ],
)
async def test_an_expression_is_taken_as_it_is_written(visits: Database, keys: str, eligible: str) -> None:
    keys = re.sub(r": (.*)", lambda match: f': "{match[1]}"', keys)
    text = config(keys, eligible if eligible.startswith('"') else f'"{eligible}"')

    await assert_right(visits, text)


NOT_ONE_CONDITION = [
    "true) or (true",
    "false) is not null or (true",
    "true, true",
    "true as x",
    "true from visits",
    "true; select true",
    "true; drop table visits",
    "true)",
    "(true",
    "true /*",
    "'",
    '"',
    "",
    "count(*) > 0",
    "unnest(array[true, true])",
    "generate_series(1, 2) > 0",
    "1",
    "'x'",
    "status = $9",
    "true order by 1",
    "true union select true",
]


@pytest.mark.parametrize("key", ["eligible", "a session", "required_when", "valid", "where"])
async def test_what_is_not_one_condition_is_never_measured(visits: Database, key: str) -> None:
    for expression in NOT_ONE_CONDITION:
        if key == "where" and "or (" in expression:
            continue  # as the whole of a WHERE clause this means what it says and reaches nothing else
        quoted = "'" + expression.replace("'", "''").replace("$", "$$") + "'"
        of_sessions = {"eligible": quoted, "a session": f"done, where: {quoted}"}
        text = config(eligible=of_sessions[key]) if key in of_sessions else config(f"{key}: {quoted}")

        assert await fault_of(visits, text) in ("config", "invalid_sql", "type", "missing_object"), expression

    assert await visits.connection.fetchval("select count(*) from visits") == 4


async def fault_of(database: Database, text: str) -> str | None:
    try:
        faults = (await database.measure(text)).snapshot.record_faults
    except ConfigError:
        return "config"
    except CollectionError as error:
        return error.fault.reason
    return faults["scores"].reason if faults else None


# --- The statements


def texts(plan: Plan) -> list[tuple[str, Sequence[object]]]:
    return [(statement.sql, statement.bound) for statement in plan.statements()]


def test_the_same_config_gives_the_same_statements() -> None:
    text = TOUR.read_text()

    assert texts(plan_of(text, NOWHERE)) == texts(plan_of(text, NOWHERE))


def test_the_address_is_in_no_statement() -> None:
    plan = plan_of(TOUR.read_text(), "postgresql://secret_user:secret_word@secret_host:7777/secret_base")

    assert "secret" not in repr(texts(plan))


def test_values_are_bound_and_never_written_into_a_statement() -> None:
    text = config('grace: 47m, accepted_values: {owner: ["o\'wner"]}').replace(
        "current: v3", 'current: "v\'3", accepted: ["v\'2"]'
    )
    text = text.replace("2025-01-01", "2025-04-03")

    statements = [*plan_of(text, NOWHERE).statements()]

    # The columns of a grace period have its length in their names.
    sql = "\n".join(re.sub('"(early|due):[^"]+"', "", statement.sql) for statement in statements)
    bound = [value for statement in statements for value in statement.bound]
    for written in ("v'3", "v''3", "v'2", "v''2", "o'wner", "o''wner", "47", "2025", "04-03"):
        assert written not in sql
    for value in (
        "v'3",
        "v'2",
        "o'wner",
        Ago(timedelta(minutes=47)),
        datetime(2025, 4, 3, tzinfo=UTC),
        Moment.CLOCK,
    ):
        assert value in bound


def test_every_placeholder_has_a_value_and_every_value_a_placeholder() -> None:
    for statement in plan_of(TOUR.read_text(), NOWHERE).statements():
        placeholders = {int(number) for number in re.findall(r"\$(\d+)", statement.sql)}
        assert placeholders == set(range(1, len(statement.bound) + 1)), statement.title


async def test_a_quote_in_a_value_is_only_a_quote(visits: Database) -> None:
    await visits.execute("update scores set version = $$v'3\\$$ where version = 'v3'")

    numbers = await visits.measure(config().replace("current: v3", 'current: "v\'3\\\\"'))

    assert numbers.positive("record_sessions") == {("scores", "current"): 1, ("scores", "missing"): 1}
    assert numbers("records", "scores", "v'3\\", "current") == 4


async def test_what_the_plan_says_is_exactly_what_runs(visits: Database, server: EmbeddedPostgres) -> None:
    await visits.set("log_statement", "'all'")
    await visits.execute("update scores set version = 'v3'")  # the plan does not know other versions before
    plan = visits.plan(config().replace("table: ", "table: public."))

    await collect(plan)

    log = server.log_file.read_text()
    first = log.rindex("LOG:  execute", 0, log.rindex("pg_catalog.current_schemas"))
    log = log[first:].replace("\n\t", "\n")
    ran = re.findall(r"(?:statement|execute [^:\n]+): (.*?)(?=\n\d{4}-\d\d-\d\d |\Z)", log, flags=re.DOTALL)
    helpers = ("savepoint attempt", "release savepoint attempt")
    planned = "\n".join(statement.sql for statement in plan.statements())
    # The settings that only some servers know are sent together with those that begin the transaction.
    assert re.sub(";\n(?=set local)", "\n", "\n".join(sql.strip() for sql in ran if sql.strip() not in helpers)) == (
        re.sub(";\n(?=set local)", "\n", planned)
    )


async def test_a_number_of_records_has_its_own_statements(visits: Database) -> None:
    plan = visits.plan(config())

    alone, none = plan.sessions(("scores",)), plan.sessions(())

    assert plan.sessions(tuple(plan.pipeline.records)).sql == alone.sql
    assert "scores" in alone.sql
    assert "scores" not in none.sql


def test_folded_cells_are_read_as_such() -> None:
    statement = Statement("t", "", columns=("status", "dated", "sessions"), folding=frozenset({"status"}))

    cells = statement.read([("done", True, 3, False), (None, True, 2, False), (None, False, 9, True)])

    assert [str(value) for value in cells.values("status")] == ["done", "None", "Folded.OTHER"]
    assert cells.total("sessions") == 14
    assert cells.where(dated=True).total("sessions") == 5


KINDS = Metric("kinds", "Rows by owner.", ("record", "owner"), open_label="owner")
BY_OWNER = Dimension(
    name="ownership",
    question="Whose are the rows?",
    measures=(RecordMeasure(KINDS, lambda _record, _sessions, rows: rows.facet("owner").totals("rows", "value")),),
    facets=lambda _record: (Facet("owner", "owner::text"),),
    row_facts=lambda _record: (Fact("is_short", lambda _bind: "length(owner) < 2"),),
    row_totals=lambda _record: (Total("short", rows_where("is_short")),),
)


async def test_another_dimension_changes_no_number_of_those_before(visits: Database) -> None:
    await visits.execute("insert into scores values (1, 'v3', 'a'), (1, 'v3', 'c')")
    before = await visits.measure(config())
    plan = visits.plan(config())
    more = replace(plan, dimensions=(*plan.dimensions, BY_OWNER))

    after = Numbers(await collect(more))

    assert {
        k: n for k, n in after.snapshot.readings.numbers.items() if k[0] != KINDS.name
    } == before.snapshot.readings.numbers
    assert after.family("kinds") == {("scores", "a"): 1, ("scores", "b"): 5, ("scores", "c"): 1}
    assert before("record_version_sessions", "scores", "v3", "current") == 1


async def test_a_dimension_may_count_some_records_only(visits: Database) -> None:
    await visits.execute("create table notes (visit_id int); insert into notes values (1), (2)")
    text = config() + "      notes: {table: notes, session_key: visit_id}\n"
    plan = visits.plan(text)
    scores_only = replace(
        BY_OWNER,
        facets=lambda record: (Facet("owner", "owner"),) if record.name == "scores" else (),
        row_facts=lambda _record: (),
        row_totals=lambda _record: (),
        measures=(
            RecordMeasure(
                KINDS,
                lambda record, _s, rows: rows.facet("owner").totals("rows", "value") if record.name == "scores" else {},
            ),
        ),
    )

    numbers = Numbers(await collect(replace(plan, dimensions=(*plan.dimensions, scores_only))))

    assert numbers.snapshot.record_faults == {}
    assert numbers.family("kinds") == {("scores", "b"): 5}
    assert numbers("records", "notes", "<none>", "current") == 2


def test_a_total_that_is_no_count_is_never_read_as_zero() -> None:
    cells = Cells(("rows",), ((None,),))

    with pytest.raises(TypeError, match="not a count"):
        cells.total("rows")
    with pytest.raises(TypeError, match="not a count"):
        cells.totals("rows")
