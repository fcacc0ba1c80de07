"""Schemas as public products have them: init finds sessions, keys, times and records unaided, and the numbers are true.

Each file in `schemas/` is a small model of its own of a kind of product.
"""

import re
import time
from dataclasses import dataclass
from pathlib import Path

import pytest
from conftest import Database
from test_collect import as_reader
from waiting import at_most

from exporter.config.read import parse_config, parse_database
from exporter.dimensions import DIMENSIONS
from exporter.dimensions.coverage import ELIGIBLE
from exporter.measure.collect import collect
from exporter.model.sections import Pipeline
from exporter.model.sql import parse_table_name
from exporter.plan.plan import compile_plan
from exporter.setup.findings import findings_text, has_errors
from exporter.setup.preflight import preflight
from exporter.setup.survey import survey

SCHEMAS = Path(__file__).with_name("schemas")


@dataclass(frozen=True)
class Right:
    """What is right for a schema: the sessions with key and times, each record with its key, and the gaps by SQL."""

    sessions: str
    key: tuple[str, ...]
    times: tuple[str, str | None]
    eligible: str
    records: dict[str, tuple[str, ...]]
    gaps: str


RIGHT = {
    "billing": Right(
        "public.invoices",
        ("id",),
        ("created_at", "finalized_at"),
        "status = 1",
        {"fees": ("invoice_id",), "payments": ("payable_id",)},
        """select count(*) from invoices i where status = 1 and finalized_at < now() - interval '15 minutes' and (
          not exists (select from fees f where f.invoice_id = i.id)
          or not exists (select from payments p where p.payable_id = i.id and payable_type = 'Invoice'))""",
    ),
    "evaluations": Right(
        "public.job_executions",
        ("id",),
        ("start_time", "end_time"),
        "status = 'COMPLETED'",
        {"scores": ()},
        """select count(*) from job_executions j where status = 'COMPLETED' and end_time < now() - interval '5 minutes'
        and not exists (select from scores s where s.id = j.job_output_score_id)""",
    ),
    "manufacturer": Right(
        "production.workorder",
        ("workorderid",),
        ("startdate", "enddate"),
        # Orders without an end have routings, too.
        "true",
        {"workorderrouting": ("workorderid",)},
        """select count(*) from production.workorder w where startdate >= '2014-03-02'
        and not exists (select from production.workorderrouting r where r.workorderid = w.workorderid)""",
    ),
    "rental": Right(
        "public.rental",
        ("rental_id",),
        ("rental_date", "return_date"),
        # Rentals are paid at the start.
        "true",
        {"payment": ("rental_id",)},
        """select count(*) from rental r where rental_date < now() - interval '5 minutes'
        and not exists (select from payment p where p.rental_id = r.rental_id)""",
    ),
    "scheduler": Right(
        "public.dag_run",
        ("dag_id", "run_id"),
        ("start_date", "end_date"),
        "state = 'success'",
        {"task_instance": ("dag_id", "run_id")},
        """select count(*) from dag_run d where state = 'success' and end_date < now() - interval '5 minutes'
        and not exists (select from task_instance t where (t.dag_id, t.run_id) = (d.dag_id, d.run_id))""",
    ),
    "survey": Right(
        'public."Response"',
        ("id",),
        ("createdAt", None),
        "finished",
        {"response_insight": ("responseId",)},
        """select count(*) from "Response" r where finished and "createdAt" < now() - interval '5 minutes'
        and not exists (select from "ResponseInsight" i where i."responseId" = r.id)""",
    ),
}


async def proposed(database: Database) -> tuple[Pipeline, float | None, str]:
    """The proposed pipeline, the number of its gaps, and the text."""
    proposal = await survey(parse_database(database.dsn, "test"), None, [], has_url=True)
    config = parse_config(proposal.text, {"DATABASE_URL": database.dsn})
    checked = await preflight(config)
    assert not has_errors(checked), proposal.text + findings_text(checked)
    [pipeline] = config.pipelines.values()
    snapshot = await collect(compile_plan(config, pipeline, DIMENSIONS))
    return pipeline, snapshot.readings.get(ELIGIBLE, "gap"), proposal.text


def test_every_schema_is_tried() -> None:
    assert {path.stem for path in SCHEMAS.glob("*.sql")} == RIGHT.keys()


