"""Readings + limits -> Judgement: the only place that compares numbers with limits.  Pure.

The verdict, `check` and every report use the same judgement of a snapshot.
"""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

from exporter.model.dimension import Dimension
from exporter.model.judging import Limit, Readings, UnmeasuredError
from exporter.model.reporting import Caveat
from exporter.model.sections import SEVERITIES, Pipeline, RatioThresholds, Record, Severity, Thresholds
from exporter.model.standing import STANDINGS, Outcome, Standing, Verdict, in_words
from exporter.state.swept import Swept
from exporter.text.figures import format_exactly, format_value


@dataclass(frozen=True, slots=True)
class Finding:
    """A value compared with the limit: `subject` is the record or check, None for the pipeline.

    `value` is in base units (seconds, a share from 0 to 1, a count); None with nothing to judge, or without a
    measurement.  `sessions` is the number of sessions behind a ratio, else None.  `thresholds` come from the config.
    `words` replace the value: why the value was not judged, or a description; else empty.  `is_partial`: the value is
    of some rows, and proves nothing about all rows.
    """

    limit: Limit
    subject: str | None
    outcome: Outcome
    value: float | None
    thresholds: Mapping[Severity, float]
    sessions: int | None = None
    words: str = ""
    is_partial: bool = False

    @property
    def broken(self) -> Mapping[Severity, bool]:
        """Whether each threshold is broken; empty if unknown.  Nothing to judge breaks nothing."""
        if self.outcome in ("not_measured", "too_few") or self.is_partial:
            return {}
        return {
            severity: self.value is not None and self.limit.is_broken(self.value, bound)
            for severity, bound in self.thresholds.items()
        }

    @property
    def standing(self) -> Standing:
        """The mark of the value; unknown if some rows prove nothing about all rows."""
        return Standing.UNKNOWN if self.is_partial else STANDINGS[self.outcome]

    @property
    def text(self) -> str:
        """The value beside the deciding threshold; or the reason without a judgement."""
        if self.outcome == "not_measured":
            return in_words(self.outcome)
        if self.outcome in ("too_few", "not_judged"):
            return self.words
        return self.comparison

    @property
    def comparison(self) -> str:
        """`39 > 0`, `90% of 157 sessions ≥ 75%`, with enough digits to see the difference."""
        unit = self.limit.unit
        rests = "" if self.sessions is None else f" of {_sessions(self.sessions)}"
        broken: Severity | None = self.outcome if self.outcome in ("warning", "critical") else None
        bound = self.thresholds[broken] if broken else next(iter(self.thresholds.values()))
        sign = {(False, False): "≤", (False, True): ">", (True, False): "≥", (True, True): "<"}
        said = self.words or (
            "none" if self.value is None else format_value(self.value, unit, [*self.thresholds.values()])
        )
        return f"{said}{rests} {sign[self.limit.below, broken is not None]} {format_exactly(bound, unit)}"


def _sessions(count: int) -> str:
    return f"{count} session{'' if count == 1 else 's'}"


@dataclass(frozen=True, slots=True)
class LimitValue:
    """The number that a limit judges, in base units, also without a threshold; `subject` as in `Finding`."""

    limit: Limit
    subject: str | None
    value: float


@dataclass(frozen=True, slots=True)
class Judgement:
    """All judged values, and other reasons for a verdict other than healthy.

    `findings` has every limit with a threshold, `values` every limit with a number.
    """

    findings: tuple[Finding, ...]
    caveats: tuple[Caveat, ...]
    values: tuple[LimitValue, ...] = ()

    def verdict(self, *, is_complete: bool) -> Verdict:
        """The worst verdict that applies; `is_complete`: the last collection measured everything."""
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
    swept: Swept | None = None,
) -> Judgement:
    """Compare every value with the limit, if set.

    `faulty_records` (by name) and `faulty_parts` (by path) were not measured.  Policies hide rows of the tables
    `restricted`.  `swept` bounds sums of slices.
    """
    is_partial = swept is not None and not swept.is_whole
    findings: list[Finding] = []
    caveats: list[Caveat] = []
    values: list[LimitValue] = []
    seen = "the rows that policies show" if restricted else "the part measured so far" if is_partial else ""
    for dimension in dimensions:
        subjects: dict[str, dict[str, bool]] = {
            "pipeline": {"": False},
            "record": {name: name in faulty_records for name in readings.pipeline.records},
            "part": {part.name: part.path in faulty_parts for part in dimension.parts(readings.pipeline)},
        }
        for limit in dimension.limits:
            given = readings.pipeline.limits.of(limit.name)
            for name, is_faulty in subjects[limit.per].items():
                if not _applies(limit, readings, name):
                    continue
                number = None if is_faulty else _number(limit, readings, name)
                if number is not None and number.value is not None:
                    values.append(LimitValue(limit, name or None, number.value))
                if given is not None:
                    finding = _find(limit, readings, name, given, number)
                    findings.append(_of_what_is_seen(finding, seen) if seen else finding)
        with suppress(UnmeasuredError):
            caveats += dimension.caveats(readings)
    if restricted:
        caveats.append(
            Caveat(
                "unknown",
                f"policies hide rows of {', '.join(restricted)} from this role, and hidden rows are not measured: "
                "give the role BYPASSRLS, or read views of the owner with row_security: strict",
            )
        )
    if swept is not None and not swept.is_whole:
        left = "" if swept.left is None else f", in about {format_value(swept.left, 'seconds')}"
        caveats.append(
            Caveat(
                "unknown",
                f"the first sweep has measured {swept.share:.0%} of the tables, the newest sessions first: numbers are "
                f"complete at the end of the sweep{left}",
            )
        )
    return Judgement(tuple(findings), tuple(caveats), tuple(values))


