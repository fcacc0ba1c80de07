"""Conversion: started, completed, covered: the same sessions all along, so that no share exceeds the whole."""

import pytest
from conftest import Beginning, Database, care

CONFIG = care(
    "cohort: {window: 24h, maturity: 1h}",
    eligible="status = 'done' and answers > 0 COMPLETED",
    scores="version: {column: version, current: v3}, required_when: scored",
    notes="",
    limits="{conversion_ratio: {warning: 0.9, critical: 0.5, min_sessions: 2}, completion_ratio: {critical: 0.5}}",
)


def config(completed: str = "completed: status = 'done'") -> str:
    return CONFIG.replace(" COMPLETED", f", {completed}" if completed else "")


BEGINNING = Beginning(
    """
    create table visits (
      id int primary key, status text, started_at timestamptz default '2025-06-01 06:00+00',
      completed_at timestamptz, answers int default 1, scored boolean default true
    );
    create table scores (visit_id int, version text);
    create table notes (visit_id int);
    """,
    clock="2025-06-01 12:00:00+00",
)


async def test_each_step_is_part_of_the_one_before(visits: Database) -> None:
    await visits.execute(
        """
        insert into visits (id, status)
        select n, case when n <= 6 then 'done' else 'open' end from generate_series(1, 9) n;
        update visits set scored = false where id = 5;
        insert into scores values (1, 'v3'), (1, 'v3'), (2, 'v3'), (3, 'v2'), (9, 'v3');
        insert into notes values (1), (2), (2), (3), (5), (9);
        """
    )
    broken = await visits.measure(config())
    await visits.execute(
        "insert into scores select n, 'v3' from generate_series(3, 9) n; insert into notes values (4), (6)"
    )

    mended = await visits.measure(config())

    assert broken.family("cohort_sessions") == {("started",): 9, ("completed",): 6, ("covered",): 3}
    assert mended.family("cohort_sessions") == {("started",): 9, ("completed",): 6, ("covered",): 6}
    assert broken.snapshot.judgement.verdict(is_complete=True) == "unknown"  # gaps, and no limit on them
    assert mended.snapshot.judgement.verdict(is_complete=True) == "healthy"


async def test_a_completed_session_needs_no_eligibility_to_be_counted(visits: Database) -> None:
    await visits.execute("insert into visits (id, status, answers) values (1, 'done', 0)")

    numbers = await visits.measure(config())

    assert numbers.family("cohort_sessions") == {("started",): 1, ("completed",): 1, ("covered",): 0}
    assert numbers.positive("eligible_sessions") == {}


async def test_without_the_key_a_session_with_a_time_is_completed(visits: Database) -> None:
    await visits.execute(
        """
        insert into visits (id, status, completed_at) values
          (1, 'open', '2025-06-01'), (2, 'done', null), (3, 'done', 'infinity')
        """
    )

    numbers = await visits.measure(config(completed=""))

    assert numbers.family("cohort_sessions") == {("started",): 3, ("completed",): 1, ("covered",): 0}


async def test_a_completion_that_is_null_is_none(visits: Database) -> None:
    await visits.execute("insert into visits (id, status) values (1, null)")

    assert (await visits.measure(config())).positive("cohort_sessions") == {("started",): 1}


async def test_a_broken_record_loses_the_covered_and_no_other_step(visits: Database) -> None:
    await visits.execute(
        "insert into visits (id, status) values (1, 'done'); insert into notes values (1); drop table scores"
    )

    numbers = await visits.measure(config())

    assert numbers.family("cohort_sessions") == {("started",): 1, ("completed",): 1}
    findings = {finding.limit.name: finding.outcome for finding in numbers.snapshot.judgement.findings}
    assert findings == {"conversion_ratio": "not_measured", "completion_ratio": "within"}


@pytest.mark.parametrize(
    ("covered", "outcome"),
    [(0, "critical"), (4, "critical"), (5, "warning"), (8, "warning"), (9, "within"), (10, "within")],
)
async def test_a_share_below_its_limit_breaks_it(visits: Database, covered: int, outcome: str) -> None:
    await visits.execute("insert into visits (id, status) select n, 'done' from generate_series(1, 10) n")
    await visits.execute(
        "insert into notes select n from generate_series(1, 10) n; insert into scores select 11 - n, 'v3' "
        f"from generate_series(1, {covered}) n"
    )

    findings = {f.limit.name: f for f in (await visits.measure(config())).snapshot.judgement.findings}

    assert findings["conversion_ratio"].outcome == outcome
    assert findings["conversion_ratio"].sessions == 10


async def test_too_few_sessions_are_not_judged(visits: Database) -> None:
    await visits.execute("insert into visits (id, status) values (1, 'done')")

    findings = {f.limit.name: f for f in (await visits.measure(config())).snapshot.judgement.findings}

    assert findings["conversion_ratio"].outcome == "too_few"
    assert findings["conversion_ratio"].text == "only 1 session, and min_sessions is 2"


async def test_an_empty_cohort_has_zeros_and_no_share(visits: Database) -> None:
    numbers = await visits.measure(config())

    assert numbers.family("cohort_sessions") == {("started",): 0, ("completed",): 0, ("covered",): 0}
    assert [(f.outcome, f.value, f.text) for f in numbers.snapshot.judgement.findings] == [
        ("not_judged", None, "no session of the cohort was completed"),
        ("not_judged", None, "no session started in the cohort"),
    ]


async def test_a_completion_that_the_server_refuses_loses_what_needs_it_and_nothing_else(visits: Database) -> None:
    await visits.execute("insert into visits (id, status) values (1, 'done'); insert into notes values (1)")

    numbers = await visits.measure(config(completed="completed: nowhere is not null"))

    assert list(numbers.snapshot.part_faults) == ["sessions.completed"]
    assert numbers.snapshot.record_faults == {}
    assert numbers.family("cohort_sessions") == {("started",): 1}
    assert numbers("eligible_sessions", "gap") == 1
    assert {f.outcome for f in numbers.snapshot.judgement.findings} == {"not_measured"}


async def test_without_a_cohort_nobody_asks_who_completed(visits: Database) -> None:
    text = config(completed="completed: nowhere is not null").replace("    cohort: {window: 24h, maturity: 1h}\n", "")

    numbers = await visits.measure(text.partition("    limits:")[0])

    assert numbers.snapshot.part_faults == {}
    assert numbers.family("cohort_sessions") == {}
