"""Segments: which tenants have the gaps."""

import io
import json

import pytest
from conftest import Database

from exporter.config.read import ConfigError
from exporter.mend.forms import FORMATS, Document
from exporter.mend.gaps import Gap, columns_of, in_rows, list_gaps

CONFIG = """
database: {url: "${DATABASE_URL}"}
pipelines:
  orders:
    window: {since: 2025-01-01}
    grace: 1h
    sessions: {table: orders, key: id, status: status, started_at: at, completed_at: at, eligible: status = 'paid',
      segment: {columns: tenant}}
    records:
      invoices: {table: invoices, session_key: order_id}
      parcels: {table: parcels, session_key: order_id}
    limits: {sessions_with_gap: {critical: 0}}
"""


@pytest.fixture
async def orders(empty: Database) -> Database:
    """Ten paid orders of each of five tenants (one NULL); acme lacks three invoices and a parcel, zeta one invoice."""
    await empty.execute(
        """
        create table orders (id int primary key, tenant text, "Region" int, status text, at timestamptz);
        create table invoices (order_id int);
        create table parcels (order_id int);
        insert into orders
        select n, (array['acme', 'globex', 'zeta', '', null])[1 + n % 5], n % 2, 'paid', now() - interval '1 day'
        from generate_series(1, 50) n;
        insert into orders values (90, 'open tenant', 1, 'open', now()), (91, 'old tenant', 1, 'paid', '2024-01-01');
        insert into invoices select id from orders where id not in (5, 10, 15, 7);
        insert into parcels select id from orders where id <> 10;
        """
    )
    return empty


async def test_the_gaps_are_told_by_segment_and_close_there(orders: Database) -> None:
    broken = await orders.measure(CONFIG)
    await orders.execute("insert into invoices values (5), (10), (15)")
    mended = await orders.measure(CONFIG)

    assert broken.positive("segment_sessions") == {
        ("acme", "complete"): 7,
        ("acme", "gap"): 3,
        ("zeta", "complete"): 9,
        ("zeta", "gap"): 1,
        ("globex", "complete"): 10,
        ("<empty>", "complete"): 10,
        ("<null>", "complete"): 10,
    }
    assert broken.positive("segment_gap_sessions") == {
        ("invoices", "acme"): 3,
        ("invoices", "zeta"): 1,
        ("parcels", "acme"): 1,
    }
    assert mended.positive("segment_gap_sessions") == {("invoices", "zeta"): 1, ("parcels", "acme"): 1}
    # The numbers of a segment fall to 0, and do not end.
    assert mended.family("segment_gap_sessions")["invoices", "acme"] == 0


async def test_the_worst_segments_have_numbers_of_their_own_and_the_totals_stay_right(orders: Database) -> None:
    found = await orders.measure(CONFIG.replace("columns: tenant", "columns: tenant, top: 2"))

    assert found.family("segment_sessions") == {
        ("acme", "complete"): 7,
        ("acme", "gap"): 3,
        ("acme", "pending"): 0,
        ("zeta", "complete"): 9,
        ("zeta", "gap"): 1,
        ("zeta", "pending"): 0,
        ("<other>", "complete"): 30,
        ("<other>", "gap"): 0,
        ("<other>", "pending"): 0,
    }


async def test_a_segment_with_few_sessions_is_among_the_others(orders: Database) -> None:
    await orders.execute("delete from orders where tenant = 'acme' and id > 15")

    found = await orders.measure(CONFIG.replace("columns: tenant", "columns: tenant, least: 5"))

    assert found.family("segment_sessions")["<other>", "gap"] == 3
    assert ("acme", "gap") not in found.family("segment_sessions")


async def test_several_columns_make_one_segment(orders: Database) -> None:
    found = await orders.measure(CONFIG.replace("columns: tenant", "columns: [tenant, Region]"))

    assert found.family("segment_sessions")["acme, 1", "gap"] == 2
    assert found.family("segment_sessions")["acme, 0", "gap"] == 1
    assert found.family("segment_sessions")["<null>, 1", "complete"] == 5


