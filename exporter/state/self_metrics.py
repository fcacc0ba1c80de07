"""Metrics about the exporter, and about the measuring of each pipeline, with the values."""

import os
import platform
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from exporter import __version__
from exporter.model.fault import REASONS
from exporter.model.metric import SNAPSHOT_TIME, WINDOW_START, Metric
from exporter.model.sections import RatioThresholds
from exporter.model.standing import STANDINGS, VERDICTS, Standing
from exporter.state.board import Board, PipelineStatus
from exporter.state.judge import Finding, LimitValue, thresholds
from exporter.state.snapshot import RESULTS

OwnNumbers = Iterable[tuple[tuple[str, ...], float | None]]
"""Label values and a number; None for no series."""

VERDICT: Final = Metric(
    "verdict",
    "1 for the current verdict, 0 for the other verdicts.  Unhealthy if a critical limit is broken, else unknown while "
    "a number is not measured or judged.",
    ("verdict",),
)
LIMIT: Final = Metric(
    "limit",
    "Thresholds of the config, in base units: counts, shares from 0 to 1, seconds.",
    ("limit", "severity"),
)
LIMIT_MIN_SESSIONS: Final = Metric(
    "limit_min_sessions",
    "Least number of sessions for which the limit on a ratio is judged.",
    ("limit",),
)
VERDICT_LEVEL: Final = Metric(
    "verdict_level",
    "The current verdict as a number; the larger, the worse: 1 healthy, 2 no data, 3 degraded, 4 unknown, 5 unhealthy.",
)
LIMIT_VALUE: Final = Metric(
    "limit_value",
    "Number that a limit judges, in base units: a count, a share from 0 to 1, seconds; also without a threshold.  "
    "Absent if there is nothing to judge, or no measurement.",
    ("limit", "record", "check"),
)
LIMIT_LEVEL: Final = Metric(
    "limit_level",
    "Standing of a limit with a threshold; the larger, the worse: 0 nothing to judge, 1 within, 2 too few sessions, "
    "3 warning, 4 unknown, 5 critical.",
    ("limit", "record", "check"),
)
LIMIT_BROKEN: Final = Metric(
    "limit_broken",
    "1 if the judged value is beyond the threshold of the severity, else 0, also with nothing to judge.  Absent if "
    "unknown: no measurement, too few sessions, or a part of the rows that proves nothing.",
    ("limit", "severity", "record", "check"),
)
UP: Final = Metric("up", "1 if the last collection measured everything and the values are served, else 0.")
RECORD_UP: Final = Metric(
    "record_up",
    "1 if the last collection measured this record and the values are served, else 0.",
    ("record",),
)
RESTRICTED: Final = Metric(
    "visibility_restricted",
    "1 if a policy hides rows from the exporter (`row_security: allow`): hidden rows are not measured; else 0.",
)
FOLDED_SERIES: Final = Metric(
    "folded_series",
    "Series added up in `<other>`, beyond `max_label_values`.  A sum made by the database, beyond 10,000 values, "
    "counts as one series.",
    ("metric",),
)
MAX_AGE: Final = Metric(
    "max_age_seconds", "Age at which the exporter withdraws a snapshot with all values (`max_age`)."
)
INTERVAL: Final = Metric(
    "collection_interval_seconds",
    "Time from the start of a collection to the next start; longer if the database is slow or unreachable.",
)
REPLICA_LAG: Final = Metric(
    "replica_lag_seconds",
    "Lag of the replica at the time of the served snapshot.  Absent for a primary.",
)
CLOCK_OFFSET: Final = Metric(
    "database_clock_offset_seconds",
    "Clock of the database minus clock of the exporter, at the time of the served snapshot.",
)
SWEEP_COVERAGE: Final = Metric(
    "sweep_coverage_ratio",
    "Share of the tables that slices have measured; below 1 in the first sweep.  Absent if each collection measures "
    "everything.",
)
OLDEST_SLICE: Final = Metric(
    "oldest_slice_age_seconds",
    "Age of the oldest slice at the time of the served snapshot: older changes of old sessions are in the numbers.  "
    "Absent if each collection measures everything.",
)
SWEEP_DIFFERENCES: Final = Metric(
    "sweep_differences",
    "Sessions of old slices that the last whole sweep found changed.  Absent before the end of the second sweep, or if "
    "each collection measures everything.",
)
LAST_SUCCESS: Final = Metric(
    "last_success_timestamp_seconds",
    "Time of the last collection that measured everything, by the exporter's clock.  Absent before the first.",
)
COLLECTION_DURATION: Final = Metric("collection_duration_seconds", "Duration of the last collection.")
COLLECTIONS: Final = Metric(
    "collections_total",
    "Collections by result: success (all measured), partial (a record or check is missing), failure (no snapshot).",
    ("result",),
)
COLLECTION_ERRORS: Final = Metric("collection_errors_total", "Faults of collections by reason.", ("reason",))
RELOAD_SUCCESSFUL: Final = Metric(
    "config_last_reload_successful", "1 if the last read of the config found no mistake, else 0."
)
RELOAD_SUCCESS_TIME: Final = Metric(
    "config_last_reload_success_timestamp_seconds", "Time at which the active config was read."
)
BUILD_INFO: Final = Metric(
    "exporter_build_info",
    "Always 1; the labels name the running version.",
    labels=("version", "python_version", "revision"),
)


