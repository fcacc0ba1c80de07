"""docs/report.md is true: every line of the report is there, every series gives the number that it says."""

import re
from pathlib import Path

import pytest
from conftest import TOUR, NewDatabase, plan_of
from prometheus_client.parser import text_string_to_metric_families

from exporter.measure.collect import collect
from exporter.measure.supervise import initial_status, measure
from exporter.present.exposition import page
from exporter.state.board import Board, ReloadStatus

TEXT = (Path(__file__).parent.parent / "docs" / "report.md").read_text(encoding="utf-8")
LAST_LINE = 128
BLANK = {
    2,
    6,
    8,
    10,
    12,
    16,
    20,
    24,
    26,
    30,
    32,
    34,
    36,
    41,
    46,
    50,
    52,
    58,
    64,
    69,
    71,
    74,
    79,
    84,
    91,
    93,
    98,
    103,
    105,
}
BLANK |= {107, 112, 114, 120, 125}
EVIDENCE = {"measured", "judged", "enforced", "by definition", "not measured", "form"}
ROWS = [
    [cell.strip() for cell in line.split("|")[1:-1]]
    for line in TEXT[TEXT.index("| lines |") :].splitlines()[2:]
    if line.startswith("|")
]
SERIES = re.compile(r"`session_health_(\w+)(?:\{(.*?)\})?`")


def numbers_of(cell: str) -> set[int]:
    found: set[int] = set()
    for part in cell.split(", "):
        first, _, last = part.partition("-")
        found |= set(range(int(first), int(last or first) + 1))
    return found


def test_every_line_of_the_report_is_answered() -> None:
    answered = set().union(*(numbers_of(row[0]) for row in ROWS))

    assert answered == set(range(1, LAST_LINE + 1)) - BLANK


def test_every_answer_has_its_evidence_and_what_is_not_measured_its_reason() -> None:
    assert {row[5] for row in ROWS} == EVIDENCE
    for row in ROWS:
        if row[5] in ("measured", "enforced"):
            assert SERIES.search(row[2]) or "the same" in row[2] or "every interval" in row[2], row
        if row[5] == "not measured":
            assert len(row[2]) > 20, row
            assert not row[3], row


@pytest.mark.parametrize(("scenario", "column"), [("healthy", 3), ("backfill", 4)])
async def test_the_series_of_each_line_give_its_number(new_database: NewDatabase, scenario: str, column: int) -> None:
    database = await new_database(scenario)
    plan = plan_of(TOUR.read_text(), database.dsn)
    status = initial_status(plan, max_age=300).after(await measure(plan, collect), now=0.0)
    board = Board({status.pipeline: status}, ReloadStatus(succeeded=True, last_success=1.0))
    families = {
        family.name.removeprefix("session_health_"): family.samples
        for family in text_string_to_metric_families(page(board, frozenset(), openmetrics=False).decode())
    }
    checked = 0

    for row in ROWS:
        for name, _labels in SERIES.findall(row[2]):
            assert name in families or name == "processing_delay_seconds", row
        if row[column]:
            name, labels = SERIES.findall(row[2])[0]
            wanted = dict(re.findall(r'(\w+)="(.*?)"', labels))
            found = [s.value for s in families[name] if wanted.items() <= s.labels.items()]
            assert sum(found) == float(row[column]), row
            checked += 1

    assert checked > 30
