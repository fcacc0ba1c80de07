"""Segments: which tenants have the gaps."""

import io
import json

import pytest
from conftest import Database

from exporter.config.read import ConfigError
from exporter.mend.forms import FORMATS, Document
from exporter.mend.gaps import Gap, NoSuchSegmentError, columns_of, count_gaps, in_rows, list_gaps
from exporter.mend.verify import Verification, verify
from exporter.mend.worklist import Author, FilterPart, Listed, Worklist
from exporter.plan.gaps import GapFilter

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


async def test_a_small_segment_without_a_record_has_numbers_of_its_own_beside_large_ones_with_more_gaps(
    orders: Database,
) -> None:
    await orders.execute(
        """
        delete from orders; delete from invoices; delete from parcels;
        insert into orders
        select 1000 * t + n, 'large ' || t, 0, 'paid', now() - interval '1 day'
        from generate_series(1, 6) t, generate_series(1, 200) n;
        insert into invoices select id from orders where id % 1000 > 20;
        insert into parcels select id from orders;
        insert into orders select n, 'tiny', 0, 'paid', now() - interval '1 day' from generate_series(1, 5) n;
        """
    )

    found = await orders.measure(CONFIG.replace("columns: tenant", "columns: tenant, top: 4"))

    assert {segment for segment, _ in found.family("segment_sessions")} == {
        *("large 1", "large 2", "large 3", "tiny", "<other>")
    }
    assert found.family("segment_sessions")["tiny", "gap"] == 5


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


# --- The worst segment under a limit


def limited(thresholds: str, segment: str = "columns: tenant") -> str:
    text = CONFIG.replace("columns: tenant", segment)
    return text.replace("sessions_with_gap: {critical: 0}", f"segment_gap_ratio: {{{thresholds}}}")


async def judged(database: Database, text: str) -> tuple[str, str]:
    """The outcome and the text of the only finding."""
    [finding] = (await database.measure(text)).snapshot.judgement.findings
    return finding.outcome, finding.text


async def test_the_worst_segment_breaks_the_limit_that_the_whole_keeps(orders: Database) -> None:
    assert await judged(orders, limited("warning: 0.1, critical: 0.2")) == (
        "critical",
        "acme: 30% of 10 sessions > 20%",
    )
    assert await judged(orders, limited("critical: 0.3")) == ("within", "acme: 30% of 10 sessions ≤ 30%")


async def test_pending_sessions_count_in_no_share(orders: Database) -> None:
    await orders.execute("insert into orders select n, 'acme', 1, 'paid', now() from generate_series(100, 200) n")

    assert await judged(orders, limited("critical: 0.2")) == ("critical", "acme: 30% of 10 sessions > 20%")


async def test_a_small_segment_gives_way_to_the_worst_of_the_large_ones(orders: Database) -> None:
    await orders.execute("insert into orders values (100, 'tiny', 1, 'paid', now() - interval '1 day')")

    assert await judged(orders, limited("critical: 0.5")) == ("critical", "tiny: 100% of 1 session > 50%")
    assert (await judged(orders, limited("critical: 0.2, min_sessions: 10")))[1] == "acme: 30% of 10 sessions > 20%"
    assert await judged(orders, limited("critical: 0.2, min_sessions: 11")) == (
        "too_few",
        "only 10 sessions, and min_sessions is 11",
    )


async def test_the_segments_beyond_the_cap_are_judged_together(orders: Database) -> None:
    await orders.execute(
        "insert into orders select n, 'new ' || n, 1, 'paid', now() - interval '1 day' from generate_series(100, 104) n"
    )

    assert await judged(orders, limited("critical: 0.2", "columns: tenant, top: 1")) == (
        "critical",
        "acme: 30% of 10 sessions > 20%",
    )
    assert await judged(orders, limited("critical: 0.2", "columns: tenant, top: 20, least: 5")) == (
        "critical",
        "<other>: 100% of 5 sessions > 20%",
    )


async def test_without_a_session_there_is_nothing_to_judge_and_without_the_column_it_is_unknown(
    orders: Database,
) -> None:
    text = limited("critical: 0.2")
    lost = await judged(orders, text.replace("columns: tenant", "columns: tenants"))
    await orders.execute("delete from orders")
    empty = await orders.measure(text)

    assert lost == ("not_measured", "not measured")
    assert empty.family("segment_sessions") == {("<other>", state): 0 for state in ("complete", "pending", "gap")}
    assert empty.family("segment_gap_sessions") == {("invoices", "<other>"): 0, ("parcels", "<other>"): 0}
    assert [f.text for f in empty.snapshot.judgement.findings] == ["no session is complete or has a gap"]