@pytest.mark.parametrize("name", RIGHT)
async def test_the_right_tables_are_proposed_and_the_gaps_are_true(empty: Database, name: str) -> None:
    right = RIGHT[name]
    await empty.execute((SCHEMAS / f"{name}.sql").read_text())
    schemas = await empty.connection.fetchval(
        "select string_agg(quote_ident(nspname), ', ') from pg_namespace "
        "where nspname !~ '^pg_' and nspname <> 'information_schema'"
    )
    grants = [
        f"grant usage on schema {schemas} to {{role}}",
        f"grant select on all tables in schema {schemas} to {{role}}",
    ]
    reader = await as_reader(empty, *grants)

    pipeline, gaps, _ = await proposed(reader)

    sessions = pipeline.sessions
    assert (sessions.table.written, sessions.key) == (right.sessions, right.key)
    assert (sessions.started_at, sessions.completed_at) == right.times
    assert sessions.eligible == right.eligible
    assert pipeline.records.keys() == right.records.keys()
    for record, columns in right.records.items():
        if columns:
            assert tuple(part.column for part in pipeline.records[record].session_key) == columns
    assert gaps == await empty.connection.fetchval(right.gaps)
    assert gaps or name == "scheduler"


async def test_an_outage_of_weeks_is_a_gap_and_no_reason_to_leave_a_record_out(empty: Database) -> None:
    await empty.execute((SCHEMAS / "rental.sql").read_text())
    await empty.execute("delete from payment where payment_date > now() - interval '60 days'")
    await empty.execute("update rental set rental_date = rental_date - interval '10 days' where rental_id > 600")

    pipeline, gaps, text = await proposed(empty)

    assert list(pipeline.records) == ["payment"]
    assert gaps
    assert gaps > 400, text


async def test_a_relation_that_holds_for_none_is_refused_with_the_numbers(empty: Database) -> None:
    await empty.execute((SCHEMAS / "rental.sql").read_text())
    await empty.execute("truncate payment; drop table customer cascade; drop table inventory cascade")

    with pytest.raises(Exception, match=r"public.payment: 0 of \d+ eligible sessions have a row \(0%\)"):
        await proposed(empty)


async def test_inherited_tables_are_no_records_beside_their_parent(empty: Database) -> None:
    await empty.execute(
        """
        create table orders (id int primary key, status text, created_at timestamptz, completed_at timestamptz);
        create table payment (id int, order_id int references orders, created_at timestamptz);
        create table payment_2026 (foreign key (order_id) references orders) inherits (payment);
        insert into orders select n, 'completed', now() - n * interval '1 hour', now() from generate_series(1, 50) n;
        insert into payment_2026 select n, n, now() from generate_series(1, 50) n;
        """
    )

    pipeline, gaps, _ = await proposed(empty)

    assert list(pipeline.records) == ["payment"]
    assert gaps == 0


async def test_the_operator_is_asked_where_several_tables_may_be_the_sessions(empty: Database) -> None:
    await empty.execute((SCHEMAS / "scheduler.sql").read_text())
    await empty.execute("insert into task_reschedule (ti_id) select id from task_instance")
    asked: list[str] = []

    def second(texts: list[str]) -> int:
        asked.extend(texts)
        return 1

    proposal = await survey(parse_database(empty.dsn, "test"), None, [], has_url=True, ask=second)  # type: ignore[arg-type]

    assert [text.split(",")[0] for text in asked] == ["public.dag_run", "public.task_instance"]
    assert "table: public.task_instance" in proposal.text


async def test_a_thousand_tables_are_looked_at_in_time(empty: Database) -> None:
    await empty.execute(
        """
        do $$ begin
          for n in 1..1000 loop
            execute format('create table thing_%s (id bigserial primary key, parent_thing_id bigint, name text,
              status text, created_at timestamptz, completed_at timestamptz, account_id bigint, c1 text, c2 int)', n);
          end loop;
        end $$;
        """
    )
    await empty.execute((SCHEMAS / "rental.sql").read_text())
    began = time.monotonic()

    pipeline, _, _ = await proposed(empty)

    assert pipeline.sessions.table.written == "public.rental"
    assert time.monotonic() - began < at_most(30)


async def test_of_a_named_table_a_weak_relation_is_proposed_with_its_numbers(empty: Database) -> None:
    await empty.execute((SCHEMAS / "rental.sql").read_text())
    await empty.execute("delete from payment where rental_id % 2 = 0")

    named = parse_table_name("rental")
    proposal = await survey(parse_database(empty.dsn, "test"), named, [], has_url=True)

    assert "table: public.payment" in proposal.text
    assert re.search(r"4\d\d of 870 eligible sessions have\s+(#\s+)?a row", proposal.text)


async def test_a_column_with_a_name_of_ours_hides_no_rows(empty: Database) -> None:
    await empty.execute((SCHEMAS / "rental.sql").read_text())
    await empty.execute("alter table rental add part int, add flag int, add key_1 int, add is_mature text")

    pipeline, _, text = await proposed(empty)

    assert pipeline.sessions.table.written == "public.rental"
    assert "889 of 900 eligible sessions have a row" in text
