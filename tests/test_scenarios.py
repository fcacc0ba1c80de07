"""The sample platform is in exactly the states that its scenarios promise."""

from conftest import Database


async def test_the_healthy_scenario_has_157_complete_sessions_and_no_gap(healthy: Database) -> None:
    numbers = await healthy.measure()

    assert numbers.family("eligible_sessions") == {("complete",): 157, ("pending",): 0, ("gap",): 0}
    assert numbers.positive("record_sessions") == {("profiles", "current"): 157, ("fc_scores", "current"): 157}
    assert numbers.positive("gap_sessions") == {}
    assert numbers.family("gap_oldest_timestamp_seconds") == {}
    assert numbers.positive("record_version_sessions") == {
        ("profiles", "v1.2.1", "current"): 157,
        ("fc_scores", "v1.2", "current"): 157,
    }
    assert numbers.positive("drifted_records") == {}


async def test_rows_that_must_not_count_are_there_and_do_not_count(healthy: Database) -> None:
    numbers = await healthy.measure()

    assert numbers.family("sessions") == {("completed",): 163, ("in_progress",): 12, ("abandoned",): 9}
    assert numbers("records", "profiles", "v1.2.1", "current") == 177


async def test_the_backfill_scenario_has_39_13_and_39(backfill: Database) -> None:
    numbers = await backfill.measure()

    assert numbers.family("eligible_sessions") == {("complete",): 118, ("pending",): 0, ("gap",): 39}
    assert numbers.positive("record_sessions") == {
        ("profiles", "current"): 144,
        ("profiles", "missing"): 13,
        ("fc_scores", "current"): 118,
        ("fc_scores", "missing"): 28,
        ("fc_scores", "outdated"): 11,
    }
    assert sum(v for labels, v in numbers.family("gap_sessions").items() if labels[0] == "fc_scores") == 39
    assert numbers("gap_sessions", "profiles", "missing") == 13


async def test_the_drift_scenario_shows_old_profiles_written_late(new_database: object) -> None:
    database = await new_database("drift")  # type: ignore[operator]

    numbers = await database.measure()

    assert numbers("drifted_records", "profiles") == numbers("record_sessions", "profiles", "outdated")
    assert numbers("drifted_records", "profiles") > 0
    assert numbers.positive("gap_sessions") == {}