async def test_a_share_beside_a_threshold_is_never_rounded_onto_the_threshold(orders: Database) -> None:
    await orders.execute(
        "insert into orders select n, 'big', 1, 'paid', now() - interval '1 day' from generate_series(1000, 4333) n;"
        "insert into invoices select n from generate_series(1000, 4332) n;"
        "insert into parcels select n from generate_series(1000, 4333) n; delete from orders where tenant <> 'big'"
    )

    assert (await judged(orders, limited("critical: 0.0003")))[1] == "big: 0.02999% of 3334 sessions ≤ 0.03%"


# --- One segment alone


@pytest.mark.parametrize(
    ("label", "sessions"),
    [
        ("acme", {"5", "10", "15"}),
        ("zeta", {"7"}),
        ("globex", set()),
        ("<null>", {"100"}),
        ("<empty>", {"101"}),
        ("\\<null>", {"102"}),
        ("o'neil", {"103"}),
    ],
)
async def test_the_gaps_of_one_segment_are_listed_by_its_label(
    orders: Database, label: str, sessions: set[str]
) -> None:
    await orders.execute(
        "insert into orders select n, tenant, 1, 'paid', now() - interval '1 day' "
        "from (values (100, null), (101, ''), (102, '<null>'), (103, 'o''neil')) as special(n, tenant)"
    )
    plan, found = orders.plan(CONFIG), list[Gap]()
    numbers = await orders.measure(CONFIG)

    await list_gaps(plan, found.append, GapFilter(segment=label))

    with pytest.raises(NoSuchSegmentError):
        await list_gaps(plan, found.append, GapFilter(segment="acm"))
    assert {gap.session[0] for gap in found} == sessions
    assert (await count_gaps(plan, GapFilter(segment=label))).count == len(sessions)
    assert numbers("segment_sessions", label, "gap") == len(sessions)


async def worklist_of(orders: Database, text: str, label: str | None) -> Worklist:
    plan, body, file = orders.plan(text), io.BytesIO(), io.BytesIO()
    filters, author = FilterPart(record=None, reason=None, segment=label), Author(body, plan, 2)
    author.publish(file, await list_gaps(plan, author.take, filters.wanted), filters)
    return Worklist(io.BytesIO(file.getvalue()))


async def verified(orders: Database, worklist: Worklist) -> tuple[Verification, list[Listed]]:
    still: list[Listed] = []
    return await verify(orders.plan(CONFIG), worklist, still.append), still


async def test_a_worklist_names_the_segment_of_each_session(orders: Database) -> None:
    whole = {listed.session[0]: listed.segment for listed in (await worklist_of(orders, CONFIG, None)).sessions()}
    without = CONFIG.replace(",\n      segment: {columns: tenant}", "")
    file = (await worklist_of(orders, without, None))._file
    file.seek(0)

    assert whole == {"5": "acme", "10": "acme", "15": "acme", "7": "zeta"}
    assert b'"5","reasons":{"invoices":"missing"}}' in file.read()


async def test_the_worklist_of_a_segment_is_proved_without_the_others(orders: Database) -> None:
    worklist = await worklist_of(orders, CONFIG, "acme")
    before, rest = await verified(orders, worklist)
    await orders.execute("insert into invoices values (5), (10), (15); insert into parcels values (10)")
    # A gap of another segment is not new for the worklist, a gap of the segment is.
    await orders.execute(
        "insert into orders values (100, 'acme', 1, 'paid', now() - interval '1 day'), "
        "(101, 'globex', 1, 'paid', now() - interval '1 day')"
    )
    after, _ = await verified(orders, worklist)

    assert worklist.header.filters.segment == "acme"
    assert (before.sessions["gap"], before.new_sessions) == (3, 0)
    assert [(listed.session[0], listed.segment) for listed in rest] == [("5", "acme"), ("10", "acme"), ("15", "acme")]
    assert (after.sessions["fixed"], after.new_sessions, after.new["parcels"]["missing"]) == (3, 1, 1)


async def test_a_session_that_changed_its_segment_must_be_mended_and_is_no_gap_of_the_segment(
    orders: Database,
) -> None:
    worklist = await worklist_of(orders, CONFIG, "acme")
    await orders.execute(
        "update orders set tenant = 'zeta' where id = 5; update orders set tenant = null where id = 10"
    )

    found, still = await verified(orders, worklist)

    assert found.sessions["gap"] == 3
    assert {listed.session[0] for listed in still} == {"5", "10", "15"}
    assert (found.new_sessions, {n for reasons in found.new.values() for n in reasons.values()}) == (0, {0})


async def test_other_columns_of_the_segment_are_a_change_of_the_config(orders: Database) -> None:
    worklist = await worklist_of(orders, CONFIG, "acme")
    text = CONFIG.replace("columns: tenant", 'columns: ["Region"]')

    assert (await verify(orders.plan(text), worklist)).changed == ("sessions.segment.columns",)
