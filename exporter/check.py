"""Standings -> every judged line, for people or programs, and the exit code.  Judges nothing anew."""

import asyncio
import json
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from typing import Any, Final

from exporter.board import Standing
from exporter.collect import collect
from exporter.judge import Finding, Outcome, Verdict
from exporter.plan import Plan
from exporter.schema import SEVERITIES, Severity
from exporter.supervise import beginning, measure
from exporter.terminal import printable

WORST_FIRST: Final[tuple[Verdict, ...]] = ("unhealthy", "unknown", "degraded", "no_data", "healthy")
_OUTCOMES: Final[tuple[Outcome, ...]] = ("critical", "not_measured", "warning", "too_few", "within")
_ALIKE: Final = "  {:<12}  {:<30}  {}"

HEALTHY: Final = 0
BROKEN: Final = 1
NOT_MEASURED: Final = 3
NO_DATA: Final = 4


async def look(plans: Iterable[Plan]) -> tuple[Standing, ...]:
    """Collect each pipeline once, all at the same time; what could not be measured is part of its standing."""

    async def one(plan: Plan) -> Standing:
        return beginning(plan, max_age=float("inf")).after(await measure(plan, collect), now=0.0)

    return tuple(await asyncio.gather(*map(one, plans)))


def exit_code(standings: Sequence[Standing], fail_on: Severity) -> int:
    """First that holds: a critical limit broken 1, anything unmeasured 3, a warning 1, no eligible session 4, else 0.

    With `fail_on` critical a warning counts for nothing.
    """
    verdicts = {standing.verdict for standing in standings}
    if "unhealthy" in verdicts:
        return BROKEN
    if "unknown" in verdicts:
        return NOT_MEASURED
    if "degraded" in verdicts and fail_on == "warning":
        return BROKEN
    if any(caveat.verdict == "no_data" for standing in standings for caveat in standing.caveats):
        return NO_DATA
    return HEALTHY


def as_text(standings: Sequence[Standing]) -> str:
    """A paragraph for each pipeline: its verdict, what keeps it from health, then every limit, the worst first."""
    return "\n".join("".join(f"{printable(line)}\n" for line in _paragraph(standing)) for standing in standings)


def _paragraph(standing: Standing) -> Iterator[str]:
    snapshot = standing.snapshot
    at = f", measured at {_moment(snapshot.taken_at)}" if snapshot else ""
    yield f"{standing.pipeline}: {standing.verdict}{at}"
    for fault in standing.last.faults if standing.last else ():
        yield f"  not measured: {fault.message}"
    for caveat in standing.caveats:
        yield f"  {caveat.verdict}: {caveat.message}"
    if not standing.limits:
        yield "  no limits are set, so nothing is judged: see limits in the config"
    for finding in sorted(standing.findings, key=lambda finding: _OUTCOMES.index(finding.outcome)):
        name = " ".join(filter(None, (finding.limit.name, finding.subject)))
        yield _ALIKE.format(finding.outcome.replace("_", " "), name, finding.text)


def as_json(standings: Sequence[Standing], code: int) -> str:
    """The same as one JSON object: values in base units, null where there is none."""
    worst = min((standing.verdict for standing in standings), key=WORST_FIRST.index)
    return json.dumps(
        {
            "format": 1,
            "verdict": worst,
            "exit_code": code,
            "pipelines": [
                {
                    "database": standing.database,
                    "pipeline": standing.pipeline,
                    "verdict": standing.verdict,
                    "measured_at": _moment(standing.snapshot.taken_at) if standing.snapshot else None,
                    "faults": [
                        {"reason": fault.reason, "message": fault.message}
                        for fault in (standing.last.faults if standing.last else ())
                    ],
                    "caveats": [{"verdict": c.verdict, "message": c.message} for c in standing.caveats],
                    "findings": [_finding(finding) for finding in standing.findings],
                }
                for standing in standings
            ],
        },
        indent=2,
        ensure_ascii=False,
    )


def _finding(finding: Finding) -> dict[str, Any]:
    return {
        "limit": finding.limit.name,
        "subject": finding.subject,
        "outcome": finding.outcome,
        "value": finding.value,
        "unit": finding.limit.unit,
        **{severity: finding.thresholds.get(severity) for severity in SEVERITIES},
        "sessions": finding.sessions,
        "meaning": finding.limit.what,
    }


def _moment(unix_seconds: float) -> str:
    return datetime.fromtimestamp(unix_seconds, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
