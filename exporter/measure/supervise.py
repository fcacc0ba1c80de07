"""Collects each pipeline at its interval, publishes the result, and logs each change once."""

import asyncio
import logging
import random
import re
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from typing import Any, Final

from exporter.measure.collect import collect
from exporter.measure.pause import unless_paused
from exporter.measure.turns import Turns
from exporter.model.fault import CollectionError, Fault
from exporter.model.sections import CollectionSettings
from exporter.plan.plan import Plan
from exporter.state.board import Latest, PipelineStatus
from exporter.state.snapshot import Collection, Snapshot
from exporter.text.figures import format_value
from exporter.text.times import elapsed

log = logging.getLogger(__name__)

Collect = Callable[[Plan], Coroutine[Any, Any, Snapshot]]

BACK_OFF_LIMIT: Final = 4
"""The longest back-off after failures, in intervals."""

JITTER: Final = 0.1
"""A collection may start earlier by up to this share of the interval, so that pipelines drift apart."""


def initial_status(plan: Plan, max_age: float) -> PipelineStatus:
    """The status of a pipeline before the first collection; `max_age` in seconds."""
    return PipelineStatus(
        config=plan.pipeline,
        max_age=max_age,
        tracks=tuple(track for dimension in plan.dimensions for track in dimension.charts.tracks),
    )


CLOCKS_APART: Final = 60.0
"""Seconds between the clocks of database and exporter that the log mentions."""


async def measure(
    plan: Plan, collect: Collect, longest: float | None = None, pause_file: str | None = None
) -> Collection:
    """One collection: a snapshot, or the fault.  The only place that turns CollectionError into a status.

    A collection ends after `longest` seconds, with all its attempts, and when the pause file appears.
    """
    started = elapsed()
    snapshot, fault = None, None
    try:
        async with asyncio.timeout(longest):
            snapshot = await unless_paused(lambda: collect(plan), pause_file)
    except CollectionError as error:
        fault = error.fault
    except TimeoutError:
        fault = Fault(
            "collection_timeout",
            f"the collection took longer than max_age ({format_value(longest or 0, 'seconds')}): raise max_age, or add "
            "the indexes that config check --connect proposes",
        )
    except Exception as error:
        # A bug of the exporter must neither end the collections nor stay unseen.
        log.exception("collection.crashed", extra={"pipeline": plan.pipeline.name})
        fault = Fault("internal", f"{type(error).__name__}: a bug of the exporter: see the exporter's log")
    duration = elapsed() - started
    lag = (snapshot.replica_lag or 0.0) if snapshot else 0.0
    return Collection(snapshot, fault, duration, ended_at=time.time(), age=duration + lag)


def pause(status: PipelineStatus, interval: float, duty: float, duration: float, jitter: float = 0) -> float:
    """Seconds to wait after a collection; `duration` in seconds, `jitter` as a share of the interval (0 to 1).

    Collections start one interval apart, and later after total failures.  Collections take at most the share `duty` (0
    to 1) of the time.  After a total failure the pause is at most four intervals, and after slices at most one: a round
    of slices is planned to take the share, unless a full pass failed before the first slices.  While an operator pauses
    the exporter, the pause is one interval: the exporter measures soon after.
    """
    is_paused = status.last is not None and status.last.fault is not None and status.last.fault.reason == "paused"
    doublings = 0 if is_paused else max(0, status.failures_in_a_row - 1)
    stretched = interval * min(1 << min(doublings, BACK_OFF_LIMIT), BACK_OFF_LIMIT)
    rest = duration * (1 / duty - 1)
    if status.last is not None and status.last.snapshot is not None and status.last.snapshot.swept is not None:
        rest = min(rest, interval)
    wait = max(stretched * (1 - jitter) - duration, rest, 0.0)
    return min(wait, BACK_OFF_LIMIT * interval) if status.failures_in_a_row else wait