def could_judge(limit: Limit, pipeline: Pipeline) -> bool:
    """Whether the config has the keys that the limit needs."""
    return all(_reaches(pipeline, keys) for keys in limit.needs)


def _applies(limit: Limit, readings: Readings, subject: str) -> bool:
    """Whether the config of the record has the keys that the limit needs."""
    if limit.per != "record":
        return True
    record = readings.pipeline.records[subject]
    return all(_reaches(record, keys[2:]) for keys in limit.needs if keys[0] == "records")


def _reaches(section: Any, keys: Sequence[str]) -> bool:  # noqa: ANN401 - any part of a config
    """Whether the config has a value at the place; `*` stands for any name."""
    if not keys:
        return section is not None and section != {}
    first, *rest = keys
    if first == "table" and isinstance(section, Record) and section.exists:
        # The table of a condition is that of the sessions: there are no rows of a record.
        return False
    if first == "*":
        return any(_reaches(one, rest) for one in section.values())
    return _reaches(getattr(section, first, None), rest)


@dataclass(frozen=True, slots=True)
class _Number:
    """The number for a limit, None with nothing to judge, and the sessions behind a ratio."""

    value: float | None
    sessions: int | None = None


def _number(limit: Limit, readings: Readings, subject: str) -> _Number | None:
    """None without a measurement."""
    try:
        read = limit.value.read(readings, subject)
    except UnmeasuredError:
        return None
    if isinstance(read, tuple):
        return _Number(read[0], int(read[1]))
    return _Number(read)


def _find(limit: Limit, readings: Readings, subject: str, given: Thresholds, number: _Number | None) -> Finding:
    bounds = thresholds(given)
    named = subject or None
    if number is None:
        return Finding(limit, named, "not_measured", None, bounds)
    value, count = number.value, number.sessions
    if value is None:
        return Finding(limit, named, "not_judged", None, bounds, words=limit.value.nothing)
    if count is not None and isinstance(given, RatioThresholds) and count < given.min_sessions:
        few = f"only {_sessions(count)}, and min_sessions is {given.min_sessions}"
        return Finding(limit, named, "too_few", value, bounds, count, few)
    if limit.value.whole is not None and limit.value.whole(readings, subject) == 0:
        return Finding(limit, named, "not_judged", value, bounds, words="no session to judge")
    words = limit.value.in_words(readings, subject) if limit.value.in_words else ""
    return Finding(limit, named, _outcome(limit, value, bounds), value, bounds, count, words)


def _of_what_is_seen(finding: Finding, seen: str) -> Finding:
    """With rows unseen, a value within the limit proves nothing: the complete value may be beyond."""
    if finding.outcome != "within":
        return finding
    return replace(finding, outcome="not_judged", words=f"{finding.comparison}, of {seen}", is_partial=True)


def _outcome(limit: Limit, value: float, bounds: Mapping[Severity, float]) -> Outcome:
    for severity in reversed(SEVERITIES):
        bound = bounds.get(severity)
        if bound is not None and limit.is_broken(value, bound):
            return severity
    return "within"


def thresholds(given: Thresholds) -> dict[Severity, float]:
    """The thresholds of one limit in the config, in base units."""
    found: dict[Severity, float] = {}
    for severity in SEVERITIES:
        value = getattr(given, severity)
        if value is not None:
            found[severity] = value.total_seconds() if isinstance(value, timedelta) else float(value)
    return found