@dataclass(frozen=True, slots=True)
class SelfMetric:
    """A family about the measuring of a pipeline: `values` gives label values and a number, None for no series.

    `alerts`: rules make alerts from the family, so each series has the `owner` and the `labels` of the pipeline.
    """

    metric: Metric
    values: Callable[[PipelineStatus], OwnNumbers]
    is_counter: bool = False
    alerts: bool = False


def _up(status: PipelineStatus) -> OwnNumbers:
    # Withdrawn values are not measured, even after a successful collection.
    served = status.snapshot is not None
    yield (), float(served and status.last is not None and status.last.result == "success")


def _record_up(status: PipelineStatus) -> OwnNumbers:
    faults = status.record_faults
    for record in status.records:
        yield (record,), float(status.snapshot is not None and record not in faults)


def _snapshot_time(status: PipelineStatus) -> OwnNumbers:
    yield (), status.snapshot.taken_at if status.snapshot else None


def _folded(status: PipelineStatus) -> OwnNumbers:
    for metric, count in status.snapshot.folded.items() if status.snapshot else ():
        yield (metric,), count


def _replica_lag(status: PipelineStatus) -> OwnNumbers:
    yield (), status.snapshot.replica_lag if status.snapshot else None


def _clock_offset(status: PipelineStatus) -> OwnNumbers:
    yield (), status.snapshot.clock_offset if status.snapshot else None


def _coverage(status: PipelineStatus) -> OwnNumbers:
    swept = status.snapshot.swept if status.snapshot else None
    yield (), swept.share if swept else None


def _oldest_slice(status: PipelineStatus) -> OwnNumbers:
    snapshot = status.snapshot
    yield (), max(0.0, snapshot.taken_at - snapshot.swept.oldest) if snapshot and snapshot.swept else None


def _differences(status: PipelineStatus) -> OwnNumbers:
    swept = status.snapshot.swept if status.snapshot else None
    yield (), swept.differences if swept else None


def _last_success(status: PipelineStatus) -> OwnNumbers:
    yield (), status.last_success


def _duration(status: PipelineStatus) -> OwnNumbers:
    yield (), status.last.duration if status.last else None


def _collections(status: PipelineStatus) -> OwnNumbers:
    for result in RESULTS:
        yield (result,), status.results[result]


def _errors(status: PipelineStatus) -> OwnNumbers:
    for reason in REASONS:
        yield (reason,), status.errors[reason]


def _verdict(status: PipelineStatus) -> OwnNumbers:
    for verdict in VERDICTS:
        yield (verdict,), float(verdict == status.verdict)


def _verdict_level(status: PipelineStatus) -> OwnNumbers:
    yield (), STANDINGS[status.verdict].level


def _limits(status: PipelineStatus) -> OwnNumbers:
    for limit, given in status.config.limits.given.items():
        for severity, bound in thresholds(given).items():
            yield (limit, severity), bound


def _min_sessions(status: PipelineStatus) -> OwnNumbers:
    for limit, given in status.config.limits.given.items():
        if isinstance(given, RatioThresholds):
            yield (limit,), given.min_sessions


def _findings(status: PipelineStatus) -> Iterator[tuple[str, tuple[str, str], Finding]]:
    """The name of the limit, the labels `record` and `check`, and the finding; empty labels are no labels."""
    for finding in status.snapshot.judgement.findings if status.snapshot else ():
        yield finding.limit.name, _subject(finding), finding