async def supervise(
    plan: Plan,
    latest: Latest,
    settings: CollectionSettings,
    turn: AbstractAsyncContextManager[object],
    collect: Collect,
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
) -> None:
    """Collect one pipeline for ever, one collection at a time, while `turn` has a place.

    A collection ends within `max_age`: older numbers would be withdrawn at once.
    """
    name, interval = plan.pipeline.name, plan.pipeline.interval.total_seconds()
    duty, max_age = settings.duty, settings.max_age.total_seconds()
    slow = False
    while True:
        async with turn:
            collection = await measure(plan, collect, max_age, settings.pause_file)
        before = latest.board.statuses[name]
        status = before.after(collection, elapsed())
        jitter = random.uniform(0, JITTER)  # noqa: S311 - spreads load, guards nothing
        wait = pause(status, interval, duty, collection.duration, jitter)
        latest.publish(replace(status, due=collection.ended_at + wait))
        report_changes(before, status)
        is_slow = collection.age + wait > status.max_age
        if status.snapshot is not None and is_slow and not slow:
            log.warning(
                "collection.slow",
                extra={
                    "pipeline": name,
                    "seconds": round(collection.duration, 1),
                    "error": "values are withdrawn before the next collection: raise max_age or duty",
                },
            )
        slow = is_slow
        await sleep(wait)


def report_changes(before: PipelineStatus, after: PipelineStatus) -> None:
    """Log new faults and recoveries, once each; a collection without a change logs nothing."""
    known = {"pipeline": after.pipeline, "database": after.database}
    old, new = _faults(before), _faults(after)
    for subject, fault in new.items():
        if subject not in old or _kind(old[subject]) != _kind(fault):
            log.error(
                "collection.failing",
                extra={**known, **_about(subject), "reason": fault.reason, "error": fault.message},
            )
    for subject in old:
        # After a total failure, the recovery of a record is unknown.
        if subject not in new and None not in new:
            log.warning("collection.recovered", extra={**known, **_about(subject)})
    _report_clocks(before.snapshot, after.snapshot, known)
    if before.last is None and not new:
        log.info("collection.first", extra={**known, "seconds": round(after.last.duration, 3) if after.last else 0})


def _report_clocks(before: Snapshot | None, after: Snapshot | None, known: Mapping[str, object]) -> None:
    were, are = (one is not None and abs(one.clock_offset) > CLOCKS_APART for one in (before, after))
    if are and not were and after is not None:
        log.warning(
            "clock.differs",
            extra={
                **known,
                "seconds": round(after.clock_offset),
                "error": "the clocks of the database and the exporter differ: ages on dashboards are wrong by as much; "
                "check the time synchronization of both machines",
            },
        )


def _faults(status: PipelineStatus) -> dict[str | None, Fault]:
    """Faults by the keys below the pipeline; the key None is the whole pipeline."""
    if status.last is None:
        return {}
    if status.last.fault is not None:
        return {None: status.last.fault}
    parts = status.last.snapshot.part_faults if status.last.snapshot else {}
    found: dict[str | None, Fault] = {f"records.{name}": fault for name, fault in status.record_faults.items()}
    found.update(parts.items())
    return found


def _kind(fault: Fault) -> tuple[str, str]:
    """A fault without the numbers in its message: a lag that grows is no news."""
    return fault.reason, _NUMBER.sub("", fault.message)


_NUMBER: Final = re.compile(r"[0-9]+")


def _about(path: str | None) -> dict[str, str]:
    if path is None:
        return {}
    return {"record": path.removeprefix("records.")} if path.startswith("records.") else {"part": path}


async def collect_once(plans: Iterable[Plan]) -> tuple[PipelineStatus, ...]:
    """Collect each pipeline once, as many at a time as the databases allow; a fault is part of the status."""
    turns = Turns()

    async def one(plan: Plan) -> PipelineStatus:
        async with turns.of(plan):
            return initial_status(plan, max_age=float("inf")).after(await measure(plan, collect), now=0.0)

    return tuple(await asyncio.gather(*map(one, plans)))
