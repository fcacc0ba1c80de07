"""Validity: values that are not agreed on, and sessions that do not hold what they must."""

import pytest
from conftest import Beginning, Database, care

CONFIG = care(
    eligible="done CHECKS",
    scores='accepted_values: {kind: [a, ""], level: ["1"]}, valid: blocks > 0',
    collection="{max_label_values: 3}",
)


def config(*checks: str) -> str:
    return CONFIG.replace(" CHECKS", f", checks: {{{', '.join(checks)}}}" if checks else "")


BEGINNING = Beginning("""
    create table visits (
      id int primary key, status text, started_at timestamptz, completed_at timestamptz, done boolean,
      ended timestamptz
    );
    create table scores (visit_id int, kind text, level int, blocks int default 1, hidden boolean);
    insert into visits values
      (1, 'done', '2025-05-01', '2025-05-01', true, '2025-05-01'),
      (2, 'done', '2025-05-01', '2025-05-01', true, null),
      (3, 'open', '2025-05-01', null, false, null), (4, 'done', '2024-05-01', '2024-05-01', true, null)
    """)
"""Two eligible visits, one that is not, and one before the window."""


async def test_a_check_that_fails_is_seen_and_mended(visits: Database) -> None:
    text = config("ended: ended is not null")
    broken = await visits.measure(text)
    await visits.execute("update visits set ended = completed_at")

    mended = await visits.measure(text)

    assert broken.family("check_sessions") == {("ended", "pass"): 1, ("ended", "fail"): 1, ("ended", "pending"): 0}
    assert mended.positive("check_sessions") == {("ended", "pass"): 2}


async def test_a_check_that_is_null_fails(visits: Database) -> None:
    numbers = await visits.measure(config("late: ended > '2025-01-01'", "never: 'null'"))

    assert numbers.positive("check_sessions") == {("late", "pass"): 1, ("late", "fail"): 1, ("never", "fail"): 2}


async def test_a_check_may_ask_another_table(visits: Database) -> None:
    await visits.execute("insert into scores values (1, 'a', 1)")

    numbers = await visits.measure(
        config("scored: exists (select 1 from scores where visit_id = visits.id)")
        + "      notes: {table: scores, session_key: visit_id}\n"
    )

    assert numbers.positive("check_sessions") == {("scored", "pass"): 1, ("scored", "fail"): 1}


@pytest.mark.parametrize(
    ("broken", "reason"),
    [
        ("nowhere is not null", "missing_object"),
        ("exists (select 1 from nowhere)", "missing_object"),
        ("started_at = 5", "type"),
        ("lower(distinct status) = 'x'", "invalid_sql"),
        ("1 / (id - id) > 0", "type"),
    ],
)
async def test_a_check_that_the_server_refuses_takes_only_its_own_numbers(
    visits: Database, broken: str, reason: str
) -> None:
    numbers = await visits.measure(config("ended: ended is not null", f"odd: {broken}"))

    assert {path: fault.reason for path, fault in numbers.snapshot.part_faults.items()} == {
        "sessions.checks.odd": reason
    }
    assert numbers.snapshot.part_faults["sessions.checks.odd"].message.startswith(
        "pipelines.care.sessions.checks.odd: "
    )
    assert numbers.positive("check_sessions") == {("ended", "pass"): 1, ("ended", "fail"): 1}
    assert numbers("eligible_sessions", "gap") == 2
    assert numbers("invalid_records", "scores") == 0


async def test_a_row_that_is_bad_twice_counts_once(visits: Database) -> None:
    await visits.execute(
        """
        insert into scores values
          (1, 'a', 1, 9), (1, 'b', 2, 0), (1, '', 1, 0), (2, null, 1, 9), (99, 'b', 1, 9), (null, 'a', 1, null)
        """
    )
    broken = await visits.measure(config())
    await visits.execute("delete from scores where kind is distinct from 'a' or blocks is null")

    mended = await visits.measure(config())

    assert broken.family("invalid_records") == {("scores",): 5}
    assert mended.family("invalid_records") == {("scores",): 0}


