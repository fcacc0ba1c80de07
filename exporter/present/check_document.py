"""A check as JSON."""

import json

from exporter.present.check import Check, faults_of
from exporter.present.report.document import CaveatPart, FaultPart, FindingPart
from exporter.state.judge import WORST_FIRST
from exporter.text.times import moment_text


def as_json(check: Check) -> str:
    """One JSON object: values in base units, null where there is none."""
    standings = check.standings
    worst = min((standing.verdict for standing in standings), key=WORST_FIRST.index)
    return (
        json.dumps(
            {
                "format": 1,
                "verdict": worst,
                "exit_code": check.exit_code,
                "pipelines": [
                    {
                        "database": standing.database,
                        "pipeline": standing.pipeline,
                        "verdict": standing.verdict,
                        "measured_at": moment_text(standing.snapshot.taken_at) if standing.snapshot else None,
                        "faults": [FaultPart.of(fault).model_dump() for fault in faults_of(standing)],
                        "caveats": [CaveatPart.of(caveat).model_dump() for caveat in standing.caveats],
                        "findings": [FindingPart.of(finding).model_dump() for finding in standing.findings],
                    }
                    for standing in standings
                ],
            },
            indent=2,
            ensure_ascii=False,
        )
        + "\n"
    )
