"""A check as JSON."""

import json

from exporter.model.standing import rank
from exporter.present.check import Check, faults_of
from exporter.present.report.document import CaveatPart, FaultPart, FindingPart
from exporter.text.times import moment_text


def as_json(check: Check) -> str:
    """One JSON object: values in base units, null without a value."""
    statuses = check.statuses
    worst = min((status.verdict for status in statuses), key=rank)
    return (
        json.dumps(
            {
                "format": 1,
                "verdict": worst,
                "exit_code": check.exit_code,
                "pipelines": [
                    {
                        "database": status.database,
                        "pipeline": status.pipeline,
                        "verdict": status.verdict,
                        "measured_at": moment_text(status.snapshot.taken_at) if status.snapshot else None,
                        "faults": [FaultPart.of(fault).model_dump() for fault in faults_of(status)],
                        "caveats": [CaveatPart.of(caveat).model_dump() for caveat in status.caveats],
                        "findings": [FindingPart.of(finding).model_dump() for finding in status.findings],
                    }
                    for status in statuses
                ],
            },
            indent=2,
            ensure_ascii=False,
        )
        + "\n"
    )
