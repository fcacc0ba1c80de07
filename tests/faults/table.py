"""The measured rows as a Markdown table, at the end of the run."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import pytest

PROPERTY: Final = "fault"
HEAD: Final = (
    "| fault | said, as | within s | right again within s | SIGTERM s, exit | left on the server |\n"
    "|---|---|---:|---:|---|---|"
)


def measured(reporter: pytest.TerminalReporter) -> Sequence[Mapping[str, Any]]:
    """The rows of all workers, in the order of the table."""
    found = [
        dict(value)
        for reports in reporter.stats.values()
        for report in reports
        if getattr(report, "when", None) == "call"
        for name, value in report.user_properties
        if name == PROPERTY
    ]
    return sorted(found, key=lambda row: row["number"])


def fault_table(reporter: pytest.TerminalReporter) -> None:
    """Print the table, if a fault was measured."""
    if rows := measured(reporter):
        reporter.write_sep("=", "faults")
        for line in (HEAD, *map(as_line, rows)):
            reporter.write_line(line)


def as_line(row: Mapping[str, Any]) -> str:
    """One row of the table; a failed row is marked."""
    mark = " (FAILED)" if row["problems"] else ""
    end = "" if row["ends_by"] == "SIGTERM" else f"{row['ends_by']}: "
    cells = (
        f"{row['name']}{mark}",
        row["said_as"] or "-",
        _seconds(row["said"]),
        _seconds(row["right"]),
        f"{end}{row['stop']:.2f}, {row['code']}",
        row["left_as"],
    )
    return f"| {' | '.join(cells)} |"


def _seconds(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f}"
