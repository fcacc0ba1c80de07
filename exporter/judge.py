"""Readings + limits -> Judgement: the one place where a number is held against its limit.  Pure.

What the verdict, `check` and every report say of a snapshot is what was judged here, once.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final, Literal, get_args

from exporter.dimension import Caveat, Dimension, Limit, Readings, UnmeasuredError
from exporter.schema import SEVERITIES, LimitUnit, Pipeline, RatioThresholds, Severity, Thresholds

Verdict = Literal["healthy", "degraded", "unhealthy", "no_data", "unknown"]
VERDICTS: Final[tuple[Verdict, ...]] = get_args(Verdict)
WORST_FIRST: Final[tuple[Verdict, ...]] = ("unhealthy", "unknown", "degraded", "no_data", "healthy")


def in_words(verdict: Verdict) -> str:
    """A verdict as people say it."""
    return verdict.replace("_", " ")


Outcome = Literal["within", "warning", "critical", "too_few", "not_measured"]
"""How a value stands to its limit; `too_few`: a ratio rests on fewer sessions than `min_sessions`."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One value held against its limit: `subject` is the record or check that it is about, None for the pipeline.

    `value` is in base units (seconds, a share from 0 to 1, a count); None where there was nothing to judge, or it
    was not measured.  `sessions` is the number that a ratio rests on, None for others.  `thresholds` is what the config
    sets.
    """

    limit: Limit
    subject: str | None
    outcome: Outcome
    value: float | None
    thresholds: Mapping[Severity, float]
    sessions: int | None = None

    @property
    def text(self) -> str:
        """The value beside the threshold that decided, in words and figures."""
        unit = self.limit.unit
        if self.outcome == "not_measured":
            return "not measured"
        rests = "" if self.sessions is None else f" of {self.sessions} sessions"
        if self.outcome == "too_few":
            return f"too few to judge{rests}"
        if self.value is None:
            return "none"
        broken: Severity | None = self.outcome if self.outcome != "within" else None
        bound = self.thresholds[broken] if broken else next(iter(self.thresholds.values()))
        sign = {(False, False): "≤", (False, True): ">", (True, False): "≥", (True, True): "<"}
        return f"{shown(self.value, unit)}{rests} {sign[self.limit.below, broken is not None]} {shown(bound, unit)}"


@dataclass(frozen=True, slots=True)
class Judgement:
    """All that was held against a limit, and what else keeps a pipeline from being healthy."""

    findings: tuple[Finding, ...]
    caveats: tuple[Caveat, ...]

    def verdict(self, *, is_complete: bool) -> Verdict:
        """The worst that holds; `is_complete` says whether the last collection measured everything."""
        outcomes = {finding.outcome for finding in self.findings}
        kept_from = {caveat.verdict for caveat in self.caveats}
        if "critical" in outcomes:
            return "unhealthy"
        if not is_complete or "not_measured" in outcomes or "unknown" in kept_from:
            return "unknown"
        if "warning" in outcomes:
            return "degraded"
        return "no_data" if "no_data" in kept_from else "healthy"


def judge(
    dimensions: Sequence[Dimension],
    readings: Readings,
    faulty_records: frozenset[str],
    faulty_parts: frozenset[str],
    restricted: Sequence[str],
) -> Judgement:
    """Hold every value that has a limit against it.

    `faulty_records` (by name) and `faulty_parts` (by path) were not measured, of the tables `restricted` policies show
    some rows only.
    """
    findings: list[Finding] = []
    caveats: list[Caveat] = []
    for dimension in dimensions:
        subjects: dict[str, dict[str, bool]] = {
            "pipeline": {"": False},
            "record": {name: name in faulty_records for name in readings.pipeline.records},
            "part": {part.name: part.path in faulty_parts for part in dimension.parts(readings.pipeline)},
        }
        for limit in dimension.limits:
            given = readings.pipeline.limits.of(limit.name)
            if given is not None:
                wanted = {
                    name: faulty for name, faulty in subjects[limit.per].items() if _applies(limit, readings, name)
                }
                findings += [_find(limit, readings, name, given, is_faulty=faulty) for name, faulty in wanted.items()]
        with suppress(UnmeasuredError):
            caveats += dimension.caveats(readings)
    if restricted:
        caveats.append(
            Caveat(
                "unknown",
                f"policies decide which rows of {', '.join(restricted)} this role sees, and the others are not "
                "measured: give it BYPASSRLS, or read views of the owner's with row_security: strict",
            )
        )
    return Judgement(tuple(findings), tuple(caveats))


def could_judge(limit: Limit, pipeline: Pipeline) -> bool:
    """Whether the config has what the limit needs, so that there may be something to judge."""
    return all(_reaches(pipeline, keys) for keys in limit.needs)


def _applies(limit: Limit, readings: Readings, subject: str) -> bool:
    """Whether the config gives a record what the limit needs."""
    if limit.per != "record":
        return True
    record = readings.pipeline.records[subject]
    return all(_reaches(record, keys[2:]) for keys in limit.needs if keys[0] == "records")


def _reaches(section: Any, keys: Sequence[str]) -> bool:  # noqa: ANN401 - any part of a config
    """Whether the config gives something at this place, for any of those whose name is `*`."""
    if not keys:
        return section is not None and section != {}
    first, *rest = keys
    if first == "*":
        return any(_reaches(one, rest) for one in section.values())
    return _reaches(getattr(section, first, None), rest)


def _find(limit: Limit, readings: Readings, subject: str, given: Thresholds, *, is_faulty: bool) -> Finding:
    bounds = thresholds(given)
    named = subject or None
    unmeasured = Finding(limit, named, "not_measured", None, bounds)
    if is_faulty:
        return unmeasured
    try:
        read = limit.value.read(readings, subject)
    except UnmeasuredError:
        return unmeasured
    value, sessions = read if isinstance(read, tuple) else (read, None)
    count = None if sessions is None else int(sessions)
    if count is not None and isinstance(given, RatioThresholds) and count < given.min_sessions:
        return Finding(limit, named, "too_few", value, bounds, count)
    return Finding(limit, named, _outcome(limit, value, bounds), value, bounds, count)


def _outcome(limit: Limit, value: float | None, bounds: Mapping[Severity, float]) -> Outcome:
    if value is None:
        return "within"
    for severity in reversed(SEVERITIES):
        bound = bounds.get(severity)
        if bound is not None and (value < bound if limit.below else value > bound):
            return severity
    return "within"


def thresholds(given: Thresholds) -> dict[Severity, float]:
    """What the config sets for one limit, in base units."""
    found: dict[Severity, float] = {}
    for severity in SEVERITIES:
        value = getattr(given, severity)
        if value is not None:
            found[severity] = value.total_seconds() if isinstance(value, timedelta) else float(value)
    return found


def limits_of(pipeline: Pipeline, dimensions: Sequence[Dimension]) -> Iterator[tuple[str, Severity, float]]:
    """Every threshold of a pipeline: its limit, its severity, and the number in base units."""
    for limit in (limit for dimension in dimensions for limit in dimension.limits):
        given = pipeline.limits.of(limit.name)
        for severity, bound in thresholds(given).items() if given else ():
            yield limit.name, severity, bound


def min_sessions_of(pipeline: Pipeline, dimensions: Sequence[Dimension]) -> Iterator[tuple[str, int]]:
    """For every ratio that is judged, the number of sessions below which it says nothing."""
    for limit in (limit for dimension in dimensions for limit in dimension.limits):
        given = pipeline.limits.of(limit.name)
        if isinstance(given, RatioThresholds):
            yield limit.name, given.min_sessions


_STEPS: Final = (("d", 86400), ("h", 3600), ("m", 60))


def shown(value: float, unit: LimitUnit) -> str:
    """A number with its unit, for people: `39`, `98.73%`, `1h5m`.  A share is shown as 0 or all only where it is."""
    if unit == "count":
        return f"{value:.0f}"
    if unit == "ratio":
        percent = f"{value:.2%}"
        if percent == "100.00%" and value < 1:
            return ">99.99%"
        if percent == "0.00%" and value > 0:
            return "<0.01%"
        return percent.replace(".00%", "%")
    if value < 60:  # noqa: PLR2004 - a minute
        return f"{value:.3g}s"
    rest, parts = round(value), []
    for name, seconds in _STEPS:
        count, rest = divmod(rest, seconds)
        parts += [f"{count}{name}"] if count else []
    return "".join([*parts[:2], *([f"{rest}s"] if rest and len(parts) < 2 else [])])  # noqa: PLR2004 - two are enough
