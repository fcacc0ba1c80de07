"""Time: when the next round starts, what is published, and what is said.  No database, no waiting."""

import asyncio
import logging
import time
from dataclasses import replace

import pytest
from conftest import TOUR, a_pipeline, plan_of

from exporter.measure.supervise import JITTER, measure, pause, supervise
from exporter.model.fault import CollectionError, Fault
from exporter.model.judging import Readings
from exporter.model.sections import CollectionSettings
from exporter.plan.plan import Plan
from exporter.state.board import Latest, PipelineStatus
from exporter.state.judge import Judgement
from exporter.state.snapshot import Collection, Snapshot
from exporter.state.swept import Swept
from exporter.text.times import elapsed

SETTINGS = CollectionSettings(duty=1 / 11)
REFUSED = Fault("connect", "connection refused: is the server running?")
GONE = Fault("missing_object", "relation does not exist")
WHOLE = Snapshot(Readings(a_pipeline(), 1000.0, {}), {}, {}, (), {}, Judgement((), ()))
BROKEN = Snapshot(Readings(a_pipeline(), 1000.0, {}), {"profiles": GONE}, {}, (), {}, Judgement((), ()))


def a_status(**changes: object) -> PipelineStatus:
    return PipelineStatus(a_pipeline("assessments", "profiles", "fc_scores"), max_age=300.0, **changes)  # type: ignore[arg-type]


def ended(snapshot: Snapshot | None, fault: Fault | None = None) -> Collection:
    return Collection(snapshot, fault, duration=0.5, ended_at=2000.0)


class Script:
    """Collects what it is told to, one outcome a round, then ends the watch."""

    def __init__(self, *outcomes: Snapshot | Exception) -> None:
        self.outcomes = list(outcomes)
        self.pauses: list[float] = []
        self.running = 0

    async def collect(self, _plan: Plan) -> Snapshot:
        if not self.outcomes:
            raise asyncio.CancelledError
        self.running += 1
        assert self.running == 1, "two rounds at once"
        await asyncio.sleep(0)
        self.running -= 1
        outcome = self.outcomes.pop(0)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    async def sleep(self, seconds: float) -> None:
        self.pauses.append(seconds)

    async def run(self, status: PipelineStatus | None = None) -> Latest:
        latest = Latest([status or a_status()], now=1.0)
        plan = plan_of(TOUR.read_text(), "postgresql://nowhere")
        with pytest.raises(asyncio.CancelledError):
            await supervise(plan, latest, SETTINGS, asyncio.Semaphore(1), self.collect, self.sleep)
        return latest


async def test_a_pipeline_may_have_an_interval_of_its_own() -> None:
    script = Script(WHOLE)
    text = TOUR.read_text().replace("    interval: 30s             ", "    interval: 70s             ")
    latest = Latest([a_status()], now=1.0)

    plan = plan_of(text, "postgresql://nowhere")
    with pytest.raises(asyncio.CancelledError):
        await supervise(plan, latest, SETTINGS, asyncio.Semaphore(1), script.collect, script.sleep)

    assert 70 * (1 - JITTER) - 1 <= script.pauses[0] <= 70


async def run(*outcomes: Snapshot | Exception) -> tuple[PipelineStatus, Script]:
    script = Script(*outcomes)
    latest = await script.run()
    return latest.board.statuses["assessments"], script


async def test_a_whole_round_is_published_and_counted() -> None:
    status, _ = await run(WHOLE)

    assert status.snapshot is WHOLE
    assert status.results == {"success": 1, "partial": 0, "failure": 0}
    assert status.last_success is not None
    assert status.record_faults == {}


async def test_a_partial_round_replaces_the_snapshot_whole_and_is_no_success() -> None:
    status, _ = await run(WHOLE, BROKEN)

    assert status.snapshot is BROKEN
    assert status.results["partial"] == 1
    assert status.errors["missing_object"] == 1
    assert set(status.record_faults) == {"profiles"}


async def test_a_failed_round_keeps_the_snapshot_and_fails_every_record() -> None:
    status, _ = await run(WHOLE, CollectionError(REFUSED))

    assert status.snapshot is WHOLE
    assert status.last is not None
    assert status.last.result == "failure"
    assert status.errors["connect"] == 1
    assert set(status.record_faults) == {"profiles", "fc_scores"}


async def test_a_fault_of_our_own_is_a_failed_round_and_does_not_end_the_watch(
    caplog: pytest.LogCaptureFixture,
) -> None:
    status, _ = await run(RuntimeError("secret of a row"), WHOLE)

    assert status.results == {"success": 1, "partial": 0, "failure": 1}
    assert status.errors["internal"] == 1
    assert "collection.crashed" in caplog.messages
    assert "secret" not in str([vars(record) for record in caplog.records if record.msg != "collection.crashed"])


async def test_before_the_first_round_nothing_is_up() -> None:
    latest = Latest([a_status()], now=1.0)

    assert not latest.board.is_ready
    assert not latest.ready.is_set()
    assert set(latest.board.statuses["assessments"].record_faults) == {"profiles", "fc_scores"}


async def test_ready_once_every_pipeline_has_had_a_round_well_or_not() -> None:
    other = PipelineStatus(a_pipeline("orders", "invoices"), max_age=300.0)
    latest = Latest([a_status(), other], now=1.0)

    latest.publish(a_status().after(ended(WHOLE), now=1.0))
    assert not latest.ready.is_set()

    latest.publish(other.after(ended(None, REFUSED), now=1.0))
    assert latest.ready.is_set()