async def test_a_column_that_is_not_there_loses_the_segments_alone(orders: Database) -> None:
    found = await orders.measure(CONFIG.replace("columns: tenant", "columns: tenants"))

    assert found.family("segment_sessions") == {}
    assert found.family("eligible_sessions")["gap",] == 4
    [(part, fault)] = found.snapshot.part_faults.items()
    assert part == "sessions.segment"
    assert "tenants" in fault.message
    assert found.snapshot.judgement.verdict(is_complete=True) == "unhealthy"


async def test_a_record_that_is_lost_keeps_the_gaps_of_the_others_and_no_total(orders: Database) -> None:
    await orders.execute("drop table parcels")

    found = await orders.measure(CONFIG)

    assert found.family("segment_sessions") == {}
    assert found.positive("segment_gap_sessions") == {("invoices", "acme"): 3, ("invoices", "zeta"): 1}


async def test_ten_thousand_segments_are_counted_and_capped(orders: Database) -> None:
    await orders.execute(
        "insert into orders select n, 'tenant ' || n, 0, 'paid', now() - interval '1 day' "
        "from generate_series(100, 12000) n"
    )

    found = await orders.measure(CONFIG)

    shown = {segment for segment, _ in found.family("segment_sessions")}
    assert len(shown) == 21
    assert sum(found.family("segment_sessions").values()) == found.family("eligible_sessions")["gap",] + 46


async def test_a_config_without_the_key_has_no_segments(orders: Database) -> None:
    found = await orders.measure(CONFIG.replace(",\n      segment: {columns: tenant}", ""))

    assert found.family("segment_sessions") == {}
    assert found.family("segment_gap_sessions") == {}


@pytest.mark.parametrize("wrong", ["columns: []", "top: 3", "columns: tenant, top: 0", "columns: tenant, top: 201"])
async def test_a_wrong_section_is_refused(orders: Database, wrong: str) -> None:
    with pytest.raises(ConfigError, match=r"sessions\.segment"):
        orders.plan(CONFIG.replace("columns: tenant", wrong))


async def test_segments_stand_beside_facts_about_rows(orders: Database) -> None:
    found = await orders.measure(CONFIG.replace("segment:", "deleted: status = 'deleted', segment:"))

    assert found.family("segment_sessions")["acme", "gap"] == 3
    assert sum(found.family("detached_records").values()) == 0


@pytest.mark.parametrize(("columns", "segment"), [("tenant", "acme"), ("[tenant, Region]", "acme, 1")])
async def test_a_list_of_gaps_has_the_segment_of_each_session(orders: Database, columns: str, segment: str) -> None:
    found: list[Gap] = []

    await list_gaps(orders.plan(CONFIG.replace("columns: tenant", f"columns: {columns}")), found.append)

    assert {gap.session[0]: gap.segment for gap in found}["5"] == segment
    assert len(found) == 4


async def test_the_documents_have_the_segment_only_with_the_key(orders: Database) -> None:
    def written(text: str, form: str) -> str:
        file, plan = io.BytesIO(), orders.plan(text)
        document = Document(file, columns_of(plan), FORMATS[form])
        document.take(*in_rows(plan)(Gap(("5",), {"invoices": "missing"}, None, segment="acme")))
        document.end()
        return file.getvalue().decode()

    without = CONFIG.replace(",\n      segment: {columns: tenant}", "")

    assert written(CONFIG, "csv") == "session,record,reason,completed_at,segment\n5,invoices,missing,,acme\n"
    assert written(without, "csv") == "session,record,reason,completed_at\n5,invoices,missing,\n"
    assert json.loads(written(CONFIG, "json"))[0]["segment"] == "acme"
    assert "segment" not in json.loads(written(without, "ndjson"))


@pytest.mark.parametrize("name", ["eligible", "status", "segment", "linked", "rank_1", "key_1", "slice"])
async def test_a_column_with_the_name_of_a_computed_one_tells_segments_apart(orders: Database, name: str) -> None:
    text = CONFIG.replace("columns: tenant", f"columns: {name}")
    if name != "status":
        await orders.execute(f"alter table orders rename tenant to {name}")
    else:
        await orders.execute("update orders set status = tenant where status = 'paid'")
        text = text.replace("eligible: status = 'paid'", "eligible: status <> 'open tenant'")

    found = await orders.measure(text)

    assert found.snapshot.part_faults == {}
    assert found.family("segment_sessions")["acme", "gap"] == 3