async def test_values_are_counted_by_row_and_by_eligible_session(visits: Database) -> None:
    await visits.execute(
        "insert into scores values (1, 'a', 1), (1, 'a', 1), (2, 'b', 1), (3, 'a', 1), (4, 'a', 1), (99, null, 2)"
    )

    numbers = await visits.measure(config().replace("max_label_values: 3", "max_label_values: 50"))

    assert numbers.family("record_value_rows") == {
        ("scores", "kind", "a", "accepted"): 4,
        ("scores", "kind", "<empty>", "accepted"): 0,
        ("scores", "kind", "b", "invalid"): 1,
        ("scores", "kind", "<null>", "invalid"): 1,
        ("scores", "level", "1", "accepted"): 5,
        ("scores", "level", "2", "invalid"): 1,
    }
    assert numbers.positive("record_value_sessions") == {
        ("scores", "kind", "a", "accepted"): 1,
        ("scores", "kind", "b", "invalid"): 1,
        ("scores", "level", "1", "accepted"): 2,
    }


async def test_beyond_the_cap_accepted_values_stay_and_the_total_is_right(visits: Database) -> None:
    await visits.execute("insert into scores select 1, 'x' || n, 1 from generate_series(1, 9) n, generate_series(1, n)")

    numbers = await visits.measure(config())

    assert numbers.family("record_value_rows") == {
        ("scores", "level", "1", "accepted"): 45,
        ("scores", "kind", "<empty>", "accepted"): 0,
        ("scores", "kind", "a", "accepted"): 0,
        ("scores", "kind", "<other>", "invalid"): 45,
    }


async def test_empty_tables_have_zeros(visits: Database) -> None:
    await visits.execute("truncate visits, scores")

    numbers = await visits.measure(config("ended: ended is not null"))

    assert numbers.family("check_sessions") == dict.fromkeys(
        [("ended", "pass"), ("ended", "fail"), ("ended", "pending")], 0
    )
    assert numbers.family("invalid_records") == {("scores",): 0}
    assert set(numbers.family("record_value_rows").values()) == {0}


async def test_rows_hidden_by_where_are_not_invalid(visits: Database) -> None:
    await visits.execute("insert into scores values (1, 'x', 1, 1, true), (1, 'x', 1, 1, false)")

    numbers = await visits.measure(
        config().replace("valid: blocks > 0", "where: not hidden").replace("max_label_values: 3", "max_label_values: 9")
    )

    assert numbers.family("invalid_records") == {("scores",): 1}
    assert numbers.positive("record_value_rows") == {
        ("scores", "kind", "x", "invalid"): 1,
        ("scores", "level", "1", "accepted"): 1,
    }


GRACE = """
update visits set ended = null, completed_at = now() - interval '4 minutes' where id = 1;
update visits set ended = null, completed_at = now() - interval '2 hours' where id = 2
"""


@pytest.mark.parametrize(
    ("grace", "check", "pending", "failed"),
    [
        ("10m", "ended: ended is not null", 1, 1),
        ("1m", "ended: ended is not null", 0, 2),
        ("10m", "ended: {sql: ended is not null, grace: 0}", 0, 2),
        ("10m", "ended: {sql: ended is not null, grace: 0s}", 0, 2),
        ("1m", "ended: {sql: ended is not null, grace: 3h}", 2, 0),
    ],
)
async def test_a_check_may_fail_while_the_grace_lasts(
    visits: Database, grace: str, check: str, pending: int, failed: int
) -> None:
    await visits.execute(GRACE)
    text = config(check).replace("    sessions:", f"    grace: {grace}\n    sessions:")

    numbers = await visits.measure(text)

    assert numbers("check_sessions", "ended", "pending") == pending
    assert numbers("check_sessions", "ended", "fail") == failed
    assert sum(numbers.family("check_sessions").values()) == sum(numbers.family("eligible_sessions").values())


async def test_a_session_that_is_not_completed_has_no_grace(visits: Database) -> None:
    await visits.execute("update visits set ended = null, completed_at = null where id = 1")

    numbers = await visits.measure(config("{ended: {sql: ended is not null, grace: 3h}}".strip("{}") + "}"))

    assert numbers("check_sessions", "ended", "pending") == 0