@pytest.mark.skipif(
    not hasattr(time, "CLOCK_BOOTTIME"), reason="this system's clocks stand still in a suspended machine"
)
async def test_the_time_of_a_suspended_machine_is_part_of_the_age(monkeypatch: pytest.MonkeyPatch) -> None:
    """The machine sleeps for 8 hours during a collection, as only one clock tells."""
    slept = 0.0
    monkeypatch.setattr(time, "clock_gettime", lambda clock: 100.0 + slept * (clock == time.CLOCK_BOOTTIME))

    async def sleeps(_plan: Plan) -> Snapshot:
        nonlocal slept
        slept = 8 * 3600.0
        return WHOLE

    collection = await measure(plan_of(TOUR.read_text(), "postgresql://nowhere"), sleeps)
    status = a_status().after(collection, elapsed())

    assert collection.age == slept
    assert status.is_withdrawn(elapsed())


def test_values_are_withdrawn_when_older_than_max_age_and_not_before() -> None:
    status = a_status().after(ended(WHOLE), now=1000.0).after(ended(None, REFUSED), now=1290.0)

    assert not status.is_withdrawn(1300.0)
    assert status.is_withdrawn(1300.1)


def test_rounds_start_an_interval_apart() -> None:
    assert pause(a_status(), interval=30, duty=1 / 11, duration=2) == pytest.approx(28)


def test_after_a_total_failure_the_rest_is_at_most_four_intervals_too() -> None:
    assert pause(a_status(failures_in_a_row=1), interval=30, duty=1 / 11, duration=30) == 120


def test_jitter_brings_a_round_forward_but_never_into_the_rest() -> None:
    assert pause(a_status(), interval=30, duty=1 / 11, duration=0, jitter=0.1) == pytest.approx(27)
    assert pause(a_status(), interval=30, duty=1 / 11, duration=12, jitter=0.1) == pytest.approx(120)


def test_a_slow_database_is_left_in_peace_ten_times_as_long_as_it_took() -> None:
    assert pause(a_status(), interval=30, duty=1 / 11, duration=12) == pytest.approx(120)
    assert pause(a_status(), interval=30, duty=1, duration=45) == 0


def test_after_slices_the_next_round_follows_soon_whatever_failed_before() -> None:
    """A full pass that timed out before the first slices: the numbers would be withdrawn before the next round."""
    sliced = replace(WHOLE, swept=Swept(0.1, 1000.0, None))
    status = a_status(last=ended(sliced))

    assert pause(status, interval=30, duty=0.05, duration=51) == pytest.approx(30)
    assert pause(status, interval=30, duty=0.05, duration=1.5) == pytest.approx(28.5)


@pytest.mark.parametrize(("failures", "intervals"), [(0, 1), (1, 1), (2, 2), (3, 4), (4, 4), (5000, 4)])
def test_total_failures_back_off_to_four_intervals(failures: int, intervals: int) -> None:
    assert pause(a_status(failures_in_a_row=failures), interval=30, duty=1 / 11, duration=0) == 30 * intervals


async def test_a_partial_failure_does_not_back_off_and_a_success_ends_the_back_off() -> None:
    refused = CollectionError(REFUSED)
    _, script = await run(BROKEN, BROKEN, BROKEN, refused, refused, refused, refused, WHOLE)

    expected = [30, 30, 30, 30, 60, 120, 120, 30]
    for waited, interval in zip(script.pauses, expected, strict=True):
        assert interval * (1 - JITTER) - 1 <= waited <= interval


async def test_a_failure_and_its_recovery_are_each_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    refused = CollectionError(REFUSED)

    await run(WHOLE, refused, refused, WHOLE, BROKEN, BROKEN, WHOLE, WHOLE)

    events = [(r.msg, getattr(r, "record", None), getattr(r, "reason", None)) for r in caplog.records]
    assert events == [
        ("collection.first", None, None),
        ("collection.failing", None, "connect"),
        ("collection.recovered", None, None),
        ("collection.failing", "profiles", "missing_object"),
        ("collection.recovered", "profiles", None),
    ]


async def test_another_message_is_news_and_another_number_is_not(caplog: pytest.LogCaptureFixture) -> None:
    told = ("connection closed: see the server", "connection refused: start it", "312 s behind", "342 s behind")
    faults = [Fault("connect", message) for message in told]

    await run(*map(CollectionError, faults))

    assert [getattr(record, "error", None) for record in caplog.records] == list(told[:3])


async def test_another_reason_is_news(caplog: pytest.LogCaptureFixture) -> None:
    await run(CollectionError(REFUSED), CollectionError(Fault("authentication", "…")))

    assert [getattr(record, "reason", None) for record in caplog.records] == ["connect", "authentication"]


async def test_a_record_still_broken_after_an_outage_is_said_again(caplog: pytest.LogCaptureFixture) -> None:
    await run(BROKEN, CollectionError(REFUSED), BROKEN)

    assert [(r.msg, getattr(r, "record", None)) for r in caplog.records] == [
        ("collection.failing", "profiles"),
        ("collection.failing", None),
        ("collection.failing", "profiles"),
        ("collection.recovered", None),
    ]


async def test_it_is_told_when_the_next_round_begins() -> None:
    status, script = await run(WHOLE)

    assert status.last is not None
    assert status.due == status.last.ended_at + script.pauses[-1]


def test_while_a_round_is_under_way_nobody_knows_when_the_next_begins() -> None:
    assert a_status(due=2000.0).after(ended(WHOLE), now=1.0).due is None
