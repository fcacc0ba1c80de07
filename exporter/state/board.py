"""The state of every pipeline: an immutable `Board` in the only mutable cell."""

import asyncio
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Final

from exporter.model.fault import REASONS, Fault, Reason
from exporter.model.judging import Readings
from exporter.model.reporting import Caveat, Track
from exporter.model.sections import Pipeline
from exporter.model.standing import Verdict
from exporter.state.history import Point, remembered
from exporter.state.judge import Finding
from exporter.state.snapshot import RESULTS, Collection, Result, Snapshot


@dataclass(frozen=True, slots=True)
class PipelineStatus:
    """The state of one pipeline.

    `snapshot` is the served snapshot, None before the first.  The snapshot was taken at `taken` (seconds of a clock
    that never steps), and is withdrawn at an age of `max_age` seconds.  `last` is the latest collection, failed or not.
    `last_success` (Unix seconds) is None before the first complete collection.  `history` has the collections
    since the start, with the number of each of the `tracks`.  `due` is the start of the next collection (Unix seconds),
    None if unknown.
    """

    config: Pipeline
    max_age: float
    snapshot: Snapshot | None = None
    taken: float = 0.0
    last: Collection | None = None
    last_success: float | None = None
    failures_in_a_row: int = 0
    results: Mapping[Result, int] = field(default_factory=lambda: dict.fromkeys(RESULTS, 0))
    errors: Mapping[Reason, int] = field(default_factory=lambda: dict.fromkeys(REASONS, 0))
    tracks: tuple[Track, ...] = ()
    history: tuple[Point, ...] = ()
    due: float | None = None

    @property
    def pipeline(self) -> str:
        """The name of the pipeline."""
        return self.config.name

    @property
    def database(self) -> str:
        """The name of the database."""
        return self.config.database

    @property
    def records(self) -> tuple[str, ...]:
        """The names of the records."""
        return tuple(self.config.records)

    def after(self, collection: Collection, now: float) -> "PipelineStatus":
        """The status after a collection that ended at `now`."""
        errors = dict(self.errors)
        for fault in collection.faults:
            errors[fault.reason] += 1
        succeeded = collection.result == "success"
        status = replace(
            self,
            last=collection,
            last_success=collection.ended_at if succeeded else self.last_success,
            failures_in_a_row=self.failures_in_a_row + 1 if collection.snapshot is None else 0,
            results={**self.results, collection.result: self.results[collection.result] + 1},
            errors=errors,
            due=None,
        )
        if collection.snapshot is not None:
            status = replace(status, snapshot=collection.snapshot, taken=now - collection.age)
        readings = collection.snapshot.readings if collection.snapshot else None
        # A broken limit of a served snapshot outlasts an outage; after the withdrawal the verdict is unknown.
        verdict = replace(status, snapshot=None).verdict if status.is_withdrawn(now) else status.verdict
        point = Point(
            collection.ended_at,
            collection.ended_at,
            rounds=1,
            verdict=verdict,
            values=tuple(readings.get(t.metric, *t.labels) if readings else None for t in self.tracks),
        )
        return replace(status, history=remembered(self.history, point, self.tracks))

    def is_withdrawn(self, now: float) -> bool:
        """Whether the snapshot is too old to be served."""
        return self.snapshot is not None and now - self.taken > self.max_age

    @property
    def verdict(self) -> Verdict:
        """Unhealthy for a broken critical limit of the served snapshot, else unknown unless everything was measured."""
        if self.snapshot is None or self.last is None:
            return "unknown"
        return self.snapshot.judgement.verdict(is_complete=self.last.result == "success")

    @property
    def findings(self) -> tuple[Finding, ...]:
        """Every judged value of the served snapshot."""
        return self.snapshot.judgement.findings if self.snapshot else ()

    @property
    def caveats(self) -> tuple[Caveat, ...]:
        """Other reasons of the served snapshot for a verdict other than healthy."""
        return self.snapshot.judgement.caveats if self.snapshot else ()

    @property
    def readings(self) -> Readings | None:
        """The numbers of the served snapshot, None without a served snapshot."""
        return self.snapshot.readings if self.snapshot else None

    @property
    def record_faults(self) -> Mapping[str, Fault]:
        """The records without a measurement in the last collection; all records without a snapshot."""
        if self.last is None or self.last.snapshot is None:
            fault = self.last.fault if self.last and self.last.fault else _NOT_YET
            return dict.fromkeys(self.records, fault)
        return self.last.snapshot.record_faults


_NOT_YET: Final = Fault("internal", "nothing has been measured yet")


@dataclass(frozen=True, slots=True)
class ReloadStatus:
    """The last attempt to read the config: the success, and the time of the last success (Unix seconds)."""

    succeeded: bool
    last_success: float


@dataclass(frozen=True, slots=True, eq=False)
class Board:
    """The status of every pipeline, in the order of the config.  Compared by identity."""

    statuses: Mapping[str, PipelineStatus]
    reload: ReloadStatus

    def withdrawn(self, now: float) -> frozenset[str]:
        """The pipelines whose snapshot is too old to be served at `now`."""
        return frozenset(name for name, status in self.statuses.items() if status.is_withdrawn(now))

    def without_snapshots(self, pipelines: frozenset[str]) -> "Board":
        """The board without the snapshots of some pipelines."""
        visible = {
            name: replace(status, snapshot=None) if name in pipelines else status
            for name, status in self.statuses.items()
        }
        return replace(self, statuses=visible)

    @property
    def is_ready(self) -> bool:
        """Whether the first collection of every pipeline has ended, with or without success."""
        return all(status.last is not None for status in self.statuses.values())


class Latest:
    """The only mutable cell: the current board; `ready` is set as soon as the board is ready."""

    def __init__(self, statuses: Iterable[PipelineStatus], now: float) -> None:
        """Start with the statuses of a config read at `now` (Unix seconds)."""
        self.board = Board(_by_pipeline(statuses), ReloadStatus(succeeded=True, last_success=now))
        self.ready = asyncio.Event()

    def reloaded(self, statuses: Iterable[PipelineStatus], now: float) -> None:
        """Start again with the statuses of another config, read at `now`."""
        self.board = Board(_by_pipeline(statuses), ReloadStatus(succeeded=True, last_success=now))

    def reload_failed(self) -> None:
        """Record a failed read of another config, and keep the statuses."""
        self.board = replace(self.board, reload=replace(self.board.reload, succeeded=False))

    def publish(self, status: PipelineStatus) -> None:
        """Replace the status of one pipeline."""
        self.board = replace(self.board, statuses={**self.board.statuses, status.pipeline: status})
        if self.board.is_ready:
            self.ready.set()


def _by_pipeline(statuses: Iterable[PipelineStatus]) -> dict[str, PipelineStatus]:
    return {status.pipeline: status for status in statuses}