def _subject(one: Finding | LimitValue) -> tuple[str, str]:
    subject, per = one.subject or "", one.limit.per
    return subject * (per == "record"), subject * (per == "part")


def _limit_values(status: PipelineStatus) -> OwnNumbers:
    for one in status.snapshot.judgement.values if status.snapshot else ():
        yield (one.limit.name, *_subject(one)), one.value


def _limit_levels(status: PipelineStatus) -> OwnNumbers:
    for limit, subject, finding in _findings(status):
        yield (limit, *subject), finding.standing.level
    if status.snapshot is None:
        for limit in status.config.limits.given:
            yield (limit, "", ""), Standing.UNKNOWN.level


def _limits_broken(status: PipelineStatus) -> OwnNumbers:
    for limit, subject, finding in _findings(status):
        for severity, is_broken in finding.broken.items():
            yield (limit, severity, *subject), float(is_broken)


def _interval(status: PipelineStatus) -> OwnNumbers:
    yield (), status.config.interval.total_seconds()


def _max_age(status: PipelineStatus) -> OwnNumbers:
    yield (), status.max_age


def _window_start(status: PipelineStatus) -> OwnNumbers:
    snapshot = status.snapshot
    yield (), status.config.window.start(snapshot.taken_at) if snapshot else None


def _restricted(status: PipelineStatus) -> OwnNumbers:
    yield (), float(bool(status.snapshot.restricted)) if status.snapshot else None


SELF_METRICS: Final = (
    SelfMetric(VERDICT, _verdict, alerts=True),
    SelfMetric(VERDICT_LEVEL, _verdict_level),
    SelfMetric(LIMIT, _limits, alerts=True),
    SelfMetric(
        LIMIT_MIN_SESSIONS,
        _min_sessions,
    ),
    SelfMetric(LIMIT_VALUE, _limit_values, alerts=True),
    SelfMetric(LIMIT_LEVEL, _limit_levels),
    SelfMetric(LIMIT_BROKEN, _limits_broken, alerts=True),
    SelfMetric(UP, _up, alerts=True),
    SelfMetric(
        RECORD_UP,
        _record_up,
    ),
    SelfMetric(
        RESTRICTED,
        _restricted,
    ),
    SelfMetric(SWEEP_COVERAGE, _coverage),
    SelfMetric(OLDEST_SLICE, _oldest_slice),
    SelfMetric(SWEEP_DIFFERENCES, _differences),
    SelfMetric(
        FOLDED_SERIES,
        _folded,
    ),
    SelfMetric(
        SNAPSHOT_TIME,
        _snapshot_time,
    ),
    SelfMetric(
        WINDOW_START,
        _window_start,
    ),
    SelfMetric(MAX_AGE, _max_age, alerts=True),
    SelfMetric(
        INTERVAL,
        _interval,
    ),
    SelfMetric(
        REPLICA_LAG,
        _replica_lag,
    ),
    SelfMetric(CLOCK_OFFSET, _clock_offset),
    SelfMetric(LAST_SUCCESS, _last_success, alerts=True),
    SelfMetric(COLLECTION_DURATION, _duration),
    SelfMetric(
        COLLECTIONS,
        _collections,
        is_counter=True,
    ),
    SelfMetric(
        COLLECTION_ERRORS,
        _errors,
        is_counter=True,
    ),
)


@dataclass(frozen=True, slots=True)
class ProgramMetric:
    """A family about the program as a whole, without the labels of a pipeline."""

    metric: Metric
    values: Callable[[Board], OwnNumbers]


def revision() -> str:
    """The commit of the image, from the environment; `unknown` without an image."""
    return os.environ.get("SESSION_HEALTH_REVISION") or "unknown"


def _build_info(_board: Board) -> OwnNumbers:
    yield (__version__, platform.python_version(), revision()), 1


def _reload_succeeded(board: Board) -> OwnNumbers:
    yield (), float(board.reload.succeeded)


def _reload_success_time(board: Board) -> OwnNumbers:
    yield (), board.reload.last_success


PROGRAM_METRICS: Final = (
    ProgramMetric(
        RELOAD_SUCCESSFUL,
        _reload_succeeded,
    ),
    ProgramMetric(
        RELOAD_SUCCESS_TIME,
        _reload_success_time,
    ),
    ProgramMetric(
        BUILD_INFO,
        _build_info,
    ),
)
