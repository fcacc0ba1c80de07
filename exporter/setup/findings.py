"""Findings about a config, and findings as text."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from exporter.model.fault import Fault
from exporter.text.terminal import printable

FindingLevel = Literal["ok", "note", "error"]

SHOWN_NAMES: Final = 30
"""A message lists at most this many names; with more names only the nearest."""


@dataclass(frozen=True, slots=True)
class ConfigFinding:
    """One finding about one place of the config.

    An error prevents a measurement.  `remedy` is SQL; None if the remedy is not SQL and stands in the message.
    """

    severity: FindingLevel
    path: str
    message: str
    remedy: str | None = None


@dataclass(frozen=True, slots=True)
class FindingGroup:
    """The findings about one database or one pipeline."""

    title: str
    findings: tuple[ConfigFinding, ...]


def has_errors(groups: Iterable[FindingGroup]) -> bool:
    """Whether something could not be measured."""
    return any(finding.severity == "error" for group in groups for finding in group.findings)


def findings_text(groups: Sequence[FindingGroup]) -> str:
    """The findings as text: a line for each finding with the SQL below, and the numbers of errors and notes."""
    parts = []
    for group in groups:
        lines = [f"\n{group.title}\n"]
        for finding in group.findings:
            lines.append(f"  {finding.severity:<5}  {printable(f'{finding.path}: {finding.message}')}\n")
            lines += [f"         {printable(line)}\n" for line in (finding.remedy or "").split("\n") if line]
        parts.append("".join(lines))
    found = [finding.severity for group in groups for finding in group.findings]
    counts = (f"{found.count(kind)} {kind}{'' if found.count(kind) == 1 else 's'}" for kind in ("error", "note"))
    return "".join([*parts, f"\n{', '.join(counts)}\n"])


def fault_at(path: str, fault: Fault) -> ConfigFinding:
    """A fault as a finding at a place in the config; the message may begin with a key below the place."""
    place, _, said = fault.message.partition(": ")
    is_below = f"{place}.".startswith(f"{path}.")
    return ConfigFinding("error", place, said) if is_below else ConfigFinding("error", path, fault.message)


def has_failed(findings: Iterable[ConfigFinding], path: str) -> bool:
    """Whether the findings have an error at `path` or below."""
    return any(finding.severity == "error" and f"{finding.path}.".startswith(f"{path}.") for finding in findings)
